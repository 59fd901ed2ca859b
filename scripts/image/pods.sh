# shellcheck shell=bash
# Images of the pods: pause, and the two of the demonstration. Sourced by boot.sh.

PAUSE_IMAGE=registry.k8s.io/pause:3.10.2
APPLETS="cat echo ip mv rm sh sleep udhcpc"

# pod_images: one archive each, into the current directory.
pod_images() {
    local name applet source
    mkdir -p pause
    source=$(cd "$IMAGE/pins/kubelet" && GOFLAGS=-mod=readonly go mod download -json k8s.io/kubernetes |
        sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    "$CC" -Os -static -s -o pause/pause -DVERSION=3.10.2 "$source/build/pause/linux/pause.c"
    "$PODS/pods" -arch "$GO_ARCH" -name "$PAUSE_IMAGE" -tree pause -out pause.tar /pause
    for name in dhcpcd container-a; do
        mkdir -p "$name/bin" "$name/host/resolv"
        cp "$DEBIAN/usr/bin/busybox" "$name/bin/busybox"
        for applet in $APPLETS; do ln -s busybox "$name/bin/$applet"; done
        install -m 755 "$IMAGE/pods/$name"/* "$name/bin/"
    done
    : >container-a/host/console
    "$PODS/pods" -arch "$GO_ARCH" -name localhost/dhcpcd:1 -tree dhcpcd -out dhcpcd.tar /bin/dhcpcd
    "$PODS/pods" -arch "$GO_ARCH" -name localhost/container-a:1 -tree container-a -out container-a.tar /bin/hello
    rm -r pause dhcpcd container-a
}

# get_pod_images sets POD_IMAGES, a directory of archives.
get_pod_images() {
    cached pod-images "$(hash_of "$IMAGE/pods" "$IMAGE/pods.sh" "=$PODS $KUBELET $DEBIAN_KEY$OF")" "images of the pods" pod_images
    POD_IMAGES=$REPLY
}
