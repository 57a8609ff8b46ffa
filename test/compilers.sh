#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds all, unit tests and fuzz targets included, with every gcc from 12 and every clang from 14 that is installed, a line for each build.
usage="usage: test/compilers.sh [--install] [COMPILER...]

Each compiler (or those that are named, such as gcc-14) builds with its defaults, with fortified calls of libc and with link time optimization (clang: lld and llvm
of the same version are needed). A warning is an error. A failed build leaves its log in .build/cc-COMPILER-KIND.log.
  --install   first install all of these compilers that apt has (as root or with sudo)
In a bare root: test/fresh.sh sid test/compilers.sh --install"
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C.UTF-8

say() { printf '%s (%d s)\n' "$1" $((SECONDS - start)); }
install_all() {
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    test/prepare.sh || exit 1
    apt-cache search --names-only '^(gcc-1[2-9]|(clang|lld|llvm)-(1[4-9]|2[0-9]))$' | cut -d' ' -f1 |
        xargs $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=600 \
            install --no-install-recommends >.build/install.log 2>&1 || { tail -20 .build/install.log; exit 1; }
}

# lto_tools <gcc|clang> <version>: objects for link time optimization need the compiler's own tools.
lto_tools() {
    local prefix=gcc-
    [ "$1" = gcc ] || { prefix=llvm-; echo LDFLAGS=-fuse-ld=lld; }
    echo "AR=${prefix}ar-$2 NM=${prefix}nm-$2 RANLIB=${prefix}ranlib-$2"
}

# build <compiler> <kind> [configure arguments]
build() {
    local dir=.build/cc-$1-$2 start=$SECONDS compiler=$1 kind=$2
    shift 2
    if nice test/build.sh "${dir#.build/}" CC="$compiler" "$@" --enable-werror >"$dir.log" 2>&1 &&
        nice make -s -j"$(nproc)" -C "$dir" unit-programs fuzz-programs >>"$dir.log" 2>&1 && ! grep 'warning:' "$dir.log"; then
        say "ok: $compiler, $kind"; passed=$((passed + 1)); rm -rf "$dir" "$dir.log"
    else
        tail -30 "$dir.log"; say "FAILED: $compiler, $kind"; failed=$((failed + 1))
    fi
}

passed=0 failed=0
mkdir -p .build
case ${1:-} in
    --install) install_all; shift ;;
    -*) echo "$usage"; exit ;;
esac
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(compgen -c | grep -xE 'gcc-1[2-9]|clang-(1[4-9]|2[0-9])' | sort -uV)
for compiler; do
    build "$compiler" plain
    build "$compiler" fortified CFLAGS="-g -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"
    # shellcheck disable=SC2046
    build "$compiler" lto $(lto_tools "${compiler%-*}" "${compiler#*-}") CFLAGS="-g -O3 -flto=auto"
done
printf '%d passed, %d failed, 0 skipped\n' $passed $failed
[ $failed = 0 ] && [ $passed -gt 0 ]
