#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every test there is; the last line is `N passed, N failed, N skipped` for all of them together.
usage="usage: ./check.sh [PART...]

Installs what it needs (Debian, Ubuntu: packages, as root or with sudo), builds and tests. Without arguments, it runs all parts:
about 25 minutes on two cores, plus the time to install packages on the first run.
  build      with gcc and clang without warnings, with sanitizers; layers; make dist   2 minutes
  unit       unit tests, also with sanitizers; known inputs of the fuzz targets        4 minutes
  module     the module in a real httpd against a real CA                              8 minutes
  sanitized  the same with ASan and UBSan                                              10 minutes
The log of a build is .build/NAME/make.log, that of the tests .build/pytest-NAME.log."
set -uo pipefail
cd "$(dirname "$0")" || exit 1
parts="build unit module sanitized"
for part; do
    case " $parts " in *" $part "*) ;; *) echo "$usage"; [ "$part" = --help ] || [ "$part" = -h ]; exit ;; esac
done
. test/bounded.sh
# The run as a whole has a limit, as has each of its parts below.
bounded 5400 ./check.sh "$@"

passed=0 failed=0 skipped=0 cores=$(nproc)
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
scratch mod_md-check # everything that tests write is there

count() { passed=$((passed + $1)); failed=$((failed + $2)); skipped=$((skipped + $3)); }
one() { # one <what> <command...>
    local start=$SECONDS
    if "${@:2}"; then echo "ok: $1, $((SECONDS - start)) s"; count 1 0 0; else echo "FAILED: $1"; count 0 1 0; fi
}
finish() {
    trap - EXIT
    trap '' INT TERM HUP
    end_leftovers
    printf '\n%d passed, %d failed, %d skipped\n' $passed $failed $skipped
    exit $((failed > 0))
}
trap finish EXIT
trap 'echo "FAILED: stopped before the end"; count 0 1 0; finish' INT TERM HUP

# build <name>: in .build/<name>
build() {
    case $1 in
        gcc) set -- gcc ;;
        clang) set -- clang CC=clang ;;
        asan) set -- asan --enable-sanitizers ;;
        tsan) set -- tsan --enable-tsan ;;
    esac
    timeout -k 10 900 test/build.sh "$@" --enable-werror
}

part_build() {
    local gcc clang asan
    say "builds, about 2 minutes"
    build gcc & gcc=$!
    build clang & clang=$!
    build asan & asan=$!
    one "gcc, no warnings" wait $gcc
    one "clang, no warnings" wait $clang
    one "gcc, ASan and UBSan" wait $asan
    [ $failed = 0 ] || exit
    one "layers" test/check-wall.sh
    one "make dist" timeout 120 \
        sh -c 'cd .build/gcc && make -s dist >dist.log 2>&1 || { tail -20 dist.log; exit 1; }'
    one "a2md -V" sh -c '.build/gcc/a2md -V | grep -Eqx "version: [0-9]+\.[0-9]+\.[0-9]+"'
}

# unit <build> [program...]: all of them by default; cmocka programs print `[  PASSED  ] n test(s).` and the same for failures
unit() {
    local program programs=() out rc ok bad
    [ $# -gt 1 ] || set -- "$1" $(cd test/unit && ls -S test_*.c | sed 's/\.c$//') # the largest, which take longest, first
    programs=("${@:2}"); programs=("${programs[@]/#/test/unit/}")
    { build "$1" && (cd ".build/$1" && timeout -k 10 900 make -s -j "$cores" "${programs[@]}" >unit.log 2>&1); } ||
        { tail -30 ".build/$1/unit.log"; echo "FAILED: unit tests of $1 do not build"; count 0 1 0; return; }
    programs=("${programs[@]/#/.build/$1/}")
    # Several at once; each leaves its output and its exit code.
    printf '%s\0' "${programs[@]}" | xargs -0 -P "$cores" -I{} \
        bash -c 'timeout -k 10 300 "$1" >"$1.out" 2>&1; echo $? >"$1.rc"' - {}
    for program in "${programs[@]}"; do
        out=$(cat "$program.out"); rc=$(cat "$program.rc")
        ok=$(grep -cE '^\[ +OK \]' <<<"$out")
        bad=$(sed -nE 's/^\[ +FAILED +\] ([0-9]+) test.*/\1/p' <<<"$out" | tail -1)
        [ $rc = 0 ] && bad=0 || bad=${bad:-1}
        [ $rc != 124 ] || out+=$'\n'"not done within 300 s"
        echo "${program##*/} ($1): $ok ok, $bad failed"
        [ $rc = 0 ] || echo "$out"
        count "$ok" "$bad" 0
    done
}
# The inputs that are kept for each fuzz target, with sanitizers, one test for each target. test/fuzz/run.sh makes up more.
replay() {
    local target
    (cd .build/asan && timeout -k 10 900 make -s -j "$cores" fuzz-programs >fuzz.log 2>&1) ||
        { tail -30 .build/asan/fuzz.log; echo "FAILED: fuzz targets do not build"; count 0 1 0; return; }
    for target in test/fuzz/corpus/*; do
        target=${target##*/}
        one "fuzz target $target" sh -c 'timeout -k 10 300 ".build/asan/test/fuzz/fuzz_$1" "test/fuzz/corpus/$1" \
            >".build/asan/fuzz-$1.log" 2>&1 || { tail -20 ".build/asan/fuzz-$1.log"; exit 1; }' - "$target"
    done
}
part_unit() {
    say "unit tests, about 4 minutes"
    unit gcc
    unit asan
    unit tsan test_engine test_exec test_tasks test_staples test_board test_tally test_cache
    replay
}

# module <build> [slow]: pytest prints a summary such as `3 failed, 40 passed in 60.0s`. conftest.py limits each test;
# when so many have failed, the rest would tell nothing new.
module() {
    local out=".build/pytest-$1.log" rc summary
    build "$1" || { echo "FAILED: no build $1"; count 0 1 0; return; }
    (cd test/httpd && MD_MODULE="$PWD/../../.build/$1/.libs/mod_md.so" MD_SLOW="${2:-}" timeout -k 30 1800 \
        /usr/bin/python3 -m pytest -p no:cacheprovider -q -rfEs -n $((cores * 3)) --maxfail 30 --durations 5 . 2>&1) | tee "$out"
    rc=${PIPESTATUS[0]}
    summary=$(grep -E '(passed|failed|error).* in [0-9.]+s' "$out" | tail -1)
    n() { grep -oE "[0-9]+ $1" <<<"$summary" | grep -oE '[0-9]+' || echo 0; }
    count "$(n passed)" "$(($(n failed) + $(n error)))" "$(n skipped)"
    [ "$rc" != 124 ] || echo "FAILED: not done within 30 minutes"
    [ "$rc" = 0 ] || [ "$(($(n failed) + $(n error)))" -gt 0 ] || count 0 1 0
}
part_module() { say "the module in httpd, about 8 minutes"; module gcc; }
part_sanitized() { say "the module in httpd with ASan and UBSan, about 10 minutes"; module asan slow; }

[ $# -gt 0 ] || set -- $parts
say "what is needed"
test/prepare.sh && test/pebble-setup.sh >/dev/null || { echo "FAILED: cannot get what the tests need"; count 0 1 0; exit; }
for part; do "part_$part"; done
