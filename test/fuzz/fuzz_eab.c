/* SPDX-License-Identifier: Apache-2.0 */
/* The file that an account at a CA comes with, and the MAC key in it. */
#include "fuzz.h"

#include <string.h>

#include "../../md_config.h"
#include "../../md_jws.h"
#include "../../md_text.h"

#define URL "https://ca.test/new-acct"

static void check_binding(const md_eab_t *eab, apr_pool_t *p)
{
    md_mac_t mac = { eab->kid, eab->hmac, eab->alg };
    md_err_t err = fuzz_err(p);
    const char *protected;
    unsigned char *decoded;
    md_json_t *jws, *head;
    apr_status_t rv;
    apr_size_t n;

    rv = md_jws_bind(&jws, mac, URL, fuzz_key(), &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS) {
        holds(md_text_same(err.type, "apache:eab-hmac-invalid"));
        return;
    }
    protected = md_json_get_str(jws, "protected");
    n = md_base64url_decode(&decoded, protected, p);
    holds(md_json_parse(&head, (char *)decoded, n, NULL, p) == APR_SUCCESS);
    holds(md_text_same(md_json_get_str(head, "kid"), eab->kid));
    holds(md_text_same(md_json_get_str(head, "url"), URL));
    holds(md_jws_mac_alg(md_json_get_str(head, "alg")));
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const char *path = fuzz_file("eab.json", data, len, p), *wrong;
    const md_directive_t d = { .name = "MDExternalAccountBinding", .place = MD_PLACE_SERVER,
                               .argc = 1, .argv = &path, .server_root = fuzz_dir() };
    md_conf_t *conf = md_conf_make(p);

    wrong = md_config_set(conf, conf, &d, p);
    if (wrong)
        return;
    holds(conf->eab && conf->eab->kid && *conf->eab->kid && conf->eab->hmac && *conf->eab->hmac);
    check_binding(conf->eab, p);
}
