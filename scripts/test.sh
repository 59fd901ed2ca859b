#!/usr/bin/env bash
# The one test command: format, lints, unit, namespace and QEMU tests, fuzzing; --help says more.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: scripts/test.sh [--fast] [--fuzz SECONDS]
       scripts/test.sh --arch ARCH
       scripts/test.sh --soak [KILLS CUTS]

Runs, in this order: cargo fmt and clippy, the unit tests, the tests of the binary, the bus,
the README, the benchmarks' own and the namespaces (seconds), fuzzing (scripts/fuzz.sh), then the tests that boot the
node in QEMU (minutes). What they need is built first, as by scripts/boot.sh --build-only.

  --fast               without the node image and the QEMU tests
  --fuzz SECONDS       for each parser that is fuzzed (5)
  --arch ARCH          only the tests that boot the node in QEMU, all of them, on machines of this kind,
                       x86_64 or aarch64. All kinds are part of the run without options, those of
                       another kind than this machine by a few tests alone
  --attack             only the attacks on a running node, in QEMU (tests/attack): a table of what
                       each got, on the node, on one whose init lacks its defences, and where the
                       root is in a partition
  --soak [KILLS CUTS]  only the fault suite, in QEMU: KILLS (1000) times containerd or kubelet is
                       killed, CUTS (100) times the node's power is cut, at random moments. Takes
                       an hour or two; a short form is part of the QEMU tests

Environment: KIOS_SOAK_SEED (what is random is repeated with the seed that a run printed),
KIOS_INIT (another init).

Exit status: 0 all passed, 1 something failed, 2 wrong use.
EOF
}

wrong() {
    echo "test.sh: $1 (--help says how)" >&2
    exit 2
}

# number OPTION VALUE
number() { [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || wrong "$1 $2: not a number above 0"; }

FAST='' FUZZ=5 ARCH='' ATTACK='' SOAK=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --fast) FAST=1 ;;
        --fuzz)
            number "$1" "${2:-}"
            FUZZ=$2
            shift
            ;;
        --arch)
            ARCH=${2:-}
            case $ARCH in x86_64 | aarch64) ;; *) wrong "$1 $ARCH: neither x86_64 nor aarch64" ;; esac
            shift
            ;;
        --attack) ATTACK=1 ;;
        --soak)
            [ $# = 1 ] || [ $# = 3 ] || wrong "--soak needs both numbers or none, and goes last"
            SOAK=1
            export KIOS_SOAK_KILLS=${2-1000} KIOS_SOAK_CUTS=${3-100}
            number "$1" "$KIOS_SOAK_KILLS"
            number "$1" "$KIOS_SOAK_CUTS"
            break
            ;;
        *) wrong "unknown argument: $1" ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
step() { printf 'test.sh: [%ss] %s\n' "$SECONDS" "$*" >&2; }

# node_tests ARGUMENT...: the tests that boot nodes; why some failed is said once more at the end.
node_tests() {
    local log
    log=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$log'" EXIT
    if cargo test --locked --test node -- --nocapture "$@" 2>&1 | tee "$log"; then
        rm "$log"
        return
    fi
    step "failed:"
    grep -A 4 ' panicked at ' "$log" >&2 || true
    exit 1
}

if [ -n "$ARCH" ]; then
    step "building init and the node images for $ARCH"
    scripts/image/init.sh "$ARCH" >/dev/null
    scripts/boot.sh --arch "$ARCH" --build-only >/dev/null
    [ "$ARCH" = x86_64 ] || scripts/boot.sh --arch "$ARCH" --kernel full --build-only >/dev/null
    step "QEMU tests on $ARCH"
    # Not boot.sh's own, nor those that have a kind of their own.
    KIOS_ARCH=$ARCH node_tests --skip cli:: --skip aarch64::
    step "passed"
    exit 0
fi
if [ -n "$ATTACK$SOAK" ]; then
    step "building init and the node image"
    cargo build --quiet --locked --release
    scripts/boot.sh --build-only >/dev/null
    if [ -n "$ATTACK" ]; then
        step "attacks"
        node_tests attack::
    fi
    if [ -n "$SOAK" ]; then
        step "$KIOS_SOAK_KILLS kills and $KIOS_SOAK_CUTS power cuts"
        node_tests soak::
    fi
    step "passed"
    exit 0
fi

step "format and lints"
cargo fmt --check
cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
cargo fmt --check --manifest-path tests/attack/intruder/Cargo.toml
cargo fmt --check --manifest-path tests/bench/Cargo.toml
cargo clippy --quiet --locked --release --lib --bins -- -D warnings
cargo clippy --quiet --locked --tests --examples -- -D warnings
cargo clippy --quiet --locked --release --manifest-path tests/attack/intruder/Cargo.toml --target-dir target/intruder -- -D warnings
(cd tests/bench && cargo clippy --quiet --locked --release --no-deps -- -D warnings)

step "building init"
cargo build --quiet --locked --release
scripts/image/init.sh aarch64 >/dev/null
cargo clippy --quiet --locked --release --lib --bins --target aarch64-unknown-linux-gnu -- -D warnings

step "unit, binary, bus, README and namespace tests"
cargo test --quiet --locked --lib --examples --test binary --test dbus --test readme
(cd tests/bench && cargo test --quiet --locked --release --bin bench)
# Most of their time they wait.
cargo test --quiet --locked --test namespace -- --nocapture --test-threads=6

step "fuzzing, $FUZZ s for each parser"
scripts/fuzz.sh --seconds "$FUZZ"
# Only now: it takes libFuzzer as built there.
(cd tests/fuzz && cargo clippy --quiet --locked --release --bins --no-deps -- -D warnings)

if [ -z "$FAST" ]; then
    step "building the node images"
    scripts/boot.sh --build-only >/dev/null
    scripts/boot.sh --arch aarch64 --build-only >/dev/null
    scripts/boot.sh --arch aarch64 --kernel full --build-only >/dev/null
    step "QEMU tests"
    node_tests
fi
step "passed"
