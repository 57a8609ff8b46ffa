#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every test there is. Installs what it needs (Debian, Ubuntu), builds with gcc and clang without warnings, then with
# sanitizers, and runs the unit tests and the tests of the module in a real httpd against a real CA.
# The last line is `N passed, N failed, N skipped` for all suites together.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
passed=0 failed=0 skipped=0
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

say() { printf '\n== %s\n' "$*"; }
count() { passed=$((passed + $1)); failed=$((failed + $2)); skipped=$((skipped + $3)); }
one() { if "${@:2}"; then echo "ok: $1"; count 1 0 0; else echo "FAILED: $1"; count 0 1 0; fi; }
finish() {
    printf '\n%d passed, %d failed, %d skipped\n' $passed $failed $skipped
    [ $failed = 0 ]; exit
}

say "what is needed"
test/prepare.sh || { echo "cannot install what the tests need"; count 0 1 0; finish; }
python=/usr/bin/python3
test/pebble-setup.sh >/dev/null || { echo "no test CA"; count 0 1 0; finish; }

say "builds"
one "gcc, no warnings" test/build.sh gcc --enable-werror
one "clang, no warnings" test/build.sh clang CC=clang --enable-werror
one "gcc, ASan and UBSan" test/build.sh asan --enable-werror --enable-sanitizers
one "gcc, TSan" test/build.sh tsan --enable-werror --enable-tsan
[ $failed = 0 ] || finish
one "layers" test/check-wall.sh
one "make dist" sh -c 'cd .build/gcc && make -s dist >dist.log 2>&1 || { tail -20 dist.log; exit 1; }'
one "a2md -V" sh -c '.build/gcc/a2md -V | grep -Eqx "version: [0-9]+\.[0-9]+\.[0-9]+"'

# unit <build> <pattern>: cmocka programs print `[  PASSED  ] n test(s).` and the same for failures
unit() {
    local program out rc
    (cd ".build/$1" && make -s unit-programs >unit.log 2>&1) ||
        { tail -30 ".build/$1/unit.log"; echo "FAILED: unit tests of $1 do not build"; count 0 1 0; return; }
    for program in .build/"$1"/test/unit/$2; do
        [ -x "$program" ] && [ -f "$program" ] || continue
        out=$("$program" 2>&1); rc=$?
        local ok bad
        ok=$(grep -cE '^\[ +OK \]' <<<"$out")
        bad=$(sed -nE 's/^\[ +FAILED +\] ([0-9]+) test.*/\1/p' <<<"$out" | tail -1)
        [ $rc = 0 ] && bad=0 || bad=${bad:-1}
        echo "${program##*/} ($1): $ok ok, $bad failed"
        [ $rc = 0 ] || echo "$out"
        count "$ok" "$bad" 0
    done
}
say "unit tests"
unit gcc 'test_*'
unit asan 'test_*'
unit tsan 'test_engine*'

# module <build>: pytest prints a summary such as `3 failed, 40 passed in 60.0s`
module() {
    local out=".build/pytest-$1.log" rc
    (cd test/httpd && MD_MODULE="$PWD/../../.build/$1/.libs/mod_md.so" MD_SLOW="${2:-}" \
        $python -m pytest -p no:cacheprovider -q -n 4 . 2>&1) | tee "$out" | tail -150
    rc=${PIPESTATUS[0]}
    local n
    n() { grep -E '(passed|failed|error).* in [0-9.]+s' "$out" | tail -1 | grep -oE "[0-9]+ $1" | grep -oE '[0-9]+' || echo 0; }
    count "$(n passed)" "$(($(n failed) + $(n error)))" "$(n skipped)"
    [ "$rc" = 0 ] || [ "$(($(n failed) + $(n error)))" -gt 0 ] || count 0 1 0
}
say "the module in httpd"
module gcc
say "the module in httpd, ASan and UBSan"
module asan slow
finish
