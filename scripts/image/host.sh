# shellcheck shell=bash
# What the machine that builds and boots the image must have. Sourced by boot.sh.

# A command (or a file) and the Debian package that brings it; those by the kind of processor are in own_needs.
HOST_NEEDS="
mkfs.ext4 e2fsprogs
modprobe kmod
xz xz-utils
gcc gcc
readelf binutils
flock util-linux
pkg-config pkg-config
/usr/sbin/sfdisk fdisk
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
/etc/ssl/certs/ca-certificates.crt ca-certificates
"

# own_needs: those for the image's.
own_needs() {
    echo "qemu-system-$ARCH $QEMU_PACKAGE"
    [ "$ARCH" != aarch64 ] || echo "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd qemu-efi-aarch64"
    [ "$ARCH" != x86_64 ] || [ -z "${IMAGE_FILE:-}" ] || echo "/usr/share/ovmf/OVMF.fd ovmf"
    if is_foreign; then
        echo "$CC gcc-${TRIPLE//_/-}"
        echo "/usr/$TRIPLE/include/stdlib.h libc6-dev-$DEBIAN_ARCH-cross"
    else
        echo "/usr/include/seccomp.h libseccomp-dev"
        echo "/usr/include/stdlib.h libc6-dev"
    fi
}

# missing_packages: the Debian packages that are not there.
missing_packages() {
    local need package
    while read -r need package; do
        case $need in
            '') ;;
            /*) [ -e "$need" ] || echo "$package" ;;
            *) command -v "$need" >/dev/null || echo "$package" ;;
        esac
    done <<<"$HOST_NEEDS"
}

# check_packages: installs what is missing when it can, else says what to install.
check_packages() {
    local missing log
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing, and this is no Debian: ${missing[*]}"
    [ "$(id -u)" = 0 ] || die "missing; install with: sudo apt-get install ${missing[*]}"
    say "installing: ${missing[*]}"
    log=$(mktemp)
    install_packages "${missing[@]}" >"$log" 2>&1 || true
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} -gt 0 ]; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        die "apt-get could not install: ${missing[*]}"
    fi
    rm -f "$log"
}

install_packages() {
    local flags=(-y -q -o DPkg::Lock::Timeout=120 --no-install-recommends)
    export DEBIAN_FRONTEND=noninteractive
    # Empty package lists are what a fresh machine has; stale ones show as a failed download.
    apt-get install "${flags[@]}" "$@" || { apt-get update -q && apt-get install "${flags[@]}" "$@"; }
}

# check_go: the Go that the pins ask for, at least.
check_go() {
    local want have
    want=$(sed -n 's/^go //p' "$IMAGE"/pins/*/go.mod | sort -V | tail -n 1)
    command -v go >/dev/null || die "Go $want or newer is needed to build kubelet and containerd: https://go.dev/dl"
    have=$(GOTOOLCHAIN=local go env GOVERSION)
    have=${have#go}
    [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] ||
        die "Go $want or newer is needed, this is $have: https://go.dev/dl"
}

# check_space MIB: room in the cache's file system.
check_space() {
    local free dir=$CACHE
    while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
    free=$(($(df -Pk "$dir" | awk 'NR == 2 { print $4 }') / 1024))
    [ "$free" -ge "$1" ] || die "$dir has $free MiB free, the build needs $1"
}

# probe_kvm: does our kernel start under KVM? Some devices run a first few instructions and no
# kernel, and some hang, so that the answer is a line of the kernel's within three seconds, and
# nothing here waits for QEMU's end.
probe_kvm() {
    [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
    local dir pid i status=1
    dir=$(mktemp -d)
    setpriv --pdeathsig KILL "qemu-system-$ARCH" -accel kvm -cpu host -machine "$MACHINE" -m 256 -nodefaults -no-user-config \
        -no-reboot -display none -kernel "$KERNEL" -append "console=$CONSOLE_NAME earlyprintk=$CONSOLE_NAME panic=-1" \
        -serial "file:$dir/console" </dev/null >/dev/null 2>"$dir/errors" &
    pid=$!
    for ((i = 0; i < 30; i++)); do
        if grep -qs 'Linux version' "$dir/console"; then
            status=0
            break
        fi
        if grep -qs 'KVM internal error' "$dir/errors" || ! kill -0 "$pid" 2>/dev/null; then break; fi
        sleep 0.1
    done
    disown "$pid" 2>/dev/null || true
    kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$dir"
    return "$status"
}

# kvm_works: the same, but a device that failed once since this machine started is not asked again.
kvm_works() {
    local mark
    mark=$CACHE/no-kvm.$(cat /proc/sys/kernel/random/boot_id)
    [ ! -e "$mark" ] || return 1
    probe_kvm && return 0
    rm -f "$CACHE"/no-kvm.*
    : >"$mark"
    return 1
}
