#!/usr/bin/env bash
# The control plane's processes, in namespaces that cluster.sh made: bed.sh DIR PROGRAMS ETCD.
set -euo pipefail
DIR=$1 PROGRAMS=$2 ETCD=$3 PKI=$1/pki
PIDS=()

# The API server's own address as nodes see it; and theirs, where QEMU listens for them. It takes who comes from 127.0.0.1 for
# its gateway, and who comes from elsewhere for himself: the node must not see its own address.
ip link set lo up
ip address add 10.0.2.100/32 dev lo
for node in 10.0.2.15 10.0.2.16; do ip route add local "$node/32" dev lo src 127.0.0.1; done

# run NAME PROGRAM ARGS...: with its log in DIR.
run() {
    local name=$1
    shift
    "$@" >>"$DIR/log/$name" 2>&1 &
    PIDS+=($!)
}

# Ends them, the store last. A connection that stays open is no reason to wait.
end() {
    local i
    trap '' TERM
    for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do
        kill -TERM "${PIDS[i]}" 2>/dev/null || true
        timeout 5 tail --pid="${PIDS[i]}" -f /dev/null || kill -KILL "${PIDS[i]}" 2>/dev/null || true
    done
    exit 0
}
trap end TERM

# Its data need not survive this machine.
run etcd "$ETCD/server" --data-dir "$DIR/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
run apiserver "$PROGRAMS/kube-apiserver" --etcd-servers http://127.0.0.1:2379 \
    --bind-address 127.0.0.1 --secure-port 6443 --advertise-address 10.0.2.100 \
    --service-cluster-ip-range 10.96.0.0/16 --allow-privileged \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --enable-bootstrap-token-auth \
    --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
    --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP \
    --kubelet-client-certificate "$PKI/kubelet-client.crt" --kubelet-client-key "$PKI/kubelet-client.key" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$PKI/sa.pub" \
    --service-account-signing-key-file "$PKI/sa.key"
run controller-manager "$PROGRAMS/kube-controller-manager" --kubeconfig "$PKI/controller-manager.conf" \
    --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --controllers '*,tokencleaner' --allocate-node-cidrs --cluster-cidr 10.244.0.0/16 \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" --root-ca-file "$PKI/ca.crt" \
    --service-account-private-key-file "$PKI/sa.key"
run scheduler "$PROGRAMS/kube-scheduler" --kubeconfig "$PKI/scheduler.conf" --bind-address 127.0.0.1 --leader-elect=false

# One that ends takes the others with it: who waits for them learns it.
wait -n || true
end
