# shellcheck shell=bash
# Messages and the cache, for boot.sh, cluster.sh and the parts under image/. Sourced, never run.

IMAGE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd "$IMAGE/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kios-init
# Debian keeps mkfs and depmod where a user's PATH may not look; Go and Rust install beside it.
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin:${HOME:-/root}/.cargo/bin
export LC_ALL=C

# shellcheck source=scripts/image/arch.sh
. "$IMAGE/arch.sh"

# Extra results of a kind that stay beside the newest, for switching between branches.
KEEP=4
BUILD_PID=

SELF=boot.sh
say() { printf '%s: %s\n' "$SELF" "$*" >&2; }

# die MESSAGE [STATUS]
die() {
    say "$1"
    exit "${2:-1}"
}

# hash_of [FILE|DIR|=TEXT]...: one key for all of it, names of files below a DIR included.
hash_of() {
    local item
    for item in "$@"; do
        case $item in
            =*) printf '%s\n' "$item" ;;
            *) (cd "$(dirname "$item")" && find -L "$(basename "$item")" -type f -print0 | sort -z | xargs -0 sha256sum) ;;
        esac
    done | sha256sum | cut -c1-16
}

# cached KIND KEY TEXT COMMAND...: the directory $CACHE/KIND/KEY, made by COMMAND (which runs
# in an empty directory) unless it is there. Its path is left in REPLY. A result appears by
# rename only, so an interrupted build leaves nothing behind that looks like one.
cached() {
    local kind=$1 key=$2 text=$3 tmp lock
    shift 3
    REPLY=$CACHE/$kind/$key
    if [ -d "$REPLY" ]; then
        touch "$REPLY"
        return
    fi
    mkdir -p "$CACHE/$kind"
    exec {lock}>"$CACHE/$kind/.lock"
    if ! flock -n "$lock"; then
        say "waiting for another one, which builds: $text"
        flock "$lock"
    fi
    if [ ! -d "$REPLY" ]; then
        say "building: $text"
        rm -rf "$CACHE/$kind"/tmp.*
        tmp=$CACHE/$kind/tmp.$key
        mkdir "$tmp"
        build "$tmp" "$text" "$@"
        mv "$tmp" "$REPLY"
        prune "$kind"
    fi
    exec {lock}>&-
}

# build DIR TEXT COMMAND...: runs COMMAND in DIR, with a sign of life now and then. Its own
# process group, so that an interrupt ends the compilers below it as well.
build() {
    local dir=$1 text=$2 log=$1.log start=$SECONDS tick=15 status=0
    shift 2
    set -m
    (
        set -euo pipefail
        cd "$dir"
        "$@"
    ) </dev/null >"$log" 2>&1 &
    BUILD_PID=$!
    set +m
    while kill -0 "$BUILD_PID" 2>/dev/null; do
        sleep 0.1
        if [ $((SECONDS - start)) -ge "$tick" ]; then
            say "  still building: $text ($((SECONDS - start)) s)"
            tick=$((tick + 15))
        fi
    done
    wait "$BUILD_PID" || status=$?
    BUILD_PID=
    if [ "$status" = 2 ]; then
        # The user's mistake, in one line.
        text=$(tail -n 1 "$log")
        rm -rf "$dir" "$log"
        die "$text" 2
    elif [ "$status" != 0 ]; then
        tail -n 20 "$log" >&2
        rm -rf "$dir" "$log"
        die "could not build: $text"
    fi
    # What a step prints with "note:" is for the user; the rest matters only when it fails.
    grep '^note: ' "$log" | sed "s/^note: /$SELF:   /" >&2 || true
    rm -f "$log"
}

# prune KIND: drops all but the newest results.
prune() {
    local old
    find "$CACHE/$1" -mindepth 1 -maxdepth 1 -type d ! -name 'tmp.*' -printf '%T@ %p\n' |
        sort -rn | tail -n +$((KEEP + 2)) | cut -d' ' -f2- |
        while IFS= read -r old; do rm -rf "$old"; done
}

# Ends a build that runs; for a trap.
stop_build() {
    [ -z "$BUILD_PID" ] || kill -TERM -- "-$BUILD_PID" 2>/dev/null || true
}
