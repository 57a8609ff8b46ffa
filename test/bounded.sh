#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts that start servers: they tell the time, end in time, and leave nothing behind.

# bounded <seconds> <script> [argument...]: starts the script that calls it anew, in a process group that is ended then
bounded() { [ -n "${MD_BOUNDED:-}" ] || MD_BOUNDED=yes exec timeout -k 60 "$@"; }

say() { printf '\n== %s (at %d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

# What is synced to a disk is waited for, in memory it is not. The largest test makes a million directories.
is_fit() { # is_fit <directory>: for all that tests write there
    local blocks size inodes
    read -r blocks size inodes <<<"$(stat -f -c '%a %S %d' "$1" 2>/dev/null)"
    [ "$(stat -f -c %T "$1" 2>/dev/null)" = tmpfs ] && [ $((blocks * size)) -gt 4000000000 ] && [ "$inodes" -gt 2000000 ] &&
        ! grep -qE "^[^ ]+ $1 [^ ]+ [^ ]*noexec" /proc/mounts
}

# scratch <name>: a directory that servers of any user can enter, as TMPDIR. Whoever is started from now on is known by it.
scratch() {
    local base=/tmp
    ! is_fit /dev/shm || base=/dev/shm
    TMPDIR=$(mktemp -d "$base/$1.XXXXXX") || exit 1
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
