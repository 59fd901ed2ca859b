# shellcheck shell=bash
# All of the node image, in order. Sourced by boot.sh and by initramfs.sh.

# shellcheck source=scripts/image/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
for part in host rust init programs debian modules root initramfs pods seed; do
    # shellcheck disable=SC1090
    . "$IMAGE/$part.sh"
done

# The kernel's command line, without its console.
KERNEL_LINE="rootfstype=ramfs quiet panic=10"

# get_init sets INIT: KIOS_INIT= of the environment, else what cargo builds.
get_init() {
    if [ -n "${KIOS_INIT:-}" ]; then
        [ ! -d "$KIOS_INIT" ] || die "KIOS_INIT=$KIOS_INIT: a directory" 2
        [ -x "$KIOS_INIT" ] || die "KIOS_INIT=$KIOS_INIT: not a program" 2
        INIT=$(realpath "$KIOS_INIT")
        readelf -h "$INIT" 2>/dev/null | tr '_' '-' | grep -qi "machine:.*${ARCH//_/-}" || die "KIOS_INIT=$KIOS_INIT: no program for $ARCH" 2
        return
    fi
    build_init
}

# build_image sets KERNEL, INITRD, ROOT and what they are made of.
build_image() {
    HOST_NEEDS+=$(own_needs)$(rust_needs)
    check_packages
    check_go
    mkdir -p "$CACHE" 2>/dev/null || die "$CACHE cannot be made; set XDG_CACHE_HOME"
    # A cold build unpacks three Go module graphs and compiles them.
    if compgen -G "$CACHE/kubelet/[0-9a-f]*/kubelet" >/dev/null; then check_space 1024; else check_space 6144; fi
    get_init
    build_programs
    get_debian
    get_modules
    get_pod_images
    get_root
    get_initramfs
}
