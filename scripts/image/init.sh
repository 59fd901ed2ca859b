#!/usr/bin/env bash
# Init itself. boot.sh sources this; the tests run it: init.sh ARCH builds it for that kind of processor and prints its path.
set -euo pipefail

# build_init sets INIT, which cargo builds.
build_init() {
    [ -f "$REPO/Cargo.toml" ] || die "no Cargo.toml in $REPO, and no KIOS_INIT= given"
    get_rust
    # cargo knows best whether there is something to do; it is silent when there is not.
    (cd "$REPO" && cargo build --quiet --release --locked --target "$TARGET") >&2 || die "could not build: init"
    INIT=${CARGO_TARGET_DIR:-$REPO/target}/$TARGET/release/init
    [ -f "$INIT" ] || die "cargo made no $INIT"
}

if [ "${#BASH_SOURCE[@]}" = 1 ]; then
    # shellcheck source=scripts/image/common.sh
    . "$(dirname "$0")/common.sh"
    SELF=init.sh
    for part in host debian rust; do
        # shellcheck disable=SC1090
        . "$IMAGE/$part.sh"
    done
    set_arch "${1:-}" || die "init.sh ${1:-}: neither x86_64 nor aarch64" 2
    HOST_NEEDS=$(rust_needs)
    check_packages
    build_init
    echo "$INIT"
fi
