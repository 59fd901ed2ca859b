# shellcheck shell=bash
# The programs of the node, each built from the pin folder of its name. Sourced by boot.sh.

GO_FLAGS=(-trimpath -buildvcs=false)
# Without what renders pages and manuals by templates, which may call any method: with it the linker keeps the methods of all
# types, and kubelet has 92 MB instead of 61.
SMALL=grpcnotrace,urfave_cli_no_docs

# pinned_version PIN MODULE: the version in the pin's go.mod.
pinned_version() {
    awk -v m="$2" '$1 == m { print $2; exit } $1 == "require" && $2 == m { print $3; exit }' "$IMAGE/pins/$1/go.mod"
}

# go_build PIN CGO LDFLAGS TAGS PACKAGE...: builds into the current directory.
go_build() {
    local pin=$1 cgo=$2 ldflags=$3 tags=$4 out=$PWD
    shift 4
    cd "$IMAGE/pins/$pin"
    # The user's own settings must not change what is built.
    env CGO_ENABLED="$cgo" CC="$CC" GOFLAGS=-mod=readonly GOTOOLCHAIN=local GOWORK=off GOOS=linux GOARCH="$GO_ARCH" \
        go build "${GO_FLAGS[@]}" -ldflags "-s -w $ldflags" -tags "$tags" -o "$out/" "$@"
    cd "$out"
}

# program PIN TEXT CGO LDFLAGS TAGS PACKAGE...: the same, cached; leaves the directory in REPLY.
program() {
    local pin=$1 text=$2
    shift 2
    cached "$pin" "$(hash_of "$IMAGE/pins/$pin" "=$GO_VERSION ${GO_FLAGS[*]} $*$OF")" "$text" go_build "$pin" "$@"
}

# host_program PIN TEXT...: the same, to be run here.
host_program() {
    local arch=$ARCH
    set_arch "$(uname -m)" || die "$(uname -m): the image cannot be built on such a machine"
    program "$@"
    set_arch "$arch"
}

# build_programs sets KUBELET, CONTAINERD, RUNC, CNI, SEEDER, PODS: the directories with the binaries.
build_programs() {
    local v tags=no_btrfs,no_devmapper,no_zfs,$SMALL
    GO_VERSION=$(GOTOOLCHAIN=local go env GOVERSION)

    v=$(pinned_version kubelet k8s.io/kubernetes)
    program kubelet "kubelet $v (some minutes the first time)" 0 \
        "-X k8s.io/component-base/version.gitVersion=$v" "$SMALL" k8s.io/kubernetes/cmd/kubelet
    KUBELET=$REPLY

    # Never with no_systemd: containerd's sd_notify is what init waits for.
    v=$(pinned_version containerd github.com/containerd/containerd/v2)
    program containerd "containerd $v" 0 "-X github.com/containerd/containerd/v2/version.Version=$v" "$tags" \
        github.com/containerd/containerd/v2/cmd/containerd \
        github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 ./seed
    CONTAINERD=$REPLY
    SEEDER=$REPLY
    if is_foreign; then
        host_program containerd "the writer of containerd's store" 0 "" "$tags" ./seed
        SEEDER=$REPLY
    fi

    # seccomp, as kubelet's seccompDefault gives each container a filter.
    v=$(pinned_version runc github.com/opencontainers/runc)
    if is_foreign; then get_seccomp; fi
    program runc "runc $v" 1 "-linkmode external -extldflags -static" \
        "netgo,osusergo,seccomp,runc_nocriu,$SMALL" github.com/opencontainers/runc
    RUNC=$REPLY

    v=$(pinned_version cni github.com/containernetworking/plugins)
    program cni "CNI plugins $v" 0 "" "" tool
    CNI=$REPLY

    host_program pods "the writer of pod images" 0 "" "" .
    PODS=$REPLY
}

# build_control_plane sets PROGRAMS and ETCD, for cluster.sh.
build_control_plane() {
    local v
    check_go
    GO_VERSION=$(GOTOOLCHAIN=local go env GOVERSION)
    v=$(pinned_version kubelet k8s.io/kubernetes)
    set -- kubelet 0 "-X k8s.io/component-base/version.gitVersion=$v" "$SMALL" \
        k8s.io/kubernetes/cmd/kube-{apiserver,controller-manager,scheduler} k8s.io/kubernetes/cmd/kubectl
    cached control-plane "$(hash_of "$IMAGE/pins/kubelet" "=$GO_VERSION ${GO_FLAGS[*]} $*$OF")" \
        "the control plane $v (some minutes the first time)" go_build "$@"
    PROGRAMS=$REPLY
    v=$(pinned_version etcd go.etcd.io/etcd/server/v3)
    program etcd "etcd $v" 0 "" "" go.etcd.io/etcd/server/v3
    ETCD=$REPLY
}
