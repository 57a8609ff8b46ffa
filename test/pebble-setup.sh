#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prints the directory that holds pebble and pebble-challtestsrv, 2.8 or later: $PEBBLE, PATH, or else the package of
# Debian's unstable suite, unpacked (not installed) below .cache. The mirror is the one that apt uses here.
set -euo pipefail
cache=$(cd "$(dirname "$0")/.." && pwd)/.cache/pebble

fail() { echo "pebble-setup: $*" >&2; exit 1; }

# `pebble -version` does not exist everywhere: a pebble is good enough if it knows dns-account-01.
is_good() { [ -x "$1/pebble" ] && [ -x "$1/pebble-challtestsrv" ] && grep -qa dns-account-01 "$1/pebble"; }

if [ -n "${PEBBLE:-}" ]; then
    [ -d "$PEBBLE" ] || PEBBLE=$(dirname "$PEBBLE")
    is_good "$PEBBLE" || fail "no usable pebble and pebble-challtestsrv in $PEBBLE"
    echo "$PEBBLE"; exit
fi
found=$(command -v pebble || true)
if [ -n "$found" ] && is_good "$(dirname "$found")"; then dirname "$found"; exit; fi
if is_good "$cache/usr/bin"; then echo "$cache/usr/bin"; exit; fi

# One download at a time: parallel test runs share the cache.
mkdir -p "$cache"
exec 9>"$cache.lock"
flock 9
if is_good "$cache/usr/bin"; then echo "$cache/usr/bin"; exit; fi

arch=$(dpkg --print-architecture)
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
get() { curl -fsSL --retry 3 -o "$2" "$1"; }
# On Ubuntu the packages come from its own development suite.
suites=unstable; grep -qi '^ID=ubuntu' /etc/os-release && suites="devel"
for site in $(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u); do
    for component in main universe; do
        for suite in $suites; do
            get "$site/dists/$suite/$component/binary-$arch/Packages.xz" "$tmp/Packages.xz" 2>/dev/null || continue
            read -r file sum < <(xz -dc "$tmp/Packages.xz" | awk '
                /^Package: / { p = $2 } /^Filename: / { f = $2 } /^SHA256: / { s = $2 }
                /^$/ { if (p == "pebble") print f, s; p = "" }' | tail -1) || true
            [ -n "${file:-}" ] || continue
            get "$site/$file" "$tmp/pebble.deb"
            echo "$sum  $tmp/pebble.deb" | sha256sum -c --quiet >&2 || fail "the package of pebble is damaged"
            dpkg-deb -x "$tmp/pebble.deb" "$cache"
            is_good "$cache/usr/bin" || fail "the package of pebble is older than 2.8"
            echo "$cache/usr/bin"; exit
        done
    done
done
fail "no pebble: set PEBBLE to a directory with pebble and pebble-challtestsrv 2.8 or later"
