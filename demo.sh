#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job, watched: a test CA, an httpd with the module and three lines of configuration, https in the end.
# Debian, Ubuntu: installs the packages that are missing, as root or with sudo. Listens on loopback; leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")"
. test/bounded.sh
bounded 3600 ./demo.sh "$@"

export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
name=demo.example.org
scratch mod_md-demo
dir=$TMPDIR
watchdog=

# step <seconds> <what>: a step of the demo, which ends with the next one. Whatever hangs until the limit is ended.
step() {
    step_ends
    say "$2"
    step_start=$SECONDS
    (read -rt "$1" <&9 || { echo "FAILED: not done within $1 s"; kill -TERM 0; }) 9<> <(:) &
    watchdog=$!
}
step_ends() {
    [ -n "$watchdog" ] || return 0
    { kill "$watchdog"; wait "$watchdog"; } 2>/dev/null || true
    watchdog=
    echo "-- $((SECONDS - step_start)) s"
}
finish() {
    local rc=$?
    trap - EXIT
    trap '' INT TERM HUP
    step_ends
    if [ $rc != 0 ]; then
        say "FAILED, exit code $rc"
        for log in "$dir/error.log" "$dir/pebble.log"; do
            [ -s "$log" ] && { echo "--- the end of ${log##*/}:"; tail -25 "$log"; }
        done
    fi
    end_leftovers
    [ $rc != 0 ] || say "done, everything is stopped"
    exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

await() { until "$@" >/dev/null 2>&1; do sleep 0.1; done; } # as long as the step may take

step 1900 "1. Packages that are needed to build, a minute or two the first time"
test/prepare.sh build
pebble=$(test/pebble-setup.sh)

step 600 "2. Build the module, half a minute the first time"
module=${MD_MODULE:-}
if [ -z "$module" ]; then
    test/build.sh demo
    module=$PWD/.build/demo/.libs/mod_md.so
fi
ls -l "$module" | awk '{ print $5 " bytes" }'

step 30 "3. A test CA (Pebble) on loopback"
read -r http https acme mgmt dns dnsmgmt <<<"$(test/httpd/ports.py 6)"
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
PEBBLE_VA_NOSLEEP=1 "$pebble/pebble" -config "$dir/pebble.json" -dnsserver "127.0.0.1:$dns" >"$dir/pebble.log" 2>&1 &
await curl -s --cacert "$dir/ca.pem" "https://localhost:$acme/dir"
echo "directory: https://localhost:$acme/dir"

step 30 "4. An httpd with the md.conf of a user"
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
await curl -sk --resolve "$name:$https:127.0.0.1" "https://$name:$https/"

step 30 "5. Up at once, with a temporary certificate and 503"
curl -sk -o /dev/null -w 'https answers %{http_code}\n' --resolve "$name:$https:127.0.0.1" "https://$name:$https/" | tee "$dir/answer"
certificate() { openssl s_client -connect "127.0.0.1:$https" -servername "$name" </dev/null 2>/dev/null |
    openssl x509 -noout -subject -issuer -enddate -ext subjectAltName; }
certificate | tee "$dir/first"
grep -q 503 "$dir/answer"
grep -q "Apache Managed Domain Fallback" "$dir/first"

step 60 "6. The module gets the certificate"
await grep -q AH10059 "$dir/error.log"
grep AH10059 "$dir/error.log"

step 30 "7. Reload, and fetch the page with the chain verified against the CA's root"
"$binary" -f "$dir/httpd.conf" -k graceful
curl -s --cacert "$dir/ca.pem" "https://localhost:$mgmt/roots/0" >"$dir/root.pem"
await curl -sf --cacert "$dir/root.pem" --resolve "$name:$https:127.0.0.1" "https://$name:$https/" -o "$dir/page"
cat "$dir/page"

step 30 "8. The certificate in service"
certificate
