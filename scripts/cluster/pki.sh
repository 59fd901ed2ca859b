# shellcheck shell=bash
# Keys and certificates of the control plane, as kubeadm has them. Sourced by cluster.sh.

DAYS=3650

# make_pki DIR SERVER TOKEN: all of it, unless it is there.
make_pki() {
    [ ! -d "$1" ] || return 0
    rm -rf "$1.new"
    mkdir -m 700 "$1.new"
    build "$1.new" "keys of the control plane" pki_files "$2" "$3"
    mv "$1.new" "$1"
}

# pki_files SERVER TOKEN: into the current directory.
pki_files() {
    local server=$1 token=$2 user
    umask 077
    openssl genrsa -out ca.key 2048
    openssl req -x509 -new -key ca.key -days "$DAYS" -subj /CN=kios-test -out ca.crt \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature
    openssl genrsa -out sa.key 2048
    openssl rsa -in sa.key -pubout -out sa.pub
    certificate apiserver /CN=kube-apiserver serverAuth \
        "IP:127.0.0.1,IP:10.0.2.100,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"
    certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
    certificate admin /O=system:masters/CN=admin clientAuth
    certificate controller-manager /CN=system:kube-controller-manager clientAuth
    certificate scheduler /CN=system:kube-scheduler clientAuth
    for user in admin controller-manager scheduler; do
        kubeconfig https://127.0.0.1:6443 "client-certificate-data: $(base64 -w 0 $user.crt)" \
            "client-key-data: $(base64 -w 0 $user.key)" >$user.conf
    done
    kubeconfig "$server" "token: $token" >bootstrap-kubelet.conf
    token_secret "$token" >token.yaml
}

# certificate NAME SUBJECT USAGE [NAMES]: a key and its certificate.
certificate() {
    openssl genrsa -out "$1.key" 2048
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    {
        echo "extendedKeyUsage=$3"
        [ $# -lt 4 ] || echo "subjectAltName=$4"
    } >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days "$DAYS" -extfile "$1.ext" -out "$1.crt"
    rm "$1.csr" "$1.ext"
}

# kubeconfig SERVER LINE...: as kubectl writes it, with what the user has.
kubeconfig() {
    local server=$1 line
    shift
    cat <<EOF
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: $(base64 -w 0 ca.crt)
    server: $server
  name: kios
contexts:
- context:
    cluster: kios
    user: kios
  name: kios
current-context: kios
kind: Config
preferences: {}
users:
- name: kios
  user:
EOF
    for line in "$@"; do echo "    $line"; done
}

# token_secret TOKEN: a bootstrap token (kubernetes.io, TLS bootstrapping).
token_secret() {
    cat <<EOF
apiVersion: v1
kind: Secret
metadata:
  name: bootstrap-token-${1%.*}
  namespace: kube-system
type: bootstrap.kubernetes.io/token
stringData:
  token-id: ${1%.*}
  token-secret: ${1#*.}
  usage-bootstrap-authentication: "true"
EOF
}
