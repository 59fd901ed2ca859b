#!/usr/bin/env bash
# The one test command: format, lints, unit, namespace and QEMU tests; --help says more.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: scripts/test.sh [--fast]

Runs, in this order: cargo fmt and clippy, the unit tests, the tests of the binary, the bus,
the README and the namespaces (seconds), then those that boot the node in QEMU (minutes). What
they need is built first, as by scripts/boot.sh --build-only.

  --fast  without the node image and the QEMU tests

Exit status: 0 all passed, 1 something failed, 2 wrong use.
EOF
}

FAST=
case "${1:-}" in
    '') ;;
    -h | --help)
        usage
        exit 0
        ;;
    --fast) FAST=1 ;;
    *)
        echo "test.sh: unknown argument: $1 (--help says how)" >&2
        exit 2
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
step() { printf 'test.sh: [%ss] %s\n' "$SECONDS" "$*" >&2; }

step "format and lints"
cargo fmt --check
cargo clippy --quiet --locked --release --lib --bins -- -D warnings
cargo clippy --quiet --locked --tests --examples -- -D warnings

step "building init"
cargo build --quiet --locked --release

step "unit, binary, bus, README and namespace tests"
cargo test --quiet --locked --lib --examples --test binary --test dbus --test readme
# Most of their time they wait.
cargo test --quiet --locked --test namespace -- --nocapture --test-threads=6

if [ -z "$FAST" ]; then
    step "building the node image"
    scripts/boot.sh --build-only >/dev/null
    step "QEMU tests"
    cargo test --locked --test node -- --nocapture
fi
step "passed"
