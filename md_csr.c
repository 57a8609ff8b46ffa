/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and certificates that we make. */
#include "md_csr.h"

#include <string.h>

#include <apr_strings.h>

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "md_clock.h"
#include "md_text.h"

#define CN_MAX        64 /* ub-common-name, RFC 5280 A.1; shorter than that */
#define SERIAL_LEN    20
#define ACME_ID_OID   "1.3.6.1.5.5.7.1.31" /* id-pe-acmeIdentifier, RFC 8737 3 */

/* Ed25519 and Ed448 bring their own digest. */
static const EVP_MD *digest_for(const md_key_t *key)
{
    EVP_PKEY *pkey = md_key_evp(key);

    return EVP_PKEY_is_a(pkey, "ED25519") || EVP_PKEY_is_a(pkey, "ED448") ? NULL : EVP_sha256();
}

/* The octets of an address or the text of a name. */
static int set_value(GENERAL_NAME *name, const md_identifier_t *identifier)
{
    int is_address = identifier->type == MD_IDENTIFIER_IP;
    ASN1_STRING *value = is_address ? a2i_IPADDRESS(identifier->value) : ASN1_IA5STRING_new();

    if (!value || (!is_address && !ASN1_STRING_set(value, identifier->value,
                                                   (int)strlen(identifier->value)))) {
        ASN1_STRING_free(value);
        return 0;
    }
    GENERAL_NAME_set0_value(name, is_address ? GEN_IPADD : GEN_DNS, value);
    return 1;
}

static GENERAL_NAMES *alt_names(const apr_array_header_t *identifiers)
{
    GENERAL_NAMES *list = GENERAL_NAMES_new();
    GENERAL_NAME *name;
    int i;

    for (i = 0; list && i < identifiers->nelts; ++i) {
        name = GENERAL_NAME_new();
        if (!name || !set_value(name, &APR_ARRAY_IDX(identifiers, i, md_identifier_t))
            || !sk_GENERAL_NAME_push(list, name)) {
            GENERAL_NAME_free(name);
            GENERAL_NAMES_free(list);
            return NULL;
        }
    }
    return list;
}

/* Takes ownership of `ext`; NULL fails. */
static int push_ext(STACK_OF(X509_EXTENSION) *exts, X509_EXTENSION *ext)
{
    if (ext && sk_X509_EXTENSION_push(exts, ext))
        return 1;
    X509_EXTENSION_free(ext);
    return 0;
}

static X509_EXTENSION *alt_name_ext(const apr_array_header_t *identifiers)
{
    GENERAL_NAMES *list = alt_names(identifiers);
    X509_EXTENSION *ext = list ? X509V3_EXT_i2d(NID_subject_alt_name, 0, list) : NULL;

    GENERAL_NAMES_free(list);
    return ext;
}

/* ---- certificate request ---- */

static int add_request_exts(X509_REQ *req, const apr_array_header_t *identifiers,
                            int must_staple)
{
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    int ok = exts && push_ext(exts, alt_name_ext(identifiers));

    if (ok && must_staple) /* RFC 7633 4: status_request */
        ok = push_ext(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_tlsfeature, "status_request"));
    ok = ok && X509_REQ_add_extensions(req, exts);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    return ok;
}

static int set_common_name(X509_NAME *subject, const char *name)
{
    if (strlen(name) >= CN_MAX)
        return 1;
    return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
                                      -1, 0);
}

static int fill_request(X509_REQ *req, const apr_array_header_t *identifiers, int must_staple,
                        const md_key_t *key)
{
    const md_identifier_t *first = &APR_ARRAY_IDX(identifiers, 0, md_identifier_t);
    X509_NAME *subject = X509_NAME_new();
    int ok = subject
             && (first->type != MD_IDENTIFIER_DNS || set_common_name(subject, first->value))
             && X509_REQ_set_subject_name(req, subject) && X509_REQ_set_version(req, 0)
             && add_request_exts(req, identifiers, must_staple)
             && X509_REQ_set_pubkey(req, md_key_evp(key))
             && X509_REQ_sign(req, md_key_evp(key), digest_for(key));

    X509_NAME_free(subject);
    return ok;
}

apr_status_t md_csr_make(const char **pcsr, const apr_array_header_t *identifiers,
                         int must_staple, const md_key_t *key, md_err_t *err, apr_pool_t *p)
{
    X509_REQ *req = X509_REQ_new();
    unsigned char *der = NULL;
    apr_status_t rv = APR_SUCCESS;
    int len = 0;

    *pcsr = NULL;
    if (req && identifiers->nelts > 0 && fill_request(req, identifiers, must_staple, key))
        len = i2d_X509_REQ(req, &der);
    if (len > 0)
        *pcsr = md_base64url_encode(der, (apr_size_t)len, p);
    else
        rv = md_openssl_fail(err, APR_EGENERAL, "cannot make a certificate request");
    OPENSSL_free(der);
    X509_REQ_free(req);
    return rv;
}

