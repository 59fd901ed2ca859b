# shellcheck shell=bash
# Init where there is more and more of something. Sourced by bench.sh.

bench_growth() {
    check_root
    trap end_bench EXIT
    build_image
    build_bench
    own_programs
    run "$BENCH_PROGRAMS/bench" growth "$REPO/scripts/boot.sh" "$WORK/programs" "$WORK" "$ROUNDS"
}
