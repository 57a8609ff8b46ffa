#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzing: see test/fuzz/README.md.
usage="usage: test/fuzz/run.sh [SECONDS [TARGET...]]

Builds the fuzz targets (test/fuzz/fuzz_TARGET.c) in .build/fuzz with clang, ASan and UBSan, and lets libFuzzer make up
inputs for each of them, one after the other: for 600 seconds each, or as many as are given. What it learns is kept in
.build/fuzz/learned/TARGET for the next time; what makes a target fail, in .build/fuzz/findings. Exits with 1 if there is any."
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
[[ ${1:-600} =~ ^[0-9]+$ ]] || { echo "$usage"; exit 2; }
seconds=${1:-600}
shift
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(cd test/fuzz && for file in fuzz_*.c; do file=${file#fuzz_}; echo "${file%.c}"; done)
for target; do
    [ -f "test/fuzz/fuzz_$target.c" ] || { echo "There is no target $target."; exit 2; }
done
. test/bounded.sh
scratch mod_md-fuzz
trap end_leftovers EXIT
trap 'exit 1' INT TERM HUP

test/build.sh fuzz CC=clang --enable-sanitizers CFLAGS='-g -O1 -fsanitize=fuzzer-no-link' &&
    make -s -C .build/fuzz -j"$(nproc)" fuzz-programs FUZZ_MAIN=-fsanitize=fuzzer || exit 1
mkdir -p .build/fuzz/findings
# Words that parsers know are in quotes in the sources, as libFuzzer wants them in a dictionary.
grep -ohE '"[A-Za-z0-9/.:_*-]{2,40}"' md_*.c | sort -u >.build/fuzz/words

failed=0
for target; do
    learned=.build/fuzz/learned/$target log=.build/fuzz/$target.log
    mkdir -p "$learned"
    .build/fuzz/test/fuzz/fuzz_"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -dict=.build/fuzz/words \
        -print_final_stats=1 -artifact_prefix=".build/fuzz/findings/$target-" "$learned" "test/fuzz/corpus/$target" \
        >"$log" 2>&1
    rc=$?
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ $rc = 0 ]; then
        echo "$target: $seconds s, ${count:-no} inputs, none failed"
    else
        failed=1
        echo "$target: FAILED after ${count:-some} inputs, see $log"
        grep -E 'does not hold|ERROR:|SUMMARY|runtime error|Test unit written' "$log"
    fi
done
exit $failed
