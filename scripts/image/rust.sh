# shellcheck shell=bash
# Rust: rustup's where there is one, else Debian's, whose core library for another kind of processor is unpacked, never installed.
# Sourced by boot.sh and init.sh.

# rust_wanted: the oldest that will do.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$REPO/Cargo.toml"; }

# rust_needs: as HOST_NEEDS, what brings cargo where there is none. Besides its release's own Rust Debian has a newer one, for its
# browsers.
rust_needs() {
    local wanted kind version
    # What links init where rustup's own linker is not there.
    ! is_foreign || command -v rustup >/dev/null || printf '\n%s\n' "$TRIPLE-ld binutils-${TRIPLE//_/-}"
    ! command -v cargo >/dev/null || return 0
    wanted=$(rust_wanted)
    [ -n "$(apt-cache policy rustc 2>/dev/null)" ] || [ "$(id -u)" != 0 ] || apt-get update -q >/dev/null 2>&1 || true
    for kind in '' -web; do
        version=$(apt-cache policy "rustc$kind" 2>/dev/null | sed -n 's/^ *Candidate: //p')
        [[ $version = [0-9]* ]] && dpkg --compare-versions "$version" ge "$wanted" || continue
        printf '\n%s\n' "cargo cargo$kind"
        return
    done
    die "Rust $wanted or newer is needed to build init, and Debian has none: https://rustup.rs"
}

# get_rust: makes cargo build for the image's kind of processor.
get_rust() {
    local wanted have
    wanted=$(rust_wanted)
    have=$(rustc --version 2>/dev/null | awk '{ print $2 }') || have=0
    [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] ||
        die "Rust $wanted or newer is needed to build init, this is ${have/#0/none}: https://rustup.rs"
    [ ! -d "$(rustc --print target-libdir --target "$TARGET")" ] || return 0
    if command -v rustup >/dev/null; then
        say "adding Rust's $TARGET"
        rustup --quiet target add "$TARGET" >&2 || die "could not add Rust's $TARGET"
    else
        debian_library
    fi
}

# debian_library: the core library of the very release that the installed compiler is.
debian_library() {
    local package version
    # It links by cross binutils alone; x86_64 needs a C compiler for that.
    [ "$ARCH" = aarch64 ] || die "rustup is needed to build init for $ARCH: https://rustup.rs"
    package=$(dpkg-query -S "$(realpath "$(command -v rustc)")" 2>/dev/null) || package=
    package=${package%%:*}
    version=$(dpkg-query -W -f '${Version}' "${package:-none}" 2>/dev/null) ||
        die "$(command -v rustc) is neither rustup's nor Debian's, and has no $TARGET: add that"
    cached rust "$(hash_of "=$TARGET $package $version")" "Rust's core library for $ARCH" \
        fetch_library "lib${package/rustc/std-rust}-dev" "$version"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-L $REPLY/lib -C linker=$TRIPLE-ld -C linker-flavor=ld"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS
}

# fetch_library PACKAGE VERSION: into ./lib.
fetch_library() {
    own_apt
    (cd debs && apt-get download -q "$1=$2" && dpkg-deb -x ./*.deb ../tree)
    mv "tree/usr/lib/rustlib/$TARGET/lib" lib
    rm -rf apt debs tree
}
