# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the adapters have in common, sourced by each with its arguments (POSIX sh):
#   <configuration> setup <name> <value> | <configuration> teardown <name> [<value>]
# Afterwards md_verb, md_name, md_value (empty: all of the name) are set, and all that the configuration says is in the environment.
# Nothing of it is code: lines of `KEY=value`, taken as they are, and comments that begin with `#`.

LC_ALL=C
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export LC_ALL PATH
umask 077

# The last line on standard error is the one that the server tells.
md_fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

md_read_configuration() {
    if ! [ -f "$1" ] || ! [ -r "$1" ]; then md_fail "the configuration $1 is no file that $(id -un) can read"; fi
    [ -z "$(find -H "$1" -prune -perm -004)" ] || md_fail "everybody can read $1, which is for secrets: chmod o= $1"
    while IFS= read -r md_line || [ -n "$md_line" ]; do
        case $md_line in
            '' | '#'*) continue ;;
            [A-Z_a-z]*=*) md_key=${md_line%%=*} ;;
            *) md_key=' ' ;;
        esac
        case $md_key in
            *[!A-Z_a-z0-9]*) md_fail "$1 has a line that is neither KEY=value nor a comment" ;; # which may be a secret
            md_* | IFS) md_fail "$1 sets $md_key, which is not possible" ;;
        esac
        export "$md_key=${md_line#*=}"
    done <"$1"
}

# A name as in the DNS, without `*.`
md_is_name() {
    case $1 in
        '' | [-.]* | *. | *..* | *[!A-Za-z0-9._-]*) return 1 ;;
    esac
    [ ${#1} -le 253 ]
}

# A SHA-256 digest in base64url (RFC 8555 8.4)
md_is_value() {
    case $1 in
        *[!A-Za-z0-9_-]*) return 1 ;;
    esac
    [ ${#1} = 43 ]
}

md_is_number() {
    case $1 in
        '' | *[!0-9]*) return 1 ;;
    esac
    [ ${#1} -le 6 ]
}

# The value of what must be configured.
md_need() {
    eval "[ -n \"\${$1:-}\" ]" || md_fail "the configuration lacks $1"
}

md_begin() {
    case "$# ${2:-}" in
        '4 setup' | '3 teardown' | '4 teardown') ;;
        *) printf 'usage: %s configuration setup name value | configuration teardown name [value]\n' "${0##*/}" >&2; exit 2 ;;
    esac
    md_verb=$2 md_name=$3 md_value=${4:-}
    md_is_name "$md_name" || md_fail "this is not a DNS name: $md_name"
    [ $# = 3 ] || md_is_value "$md_value" || md_fail "this is not the value of a TXT record for dns-01: $md_value"
    md_read_configuration "$1"
    md_record=_acme-challenge.$md_name
}

# For what can take down only a value that it is told: `<command> add|remove <value>` for the one, or for all that were set up, which
# are files in MD_DNS_STATE until they were taken down. A value that a command failed with is kept, as it may be in the DNS.
md_each_value() {
    md_noted=${MD_DNS_STATE:+$MD_DNS_STATE/$md_name}
    if [ "$md_verb" = setup ]; then
        [ -z "$md_noted" ] || { mkdir -p "$md_noted" && : >"$md_noted/$md_value"; } || md_fail "nothing can be noted in $md_noted"
        "$1" add "$md_value"
        return
    fi
    if [ -n "$md_value" ]; then
        md_remove "$1" "$md_value"
        return
    fi
    [ -n "$md_noted" ] ||
        md_fail "which values $md_record has is not known: set MDChallengeDns01Version 2, or MD_DNS_STATE in the configuration"
    md_code=0
    for md_file in "$md_noted"/*; do
        ! md_is_value "${md_file##*/}" || md_remove "$1" "${md_file##*/}" || md_code=1
    done
    return $md_code
}

md_remove() {
    "$1" remove "$2" || return
    [ -z "$md_noted" ] || { rm -f "$md_noted/$2"; rmdir "$md_noted" 2>/dev/null || :; }
}
