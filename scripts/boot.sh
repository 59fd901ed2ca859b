#!/usr/bin/env bash
# Builds the node image and boots it in QEMU; --help says how.
set -euo pipefail
# shellcheck source=scripts/image/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/image/build.sh"
# shellcheck source=scripts/image/qemu.sh
. "$IMAGE/qemu.sh"
# shellcheck source=scripts/image/join.sh
. "$IMAGE/join.sh"

usage() {
    cat <<'EOF'
usage: scripts/boot.sh [OPTION]... [-- QEMU ARGS]

Builds what is missing of the node image and boots it in QEMU, with the serial console on
stdout. Two static pods run, unless --manifests names others. Ctrl-C presses the power button,
a second one kills the machine.

  --manifests DIR    static pods to run instead of the two of the demonstration
  --images FILE.tar  one more image archive (OCI or docker save) for the pods; repeatable
  --data FILE        data disk kept between boots, made if absent; else a throw-away one
  --join WHERE       joins a cluster: the directory of one that scripts/cluster.sh started, or a
                     bootstrap kubeconfig, which goes on the data disk. What the node says to
                     10.0.2.100:6443 goes to port 6443 of this machine, or of that cluster
  --address ADDRESS  of the node in QEMU's network (10.0.2.15); a cluster's second node is 10.0.2.16
  --image FILE       a disk of scripts/image.sh, by its firmware; nothing is built, and what the
                     machine writes stays in FILE
  --append "ARGS"    further arguments on the kernel's command line
  --memory MIB       memory of the machine (1500)
  --cpus N           processors of the machine (2)
  --arch ARCH        x86_64 or aarch64 (this machine's); another kind than that is emulated
  --kernel FLAVOUR   Debian's kernel for virtual machines (cloud), or the one for boards too (full)
  --accel HOW        auto (KVM where it works), tcg or kvm
  --timeout S        end the machine after S seconds
  --until REGEX      power the machine down in order once a console line matches
  --qmp SOCKET       a QMP server on this unix socket
  --build-only       build, print where things are (KERNEL=, MODULES=, INITRD=, DATA=, ROOT=,
                     CACHE=), stop
  -- QEMU ARGS       further arguments for QEMU

Environment: KERNEL and MODULES (another kernel and its modules directory), KIOS_INIT (another
init), XDG_CACHE_HOME (everything built is kept in kios-init below it).

Exit status: 0 powered off in order, 1 failure, 2 wrong use, 3 the machine reset, 124 time-out,
130 ended by Ctrl-C before there was a machine, or by a second one.
EOF
}

wrong() { die "$1 (--help says how)" 2; }

# number OPTION VALUE
number() { [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || wrong "$1 $2: not a number above 0"; }

MANIFESTS=$IMAGE/manifests OWN_PODS='' IMAGES=() DATA='' JOIN='' ADDRESS=10.0.2.15 IMAGE_FILE='' APPEND='' MEMORY=1500 CPUS=2
ACCEL=auto TIMEOUT=0 UNTIL='' QMP='' BUILD_ONLY='' QEMU_ARGS=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --build-only) BUILD_ONLY=1 ;;
        --)
            shift
            QEMU_ARGS=("$@")
            break
            ;;
        --manifests | --images | --data | --join | --address | --image | --append | --memory | --cpus | --arch | --kernel | --accel | --timeout | --until | --qmp)
            [ $# -ge 2 ] || wrong "$1 needs a value"
            case $1 in
                --manifests) MANIFESTS=$2 OWN_PODS=1 ;;
                --images) IMAGES+=("$2") OWN_PODS=1 ;;
                --data) DATA=$2 ;;
                --join) JOIN=$2 ;;
                --address) ADDRESS=$2 ;;
                --image) IMAGE_FILE=$2 ;;
                --append) APPEND=$2 ;;
                --memory) number "$1" "$2" && MEMORY=$2 ;;
                --cpus) number "$1" "$2" && CPUS=$2 ;;
                --arch) ARCH=$2 ;;
                --kernel) FLAVOUR=$2 ;;
                --accel) ACCEL=$2 ;;
                --timeout) number "$1" "$2" && TIMEOUT=$2 ;;
                --until) UNTIL=$2 ;;
                --qmp) QMP=$2 ;;
            esac
            shift
            ;;
        *) wrong "unknown option $1" ;;
    esac
    shift
