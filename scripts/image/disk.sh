# shellcheck shell=bash
# The disk that a machine starts from by its firmware: one EFI file with kernel and initramfs, and the data partition.
# Sourced by image.sh.

# Fixed, so that the same sources make the same disk.
DISK_UUID=6b696f73-0000-4000-8000-00000000001
DATA_UUID=6b696f73-0000-4000-8000-000000000002
FAT_SERIAL=6b696f73
# MiB of the EFI system partition, by where the root is: room for a second file while the first is replaced.
declare -A ESP_SIZE=([initramfs]=256 [partition]=64)
# MiB of the data partition beyond what is in it; it grows on the first boot.
DATA_ROOM=128

# set_epoch: the time of everything in the image, SOURCE_DATE_EPOCH (reproducible-builds.org) or of the last commit.
set_epoch() {
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$REPO" log -1 --format=%ct 2>/dev/null || echo 1)}
    [[ $SOURCE_DATE_EPOCH =~ ^[0-9]{1,10}$ ]] || die "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH: not a number of seconds" 2
    export SOURCE_DATE_EPOCH TZ=UTC
}

# as_of_epoch PATH: sets the times of all files there.
as_of_epoch() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

# write_root FILE: the root partition, its hashes behind it; into root.verity what init makes the mapping of
# (src/plan.rs, ROOT_TABLE). The salt is by the content, so that the same root has the same hashes. The image is a file in
# there: of that each start of a service mounts a file system of its own, which it could not of the device.
write_root() {
    local blocks salt hash
    mkdir root
    cp "$ROOT" root/root.erofs
    write_erofs "$1" root
    rm -r root
    truncate -s %4096 "$1"
    blocks=$(($(stat -c %s "$1") / 4096))
    salt=$(sha256sum <"$ROOT" | cut -c1-64)
    hash=$(veritysetup format --no-superblock --data-block-size 4096 --hash-block-size 4096 --data-blocks "$blocks" \
        --hash-offset $((blocks * 4096)) --hash sha256 --salt "$salt" "$1" "$1" | sed -n 's/^Root hash:[[:space:]]*//p')
    [ ${#hash} = 64 ] || { echo "veritysetup gave no root hash"; return 1; }
    truncate -s %1M "$1"
    echo "$((blocks * 8)) 4096 4096 $blocks $blocks sha256 $hash $salt" >root.verity
}

# write_uki EFI INITRAMFS FILE: one EFI file of kernel, initramfs and command line.
write_uki() {
    local efi=$1 initramfs=$2 out=$3 own=()
    [ -z "$SIGN_KEY" ] || own=(--secureboot-private-key "$SIGN_KEY" --secureboot-certificate "$SIGN_CERT")
    # Whatever it exits with, the mistake is not the user's.
    /usr/bin/python3 "$efi/tree/usr/bin/ukify" build --efi-arch "$EFI_ARCH" --linux "$KERNEL" --initrd "$initramfs" --uname "$RELEASE" \
        --stub "$efi/tree/usr/lib/systemd/boot/efi/linux$EFI_ARCH.efi.stub" --os-release "@$IMAGE/root/usr/lib/os-release" \
        --cmdline "$BOOT_CONSOLE$KERNEL_LINE" --output "$out" "${own[@]}" || return 1
}

# write_esp FILE EFI-FILE: the EFI system partition, whose only program firmware starts by itself.
write_esp() {
    local tree=esp name=BOOT${EFI_ARCH^^}.EFI
    mkdir -p "$tree/EFI/BOOT"
    mv "$2" "$tree/EFI/BOOT/$name"
    as_of_epoch "$tree"
    truncate -s "${ESP_SIZE[$ROOT_IN]}M" "$1"
    mformat -i "$1" -F -v KIOS-EFI -N "$FAT_SERIAL" ::
    mcopy -s -m -i "$1" "$tree/EFI" :: || { echo "kernel and initramfs do not fit into ${ESP_SIZE[$ROOT_IN]} MiB"; return 1; }
    rm -r "$tree"
}

# write_data: the data partition, data.ext4. What a new machine runs is in the root, from where init plants it; pods and images of one's
# own are in the partition.
write_data() {
    local size=$DATA_ROOM from=()
    if [ -n "$OWN_PODS" ]; then
        seed_tree "$MANIFESTS" "$POD_IMAGES"/*.tar ${IMAGES[@]+"${IMAGES[@]}"}
        as_of_epoch data
        size=$((size + $(du -sm data | cut -f1) * 5 / 4))
        from=(-d data)
    fi
    truncate -s "${size}M" data.ext4
    export E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
    # Of the blocks and inodes of a large disk, which it will be; and with room for the descriptors of 8 TiB.
    mkfs.ext4 -q -F -T default -b 4096 -J size=32 -L kios-data -U "$DATA_UUID" -m 0 "${from[@]}" \
        -E "hash_seed=$DATA_UUID,root_owner=0:0,lazy_itable_init=0,resize=$((8 << 28))" data.ext4
    [ -z "$OWN_PODS" ] || settle_inodes "$SOURCE_DATE_EPOCH"
    rm -rf data
}

# write_disk EFI: disk.img in the current directory.
write_disk() {
    local at=1 parts=() number=1 file kind name size initramfs=$INITRD
    if [ "$ROOT_IN" = partition ]; then
        grep -qx dm-verity.ko "$MODULE_FILES/disk/order" || grep -q '/dm-verity\.ko$' "$MODULES_BASE/lib/modules/$RELEASE/modules.builtin" ||
            { echo "note: the kernel has no dm_verity"; return 1; }
        write_root root.part
        write_initramfs "$INIT" "$MODULE_FILES/disk" "" "" root.verity >initramfs
        initramfs=initramfs
        parts=("root.part linux kios-root")
    fi
    write_uki "$1" "$initramfs" uki.efi
    write_esp esp.fat uki.efi
    write_data
    # The data partition is the last: it grows.
    parts=("esp.fat uefi kios-efi" ${parts[@]+"${parts[@]}"} "data.ext4 linux kios-data")
    printf 'label: gpt\nlabel-id: %s0\nfirst-lba: 2048\n' "$DISK_UUID" >table
    for file in "${parts[@]}"; do
        read -r file kind name <<<"$file"
        size=$(($(stat -c %s "$file") >> 20))
        echo "start=${at}MiB, size=${size}MiB, type=$kind, name=$name, uuid=$DISK_UUID$number" >>table
        dd if="$file" of=disk.img bs=1M seek="$at" conv=notrunc,sparse status=none
        rm "$file"
        at=$((at + size)) number=$((number + 1))
    done
    # 1 MiB before and behind: alignment, and the partition table twice.
    truncate -s $((at + 1))M disk.img
    sfdisk -q disk.img <table
    # As long as a disk may be, in the entry that guards the table from old programs: it stays right when the disk is larger.
    printf '\377\377\377\377' | dd of=disk.img bs=1 seek=458 conv=notrunc status=none
}

# linked_packages: those of this machine's Debian whose libraries are linked to runc and pause, as names of their files.
linked_packages() {
    local name packages=(libc6-dev libseccomp-dev)
    if is_foreign; then
        packages=("libc6-dev-$DEBIAN_ARCH-cross")
        cat "${PKG_CONFIG_SYSROOT_DIR%/tree}/versions"
    fi
    for name in "${packages[@]}"; do dpkg-query -W -f '${Package}_${Version}_${Architecture}.deb\n' "$name"; done
}

# write_sbom EFI: what is inside, sbom.json, and its licences, licences.tar.xz.
write_sbom() {
    local packages version
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$REPO/Cargo.toml" | head -n 1)
    (cd "$REPO" && cargo metadata --quiet --locked --format-version 1 --filter-platform "$TARGET") >metadata.json
    # Of systemd it is the stub that is inside. A kernel of one's own is not Debian's.
    { grep -hv ukify "${DEBIAN%/tree}/versions" "$1/versions" && linked_packages; } >packages
    [ "$MODULES_BASE" = "$DEBIAN" ] || sed -i '/^linux-image-/d' packages
    mapfile -t packages <packages
    sort -u "${TREE%/tree}/images" ${OWN_PODS:+images} >all-images
    "$SBOM/sbom" -name "kios-init, $ARCH" -version "$version" -out sbom.json -licences licences -cargo metadata.json -rust "$(rustc --version | cut -d" " -f2)" \
        -debian "$DEBIAN,$1/tree,${PKG_CONFIG_SYSROOT_DIR:-},/" -images all-images "$TREE"/usr/bin/{containerd,containerd-shim-runc-v2,kubelet,runc} \
        "$TREE"/usr/lib/kios/cni/* -- "${packages[@]}"
    as_of_epoch licences
    tar --sort=name --owner=0 --group=0 --numeric-owner -cJf licences.tar.xz licences
    rm -r licences metadata.json packages all-images
}

# write_all EFI: the disk, and the list where it is asked for.
write_all() {
    write_disk "$1"
    [ -z "$WITH_SBOM" ] || write_sbom "$1"
}

# get_disk FILE: makes it.
get_disk() {
    local dir efi
    cached efi "$(hash_of "$IMAGE/pins/efi" "=$ARCH")" "EFI stub and ukify of Debian" fetch_pinned "$IMAGE/pins/efi"
    efi=$REPLY
    if [ -n "$WITH_SBOM" ]; then
        host_program sbom "the lister of what is inside" 0 "" "" kios.invalid/pins/sbom
        SBOM=$REPLY
    fi
    dir=$(mktemp -d "$CACHE/disk.XXXXXX")
    # shellcheck disable=SC2064
    trap "stop_build; rm -rf '$dir'" EXIT
    say "building: $1"
    mkdir "$dir/disk"
    build "$dir/disk" "$1" write_all "$efi"
    if [ -n "$WITH_SBOM" ]; then
        mv "$dir/disk/sbom.json" "$1.cdx.json"
        mv "$dir/disk/licences.tar.xz" "$1.licences.tar.xz"
    fi
    mv "$dir/disk/disk.img" "$1.new" && mv "$1.new" "$1"
}
