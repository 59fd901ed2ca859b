#!/usr/bin/env bash
# Init itself. boot.sh sources this; the tests run it: init.sh ARCH builds it for that kind of processor and prints its path.
set -euo pipefail

# build_init sets INIT, which cargo builds.
build_init() {
    check_cargo
    [ -f "$REPO/Cargo.toml" ] || die "no Cargo.toml in $REPO, and no KIOS_INIT= given"
    if is_foreign && command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$TARGET"; then
        say "adding Rust's $TARGET"
        rustup --quiet target add "$TARGET" >&2 || die "could not add Rust's $TARGET"
    fi
    # cargo knows best whether there is something to do; it is silent when there is not.
    (cd "$REPO" && cargo build --quiet --release --locked --target "$TARGET") >&2 ||
        die "could not build: init${OF:+ (where there is no rustup, the target $TARGET must be there)}"
    INIT=${CARGO_TARGET_DIR:-$REPO/target}/$TARGET/release/init
    [ -f "$INIT" ] || die "cargo made no $INIT"
}

if [ "${#BASH_SOURCE[@]}" = 1 ]; then
    # shellcheck source=scripts/image/common.sh
    . "$(dirname "$0")/common.sh"
    SELF=init.sh
    # shellcheck source=scripts/image/host.sh
    . "$IMAGE/host.sh"
    set_arch "${1:-}" || die "init.sh ${1:-}: neither x86_64 nor aarch64" 2
    build_init
    echo "$INIT"
fi
