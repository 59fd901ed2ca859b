#!/usr/bin/env bash
# Coverage-guided fuzzing of what parses bytes from outside; --help says more.
set -euo pipefail
# shellcheck source=scripts/image/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/image/common.sh"
# shellcheck source=scripts/image/host.sh
. "$IMAGE/host.sh"
# shellcheck source=scripts/image/rust.sh
. "$IMAGE/rust.sh"
FUZZ=$REPO/tests/fuzz
# The same for every run: from the same corpus it takes the same way.
SEED=1
# Files of a corpus above which it is shrunk.
CORPUS_MAX=2000

say() { printf 'fuzz.sh: %s\n' "$*" >&2; }

usage() {
    cat <<'EOT'
usage: scripts/fuzz.sh [--seconds N] [TARGET]...

Builds the targets (all unless some are named) and runs each: first its seeds, what earlier runs
kept and what they found, then new inputs for N seconds (5). A line for each says how many inputs
it ran, how many places of the code they reached, and how many inputs reach all of these.

EOT
    echo "Targets: ${TARGETS[*]}."
    cat <<'EOT'

Environment: XDG_CACHE_HOME (kios-init/fuzz/TARGET below it keeps the corpus, and what is found).

Exit status: 0 nothing found, 1 something found or failed, 2 wrong use. tests/fuzz/README.md has more.
EOT
}

wrong() { die "$1 (--help says how)" 2; }

# max_len TARGET: bytes of the longest input: what init reads at once, of a connection more.
max_len() {
    case $1 in
        dbus | modules) echo 4096 ;;
        entries | gpt | kubeconfig | partitions) echo 2048 ;;
        frames) echo 9 ;;
        *) echo 512 ;;
    esac
}

# target NAME ARGS: runs it below libFuzzer, which takes the arguments.
target() {
    (cd "$FUZZ" && exec cargo run --quiet --locked --release --bin "$1" -- -max_len="$(max_len "$1")" -timeout=10 \
        -artifact_prefix="$CACHE/fuzz/$1/found/" "${@:2}") >"$LOG" 2>&1
}

# shrink TARGET DIR: drops of a large corpus what smaller inputs reach too; libFuzzer replaces only its own run's.
shrink() {
    [ "$(find "$2/corpus" -type f | wc -l)" -gt "$CORPUS_MAX" ] || return 0
    rm -rf "$2/smaller"
    mkdir "$2/smaller"
    target "$1" -merge=1 "$2/smaller" "$2/corpus" || return 0
    rm -rf "$2/corpus"
    mv -T "$2/smaller" "$2/corpus"
}

# fuzz TARGET: runs it, and says how that went. Fails where it found something, and where it is no fuzzing: no
# inputs, or no coverage.
fuzz() {
    local kept=$CACHE/fuzz/$1 status=0 runs coverage corpus
    mkdir -p "$kept/corpus" "$kept/found"
    shrink "$1" "$kept"
    # A finding is a seed from then on, so that it fails until it is mended.
    target "$1" -max_total_time="$TIME" -seed="$SEED" -print_final_stats=1 "$kept/corpus" "seeds/$1" "$kept/found" ||
        status=$?
    if [ "$status" != 0 ]; then
        grep -v -e '^#' -e '^INFO' -e '^WARNING: Failed to find function' -e 'Test unit written' "$LOG" | head -n 20 >&2
        say "$1: failed with status $status, seed $SEED"
        sed -n "s|^.*Test unit written to |fuzz.sh: $1: found: |p" "$LOG" >&2
        return 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$LOG")
    read -r coverage corpus < <(sed -n 's|^#.*\tDONE *cov: \([0-9]*\) .* corp: \([0-9]*\)/.*|\1 \2|p' "$LOG") || true
    say "$1: ${runs:-0} runs, coverage ${coverage:-0}, corpus ${corpus:-0}, seed $SEED"
    if [ "${runs:-0}" = 0 ] || [ "${coverage:-0}" = 0 ]; then
        say "$1: that is no fuzzing"
        return 1
    fi
}

mapfile -t TARGETS < <(basename -s .rs -a "$FUZZ"/targets/*.rs)
TIME=5 WANTED=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --seconds)
            [[ ${2:-} =~ ^[1-9][0-9]{0,5}$ ]] || wrong "--seconds ${2:-}: not a number above 0"
            TIME=$2
            shift
            ;;
        -*) wrong "unknown option $1" ;;
        *)
            [[ " ${TARGETS[*]} " == *" $1 "* ]] || wrong "unknown target $1"
            WANTED+=("$1")
            ;;
    esac
    shift
done
[ ${#WANTED[@]} -gt 0 ] || WANTED=("${TARGETS[@]}")

# libFuzzer is built from its source.
HOST_NEEDS="g++ g++$(rust_needs)"
check_packages
get_rust
(cd "$FUZZ" && cargo build --quiet --locked --release) || die "could not build: the targets"
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
FAILED=0
for name in "${WANTED[@]}"; do fuzz "$name" || FAILED=1; done
exit "$FAILED"
