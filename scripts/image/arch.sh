# shellcheck shell=bash
# What differs by the machine's kind of processor. Sourced by common.sh.

# The kernel: cloud, made for virtual machines, or full, with the drivers of boards too.
FLAVOUR=cloud

# set_arch ARCH: what the image is built for and runs on from here on.
set_arch() {
    ARCH=$1
    case $ARCH in
        # Where a processor has these two, the kernel clears and copies pages by instructions that are emulated byte by byte.
        x86_64) GO_ARCH=amd64 LOADER=ld-linux-x86-64.so.2 MACHINE=q35 CPU=max,-erms,-fsrm CONSOLE_NAME=ttyS0 QEMU_PACKAGE=qemu-system-x86 EFI_ARCH=x64 BOOT_CONSOLE="console=tty0 console=ttyS0 " ;;
        # Firmware names its console. Its pointer authentication by an algorithm that can be emulated quickly.
        aarch64) GO_ARCH=arm64 LOADER=ld-linux-aarch64.so.1 MACHINE=virt CPU=max,pauth-impdef=on CONSOLE_NAME=ttyAMA0 QEMU_PACKAGE=qemu-system-arm EFI_ARCH=aa64 BOOT_CONSOLE= ;;
        *) return 1 ;;
    esac
    # Debian's names of it, and of its C compiler.
    DEBIAN_ARCH=$GO_ARCH
    TRIPLE=$ARCH-linux-gnu
    TARGET=$ARCH-unknown-linux-gnu
    CC=gcc
    ! is_foreign || CC=$TRIPLE-gcc
    # Part of a cached result's key.
    OF=
    [ "$ARCH" = x86_64 ] || OF=" $ARCH"
}

# firmware sets FIRMWARE, what the machine starts with before the kernel; none is QEMU's own. Of aarch64's kernels the one for
# virtual machines knows its power button by ACPI alone, which UEFI brings; for the other one the machine is a board with a
# device tree. An image brings its kernel, which UEFI starts.
firmware() {
    local kernel=$FLAVOUR
    [ -z "${IMAGE_FILE:-}" ] || kernel=image
    FIRMWARE=
    case "$ARCH $kernel" in
        "x86_64 image") FIRMWARE=/usr/share/ovmf/OVMF.fd ;;
        "aarch64 image" | "aarch64 cloud") FIRMWARE=/usr/share/qemu-efi-aarch64/QEMU_EFI.fd ;;
    esac
}

# is_foreign: whether this machine is of another kind.
is_foreign() { [ "$ARCH" != "$(uname -m)" ]; }

set_arch "$(uname -m)" || set_arch x86_64
