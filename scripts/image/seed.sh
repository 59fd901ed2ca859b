# shellcheck shell=bash
# The data disk as a new machine finds it: an ext4 file system with the images in containerd's
# store and the static pods. Sourced by boot.sh.

SEED_SIZE=2G
SEED_UUID=6b696f73-0000-4000-8000-000000000002

# check_manifests DIR: names a mistake before anything is built.
check_manifests() {
    [ -d "$1" ] || die "--manifests $1: not a directory" 2
    [ -r "$1" ] || die "--manifests $1: cannot be read" 2
    [ -n "$(find -L "$1" -maxdepth 1 -type f \( -name '*.yaml' -o -name '*.yml' -o -name '*.json' \) -print -quit)" ] ||
        die "--manifests $1: no .yaml, .yml or .json file in it" 2
}

# check_archive FILE: a file that may hold an image; the store's writer looks closer.
check_archive() {
    [ -f "$1" ] || die "--images $1: no such file" 2
    [ -r "$1" ] || die "--images $1: cannot be read" 2
    [ -n "$(tar -tf "$1" 2>/dev/null | head -n 1)" ] || die "--images $1: not a tar archive" 2
}

# seed_tree MANIFESTS ARCHIVE...: containerd's store and the static pods, into ./data; the images' names and digests into
# ./images.
seed_tree() {
    local manifests=$1 file
    shift
    mkdir -p data/var/lib/containerd data/etc/kubernetes/manifests
    chmod 700 data/var/lib/containerd data/etc/kubernetes/manifests
    "$SEEDER/seed" -root data/var/lib/containerd -platform "linux/$GO_ARCH" "$@" >images
    for file in "$manifests"/*.yaml "$manifests"/*.yml "$manifests"/*.json; do
        [ ! -e "$file" ] || install -m 600 "$file" data/etc/kubernetes/manifests/
    done
}

# seed_disk MANIFESTS ARCHIVE...: data.ext4 in the current directory.
seed_disk() {
    seed_tree "$@"
    # Tables are zero already, a new file being so: the kernel has nothing to finish at boot.
    export E2FSPROGS_FAKE_TIME=1
    truncate -s "$SEED_SIZE" data.ext4
    mkfs.ext4 -q -F -L kios-data -U "$SEED_UUID" -m 0 -J size=32 -d data \
        -E "hash_seed=$SEED_UUID,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,assume_storage_prezeroed=1" data.ext4
    [ "$(id -u)" = 0 ] || settle_inodes
    rm -rf data
}

# settle_inodes [TIME]: mkfs copies of each file its owner, who is here some user, and when it was changed and read last.
settle_inodes() {
    find data -mindepth 1 -printf '%P\n' | while IFS= read -r file; do
        printf "set_inode_field \"/$file\" %s\n" "uid 0" "gid 0" ${1:+"ctime @$1" "ctime_extra 0" "atime @$1" "atime_extra 0"}
    done | debugfs -w -f - data.ext4 >/dev/null
}

# get_seed MANIFESTS ARCHIVE... sets SEED, the disk image.
get_seed() {
    local manifests=$1
    shift
    set -- "$POD_IMAGES"/*.tar "$@"
    cached seed "$(hash_of "$(realpath "$manifests")" "$@" "$IMAGE/seed.sh" "=$CONTAINERD$OF")" "data disk" seed_disk "$(realpath "$manifests")" "$@"
    SEED=$REPLY/data.ext4
}

# check_data FILE: names a mistake before anything is built.
check_data() {
    [ ! -d "$1" ] || die "--data $1: a directory, not a disk image" 2
    [ -d "$(dirname "$1")" ] || die "--data $1: no such directory" 2
    if [ -e "$1" ]; then
        [ -r "$1" ] || die "--data $1: cannot be read" 2
        [ -w "$1" ] || die "--data $1: cannot be written" 2
    fi
}

# check_image FILE: a disk to boot from.
check_image() {
    [ -f "$1" ] || die "--image $1: no such file" 2
    [ -r "$1" ] && [ -w "$1" ] || die "--image $1: cannot be read and written" 2
    # The entry that guards a GPT from old programs, which firmware goes by too.
    [ "$(dd if="$1" bs=1 skip=450 count=1 status=none | tr -d '\0')" = $'\356' ] || die "--image $1: not a disk of scripts/image.sh" 2
}

# own_data FILE: the disk that --data names, made when it does not exist.
own_data() {
    if [ ! -e "$1" ]; then
        say "new data disk: $1"
        cp --sparse=always "$SEED" "$1.new" 2>/dev/null || die "--data $1: cannot be written" 2
        mv "$1.new" "$1"
    elif [ -n "$OWN_PODS" ]; then
        say "$1 exists and keeps its own pods and images: --manifests and --images change nothing"
    fi
}
