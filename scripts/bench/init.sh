# shellcheck shell=bash
# Init alone, as PID 1 of namespaces. Sourced by bench.sh.

BENCH=$REPO/tests/bench

# fetch_inits PIN: the packages, as one root directory.
fetch_inits() {
    KERNEL_KIND=
    fetch_pinned "$1"
    # What base-files and busybox's own installation bring.
    local directory
    for directory in bin lib lib64 sbin; do ln -s "usr/$directory" "tree/$directory"; done
    ln -s /run tree/var/run
    ln -s busybox tree/usr/bin/sh
}

# build_bench sets BENCH_PROGRAMS, which cargo builds.
build_bench() {
    (cd "$BENCH" && cargo build --quiet --locked --release --target-dir "$REPO/target/bench") >&2 ||
        die "could not build: tests/bench"
    BENCH_PROGRAMS=$REPO/target/bench/$TARGET/release
}

check_root() { [ "$(id -u)" = 0 ] || die "run it as root"; }

# end_bench: ends a run, whose processes end with it, and removes what it leaves behind where it was interrupted.
end_bench() {
    local tree i
    stop_build
    [ -z "${RUNNING:-}" ] || kill -TERM "$RUNNING" 2>/dev/null || true
    [ -n "${WORK:-}" ] || return 0
    tree=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    for ((i = 0; i < 50; i++)); do
        find "$tree" -mindepth 1 -depth -type d -path "$tree/${WORK##*/}-*" -exec rmdir {} + 2>/dev/null || true
        [ -n "$(find "$tree" -maxdepth 1 -name "${WORK##*/}-*")" ] || break
        sleep 0.1
    done
    rm -rf "$WORK"
}

# run PROGRAM ARGUMENT...: in the background, so that a signal to this script ends it; in a group of its own, or it would ignore
# SIGINT.
run() {
    set -m
    "$@" </dev/null &
    set +m
    RUNNING=$!
    wait "$RUNNING"
    RUNNING=
}

# own_programs sets WORK, with the project's own programs in it. Not below the repository: who is root in a namespace alone may
# not pass each directory there.
own_programs() {
    WORK=$(mktemp -d -t kios-bench.XXXXXX)
    mkdir "$WORK/programs"
    cp "$BENCH_PROGRAMS/idle" "$BENCH_PROGRAMS/floor" "$WORK/programs"
    cp "$INIT" "$WORK/programs/init"
    chmod 755 "$WORK" "$WORK/programs"
}

bench_init() {
    check_root
    HOST_NEEDS="
gcc gcc
flock util-linux
/usr/include/stdlib.h libc6-dev
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring$(rust_needs)"
    check_packages
    trap end_bench EXIT
    local pins=$REPO/scripts/bench/pins/inits debian
    cached bench "$(hash_of "$pins" "$REPO/scripts/bench/init.sh")" "other inits of Debian" fetch_inits "$pins"
    debian=$REPLY
    INIT=${KIOS_INIT:-}
    if [ -n "$INIT" ]; then get_rust; else build_init; fi
    build_bench
    own_programs
    run "$BENCH_PROGRAMS/bench" init "$debian" "$WORK/programs" "$WORK" "$ROUNDS"
}
