# shellcheck shell=bash
# How a node finds its cluster: a kubeconfig on its disk, and ways through QEMU's network. Sourced by boot.sh.

# Where the node is in QEMU's network.
JOIN_ADDRESS=10.0.2.15
# What QEMU has for it beside restrict=on, and where QEMU runs for that.
JOIN_NET=
JOIN_INSIDE=()

# check_join DIR|FILE sets JOIN_FILE, JOIN_NET and JOIN_INSIDE; names a mistake before anything is built.
check_join() {
    local pid child
    if [ -d "$1" ]; then
        JOIN_FILE=$1/pki/bootstrap-kubelet.conf
        [ -f "$JOIN_FILE" ] || die "--join $1: no cluster there; scripts/cluster.sh --dir $1 up makes one" 2
        pid=$(cat "$1/pid" 2>/dev/null) && child=$(cut -d' ' -f1 "/proc/$pid/task/$pid/children" 2>/dev/null) && [ -n "$child" ] ||
            die "--join $1: that cluster does not run; scripts/cluster.sh --dir $1 up starts it" 2
        JOIN_INSIDE=(nsenter --preserve-credentials -U -n -t "$child" --)
    else
        [ -r "$1" ] || die "--join $1: no such file, or it cannot be read" 2
        grep -qsx 'kind: Config' "$1" || die "--join $1: not a kubeconfig as kubectl config view --raw prints it" 2
        JOIN_FILE=$1
    fi
    HOST_NEEDS+="socat socat
"
    # Each connection has a relay of its own. The second is the API server's way to kubelet.
    JOIN_NET=",guestfwd=tcp:10.0.2.100:6443-cmd:socat - TCP:127.0.0.1:6443"
    [ ! -d "$1" ] || JOIN_NET+=",hostfwd=tcp:$JOIN_ADDRESS:10250-$JOIN_ADDRESS:10250"
}

# join_disk DISK: puts the kubeconfig there, over one that it has; and the address, which kubelet takes from the default route
# elsewhere: here there is none.
join_disk() {
    local dir=/etc/kubernetes address
    ! dumpe2fs -h "$1" 2>/dev/null | grep -q needs_recovery ||
        die "$1 was not unmounted: let a node boot from it and power off, without --join"
    address=$(mktemp)
    echo "$JOIN_ADDRESS" >"$address"
    {
        put_file "$JOIN_FILE" "$dir/bootstrap-kubelet.conf"
        put_file "$address" "$dir/node-ip"
    } | debugfs -w -f - "$1" >/dev/null 2>&1
    rm "$address"
    debugfs -R "cat $dir/bootstrap-kubelet.conf" "$1" 2>/dev/null | cmp -s - "$JOIN_FILE" ||
        die "could not write $dir/bootstrap-kubelet.conf to $1"
}

# put_file FROM TO: requests of debugfs, which owns and modes a file as it is here.
put_file() {
    printf '%s\n' "rm $2" "write $(realpath "$1") $2" "sif $2 mode 0100600" "sif $2 uid 0" "sif $2 gid 0"
}
