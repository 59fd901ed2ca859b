#!/usr/bin/env bash
# A control plane on this machine, for a node to join; --help says how.
set -euo pipefail
# shellcheck source=scripts/image/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/image/common.sh"
SELF=cluster.sh
# shellcheck source=scripts/image/host.sh
. "$IMAGE/host.sh"
# shellcheck source=scripts/image/programs.sh
. "$IMAGE/programs.sh"
# shellcheck source=scripts/cluster/pki.sh
. "$REPO/scripts/cluster/pki.sh"
# shellcheck source=scripts/cluster/find.sh
. "$REPO/scripts/cluster/find.sh"

usage() {
    cat <<'EOF'
usage: scripts/cluster.sh [--dir DIR] up
       scripts/cluster.sh [--dir DIR] kubectl ARGS...
       scripts/cluster.sh [--dir DIR] down

A Kubernetes control plane for nodes in QEMU: etcd, kube-apiserver, kube-controller-manager and
kube-scheduler, built from the pins of the node's own kubelet. They run in a network namespace of
their own, on its loopback: nothing else can reach them, and they can reach nothing.

  up       starts it, unless it runs, and waits until it is ready; builds what is missing
  kubectl  runs kubectl as its administrator
  down     ends it; what it knew is kept for the next `up`, see --dir

  --dir DIR  where it keeps what it knows: keys, etcd's data, logs (cluster in the cache). Remove
             the directory to begin anew

A node joins it by `scripts/boot.sh --join DIR`, a second one with --address 10.0.2.16 too. The
certificate of its server, for others to read its logs and the like, waits for approval:
  scripts/cluster.sh kubectl get csr
  scripts/cluster.sh kubectl certificate approve NAME

Exit status: kubectl's own; else 0, 1 failure, 2 wrong use.
EOF
}

wrong() { die "$1 (--help says how)" 2; }

# Seconds for all of it to be ready: it takes ten on two processors.
READY_LIMIT=180
# The way in for nodes: a token, and where QEMU has the API server for them.
TOKEN=kios00.0123456789abcdef
SERVER=https://10.0.2.100:6443

# kubectl_command sets KUBECTL: the administrator's, in the bed's network. Nothing of the user's own is read or written.
kubectl_command() {
    find_bed "$DIR" || die "no cluster in $DIR: scripts/cluster.sh up starts one"
    KUBECTL=("${IN_BED[@]}" env KUBECONFIG="$DIR/pki/admin.conf" KUBECACHEDIR="$DIR/cache" KUBERC=off "$PROGRAMS/kubectl")
}

kubectl() {
    kubectl_command
    "${KUBECTL[@]}" "$@"
}

up() {
    local lock began
    check_packages
    mkdir -p "$DIR/log"
    exec {lock}>"$DIR/.lock"
    flock -w "$READY_LIMIT" "$lock" || die "another cluster.sh up is at work in $DIR"
    if bed_runs "$DIR"; then
        say "runs already, in $DIR"
    else
        make_pki "$DIR/pki" "$SERVER" "$TOKEN"
        # A process namespace too: the end of its first process is the end of all.
        setsid unshare -r -n -p -f --kill-child --mount-proc bash "$REPO/scripts/cluster/bed.sh" "$DIR" "$PROGRAMS" "$ETCD" \
            >"$DIR/log/bed" 2>&1 </dev/null {lock}>&- &
        echo $! >"$DIR/pid"
        STARTED=1
        for ((began = SECONDS; SECONDS < began + 5; )); do
            find_bed "$DIR" && break
            sleep 0.05
        done
    fi
    wait_until "the API server" kubectl get --raw=/readyz
    wait_until "the nodes' rights" kubectl apply -f "$DIR/pki/token.yaml" -f "$REPO/scripts/cluster/bootstrap.yaml"
    wait_until "the default service account" kubectl get serviceaccount default
    STARTED=
    say "ready, in $DIR; nodes join by scripts/boot.sh --join $DIR"
}

# wait_until TEXT COMMAND...: until it succeeds.
wait_until() {
    local text=$1 end=$((SECONDS + READY_LIMIT)) tick=$((SECONDS + 15))
    shift
    # In a shell of its own, which an error ends.
    until ("$@") >/dev/null 2>"$DIR/log/wait"; do
        if [ "$SECONDS" -ge "$end" ] || ! bed_runs "$DIR"; then
            tail -n 5 "$DIR"/log/* >&2
            die "not ready: $text"
        fi
        if [ "$SECONDS" -ge "$tick" ]; then
            say "  waiting for $text"
            tick=$((SECONDS + 15))
        fi
        sleep 0.3
    done
}

down() {
    local i
    if bed_runs "$DIR"; then
        # The bed ends them in order.
        ! find_bed "$DIR" || kill -TERM "$BED" 2>/dev/null || true
        for ((i = 0; i < 200; i++)); do
            bed_runs "$DIR" || break
            sleep 0.1
        done
        ! bed_runs "$DIR" || kill -KILL "$BED_PID"
    fi
    rm -f "$DIR/pid"
}

DIR=$CACHE/cluster
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --dir)
            [ $# -ge 2 ] || wrong "--dir needs a value"
            DIR=$2
            shift 2
            ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || wrong "what is to be done?"
DIR=$(realpath -m "$DIR")
HOST_NEEDS="
openssl openssl
ip iproute2
unshare util-linux
"
case $1 in
    up | down) [ $# = 1 ] || wrong "$1 takes no argument" ;;
    kubectl) ;;
    *) wrong "unknown command $1" ;;
esac
# One that did not get ready is ended.
STARTED=
finish() {
    stop_build
    [ -z "$STARTED" ] || down
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
[ "$1" != kubectl ] || find_bed "$DIR" || die "no cluster in $DIR: scripts/cluster.sh up starts one"
[ "$1" = down ] || build_control_plane
case $1 in
    up) up ;;
    down) down ;;
    kubectl)
        shift
        kubectl_command
        # Whoever ends this ends kubectl.
        exec "${KUBECTL[@]}" "$@"
        ;;
esac
