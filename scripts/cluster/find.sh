# shellcheck shell=bash
# Where a control plane runs. Sourced by cluster.sh and boot.sh.

# bed_runs DIR: whether it does; sets BED_PID. The process of the number that is kept must be the one: after a crash it is
# another's.
bed_runs() {
    BED_PID=$(cat "$1/pid" 2>/dev/null) && [ -n "$BED_PID" ] &&
        { tr '\0' ' ' <"/proc/$BED_PID/cmdline"; } 2>/dev/null | grep -qF "bed.sh $(realpath "$1") "
}

# find_bed DIR: the same; sets BED, its first process in the namespaces, and IN_BED, what runs a command there.
find_bed() {
    bed_runs "$1" && BED=$(cut -d' ' -f1 "/proc/$BED_PID/task/$BED_PID/children" 2>/dev/null) && [ -n "$BED" ] &&
        IN_BED=(nsenter --preserve-credentials -U -n -t "$BED" --)
}
