#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts that start servers: they tell the time, end in time, and leave nothing behind.

# bounded <seconds> <script> [argument...]: starts the script that calls it anew, in a process group that is ended then
bounded() { [ -n "${MD_BOUNDED:-}" ] || MD_BOUNDED=yes exec timeout -k 60 "$@"; }

say() { printf '\n== %s (at %d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

# scratch <name>: a directory that servers of any user can enter, as TMPDIR. Whoever is started from now on is known by it.
scratch() {
    TMPDIR=$(mktemp -d "/tmp/$1.XXXXXX") || exit 1
    export TMPDIR
    chmod 755 "$TMPDIR"
}

leftovers() { # ids of processes
    local files
    files=$(env -u TMPDIR grep -lsaF "TMPDIR=$TMPDIR" /proc/[0-9]*/environ || true)
    echo "${files//[!0-9$'\n']/}"
}

# shellcheck disable=SC2046
end_leftovers() {
    kill $(leftovers) 2>/dev/null || true
    for _ in {1..50}; do
        [ -n "$(leftovers)" ] || break
        sleep 0.1
    done
    kill -9 $(leftovers) 2>/dev/null || true
    rm -rf "$TMPDIR"
}
