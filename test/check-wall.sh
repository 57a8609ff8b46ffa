#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The wall and the layers: a file includes only files before it in the order of docs/architecture.md, lowest layer first.
cd "$(dirname "$0")/.." || exit 1
order=$(awk '/^```/ { if (++fences == 2) exit }
             / L[0-9] / { ++layer }
             fences { for (i = 1; i <= NF; ++i) if ($i ~ /^[(]?(md|mod_md|a2md)(_[a-z0-9]+)*[)]?$/) files[layer] = files[layer] " " $i }
             END { for (; layer > 0; --layer) print files[layer] }' docs/architecture.md)
bad=0
complain() { echo "$*"; bad=1; }

found=$(grep -nE '#include *[<"](httpd|http_|ap_|mod_|util_script|scoreboard|unixd)' md_*.c md_*.h a2md*.c a2md.h)
[ -z "$found" ] || complain "httpd below the wall: $found"
found=$(grep -lE '#include <jansson' ./*.c ./*.h | grep -v '^./md_json.c$')
[ -z "$found" ] || complain "jansson outside md_json.c: $found"
found=$(grep -lE '#include <curl/' ./*.c ./*.h | grep -v '^./md_http.c$')
[ -z "$found" ] || complain "libcurl outside md_http.c: $found"
found=$(grep -lE '#include <idn2' ./*.c ./*.h | grep -v '^./md_text.c$')
[ -z "$found" ] || complain "libidn2 outside md_text.c: $found"
found=$(grep -lE '#include <ares' ./*.c ./*.h | grep -v '^./md_dns.c$')
[ -z "$found" ] || complain "c-ares outside md_dns.c: $found"
found=$(grep -lE '#include <openssl/' ./*.c ./*.h | grep -vE '^./(md_key|md_cert|md_csr|md_jws|md_ocsp_response|md_tls_probe|mod_md_tls|mod_md_ocsp|mod_md_live)\.[ch]$')
[ -z "$found" ] || complain "OpenSSL outside the crypto layer: $found"
found=$(grep -nE 'apr_time_now|apr_sleep|clock_gettime|gettimeofday|timedwait|_gmtime_adj|[^a-z_]time\(' ./*.c ./*.h |
    grep -v '^./md_clock.c:')
[ -z "$found" ] || complain "the system is asked for the time outside md_clock.c: $found"

for f in $order; do # what is planned is in parentheses
    [ -e "$f.c" ] || [ -e "$f.h" ] || [ "$f" != "${f#(}" ] || complain "docs/architecture.md: there is no file $f"
done
rank() { local n=0 f; for f in $order; do n=$((n + 1)); [ "$f" = "$1" ] && echo $n && return; done; echo 0; }
for f in *.c *.h; do
    own=$(rank "${f%.*}")
    [ "$own" != 0 ] || { complain "$f has no place in the layers"; continue; }
    for inc in $(sed -nE 's/^#include "(.*)\.h"/\1/p' "$f"); do
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
