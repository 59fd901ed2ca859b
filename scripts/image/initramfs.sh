#!/usr/bin/env bash
# The initramfs: init, the modules it needs to mount the root, and root.erofs. boot.sh sources
# this; tests run it to get variants:
#
#   initramfs.sh --out FILE [--arch ARCH] [--init FILE] [--root FILE] [--plain] [--without-root] [--without PATH]...
#     [--with PATH=FILE]...
#
# --plain          no root.erofs: the root's files straight in the initramfs
# --without PATH   leave out a file, such as modules/erofs.ko, dev/console, or with --plain
#                  usr/bin/kubelet; --without-root leaves out root.erofs
# --with PATH=FILE with --plain: another file in its place
set -euo pipefail
# shellcheck source=scripts/image/cpio.sh
. "$(dirname "${BASH_SOURCE[0]}")/cpio.sh"

# write_initramfs INIT MODULES ROOT TREE [TABLE]: to stdout. ROOT empty: no root.erofs. TREE empty: not
# plain. TABLE: of a root in a partition. The array LEFT_OUT names files that stay out.
write_initramfs() {
    local init=$1 modules=$2 root=$3 tree=$4 table=${5:-} file
    if [ -n "$tree" ]; then
        cpio_tree "$tree"
    else
        cpio_dir dev
        cpio_dir newroot
        cpio_dir proc
    fi
    # The kernel opens it for init before anything is mounted.
    left_out dev/console || cpio_entry dev/console 020600 0 5 1
    cpio_file init 0755 "$init"
    cpio_dir modules
    for file in "$modules"/*; do
        left_out "modules/${file##*/}" || cpio_file "modules/${file##*/}" 0644 "$file"
    done
    [ -z "$root" ] || left_out root.erofs || cpio_file root.erofs 0644 "$root"
    [ -z "$table" ] || cpio_file root.verity 0644 "$table"
    cpio_end
}

# left_out PATH: is it one of --without?
left_out() {
    local name
    for name in ${LEFT_OUT[@]+"${LEFT_OUT[@]}"}; do
        [ "$name" != "$1" ] || return 0
    done
    return 1
}

initramfs_file() {
    write_initramfs "$1" "$2" "$3" "" >initramfs
}

# get_initramfs sets INITRD.
get_initramfs() {
    cached initramfs "$(hash_of "$IMAGE/initramfs.sh" "$IMAGE/cpio.sh" "$INIT" "=$MODULE_FILES $ROOT")" "initramfs" \
        initramfs_file "$INIT" "$MODULE_FILES/initramfs" "$ROOT"
    INITRD=$REPLY/initramfs
}

variant() {
    local out='' init='' root='' plain='' without_root='' tree='' scratch name replaced=()
    LEFT_OUT=()
    while [ $# -gt 0 ]; do
        case $1 in
            --plain) plain=1 ;;
            --without-root) without_root=1 ;;
            --arch | --out | --init | --root | --without | --with)
                [ $# -ge 2 ] || die "initramfs.sh: $1 needs a value" 2
                case $1 in
                    --arch) set_arch "$2" || die "initramfs.sh: --arch $2: neither x86_64 nor aarch64" 2 ;;
                    --out) out=$2 ;;
                    --init) init=$2 ;;
                    --root) root=$2 ;;
                    --without) LEFT_OUT+=("${2#/}") ;;
                    --with) replaced+=("${2#/}") ;;
                esac
                shift
                ;;
            *) die "initramfs.sh: unknown option $1" 2 ;;
        esac
        shift
    done
    [ -n "$out" ] || die "initramfs.sh: --out FILE is missing" 2
    [ -z "$init" ] || export KIOS_INIT=$init
    build_image
    root=${root:-$ROOT}
    if [ -n "$plain" ]; then
        # A copy made of links, to take files away from.
        scratch=$(mktemp -d "$CACHE/plain.XXXXXX")
        # shellcheck disable=SC2064
        trap "rm -rf '$scratch'" EXIT
        cp -al "$TREE" "$scratch/tree"
        tree=$scratch/tree
        for name in "${LEFT_OUT[@]}"; do rm -rf "${tree:?}/$name"; done
        # install makes a new file: what is there is linked to the image's own.
        for name in "${replaced[@]}"; do install -m 644 "${name#*=}" "$tree/${name%%=*}"; done
        for name in poweroff reboot; do install -m 755 "$INIT" "$tree/kernel/sbin/$name"; done
        root=
    fi
    [ -z "$without_root" ] || root=
    write_initramfs "$INIT" "$MODULE_FILES/initramfs" "$root" "$tree" >"$out.tmp"
    mv "$out.tmp" "$out"
}

if [ "${#BASH_SOURCE[@]}" = 1 ]; then
    # shellcheck source=scripts/image/build.sh
    . "$(dirname "$0")/build.sh"
    variant "$@"
fi
