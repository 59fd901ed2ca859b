# shellcheck shell=bash
# Runs the node in QEMU and reads its console. Sourced by boot.sh.

QEMU_PID=
QEMU_DIR=
CONTROL=

# pick_accel WANTED: auto, tcg or kvm; prints the one to use.
pick_accel() {
    case $1 in
        tcg) echo tcg ;;
        kvm) if probe_kvm; then echo kvm; else die "--accel kvm: KVM does not run a guest on this machine"; fi ;;
        auto) if kvm_works; then echo kvm; else echo tcg; fi ;;
    esac
}

# start_qemu ACCEL DISK DISK_OPTIONS: QEMU with its console on $QEMU_DIR/console.
start_qemu() {
    local accel=$1 disk=$2 disk_options=$3 cpu=max
    QEMU_DIR=$(mktemp -d)
    mkfifo "$QEMU_DIR/console" "$QEMU_DIR/control"
    # Open for both ways: never blocks here, never ends there.
    exec {CONTROL}<>"$QEMU_DIR/control"
    [ "$accel" != kvm ] || cpu=host
    [ "$accel" != tcg ] || accel='tcg,thread=multi'
    local args=(
        -nodefaults -no-user-config -no-reboot -display none
        -machine q35 -accel "$accel" -cpu "$cpu" -m "$MEMORY" -smp "$CPUS"
        -kernel "$KERNEL" -initrd "$INITRD" -append "console=ttyS0 rootfstype=ramfs quiet panic=10${APPEND:+ $APPEND}"
        -chardev "file,id=console,path=$QEMU_DIR/console" -serial chardev:console
        -chardev "stdio,id=control,signal=off" -mon "chardev=control,mode=control"
        -drive "if=none,id=data,format=raw,file=${disk//,/,,},$disk_options" -device "virtio-blk-pci,drive=data"
        -netdev "user,id=net,restrict=on" -device "virtio-net-pci,netdev=net,romfile="
        -device virtio-rng-pci
    )
    [ -z "$QMP" ] || args+=(-qmp "unix:${QMP//,/,,},server=on,wait=off")
    # The kernel ends QEMU should this script be killed. The fourth descriptor holds the console
    # open for as long as QEMU runs, so that the reader sees its end even if it never opened it.
    setpriv --pdeathsig KILL qemu-system-x86_64 "${args[@]}" ${QEMU_ARGS[@]+"${QEMU_ARGS[@]}"} \
        <"$QEMU_DIR/control" >"$QEMU_DIR/events" 4>"$QEMU_DIR/console" &
    QEMU_PID=$!
    exec {CONSOLE}<"$QEMU_DIR/console"
    ask qmp_capabilities
}

# ask COMMAND: one request to QEMU.
ask() { echo "{\"execute\":\"$1\"}" >&"$CONTROL"; }

# end_qemu: for the traps and the time-out; also when there is none.
end_qemu() {
    local i
    if [ -n "$QEMU_PID" ]; then
        [ -z "$CONTROL" ] || ask quit
        for ((i = 0; i < 30; i++)); do
            kill -0 "$QEMU_PID" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$QEMU_PID" 2>/dev/null || true
        wait "$QEMU_PID" 2>/dev/null || true
        QEMU_PID=
    fi
    [ -z "$QEMU_DIR" ] || rm -rf "$QEMU_DIR"
}

# A line that init prints last, right before it asks the kernel to switch off.
ORDERED='kios: \[.*\] power-off'

# console_line LINE: looks at one line, already printed.
console_line() {
    if [[ $1 =~ $ORDERED ]]; then
        SEEN_ORDERED=1
    fi
    if [ -n "$UNTIL" ] && [ -z "$SEEN_UNTIL" ] && [[ $1 =~ $UNTIL ]]; then
        SEEN_UNTIL=1
        say "seen, pressing the power button"
        ask system_powerdown
    fi
}

# watch_console: prints until QEMU ends. A part of a line that waits for its rest is printed
# at the latest when the console closes.
watch_console() {
    local line part='' status deadline=''
    SEEN_ORDERED=
    SEEN_UNTIL=
    [ "$TIMEOUT" = 0 ] || deadline=$((SECONDS + TIMEOUT))
    while :; do
        if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
            [ -z "$part" ] || printf '%s\n' "$part"
            say "time-out after $TIMEOUT s"
            end_qemu
            exit 124
        fi
        status=0
        IFS= read -r -t 1 -u "$CONSOLE" line || status=$?
        part+=${line//$'\r'/}
        if [ "$status" = 0 ]; then
            printf '%s\n' "$part"
            console_line "$part"
            part=
        elif [ "$status" -le 128 ]; then
            break
        fi
    done
    if [ -n "$part" ]; then
        printf '%s\n' "$part"
        console_line "$part"
    fi
}

# run_node ACCEL DISK DISK_OPTIONS: exits with the outcome.
run_node() {
    local status=0 reason
    start_qemu "$@"
    watch_console
    wait "$QEMU_PID" || status=$?
    QEMU_PID=
    reason=$(sed -n 's/.*"SHUTDOWN".*"reason": "\([a-z-]*\)".*/\1/p; s/.*"reason": "\([a-z-]*\)".*"SHUTDOWN".*/\1/p' "$QEMU_DIR/events" | head -n 1)
    if [ "$status" != 0 ]; then
        die "QEMU failed with status $status"
    elif [ "$reason" = guest-reset ]; then
        die "the machine reset instead of powering off" 3
    elif [ -z "$SEEN_ORDERED" ]; then
        die "the machine ended without saying that it powers off (${reason:-no reason given})"
    elif [ -n "$UNTIL" ] && [ -z "$SEEN_UNTIL" ]; then
        die "the machine powered off before --until was seen"
    fi
    exit 0
}