/* ---- self-signed certificates ---- */

/* 20 random octets; a positive number that needs no further one (RFC 5280 4.1.2.2). */
static int set_serial(X509 *x509)
{
    unsigned char bytes[SERIAL_LEN];
    BIGNUM *n;
    int ok;

    md_random_bytes(bytes, sizeof(bytes));
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x509));
    BN_free(n);
    return ok;
}

static int set_names(X509 *x509, const char *common_name)
{
    X509_NAME *name = X509_NAME_new();
    int ok = name && set_common_name(name, common_name) && X509_set_subject_name(x509, name)
             && X509_set_issuer_name(x509, name);

    X509_NAME_free(name);
    return ok;
}

/* Takes ownership of `ext`. */
static int add_ext(X509 *x509, X509_EXTENSION *ext)
{
    int ok = ext && X509_add_ext(x509, ext, -1);

    X509_EXTENSION_free(ext);
    return ok;
}

static int add_conf_ext(X509 *x509, int nid, const char *value)
{
    return add_ext(x509, X509V3_EXT_conf_nid(NULL, NULL, nid, value));
}

/* RFC 8737 3: critical, an OCTET STRING of 32 bytes inside. */
static X509_EXTENSION *acme_id_ext(const unsigned char digest[32])
{
    unsigned char der[34] = { 0x04, 0x20 };
    ASN1_OBJECT *oid = OBJ_txt2obj(ACME_ID_OID, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext = NULL;

    memcpy(der + 2, digest, 32);
    if (oid && value && ASN1_OCTET_STRING_set(value, der, sizeof(der)))
        ext = X509_EXTENSION_create_by_OBJ(NULL, oid, 1, value);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
    return ext;
}

/* What all certificates of ours have; not signed yet. NULL when memory is out. */
static X509 *start_cert(const char *common_name, const apr_array_header_t *identifiers, int days,
                        const md_key_t *key)
{
    time_t now = (time_t)apr_time_sec(md_clock_now());
    X509 *x509 = X509_new();

    if (x509 && X509_set_version(x509, 2) && set_serial(x509) && set_names(x509, common_name)
        && X509_time_adj_ex(X509_getm_notBefore(x509), 0, 0, &now)
        && X509_time_adj_ex(X509_getm_notAfter(x509), days, 0, &now)
        && X509_set_pubkey(x509, md_key_evp(key))
        && add_conf_ext(x509, NID_basic_constraints, "critical,CA:FALSE")
        && add_ext(x509, alt_name_ext(identifiers)))
        return x509;
    X509_free(x509);
    return NULL;
}

static apr_status_t finish_cert(md_cert_t **pcert, X509 *x509, int ok, const md_key_t *key,
                                const char *what, md_err_t *err, apr_pool_t *p)
{
    *pcert = NULL;
    if (!ok || !X509_sign(x509, md_key_evp(key), digest_for(key))) {
        X509_free(x509);
        return md_openssl_fail(err, APR_EGENERAL, what);
    }
    *pcert = md_cert_wrap(x509, p);
    return APR_SUCCESS;
}

apr_status_t md_cert_make_fallback(md_cert_t **pcert, const apr_array_header_t *names,
                                   const md_key_t *key, md_err_t *err, apr_pool_t *p)
{
    X509 *x509 = start_cert("Apache Managed Domain Fallback", md_identifiers_of(names, p), 14, key);
    int ok = x509 && add_conf_ext(x509, NID_key_usage, "critical,digitalSignature")
             && add_conf_ext(x509, NID_ext_key_usage, "serverAuth");

    return finish_cert(pcert, x509, ok, key, "cannot make a temporary certificate", err, p);
}

apr_status_t md_cert_make_alpn(md_cert_t **pcert, const md_identifier_t *identifier,
                               const unsigned char digest[32], const md_key_t *key,
                               md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *identifiers = apr_array_make(p, 1, sizeof(md_identifier_t));
    X509 *x509;
    int ok;

    APR_ARRAY_PUSH(identifiers, md_identifier_t) = *identifier;
    x509 = start_cert("tls-alpn-01-challenge", identifiers, 7, key);
    ok = x509 && add_ext(x509, acme_id_ext(digest));
    return finish_cert(pcert, x509, ok, key, "cannot make a tls-alpn-01 certificate", err, p);
}
