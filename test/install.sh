#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make install` on a system whose apache2-bin brings a module of its own: ours is still there after that package has been
# installed anew, and `make uninstall` brings the package's back. Changes the system: for a bare root (test/fresh.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] && [ "$*" = --change-this-system ] || { echo "usage (as root): test/install.sh --change-this-system"; exit 2; }
test/prepare.sh build
module=$(apxs -q LIBEXECDIR)/mod_md.so
kept=$module.distrib
stock=$(sha256sum <"$module")
log=$(mktemp)
passed=0 failed=1 # until the end is reached
total() { rm -f "$log"; printf '%d passed, %d failed, 0 skipped\n' $passed $failed; }
trap total EXIT

quiet() { "$@" >"$log" 2>&1 || { cat "$log"; exit 1; }; }
holds() { # holds <what> <command...>
    "${@:2}" || { echo "FAILED: $1"; ls -l "$module"* || true; exit 1; }
    echo "ok: $1"
    passed=$((passed + 1))
}
is_stock() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$stock" ]; }
is_ours() { cmp -s "$module" .build/install/.libs/mod_md.so; }
httpd_takes() { apache2 -t -f "$PWD/.build/install/httpd.conf" >"$log" 2>&1 || { cat "$log"; false; }; }

test/build.sh install
in_build() { quiet make -s -C .build/install "$@"; }
printf '%s\n' "ServerName localhost" "ServerRoot /tmp" "ErrorLog /dev/stderr" "LoadModule mpm_event_module ${module%/*}/mod_mpm_event.so" \
    "LoadModule ssl_module ${module%/*}/mod_ssl.so" "LoadModule md_module $module" \
    "PidFile /tmp/md-install.pid" "MDRenewConcurrency 3" >.build/install/httpd.conf

in_build uninstall
holds "uninstall before an install leaves the package's module" is_stock "$module"
in_build install DESTDIR="$PWD/.build/install/stage"
holds "an install below DESTDIR leaves the package's module" is_stock "$module"
in_build uninstall DESTDIR="$PWD/.build/install/stage"
holds "uninstall below DESTDIR leaves no file" [ -z "$(find .build/install/stage -type f)" ]
for turn in first second; do
    in_build install
    holds "$turn install: ours is there" is_ours
    holds "$turn install: the package's is put aside" is_stock "$kept"
done
holds "httpd takes it" httpd_takes
quiet apt-get install -qy --reinstall apache2-bin
holds "after a reinstall of apache2-bin ours is there" is_ours
holds "after a reinstall of apache2-bin the package's is put aside" is_stock "$kept"
for turn in first second; do
    in_build uninstall
    holds "$turn uninstall: the package's is back" is_stock "$module"
    holds "$turn uninstall: nothing is put aside" [ ! -e "$kept" ]
done
holds "dpkg knows of no diversion" [ -z "$(dpkg-divert --listpackage "$module")" ]
failed=0
