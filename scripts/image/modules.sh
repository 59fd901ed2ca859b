# shellcheck shell=bash
# Which module files the kernel needs, and in which order. Sourced by boot.sh.

# section NAME: the names below [NAME] and [NAME ARCH] in modules.list.
section() {
    awk -v all="[$1]" -v own="[$1 $ARCH]" '/^\[/ { on = $0 == all || $0 == own; next } on && NF && !/^#/ { print $1 }' "$IMAGE/modules.list"
}

# load_order NAME...: files in the order in which they go in, dependencies first.
load_order() {
    local name out
    for name in "$@"; do
        # The machine's own modprobe settings are not the node's.
        if out=$(modprobe -C /dev/null -d "$MODULES_BASE" -S "$RELEASE" --show-depends "$name" 2>/dev/null); then
            awk '$1 == "insmod" { print $2 }' <<<"$out"
        fi
    done | awk '!seen[$0]++'
}

# unpack FILE DIR: as .ko; the signature at its end stays.
unpack() {
    local file=$1 name=${1##*/}
    case $name in
        *.ko) cp "$file" "$2/$name" ;;
        *.ko.xz) xz -dc "$file" >"$2/${name%.xz}" ;;
        *.ko.gz) gzip -dc "$file" >"$2/${name%.gz}" ;;
        *.ko.zst) zstd -dcq "$file" >"$2/${name%.zst}" ;;
        *) echo "note: unknown kind of module: $name"; return 1 ;;
    esac
}

# collect SECTIONS DIR LIST [BEFORE]...: unpacks the sections' modules, less those of the lists BEFORE, into
# DIR and writes their names to the file LIST.
collect() {
    local sections=$1 dir=$2 list=$3 names file name seen
    shift 3
    mapfile -t names < <(for name in $sections; do section "$name"; done)
    seen=$(cat /dev/null "$@")
    : >"$list.tmp"
    while IFS= read -r file; do
        name=${file##*/}
        name=${name%%.ko*}.ko
        if grep -qxF "$name" <<<"$seen"; then continue; fi
        unpack "$file" "$dir"
        echo "$name" >>"$list.tmp"
    done < <(load_order "${names[@]}")
    # What init reads of it (MODULE_LIST_BYTES of src/plan.rs).
    [ "$(wc -c <"$list.tmp")" -le 4096 ] || die "modules.list: [$sections] makes a list of over 4096 bytes"
    mv "$list.tmp" "$list"
}

collect_all() {
    mkdir initramfs disk root
    collect initramfs initramfs initramfs/order
    collect "initramfs disk" disk disk/order
    # Loaded side by side: each has all that it needs.
    collect storage root root/storage
    collect early root root/early
    collect late root root/late root/storage root/early
    report_absent
}

# report_absent: one line with the names that this kernel does not know.
report_absent() {
    local name absent=()
    for name in $(section initramfs) $(section storage) $(section early) $(section late); do
        modprobe -C /dev/null -d "$MODULES_BASE" -S "$RELEASE" --show-depends "$name" >/dev/null 2>&1 || absent+=("$name")
    done
    [ ${#absent[@]} = 0 ] || echo "note: not in kernel $RELEASE: ${absent[*]}"
}

# get_modules sets MODULE_FILES: initramfs/ (with order), disk/ (the same for a root in a partition), root/ (with early and late).
get_modules() {
    local key
    key=$(hash_of "$IMAGE/modules.list" "$IMAGE/modules.sh" "=$RELEASE $DEBIAN_KEY $(stat -Lc %Y "$MODULES_BASE/lib/modules/$RELEASE/modules.dep")")
    cached modules "$key" "module lists for $RELEASE" collect_all
    MODULE_FILES=$REPLY
}
