#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The wall and the layers of docs/architecture.md: a file includes only files before it in this list.
cd "$(dirname "$0")/.." || exit 1
order="md_limits md_log md_text md_err md_time md_clock md_file md_exec md_json
       md_key md_cert md_csr md_jws
       md_http md_store
       md_acme md_acme_acct md_acme_use md_acme_authz md_acme_order md_ari
       md_domain md_config md_job md_event md_reg md_stage md_renew md_engine md_renewals md_ocsp md_status
       mod_md mod_md_cmds mod_md_reach mod_md_vhosts mod_md_check mod_md_tls mod_md_http mod_md_watchdog mod_md_status"
bad=0
complain() { echo "$*"; bad=1; }

found=$(grep -nE '#include *[<"](httpd|http_|ap_|mod_|util_script|scoreboard|unixd)' md_*.c md_*.h)
[ -z "$found" ] || complain "httpd below the wall: $found"
found=$(grep -lE '#include <jansson' ./*.c ./*.h | grep -v '^./md_json.c$')
[ -z "$found" ] || complain "jansson outside md_json.c: $found"
found=$(grep -lE '#include <curl/' ./*.c ./*.h | grep -v '^./md_http.c$')
[ -z "$found" ] || complain "libcurl outside md_http.c: $found"
found=$(grep -lE '#include <idn2' ./*.c ./*.h | grep -v '^./md_text.c$')
[ -z "$found" ] || complain "libidn2 outside md_text.c: $found"
found=$(grep -lE '#include <openssl/' ./*.c ./*.h | grep -vE '^./(md_key|md_cert|md_csr|md_jws|md_ocsp|mod_md_tls)\.[ch]$')
[ -z "$found" ] || complain "OpenSSL outside the crypto layer: $found"

rank() { local n=0 f; for f in $order; do n=$((n + 1)); [ "$f" = "$1" ] && echo $n && return; done; echo 0; }
for f in md_*.c md_*.h mod_md*.c mod_md.h; do
    # the parts of the store have one header
    base=${f%.*}; case $base in md_store_*) base=md_store;; esac
    own=$(rank "$base")
    [ "$own" != 0 ] || { complain "$f has no place in the layers"; continue; }
    for inc in $(sed -nE 's/^#include "(.*)\.h"/\1/p' "$f"); do
        [ "$base/$inc" = md_store/md_store_place ] && continue
        other=$(rank "$inc")
        [ "$other" != 0 ] && [ "$other" -le "$own" ] || complain "$f includes $inc.h, which is above it"
    done
done
found=$(grep -nE '^.{101}' ./*.c ./*.h)
[ -z "$found" ] || complain "lines above 100 columns: $found"
for f in $(git ls-files '*.c' '*.h' '*.sh' '*.py' 2>/dev/null); do
    [ -f "$f" ] || continue
    head -2 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || complain "$f: no SPDX line"
done
exit $bad
