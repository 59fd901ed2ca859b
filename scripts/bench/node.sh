# shellcheck shell=bash
# A node from the kernel's hand-over to its first pod. Sourced by bench.sh.

# node_tree NAME: the node's root without what kios-init alone uses, and the files of that node over it.
node_tree() {
    cp -al "$TREE" "$1"
    rm -rf "$1/usr/lib/kios/seed" "$1/kernel"
    own_files "$1"
}

own_files() { [ ! -d "$NODES/$1" ] || cp -R --remove-destination "$NODES/$1/." "$1/"; }

# node_modules TREE: so that modprobe finds them.
node_modules() {
    local directory=$1/usr/lib/modules/$RELEASE
    mkdir -p "$directory"
    cp -l "$MODULE_FILES"/root/*.ko "$directory/"
    cp -lf "$MODULE_FILES"/disk/*.ko "$directory/"
    cp "$MODULES_BASE/lib/modules/$RELEASE"/modules.{builtin,builtin.modinfo,order} "$directory/"
    depmod -b "$PWD/$1" "$RELEASE"
}

# boot_modules: names of those that a node needs at boot which loads the others on demand, or never.
boot_modules() {
    local names
    mapfile -t names < <(section early)
    load_order "${names[@]}" virtio_net af_packet br_netfilter | sed 's|.*/||; s|\.ko.*||'
}

floor_node() {
    node_tree floor
    boot_modules | sed 's/$/.ko/' >floor/usr/lib/kios/modules/floor
    cp "$BENCH_PROGRAMS/node" floor/usr/bin/floor
    write_initramfs "$BENCH_PROGRAMS/node" "$MODULE_FILES/initramfs" "" floor >floor.initramfs
    write_erofs floor.erofs floor "$COMPRESSION"
}

busybox_node() {
    local applet
    node_tree busybox
    rm -r busybox/usr/lib/kios/modules
    node_modules busybox
    cp "$BENCH_PROGRAMS/node" busybox/usr/bin/ready
    cp "$DEBIAN/usr/bin/busybox" busybox/usr/bin/
    for applet in $("$DEBIAN/usr/bin/busybox" --list); do
        [ -e "busybox/usr/bin/$applet" ] || ln -s busybox "busybox/usr/bin/$applet"
    done
    cp "$NODES/systemd/etc/sysctl.d/node.conf" busybox/etc/sysctls
    boot_modules >busybox/etc/modules
    write_erofs busybox.erofs busybox "$COMPRESSION"
}

systemd_node() {
    cp -al "$1/tree" systemd
    rm -rf systemd/usr/share/{doc,man,locale,bug,lintian}
    cp -l "$TREE"/usr/bin/{containerd,containerd-shim-runc-v2,kubelet,runc} systemd/usr/bin/
    mkdir -p systemd/{data,dev,proc,sys,run,tmp,var,newroot} systemd/etc/{kubernetes,cni/net.d,ssl/certs} systemd/opt/cni/bin systemd/usr/lib/kios
    cp -R "$TREE/etc/kios" systemd/etc/
    cp "$TREE/etc/ssl/certs/ca-certificates.crt" systemd/etc/ssl/certs/
    cp -R "$TREE/usr/lib/kios/cni" systemd/usr/lib/kios/
    ln -sf /run/resolv/resolv.conf systemd/etc/resolv.conf
    node_modules systemd
    own_files systemd
    write_erofs systemd.erofs systemd "$COMPRESSION"
}

# kios_partition: a disk with the root in a partition, and the initramfs to it.
kios_partition() {
    local size
    write_root root.part
    write_initramfs "$INIT" "$MODULE_FILES/disk" "" "" root.verity >kios.initramfs
    size=$(($(stat -c %s root.part) >> 20))
    dd if=root.part of=kios.img bs=1M seek=1 conv=notrunc,sparse status=none
    truncate -s $((size + 2))M kios.img
    printf 'label: gpt\nfirst-lba: 2048\nstart=1MiB, size=%dMiB, type=linux, name=kios-root\n' "$size" | sfdisk -q kios.img
    rm root.part
}

make_nodes() {
    floor_node
    busybox_node
    systemd_node "$1"
    kios_partition
    # Finds a root on a disk.
    write_initramfs "$BENCH_PROGRAMS/node" "$MODULE_FILES/disk" "" "" >disk.initramfs
    rm -rf floor busybox systemd
}

bench_node() {
    local pins=$REPO/scripts/bench/pins/systemd systemd nodes key
    HOST_NEEDS+="veritysetup cryptsetup-bin
"
    trap end_bench EXIT
    build_image
    build_bench
    NODES=$BENCH/nodes
    KERNEL_KIND=
    cached bench "$(hash_of "$pins")" "systemd of Debian" fetch_pinned "$pins"
    systemd=$REPLY
    key=$(hash_of "$REPO/scripts/bench/node.sh" "$IMAGE/disk.sh" "$IMAGE/root.sh" "$IMAGE/initramfs.sh" "$IMAGE/cpio.sh" "$NODES" \
        "$BENCH_PROGRAMS/node" "=$(find "$NODES" -type l -printf '%P %l ') $ROOT $INIT $MODULE_FILES $systemd")
    cached nodes "$key" "roots of other nodes" make_nodes "$systemd"
    nodes=$REPLY
    WORK=$(mktemp -d -t kios-bench.XXXXXX)
    mkdir "$WORK/manifests"
    cp "$IMAGE/manifests/dhcpcd.yaml" "$BENCH/pods/bench.yaml" "$WORK/manifests"
    # Name, initramfs, and the disk where the root is.
    cat >"$WORK/nodes" <<EOF
floor, root in RAM	$nodes/floor.initramfs
floor	$nodes/disk.initramfs	$nodes/floor.erofs
kios-init, root in RAM	$INITRD
kios-init	$nodes/kios.initramfs	$nodes/kios.img
busybox init	$nodes/disk.initramfs	$nodes/busybox.erofs
systemd	$nodes/disk.initramfs	$nodes/systemd.erofs
EOF
    run "$BENCH_PROGRAMS/bench" node "$REPO/scripts/boot.sh" "$WORK" "$ROUNDS" "$COUNTED" "$PLOT"
}
