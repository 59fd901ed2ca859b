# shellcheck shell=bash
# Runs the node in QEMU and reads its console. Sourced by boot.sh.

QEMU_PID=
QEMU_DIR=
CONTROL=
INTERRUPTED=
PRESSED=

# pick_accel WANTED: auto, tcg or kvm; prints the one to use.
pick_accel() {
    case $1 in
        tcg) echo tcg ;;
        kvm) if ! is_foreign && probe_kvm; then echo kvm; else die "--accel kvm: KVM does not run a guest on this machine"; fi ;;
        auto) if ! is_foreign && kvm_works; then echo kvm; else echo tcg; fi ;;
    esac
}

# start_qemu ACCEL DISK DISK_OPTIONS: QEMU with its console on $QEMU_DIR/console.
start_qemu() {
    local accel=$1 disk=$2 disk_options=$3 cpu=$CPU
    QEMU_DIR=$(mktemp -d)
    mkfifo "$QEMU_DIR/console" "$QEMU_DIR/control"
    # Open for both ways: never blocks here, never ends there.
    exec {CONTROL}<>"$QEMU_DIR/control"
    ask qmp_capabilities
    [ "$accel" != kvm ] || cpu=host
    # One processor needs no threads, and -icount refuses thread=multi.
    [ "$accel" != tcg ] || accel=tcg,thread=$([ "$CPUS" = 1 ] && echo single || echo multi)
    local args=(
        -nodefaults -no-user-config -no-reboot -display none
        -machine "$MACHINE" -accel "$accel" -cpu "$cpu" -m "$MEMORY" -smp "$CPUS"
        -chardev "file,id=console,path=$QEMU_DIR/console" -serial chardev:console
        -chardev "stdio,id=control,signal=off" -mon "chardev=control,mode=control"
        -drive "if=none,id=data,format=raw,file=${disk//,/,,},$disk_options" -device "virtio-blk-pci,drive=data"
        -netdev "user,id=net,restrict=on,dhcpstart=$ADDRESS$JOIN_NET" -device "virtio-net-pci,netdev=net,romfile="
        -device virtio-rng-pci
    )
    [ -n "$IMAGE_FILE" ] || args+=(-kernel "$KERNEL" -initrd "$INITRD" -append "console=$CONSOLE_NAME $KERNEL_LINE${APPEND:+ $APPEND}")
    firmware
    [ -z "$FIRMWARE" ] || args+=(-bios "$FIRMWARE")
    [ -z "$QMP" ] || args+=(-qmp "unix:${QMP//,/,,},server=on,wait=off")
    # Before QEMU is there: what is asked of it waits in the pipe.
    trap interrupted INT
    # The kernel ends QEMU should this script be killed. A terminal sends Ctrl-C to a whole process
    # group, and QEMU ends at once on it: so a session of its own. setsid forks for none but the
    # leader of a group, which no child is here, so that $! is QEMU. The fourth descriptor holds the
    # console open for as long as QEMU runs: the reader sees its end even if it never opened it.
    setsid ${JOIN_INSIDE[@]+"${JOIN_INSIDE[@]}"} setpriv --pdeathsig KILL "qemu-system-$ARCH" "${args[@]}" ${QEMU_ARGS[@]+"${QEMU_ARGS[@]}"} \
        <"$QEMU_DIR/control" >"$QEMU_DIR/events" 4>"$QEMU_DIR/console" &
    QEMU_PID=$!
    exec {CONSOLE}<"$QEMU_DIR/console"
}

# ask COMMAND: one request to QEMU.
ask() { echo "{\"execute\":\"$1\"}" >&"$CONTROL"; }

# press_power: to be pressed again where the node does not listen yet, see LISTENS.
press_power() {
    PRESSED=${PRESSED:-1}
    ask system_powerdown
}

# interrupted: for Ctrl-C once there is a machine. bash goes on with a read that this interrupts.
interrupted() {
    if [ -z "$INTERRUPTED" ]; then
        INTERRUPTED=1
        press_power
        say "Ctrl-C: pressing the power button; once more kills the machine"
    else
        say "Ctrl-C: killing the machine"
        [ -z "$QEMU_PID" ] || kill_qemu
        exit 130
    fi
}

kill_qemu() {
    kill -KILL "$QEMU_PID" 2>/dev/null || true
    wait "$QEMU_PID" 2>/dev/null || true
    QEMU_PID=
}

# end_qemu: for the traps and the time-out; also when there is none.
end_qemu() {
    local i
    # It takes three seconds at most, and the outcome is decided.
    trap '' INT
    if [ -n "$QEMU_PID" ]; then
        [ -z "$CONTROL" ] || ask quit
        for ((i = 0; i < 30; i++)); do
            kill -0 "$QEMU_PID" 2>/dev/null || break
            sleep 0.1
        done
        kill_qemu
    fi
    [ -z "$QEMU_DIR" ] || rm -rf "$QEMU_DIR"
}

# print LINE: Ctrl-C makes a write that waits for its reader fail, with nothing of it written.
print() { printf '%s\n' "$1" 2>/dev/null || printf '%s\n' "$1"; }

# A line that init prints last, right before it asks the kernel to switch off.
ORDERED='kios: \[.*\] power-off'
# The first line after it began to listen to the power button; what was pressed before is lost.
LISTENS='kios: \[.*\] started containerd'
# The first line of its end.
STOPS='kios: \[.*\] stopping for '

# console_line LINE: looks at one line, already printed.
console_line() {
    if [[ $1 =~ $ORDERED ]]; then
        SEEN_ORDERED=1
    elif [ "$PRESSED" = 1 ] && [[ $1 =~ $LISTENS ]]; then
        press_power
    elif [[ $1 =~ $STOPS ]]; then
        # From here on one more press is a second request.
        PRESSED=heard
    fi
    if [ -n "$UNTIL" ] && [ -z "$SEEN_UNTIL" ] && [[ $1 =~ $UNTIL ]]; then
        SEEN_UNTIL=1
        say "seen, pressing the power button"
        press_power
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
            [ -z "$part" ] || print "$part"
            say "time-out after $TIMEOUT s"
            end_qemu
            exit 124
        fi
        status=0
        IFS= read -r -t 1 -u "$CONSOLE" line || status=$?
        part+=${line//$'\r'/}
        # Firmware clears the screen.
        while [[ $part =~ $'\e['[^A-Za-z]*[A-Za-z] ]]; do part=${part//"${BASH_REMATCH[0]}"/}; done
        if [ "$status" = 0 ]; then
            print "$part"
            console_line "$part"
            part=
        elif [ "$status" -le 128 ]; then
            break
        fi
    done
    if [ -n "$part" ]; then
        print "$part"
        console_line "$part"
    fi
}

# run_node ACCEL DISK DISK_OPTIONS: exits with the outcome.
run_node() {
    local status=0 reason
    start_qemu "$@"
    watch_console
    # QEMU ends; Ctrl-C could only take its status away.
    trap '' INT
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
