#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command as the first newcomer on a fresh system would: in a clone of this checkout's last commit, in a bare root
# of Debian (debootstrap's minbase, and git) that is thrown away afterwards with all mounts and processes.
usage="usage: test/fresh.sh [--user] [--dir DIRECTORY] SUITE COMMAND [ARGUMENT...]

  SUITE            bookworm, trixie, sid ...; SUITE-plain: without its security and updates suites
  --user           run as a plain user who may use sudo, not as root
  --dir DIRECTORY  where the clone is, such as \"/srv/with a blank\"; default: mod_md in the home directory

The mirror is the one that apt uses on this machine; bare roots and packages are kept in .cache/fresh.
Needs root or sudo, and the right to make namespaces and mounts (in a container: --privileged).
The exit code is the command's, or 125 if there can be no bare root here."
set -euo pipefail

fail() { echo "fresh.sh: $*" >&2; exit 125; }

user=root dir=
while [ $# -gt 0 ]; do
    case $1 in
        --user) user=newcomer; shift ;;
        --dir) dir=${2:?$usage}; shift 2 ;;
        -h|--help) echo "$usage"; exit ;;
        -*) echo "unknown option $1"$'\n'"$usage" >&2; exit 2 ;;
        *) break ;;
    esac
done
[ $# -ge 2 ] || { echo "$usage" >&2; exit 2; }
suite=$1; shift
base=${suite%-plain}
top=$(cd "$(dirname "$0")/.." && pwd)
home=/root; [ $user = root ] || home=/home/$user
[ -n "$dir" ] || dir=$home/mod_md

if [ "$(id -u)" != 0 ]; then
    sudo -v 2>/dev/null || fail "needs root, or a user who may use sudo"
    again=(); [ $user = root ] || again=(--user)
    exec sudo "$top/test/fresh.sh" "${again[@]}" --dir "$dir" "$suite" "$@"
fi
unshare -m -p -f --mount-proc true 2>/dev/null ||
    fail "this system lets root make no namespaces or mounts; in a container, start it with --privileged"

cache=$top/.cache/fresh
mkdir -p "$cache/debs"

# served <distribution>: the first of this machine's mirrors that has it
served() {
    local site
    for site in $(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u); do
        if curl -fsL --max-time 60 -o /dev/null "$site/dists/$1/InRelease"; then echo "$site"; return; fi
    done
    return 1
}

# The bare root, made once and made anew when it is more than two weeks old. Another run may want it at the same time.
pristine() {
    local tar=$cache/$base.tar new=$cache/$base.new site
    exec 9>"$cache/$base.lock"; flock 9
    if [ -z "$(find "$tar" -mtime -14 2>/dev/null)" ]; then
        site=$(served "$base") || fail "no mirror in apt's configuration has the suite $base"
        command -v debootstrap >/dev/null || apt-get install -qy --no-install-recommends debootstrap >/dev/null ||
            fail "debootstrap is missing and cannot be installed"
        echo "fresh.sh: making a bare root of $base, about two minutes"
        rm -rf "$new"
        debootstrap --variant=minbase --include=git --cache-dir="$cache/debs" "$base" "$new" "$site" \
            >"$cache/$base.log" 2>&1 || { tail -20 "$cache/$base.log"; fail "debootstrap failed"; }
        rm -f "$new"/var/cache/apt/archives/*.deb
        tar -C "$new" -cf "$tar.new" . && mv "$tar.new" "$tar"
        rm -rf "$new"
    fi
    exec 9>&-
}

# What a system has that debootstrap does not make: all suites, apt's way to the mirror, the resolver; and a user.
furnish() {
    local name site
    rm -f "$root/etc/apt/sources.list"
    for name in "$base" "$base-updates" "$base-security"; do
        [ "$suite" = "$base" ] || [ "$name" = "$base" ] || continue
        site=$(served "$name") || continue
        echo "deb $site $name main" >>"$root/etc/apt/sources.list"
    done
    apt-config dump | grep -E '^Acquire::(http|https|Retries)' >"$root/etc/apt/apt.conf.d/00mirror" || true
    # a mirror that is frozen at some day is good enough for a test
    echo 'Acquire::Check-Valid-Until "false";' >>"$root/etc/apt/apt.conf.d/00mirror"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -aln "$cache"/debs/*.deb "$root/var/cache/apt/archives/" 2>/dev/null || true
    [ $user != root ] || return 0
    within apt-get -q update >/dev/null
    within apt-get -qy install --no-install-recommends sudo >"$root/tmp/apt.log" 2>&1 ||
        { cat "$root/tmp/apt.log"; return 1; }
    within useradd -m -s /bin/bash $user
    echo "$user ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$user"
}

devices() {
    local name
    mount -t tmpfs -o mode=755 dev "$root/dev"
    for name in null zero full random urandom tty; do
        touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir -m 1777 "$root/dev/shm"; mount -t tmpfs shm "$root/dev/shm"
    mkdir "$root/dev/pts"; mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
    for name in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${name#*:}" "$root/dev/${name%:*}"; done
}

clean_env() {
    local path=/usr/local/bin:/usr/bin:/bin
    [ "$1" = setpriv ] || path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    env -i PATH=$path LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        TERM="${TERM:-dumb}" HOME="$home" ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} "$@"
}
within() { clean_env chroot "$root" "$@"; }
as_user() { clean_env chroot "$root" setpriv --reuid $user --regid $user --init-groups "$@"; }

# Process 1 of its own namespace: everything that is still running ends with it.
inside() {
    local rc
    mount --bind "$root" "$root" # tests make namespaces of mounts, for which / has to be one
    mount -t proc proc "$root/proc"
    devices
    furnish
    within install -d -o $user -g $user "$dir"
    as_user git -c advice.detachedHead=false -c init.defaultBranch=main clone -q /tmp/checkout.bundle "$dir"
    if [ -d "$top/.cache/pebble" ]; then
        mkdir "$root$dir/.cache"; cp -r "$top/.cache/pebble" "$root$dir/.cache/"; within chown -R $user: "$dir/.cache"
    fi
    as_user bash -c 'cd "$1" && shift && exec "$@"' - "$dir" "$@" && rc=0 || rc=$?
    cp -aln "$root"/var/cache/apt/archives/*.deb "$cache/debs/" 2>/dev/null || true
    [ -d "$top/.cache/pebble" ] || cp -r "$root$dir/.cache/pebble" "$top/.cache/" 2>/dev/null || true
    return $rc
}

child=
clean() {
    trap - EXIT INT TERM HUP
    [ -z "$child" ] || { kill -9 "$child" 2>/dev/null && wait "$child" 2>/dev/null; } || true
    rm -rf --one-file-system "$root"
}
pristine
root=$(mktemp -d "$cache/root.XXXXXX")
trap clean EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$root"
tar -C "$root" -xf "$cache/$base.tar"
git -c safe.directory="$top" -C "$top" bundle create -q "$root/tmp/checkout.bundle" HEAD
export -f inside devices furnish served within as_user clean_env
export root cache base suite user home dir top
unshare -m -p -f --kill-child bash -euo pipefail -c 'inside "$@"' - "$@" <&0 &
child=$!
rc=0; wait $child || rc=$?
child=
exit $rc
