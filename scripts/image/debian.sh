# shellcheck shell=bash
# Packages of Debian, unpacked but never installed: the kernel, mount and its libraries, CA
# certificates, busybox for the pods' images. Sourced by boot.sh.

# The mirror that this machine's apt uses for Debian itself.
debian_mirror() {
    apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" "Origin: Debian" "Label: Debian" |
        sort -u | head -n 1
}

# own_apt [SUITE]: makes apt read that, or this machine's own ones of Debian, for the image's kind of machine, with settings and
# lists of its own in the current directory.
own_apt() {
    local mirror sources key="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    mirror=$(debian_mirror)
    if [ -z "$mirror" ] && [ "$(id -u)" = 0 ]; then
        apt-get update -q
        mirror=$(debian_mirror)
    fi
    [ -n "$mirror" ] || { echo "note: apt knows no Debian mirror; add one"; return 1; }
    if [ $# = 1 ]; then
        sources="deb $key $mirror $1 main"
    else
        sources=$(apt-get indextargets --format "deb $key \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" "Created-By: Packages" "Origin: Debian" | sort -u)
    fi
    mkdir -p apt/lists/partial apt/cache/archives/partial debs tree
    echo "$sources" >apt/sources.list
    : >apt/status
    cat >apt/apt.conf <<EOF
Dir::Etc::sourcelist "$PWD/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::Lists "$PWD/apt/lists";
Dir::State::status "$PWD/apt/status";
Dir::Cache "$PWD/apt/cache";
APT::Architecture "$DEBIAN_ARCH";
APT::Architectures { "$DEBIAN_ARCH"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
EOF
    export APT_CONFIG=$PWD/apt/apt.conf
    apt-get update -q
}

# fetch_pinned PIN: into the current directory; `tree` holds the unpacked files, `versions` what they are.
fetch_pinned() {
    local pin=$1 name version
    own_apt "$(awk '$1 == "suite" { print $2 }' "$pin")"
    while read -r name version; do
        case $name in '' | '#'* | suite) continue ;; esac
        # The kernel's name has its flavour and its architecture.
        name=${name/%-cloud-amd64/$KERNEL_KIND}
        fetch_package "$name" "$version"
    done <"$pin"
    rm -rf apt debs
}

# fetch_debian PIN: the same, with the kernel's modules ready for modprobe.
fetch_debian() {
    fetch_pinned "$1"
    # Trixie keeps modules below /usr/lib only; modprobe looks in /lib.
    [ -e tree/lib ] || ln -s usr/lib tree/lib
    local release
    release=$(basename tree/usr/lib/modules/*)
    depmod -b "$PWD/tree" "$release"
    echo "$release" >release
}

# fetch_package NAME VERSION: the pinned version, else what the archive has instead.
fetch_package() (
    name=$1 version=$2
    cd debs
    if ! apt-get download -q "$name=$version"; then
        # A kernel's name holds its version: take the newest of the same series.
        if [[ $name =~ ^(linux-image-[0-9]+\.[0-9]+)\.[^-]*(-.*)$ ]]; then
            name=$(apt-cache search --names-only "^${BASH_REMATCH[1]//./\\.}\.[^-]*${BASH_REMATCH[2]}\$" |
                awk '{ print $1 }' | sort -V | tail -n 1)
            [ -n "$name" ] || { echo "note: no kernel like $1 in the archive" && exit 1; }
        fi
        apt-get download -q "$name"
        echo "note: $1 $version has left the archive, taking" ./*.deb
    fi
    dpkg-deb -x ./*.deb ../tree
    basename ./*.deb >>../versions
    rm ./*.deb
)

# fetch_seccomp SUITE: the library that runc is linked with, of this machine's Debian, whose C compiler links it.
fetch_seccomp() {
    own_apt "$1"
    (cd debs && apt-get download -q libseccomp-dev && dpkg-deb -x ./*.deb ../tree && ls >../versions)
    rm -rf apt debs
}

# get_seccomp has pkg-config find it.
get_seccomp() {
    local suite
    # shellcheck disable=SC1091
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    cached seccomp "$(hash_of "=$ARCH $suite, named")" "libseccomp for $ARCH" fetch_seccomp "$suite"
    export PKG_CONFIG_SYSROOT_DIR=$REPLY/tree PKG_CONFIG_LIBDIR=$REPLY/tree/usr/lib/$TRIPLE/pkgconfig
}

# get_debian sets DEBIAN (unpacked tree), KERNEL, MODULES_BASE, RELEASE; KERNEL= and MODULES=
# of the environment go first.
get_debian() {
    local key
    KERNEL_KIND=-$DEBIAN_ARCH
    [ "$FLAVOUR" = full ] || KERNEL_KIND=-cloud-$DEBIAN_ARCH
    key=$OF
    [ "$FLAVOUR" = cloud ] || key+=" $FLAVOUR"
    cached debian "$(hash_of "$IMAGE/pins/debian" ${key:+"=$key"})" "kernel and packages of Debian" fetch_debian "$IMAGE/pins/debian"
    DEBIAN=$REPLY/tree
    DEBIAN_KEY=${REPLY##*/}
    RELEASE=$(cat "$REPLY/release")
    MODULES_BASE=$DEBIAN
    if [ -n "${KERNEL:-}${MODULES:-}" ]; then
        [ -r "${KERNEL:-}" ] || die "KERNEL=${KERNEL:-}: no such file (KERNEL= and MODULES= go together)" 2
        [ -r "${MODULES:-}/modules.dep" ] || die "MODULES=${MODULES:-}: not the modules directory of a kernel" 2
        RELEASE=$(basename "$(realpath "$MODULES")")
        own_modules "$(realpath "$MODULES")"
    else
        KERNEL=$DEBIAN/boot/vmlinuz-$RELEASE
    fi
}

# own_modules DIR: modprobe wants the path BASE/lib/modules/RELEASE.
own_modules() {
    MODULES_BASE=$CACHE/own-modules
    mkdir -p "$MODULES_BASE/lib/modules"
    ln -sfn "$1" "$MODULES_BASE/lib/modules/$RELEASE"
}