done

set_arch "$ARCH" || wrong "--arch $ARCH: neither x86_64 nor aarch64"
case $FLAVOUR in cloud | full) ;; *) wrong "--kernel $FLAVOUR: neither cloud nor full" ;; esac
case $ADDRESS in 10.0.2.15 | 10.0.2.16) ;; *) wrong "--address $ADDRESS: neither 10.0.2.15 nor 10.0.2.16" ;; esac
case $ACCEL in auto | tcg | kvm) ;; *) wrong "--accel $ACCEL: neither auto, tcg nor kvm" ;; esac
if [ -n "$UNTIL" ]; then
    # Status 2 is what bash says to a regular expression that is none.
    status=0
    [[ '' =~ $UNTIL ]] 2>/dev/null || status=$?
    [ "$status" != 2 ] || wrong "--until $UNTIL: not a regular expression"
fi
[ -z "$IMAGE_FILE" ] || [ -z "$OWN_PODS$DATA$JOIN$APPEND$BUILD_ONLY" ] ||
    wrong "--image goes with none of --manifests, --images, --data, --join, --append and --build-only: the disk has all of it"
[ -z "$IMAGE_FILE" ] || check_image "$IMAGE_FILE"
check_manifests "$MANIFESTS"
for archive in ${IMAGES[@]+"${IMAGES[@]}"}; do check_archive "$archive"; done
[ -z "$DATA" ] || check_data "$DATA"
[ -z "$JOIN" ] || [ -z "$BUILD_ONLY" ] || [ -n "$DATA" ] || wrong "--join with --build-only needs --data"
[ -z "$JOIN" ] || check_join "$JOIN"

finish() {
    stop_build
    end_qemu
    [ -z "$OWN_DISK" ] || rm -f "$OWN_DISK"
}
OWN_DISK=
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -n "$IMAGE_FILE" ]; then
    HOST_NEEDS=$(own_needs)
    check_packages
    mkdir -p "$CACHE"
    # Looked at by a kernel of its own.
    [ "$ACCEL" = tcg ] || [ ! -e /dev/kvm ] || is_foreign || get_debian
    HOW=$(pick_accel "$ACCEL")
    say "starting QEMU ($HOW)"
    run_node "$HOW" "$IMAGE_FILE" cache=writeback
fi
build_image
get_seed "$MANIFESTS" ${IMAGES[@]+"${IMAGES[@]}"}
DISK=$SEED DISK_OPTIONS=snapshot=on
if [ -n "$DATA" ]; then
    own_data "$DATA"
    DISK=$DATA DISK_OPTIONS=cache=writeback
elif [ -n "$JOIN" ]; then
    OWN_DISK=$(mktemp)
    cp --sparse=always "$SEED" "$OWN_DISK"
    DISK=$OWN_DISK DISK_OPTIONS=cache=unsafe
fi
[ -z "$JOIN" ] || join_disk "$DISK"
if [ -n "$BUILD_ONLY" ]; then
    printf '%s\n' "KERNEL=$KERNEL" "MODULES=$MODULES_BASE/lib/modules/$RELEASE" "INITRD=$INITRD" "DATA=$DISK" "ROOT=$ROOT" "CACHE=$CACHE"
    exit 0
fi
HOW=$(pick_accel "$ACCEL")
say "starting QEMU ($HOW)"
run_node "$HOW" "$DISK" "$DISK_OPTIONS"
