#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# prepare.sh [build]: installs what building (and testing) need on Debian and Ubuntu, if it is missing. As root, or with
# sudo. No package here starts a service: httpd without its configuration and service is apache2-bin.
set -euo pipefail
build="gcc make autoconf automake libtool pkg-config apache2-bin apache2-dev libcurl4-openssl-dev libjansson-dev libssl-dev
       libidn2-dev libc-ares-dev media-types openssl curl ca-certificates xz-utils python3"
tests="clang libcmocka-dev python3 python3-pytest python3-pytest-xdist python3-cryptography python3-prometheus-client
       git strace"
wanted="$build"; [ "${1:-}" = build ] || wanted="$build $tests"
missing=
for package in $wanted; do
    [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "installing, a minute or two:$missing"
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
log=$(mktemp); trap 'rm -f "$log"' EXIT
apt_get() {
    $sudo env DEBIAN_FRONTEND=noninteractive timeout -k 30 1800 apt-get -q -o DPkg::Lock::Timeout=600 "$@" >"$log" 2>&1 ||
        { cat "$log"; exit 1; }
}
apt_get update
# shellcheck disable=SC2086
apt_get install -y --no-install-recommends $missing
