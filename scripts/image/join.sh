# shellcheck shell=bash
# How a node finds its cluster: a kubeconfig on its disk, and ways through QEMU's network. Sourced by boot.sh.

# shellcheck source=scripts/cluster/find.sh
. "$REPO/scripts/cluster/find.sh"

# What QEMU has for it beside restrict=on, and where QEMU runs for that.
JOIN_NET=
JOIN_INSIDE=()

# check_join DIR|FILE sets JOIN_FILE, JOIN_NET and JOIN_INSIDE; names a mistake before anything is built.
check_join() {
    if [ -d "$1" ]; then
        JOIN_FILE=$1/pki/bootstrap-kubelet.conf
        [ -f "$JOIN_FILE" ] || die "--join $1: no cluster there; scripts/cluster.sh --dir $1 up makes one" 2
        find_bed "$1" || die "--join $1: that cluster does not run; scripts/cluster.sh --dir $1 up starts it" 2
        JOIN_INSIDE=("${IN_BED[@]}")
    else
        [ -r "$1" ] || die "--join $1: no such file, or it cannot be read" 2
        grep -qsx 'kind: Config' "$1" || die "--join $1: not a kubeconfig as kubectl config view --raw prints it" 2
        JOIN_FILE=$1
    fi
    HOST_NEEDS+="socat socat
"
    # Each connection has a relay of its own. The second is the API server's way to kubelet.
    JOIN_NET=",guestfwd=tcp:10.0.2.100:6443-cmd:socat - TCP:127.0.0.1:6443"
    [ ! -d "$1" ] || JOIN_NET+=",hostfwd=tcp:$ADDRESS:10250-$ADDRESS:10250"
}

# join_disk DISK: puts the kubeconfig there, and the address, which kubelet takes from the default route elsewhere: here there
# is none. A disk that has another kubeconfig was in another cluster: what it has of that goes.
join_disk() {
    local dir=/etc/kubernetes pki=/var/lib/kubelet/pki files
    ! dumpe2fs -h "$1" 2>/dev/null | grep -q needs_recovery ||
        die "$1 was not unmounted: let a node boot from it and power off, without --join"
    files=$(mktemp -d)
    # A name that debugfs can read.
    cp "$JOIN_FILE" "$files/bootstrap"
    echo "$ADDRESS" >"$files/address"
    debugfs -R "cat $dir/bootstrap-kubelet.conf" "$1" 2>/dev/null | cmp -s - "$JOIN_FILE" ||
        printf 'rm %s\n' "$dir/kubelet.conf" "$pki/kubelet-client-current.pem" "$pki/kubelet-server-current.pem" >"$files/requests"
    {
        put_file "$files/bootstrap" "$dir/bootstrap-kubelet.conf"
        put_file "$files/address" "$dir/node-ip"
    } >>"$files/requests"
    debugfs -w -f "$files/requests" "$1" >/dev/null 2>&1
    rm -r "$files"
    debugfs -R "cat $dir/bootstrap-kubelet.conf" "$1" 2>/dev/null | cmp -s - "$JOIN_FILE" &&
        [ "$(debugfs -R "cat $dir/node-ip" "$1" 2>/dev/null)" = "$ADDRESS" ] || die "could not write $dir to $1"
}

# put_file FROM TO: requests of debugfs; the file is root's alone.
put_file() {
    printf '%s\n' "rm $2" "write $1 $2" "sif $2 mode 0100600" "sif $2 uid 0" "sif $2 gid 0"
}
