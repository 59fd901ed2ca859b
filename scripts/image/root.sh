# shellcheck shell=bash
# The root file system of the node: a tree of files, then root.erofs. Sourced by boot.sh.

# Bytes of root.erofs at most, by the kernel's flavour, whose drivers are in it: where it is in RAM it stays there.
declare -A ROOT_LIMIT=([cloud]=64000000 [full]=67500000)
# Zstandard (level 9) makes root.erofs a fifth smaller, for 2.1 thousand million instructions more until the first pod, of 5.2.
COMPRESSION=lz4hc,12
ROOT_UUID=6b696f73-0000-4000-8000-000000000001

# root_tree: everything but init, into ./tree. There is no shell in it and no busybox: a root
# pod that breaks out finds nothing to run.
root_tree() {
    mkdir -p tree/usr/bin tree/usr/lib/kios/cni tree/etc/ssl/certs tree/kernel/sbin tree/kernel/lib/firmware
    (
        cd tree
        # Where init mounts something.
        mkdir -p dev proc sys run tmp var data kios newroot etc/kubernetes etc/cni opt/cni/bin
        ln -s usr/bin bin
        ln -s usr/bin sbin
        ln -s bin usr/sbin
        ln -s usr/lib lib
        ln -s usr/lib lib64
        ln -s ../usr/lib/os-release etc/os-release
        # What a running node writes lives in /run.
        ln -s /run/resolv.conf etc/resolv.conf
        ln -s /kios/machine-id etc/machine-id
        ln -s /kios/hosts etc/hosts
    )
    cp -R "$IMAGE/root/." tree/
    cat "$IMAGE/kubelet/both.yaml" "$IMAGE/kubelet/alone.yaml" >tree/etc/kios/kubelet.yaml
    cat "$IMAGE/kubelet/both.yaml" "$IMAGE/kubelet/cluster.yaml" >tree/etc/kios/kubelet-in-cluster.yaml
    install -m 755 "$CONTAINERD/containerd" "$CONTAINERD/containerd-shim-runc-v2" "$RUNC/runc" "$KUBELET/kubelet" tree/usr/bin/
    install -m 755 "$CNI/bridge" "$CNI/host-local" "$CNI/portmap" tree/usr/lib/kios/cni/
    cp -R "$MODULE_FILES/root" tree/usr/lib/kios/modules
    cat "$DEBIAN"/usr/share/ca-certificates/mozilla/*.crt >tree/etc/ssl/certs/ca-certificates.crt
    # kubelet's volumes: util-linux, since other mounts refuse options that kubelet gives.
    # Not setuid: whoever runs them is root already.
    install -m 755 "$DEBIAN/usr/bin/mount" "$DEBIAN/usr/bin/umount" tree/usr/bin/
    install_libraries "$DEBIAN/usr/bin/mount" "$DEBIAN/usr/bin/umount"
    chmod -R u+rwX,go+rX,go-w tree
    # As the CIS benchmark has it (4.1.9).
    chmod 600 tree/etc/kios/kubelet*.yaml
    # What a new data disk gets; the directory of static pods has its name once all is there.
    seed_tree "$IMAGE/manifests" "$POD_IMAGES"/*.tar
    mv data/etc/kubernetes/manifests data/etc/kubernetes/manifests.new
    mv data tree/usr/lib/kios/seed
}

# install_libraries PROGRAM...: the shared libraries that these need, those that they need in turn, and the loader.
install_libraries() {
    local name needed
    needed=$(readelf -d "$@" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p')
    for name in $needed "$LOADER"; do
        [ ! -e "tree/usr/lib/$name" ] || continue
        install -m 755 "$DEBIAN/usr/lib/$TRIPLE/$name" tree/usr/lib/
        install_libraries "$DEBIAN/usr/lib/$TRIPLE/$name"
    done
}

# root_erofs TREE INIT: root.erofs in the current directory, the same bytes each time.
root_erofs() {
    local size
    cp -al "$1" tree
    # The only programs that the kernel itself may start: init, as poweroff and reboot.
    install -m 755 "$2" tree/kernel/sbin/poweroff
    ln tree/kernel/sbin/poweroff tree/kernel/sbin/reboot
    write_erofs root.erofs tree "$COMPRESSION"
    rm -rf tree
    size=$(stat -c %s root.erofs)
    [ "$size" -le "${ROOT_LIMIT[$FLAVOUR]}" ] || { echo "root.erofs has $size bytes, more than ${ROOT_LIMIT[$FLAVOUR]}"; return 1; }
}

# get_erofs sets EROFS, the directory of mkfs.erofs: one for this machine, whatever the image is for.
get_erofs() {
    local arch=$ARCH
    set_arch "$(uname -m)"
    cached erofs "$(hash_of "$IMAGE/pins/erofs" "=$ARCH")" "mkfs.erofs of Debian" fetch_pinned "$IMAGE/pins/erofs"
    set_arch "$arch"
    EROFS=$REPLY/tree/usr
}

# write_erofs FILE TREE [ALGORITHM]: the same bytes each time.
write_erofs() {
    local options=(-T0 -U "$ROOT_UUID" --all-root --quiet) libraries=("$EROFS"/lib/*-linux-gnu)
    [ -z "${3:-}" ] || options+=("-z$3" -C65536 -Eztailpacking)
    "${libraries[0]}"/ld-linux-*.so.* --library-path "${libraries[0]}" "$EROFS/bin/mkfs.erofs" "${options[@]}" "$1" "$2"
}

# get_root sets TREE (files without init) and ROOT (root.erofs).
get_root() {
    local key
    key=$(hash_of "$IMAGE/root" "$IMAGE/kubelet" "$IMAGE/manifests" "$IMAGE/root.sh" "$IMAGE/seed.sh" "=$POD_IMAGES $KUBELET $CONTAINERD $RUNC $CNI $MODULE_FILES $DEBIAN_KEY")
    cached tree "$key" "root tree" root_tree
    TREE=$REPLY/tree
    get_erofs
    key=$(hash_of "$INIT" "$IMAGE/root.sh" "=$key $EROFS")
    cached root "$key" "root.erofs" root_erofs "$TREE" "$INIT"
    ROOT=$REPLY/root.erofs
}
