#!/usr/bin/env bash
# Measures init against others; --help says more.
set -euo pipefail
# shellcheck source=scripts/image/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/image/build.sh"
SELF=bench.sh
for part in image/disk bench/init bench/node bench/growth; do
    # shellcheck disable=SC1090
    . "$REPO/scripts/$part.sh"
done

usage() {
    cat <<'EOF'
usage: scripts/bench.sh [init | growth] [--rounds N]
       scripts/bench.sh node [--rounds N] [--plot FILE.svg | --counted]

Prints Markdown tables, and how they were measured. Without a command all three, one after another.

init   init alone, as PID 1 of namespaces, against other inits, which are Debian's packages: bytes, memory,
       descriptors, and what reaping an orphan costs. About a minute a round. Runs as root, for namespaces
       of processes that are not root of this machine.
node   a node in QEMU, from the kernel's hand-over to its first pod, against nodes with the same kernel and
       services by systemd, by busybox and a shell script, and by a program that does the least. About three
       minutes a round.
growth init where there is more and more of something: a hundred to a million orphans, 10 to 2,000 mounts at
       the end, up to 50 MB/s of logs (in namespaces, as root), and 1 to 50 pods (in QEMU). About ten minutes
       a round.

  --rounds N       measures each so many times (5); the table has the median, and the least and the most
  --plot FILE.svg  draws the boots, too
  --counted        on one processor, in a time that its instructions make: what else runs on the machine
                   hardly changes it. Two to three times as long

The packages are unpacked, never installed.

Environment: XDG_CACHE_HOME (kios-init/bench below it keeps the packages), KIOS_INIT (another init).

Exit status: 0 measured, 1 something failed, 2 wrong use.
EOF
}

wrong() { die "$1 (--help says how)" 2; }

COMMAND='' ROUNDS=5 PLOT='' COUNTED=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --rounds)
            [[ ${2:-} =~ ^[1-9][0-9]{0,2}$ ]] || wrong "--rounds ${2:-}: not a number above 0"
            ROUNDS=$2
            shift
            ;;
        --plot)
            [ $# -ge 2 ] || wrong "$1 needs a value"
            PLOT=$(realpath -m "$2")
            [ -w "$(dirname "$PLOT")" ] || wrong "--plot $2: its directory cannot be written"
            shift
            ;;
        --counted) COUNTED=counted ;;
        -*) wrong "unknown option $1" ;;
        init | node | growth)
            [ -z "$COMMAND" ] || wrong "one of $COMMAND and $1"
            COMMAND=$1
            ;;
        *) wrong "unknown command $1" ;;
    esac
    shift
done
[ -z "$PLOT$COUNTED" ] || [ "$COMMAND" = node ] || wrong "--plot and --counted go with node alone"
[ -z "$PLOT" ] || [ -z "$COUNTED" ] || wrong "one of --plot and --counted"

[ "$ARCH" = x86_64 ] || die "$ARCH: the programs of tests/bench are built for x86_64"

trap 'exit 130' INT
trap 'exit 143' TERM
if [ -n "$COMMAND" ]; then
    "bench_$COMMAND"
else
    trap end_bench EXIT
    for command in init node growth; do run "$REPO/scripts/bench.sh" "$command" --rounds "$ROUNDS"; done
fi
