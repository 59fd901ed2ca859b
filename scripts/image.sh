#!/usr/bin/env bash
# Makes a disk that a machine starts from by its firmware; --help says how.
set -euo pipefail
# shellcheck source=scripts/image/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/image/build.sh"
SELF=image.sh
# shellcheck source=scripts/image/disk.sh
. "$IMAGE/disk.sh"

usage() {
    cat <<'EOF'
usage: scripts/image.sh [OPTION]...

Makes a disk that a machine with UEFI starts from: a GPT with an EFI system partition, which holds
kernel, init and root in one file, and the data partition, which grows to its disk on the first
boot. Write it to a disk (dd, or a flash tool), or boot it by scripts/boot.sh --image.

  --out FILE         the disk (kios-ARCH.img here)
  --arch ARCH        x86_64 or aarch64 (this machine's)
  --kernel FLAVOUR   Debian's kernel for machines of all kinds (full), or for virtual ones (cloud)
  --root-in WHERE    initramfs: the root is in memory, as large as it is. partition: it is read from
                     the disk, each block verified (dm-verity); pods that map devices are refused
  --manifests DIR    static pods to run instead of the two of the demonstration
  --images FILE.tar  one more image archive (OCI or docker save) for the pods; repeatable
  --sbom             lists what is inside in FILE.cdx.json (CycloneDX), with the licences in
                     FILE.licences.tar.xz
  --sign KEY CERT    signs for Secure Boot: an RSA key and its certificate, PEM (sbsign(1))

The same sources make the same disk, byte for byte; a signature has its time in it.

Environment: SOURCE_DATE_EPOCH (the time of the disk's files; else of the last commit), and KERNEL,
MODULES, KIOS_INIT and XDG_CACHE_HOME as of scripts/boot.sh.

Exit status: 0 made, 1 failure, 2 wrong use.
EOF
}

wrong() { die "$1 (--help says how)" 2; }

MANIFESTS=$IMAGE/manifests OWN_PODS='' IMAGES=() OUT='' SIGN_KEY='' SIGN_CERT='' WITH_SBOM='' FLAVOUR=full ROOT_IN=initramfs
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --sbom) WITH_SBOM=1 ;;
        --sign)
            [ $# -ge 3 ] || wrong "$1 needs a key and a certificate"
            SIGN_KEY=$(realpath -m "$2") SIGN_CERT=$(realpath -m "$3")
            for file in "$SIGN_KEY" "$SIGN_CERT"; do [ -r "$file" ] || wrong "--sign $file: cannot be read"; done
            shift 2
            ;;
        --out | --arch | --kernel | --root-in | --manifests | --images)
            [ $# -ge 2 ] || wrong "$1 needs a value"
            case $1 in
                --out) OUT=$2 ;;
                --arch) set_arch "$2" || wrong "--arch $2: neither x86_64 nor aarch64" ;;
                --kernel) FLAVOUR=$2 ;;
                --root-in) ROOT_IN=$2 ;;
                --manifests) MANIFESTS=$(realpath -m "$2") OWN_PODS=1 ;;
                --images) IMAGES+=("$(realpath -m "$2")") OWN_PODS=1 ;;
            esac
            shift
            ;;
        *) wrong "unknown option $1" ;;
    esac
    shift
done
case $FLAVOUR in cloud | full) ;; *) wrong "--kernel $FLAVOUR: neither cloud nor full" ;; esac
case $ROOT_IN in initramfs | partition) ;; *) wrong "--root-in $ROOT_IN: neither initramfs nor partition" ;; esac
check_manifests "$MANIFESTS"
for archive in ${IMAGES[@]+"${IMAGES[@]}"}; do check_archive "$archive"; done
OUT=${OUT:-kios-$ARCH.img}
[ ! -e "$OUT" ] || [ -f "$OUT" ] || wrong "--out $OUT: not a file"
[ -w "$(dirname "$OUT")" ] || wrong "--out $OUT: its directory cannot be written"

HOST_NEEDS+="mformat mtools
veritysetup cryptsetup-bin
/usr/lib/python3/dist-packages/pefile.py python3-pefile
${SIGN_KEY:+sbsign sbsigntool
}"
trap stop_build EXIT
set_epoch
build_image
get_disk "$OUT"
say "$OUT: $(stat -c %s "$OUT") bytes, $(($(stat -c %b "$OUT") / 2048)) MiB of them written; root.erofs $(stat -c %s "$ROOT") bytes"
