#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing need on Debian and Ubuntu, if it is missing. As root, or with sudo.
set -euo pipefail
build="gcc make autoconf automake libtool pkg-config apache2 apache2-dev libcurl4-openssl-dev libjansson-dev libssl-dev
       openssl curl xz-utils python3"
tests="clang libcmocka-dev python3 python3-pytest python3-pytest-xdist python3-cryptography git"
wanted="$build"; [ "${1:-}" = build ] || wanted="$build $tests"
missing=
for package in $wanted; do
    [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
# Installing a server must not start it: nothing here may listen to the world.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null; $sudo chmod 755 $policy; made=yes
fi
trap '[ -z "$made" ] || $sudo rm -f $policy' EXIT
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q >/dev/null
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >/dev/null
