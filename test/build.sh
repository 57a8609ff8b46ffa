#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build.sh <name> [configure arguments]: builds the sources in .build/<name>, apart from any build in the tree.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
name=$1; shift
dir=$top/.build/$name
mkdir -p "$dir"
# A copy of the sources: an in-tree build and one elsewhere cannot share them (VPATH would find its objects).
(cd "$top" && tar cf - ./*.c ./*.h configure.ac Makefile.am m4/.gitkeep LICENSE README.md .clang-format ./*.sh docs contrib \
    --exclude='*/__pycache__' test) | (cd "$dir" && tar xf - --keep-newer-files 2>/dev/null || true)
for file in "$dir"/*.[ch] "$dir"/test/{unit,fuzz}/*.[ch]; do # what is gone from the sources
    [ -e "$top/${file#"$dir"/}" ] || rm -f "$file" "${file%.c}"
done
cd "$dir"
[ -f configure ] && [ configure -nt configure.ac ] && [ configure -nt Makefile.am ] || autoreconf -i >autoreconf.log 2>&1 ||
    { cat autoreconf.log; exit 1; }
if [ ! -f Makefile ] || [ configure -nt Makefile ] || [ "$(cat arguments 2>/dev/null)" != "$*" ]; then
    ./configure -q "$@" >configure.log 2>&1 || { tail -20 configure.log; exit 1; }
    echo "$*" >arguments
    make -s clean >/dev/null 2>&1 || true
fi
make -s -j"$(nproc)" >make.log 2>&1 || { cat make.log; exit 1; }
if grep -q 'warning:' make.log; then cat make.log; exit 1; fi
