# shellcheck shell=bash
# Writes cpio archives (newc, as the kernel unpacks them): needs no root for device nodes and
# gives the same bytes each time, owner root and time 0. Sourced.

CPIO_INODE=0

# cpio_entry NAME MODE SIZE [MAJOR MINOR]: a header on stdout; SIZE bytes of content and
# cpio_pad SIZE follow.
cpio_entry() {
    local name=$1 length=$((${#1} + 1))
    CPIO_INODE=$((CPIO_INODE + 1))
    printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x' \
        "$CPIO_INODE" "$((8#$2))" 0 0 1 0 "$3" 0 0 "${4:-0}" "${5:-0}" "$length" 0
    printf '%s\0' "$name"
    cpio_pad $((110 + length))
}

# cpio_pad LENGTH: zeros up to a multiple of four.
cpio_pad() {
    local i
    for ((i = $1; i % 4; i++)); do printf '\0'; done
}

# cpio_file NAME MODE FILE
cpio_file() {
    local size
    size=$(stat -Lc %s "$3")
    cpio_entry "$1" "10$2" "$size"
    cat "$3"
    cpio_pad "$size"
}

cpio_dir() { cpio_entry "$1" 040755 0; }

# cpio_link NAME TARGET
cpio_link() {
    cpio_entry "$1" 120777 "${#2}"
    printf '%s' "$2"
    cpio_pad "${#2}"
}

# cpio_tree DIR: all below it, sorted.
cpio_tree() {
    local name path
    while IFS= read -r name; do
        path=$1/$name
        if [ -L "$path" ]; then
            cpio_link "$name" "$(readlink "$path")"
        elif [ -d "$path" ]; then
            cpio_dir "$name"
        else
            cpio_file "$name" "$(stat -c 0%a "$path")" "$path"
        fi
    done < <(cd "$1" && find . -mindepth 1 -printf '%P\n' | sort)
}

cpio_end() {
    local CPIO_INODE=-1
    cpio_entry 'TRAILER!!!' 0 0
}
