#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job, watched: a test CA, an httpd with the module and three lines of configuration, https in the end.
# Needs Debian or Ubuntu (root or sudo for packages only); listens on loopback; leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")"
top=$PWD
name=demo.example.org
dir=
pids=()

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
httpd_ends() {
    local pid; pid=$(cat "$dir/httpd.pid" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
}
clean() {
    local rc=$?
    trap - EXIT
    if [ $rc != 0 ] && [ -n "$dir" ]; then
        step "FAILED, exit code $rc"
        for log in "$dir/error.log" "$dir/pebble.log"; do
            [ -s "$log" ] && { echo "--- the end of ${log##*/}:"; tail -25 "$log"; }
        done
    fi
    [ -z "$dir" ] || httpd_ends
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    [ -z "$dir" ] || rm -rf "$dir"
    exit $rc
}
trap clean EXIT
trap 'exit 130' INT TERM

await() { # await <seconds> <what> <command...>
    local end=$((SECONDS + $1)) what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "waited in vain for $what"; return 1; }
        sleep 0.1
    done
}

step "1. What is needed to build"
test/prepare.sh build
pebble=$(test/pebble-setup.sh)

step "2. Build the module"
module=${MD_MODULE:-}
if [ -z "$module" ]; then
    test/build.sh demo
    module=$top/.build/demo/.libs/mod_md.so
fi
ls -l "$module" | awk '{ print $5 " bytes" }'

step "3. A test CA (Pebble) on loopback"
dir=$(mktemp -d /tmp/mod_md-demo.XXXXXX); chmod 755 "$dir"
ports=($(test/httpd/ports.py 6))
http=${ports[0]} https=${ports[1]} acme=${ports[2]} mgmt=${ports[3]} dns=${ports[4]} dnsmgmt=${ports[5]}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
cat >"$dir/pebble.json" <<CONF
{ "pebble": { "listenAddress": "127.0.0.1:$acme", "managementListenAddress": "127.0.0.1:$mgmt",
  "certificate": "$dir/ca.pem", "privateKey": "$dir/ca.key", "httpPort": $http, "tlsPort": $https,
  "retryAfter": { "authz": 1, "order": 1 },
  "profiles": { "default": { "description": "three months", "validityPeriod": 7776000 } } } }
CONF
"$pebble/pebble-challtestsrv" -defaultIPv4 127.0.0.1 -defaultIPv6 "" -dnsserver "127.0.0.1:$dns" \
    -management "127.0.0.1:$dnsmgmt" -http01 "" -https01 "" -tlsalpn01 "" -doh "" >"$dir/dns.log" 2>&1 &
pids+=($!)
PEBBLE_VA_NOSLEEP=1 "$pebble/pebble" -config "$dir/pebble.json" -dnsserver "127.0.0.1:$dns" >"$dir/pebble.log" 2>&1 &
pids+=($!)
await 20 "the CA" curl -s --cacert "$dir/ca.pem" "https://localhost:$acme/dir"
echo "directory: https://localhost:$acme/dir"

step "4. An httpd with the md.conf of a user"
cat >"$dir/md.conf" <<CONF
MDCertificateAgreement accepted
MDContactEmail admin@example.org
MDomain $name
LogLevel md:notice
CONF
cat "$dir/md.conf"
mkdir "$dir/htdocs"; echo "Hello over https." >"$dir/htdocs/index.html"
libexec=$(apxs -q LIBEXECDIR)
binary=$(command -v apache2 || command -v httpd || echo "$(apxs -q SBINDIR)/$(apxs -q PROGNAME)")
{
    echo "ServerRoot $dir
PidFile $dir/httpd.pid
DefaultRuntimeDir $dir
Mutex default:$dir
ServerName localhost
Listen 127.0.0.1:$http
Listen 127.0.0.1:$https
ErrorLog $dir/error.log"
    [ "$(id -u)" != 0 ] || echo "User www-data
Group www-data"
    for m in mpm_event authz_core mime dir socache_shmcb ssl; do
        [ ! -f "$libexec/mod_$m.so" ] || echo "LoadModule ${m}_module $libexec/mod_$m.so"
    done
    echo "LoadModule md_module \"$module\"
TypesConfig /etc/mime.types
DocumentRoot $dir/htdocs
# where this demo differs from the real world: the CA, and the ports that it comes to
MDCertificateAuthority https://localhost:$acme/dir
MDCACertificateFile $dir/ca.pem
MDPortMap http:$http https:$https
Include $dir/md.conf
<VirtualHost *:$https>
    ServerName $name
    SSLEngine on
</VirtualHost>"
} >"$dir/httpd.conf"
"$binary" -f "$dir/httpd.conf" -k start
await 20 "httpd" curl -sk --resolve "$name:$https:127.0.0.1" "https://$name:$https/"

step "5. Up at once, with a temporary certificate and 503"
curl -sk -o /dev/null -w 'https answers %{http_code}\n' --resolve "$name:$https:127.0.0.1" "https://$name:$https/" | tee "$dir/answer"
certificate() { openssl s_client -connect "127.0.0.1:$https" -servername "$name" </dev/null 2>/dev/null |
    openssl x509 -noout -subject -issuer -enddate -ext subjectAltName; }
certificate | tee "$dir/first"
grep -q 503 "$dir/answer"
grep -q "Apache Managed Domain Fallback" "$dir/first"

step "6. The module gets the certificate"
await 60 "AH10059 in the error log" grep -q AH10059 "$dir/error.log"
grep AH10059 "$dir/error.log"

step "7. Reload, and fetch the page with the chain verified against the CA's root"
"$binary" -f "$dir/httpd.conf" -k graceful
curl -s --cacert "$dir/ca.pem" "https://localhost:$mgmt/roots/0" >"$dir/root.pem"
await 20 "the new certificate" curl -sf --cacert "$dir/root.pem" --resolve "$name:$https:127.0.0.1" "https://$name:$https/"
curl -sf --cacert "$dir/root.pem" --resolve "$name:$https:127.0.0.1" "https://$name:$https/"

step "8. The certificate in service"
certificate

step "done: everything is stopped"
