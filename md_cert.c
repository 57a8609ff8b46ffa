/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and chains: reading them. */
#include "md_cert.h"

#include <arpa/inet.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include <apr_strings.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "md_limits.h"
#include "md_text.h"

#define NO_PEM_MAX 1024 /* a file without certificate that is smaller counts as empty */
#define CLOCK_SKEW apr_time_from_sec(3600)

struct md_cert_t {
    X509 *x509;
};

static apr_status_t cert_cleanup(void *data)
{
    md_cert_t *cert = data;

    X509_free(cert->x509);
    return APR_SUCCESS;
}

md_cert_t *md_cert_wrap(X509 *x509, apr_pool_t *p)
{
    md_cert_t *cert = apr_palloc(p, sizeof(*cert));

    cert->x509 = x509;
    apr_pool_cleanup_register(p, cert, cert_cleanup, apr_pool_cleanup_null);
    return cert;
}

X509 *md_cert_x509(const md_cert_t *cert)
{
    return cert->x509;
}

/* ---- chains ---- */

/* Did reading end because there is nothing more, and not in the middle of a block? */
static int is_end_of_pem(void)
{
    unsigned long code = ERR_peek_last_error();

    ERR_clear_error();
    return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static X509 *decode(const unsigned char *der, long len)
{
    return d2i_X509(NULL, &der, len);
}

/* The same, out of `known` if it was there before. Chains of which no two have the same issuer do
 * not fill memory. */
static X509 *decode_known(const unsigned char *der, long len, apr_hash_t *known)
{
    md_cert_t *cert = apr_hash_get(known, der, len);
    apr_pool_t *p = apr_hash_pool_get(known);
    X509 *x509;

    if (!cert) {
        x509 = decode(der, len);
        if (!x509 || apr_hash_count(known) >= MD_MAX_ISSUERS)
            return x509;
        cert = md_cert_wrap(x509, p);
        apr_hash_set(known, apr_pmemdup(p, der, (apr_size_t)len), len, cert);
    }
    X509_up_ref(cert->x509);
    return cert->x509;
}

md_cert_t *md_cert_decode_shared(const unsigned char *der, long len, apr_hash_t *known,
                                 apr_pool_t *p)
{
    X509 *x509 = decode_known(der, len, known);

    ERR_clear_error();
    return x509 ? md_cert_wrap(x509, p) : NULL;
}

static apr_status_t read_blocks(apr_array_header_t *chain, BIO *bio, apr_hash_t *known,
                                md_err_t *err, apr_pool_t *p)
{
    unsigned char *der;
    X509 *x509;
    long len;

    ERR_clear_error();
    while (PEM_bytes_read_bio(&der, &len, NULL, PEM_STRING_X509, bio, NULL, NULL)) {
        x509 = known && chain->nelts > 0 ? decode_known(der, len, known) : decode(der, len);
        OPENSSL_free(der);
        if (!x509)
            break;
        APR_ARRAY_PUSH(chain, md_cert_t *) = md_cert_wrap(x509, p);
        if (chain->nelts > MD_MAX_CHAIN)
            return md_fail(err, APR_EINVAL, "more than %d certificates in a chain", MD_MAX_CHAIN);
    }
    return is_end_of_pem() ? APR_SUCCESS
                           : md_fail(err, APR_EINVAL, "a certificate cannot be decoded");
}

apr_status_t md_chain_from_pem_shared(apr_array_header_t **pchain, const char *pem, apr_size_t len,
                                      apr_hash_t *known, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *chain = apr_array_make(p, 3, sizeof(md_cert_t *));
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    apr_status_t rv;

    *pchain = NULL;
    if (!bio)
        return md_fail(err, APR_ENOMEM, "no memory for a certificate chain");
    rv = read_blocks(chain, bio, known, err, p);
    BIO_free(bio);
    if (rv == APR_SUCCESS && chain->nelts == 0 && len >= NO_PEM_MAX)
        rv = md_fail(err, APR_EINVAL, "no certificate in %lu bytes", (unsigned long)len);
    if (rv == APR_SUCCESS)
        *pchain = chain;
    return rv;
}

apr_status_t md_chain_from_pem(apr_array_header_t **pchain, const char *pem, apr_size_t len,
                               md_err_t *err, apr_pool_t *p)
{
    return md_chain_from_pem_shared(pchain, pem, len, NULL, err, p);
}

const char *md_chain_to_pem(const apr_array_header_t *chain, apr_pool_t *p)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *text = "";
    char *data;
    long len;
    int i;

    for (i = 0; bio && i < chain->nelts; ++i)
        PEM_write_bio_X509(bio, APR_ARRAY_IDX(chain, i, md_cert_t *)->x509);
    if (bio) {
        len = BIO_get_mem_data(bio, &data);
        text = len > 0 ? apr_pstrmemdup(p, data, (apr_size_t)len) : "";
    }
    BIO_free(bio);
    return text;
}

const char *md_cert_encode(const md_cert_t *cert, apr_pool_t *p)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert->x509, &der);
    const char *text = len > 0 ? md_base64url_encode(der, (apr_size_t)len, p) : "";

    OPENSSL_free(der);
    return text;
}

md_cert_t *md_chain_leaf(const apr_array_header_t *chain)
{
    return chain && chain->nelts > 0 ? APR_ARRAY_IDX(chain, 0, md_cert_t *) : NULL;
}

static int is_signed_by(const md_cert_t *cert, const md_cert_t *issuer)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer->x509);
    int ok = key && !X509_NAME_cmp(X509_get_issuer_name(cert->x509),
                                   X509_get_subject_name(issuer->x509))
             && X509_verify(cert->x509, key) == 1; /* which takes longest */

    ERR_clear_error();
    return ok;
}

int md_cert_is_self_signed(const md_cert_t *cert)
{
    return is_signed_by(cert, cert);
}

static const md_cert_t *find_issuer(const apr_array_header_t *chain, const md_cert_t *cert)
{
    const md_cert_t *issuer;
    int i;

    for (i = 0; i < chain->nelts; ++i) {
        issuer = APR_ARRAY_IDX(chain, i, const md_cert_t *);
        if (issuer != cert && is_signed_by(cert, issuer))
            return issuer;
    }
    return NULL;
}

apr_array_header_t *md_chain_sort(const apr_array_header_t *chain, const md_key_t *key,
                                  apr_pool_t *p)
{
    apr_array_header_t *sorted = apr_array_make(p, chain->nelts + 1, sizeof(md_cert_t *));
    const md_cert_t *cert = NULL;
    int i;

    for (i = 0; i < chain->nelts && !cert; ++i)
        if (md_cert_fits_key(APR_ARRAY_IDX(chain, i, const md_cert_t *), key))
            cert = APR_ARRAY_IDX(chain, i, const md_cert_t *);
    for (; cert && sorted->nelts < chain->nelts; cert = find_issuer(chain, cert))
        APR_ARRAY_PUSH(sorted, const md_cert_t *) = cert;
    /* An issuer that is missing in the middle is no reason to leave out what is behind it. */
    return sorted->nelts > (chain->nelts > 1) ? sorted : apr_array_copy(p, chain);
}

/* In UTF-8; a name may have several common ones. */
static int has_common_name(const X509_NAME *name, const char *wanted)
{
    unsigned char *text;
    int at, found = 0;

    for (at = X509_NAME_get_index_by_NID(name, NID_commonName, -1); at >= 0 && !found;
         at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) {
        if (ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)))
            < 0)
            continue;
        found = !strcasecmp((const char *)text, wanted);
        OPENSSL_free(text);
    }
    ERR_clear_error();
    return found;
}

int md_chain_is_from(const apr_array_header_t *chain, const char *common_name)
{
    const md_cert_t *first = md_chain_leaf(chain), *last;

    if (!first)
        return 0;
    last = APR_ARRAY_IDX(chain, chain->nelts - 1, const md_cert_t *);
    return has_common_name(X509_get_issuer_name(first->x509), common_name)
           || has_common_name(X509_get_issuer_name(last->x509), common_name);
}

apr_status_t md_chain_check(const apr_array_header_t *chain, const md_key_t *key,
                            const apr_array_header_t *names, apr_time_t now, md_err_t *err,
                            apr_pool_t *p)
{
    const md_cert_t *leaf = md_chain_leaf(chain);
    const md_cert_info_t *info;
    const char *uncovered;
    int i;

    if (!leaf)
        return md_fail(err, APR_EINVAL, "the chain holds no certificate");
    if (!md_cert_fits_key(leaf, key))
        return md_fail(err, APR_EINVAL, "the certificate is for another private key");
    info = md_cert_info(leaf, p);
    uncovered = md_cert_uncovered(info, names, p);
    if (uncovered)
        return md_fail(err, APR_EINVAL, "the certificate does not cover %s", uncovered);
    if (info->validity.start > now + CLOCK_SKEW)
        return md_fail(err, APR_EINVAL, "the certificate is not valid before %s; check the clock",
                       md_time_http(info->validity.start, p));
    if (info->validity.end <= now)
        return md_fail(err, APR_EINVAL, "the certificate expired on %s; check the clock",
                       md_time_http(info->validity.end, p));
    for (i = 0; i + 1 < chain->nelts; ++i)
        if (!is_signed_by(APR_ARRAY_IDX(chain, i, md_cert_t *),
                          APR_ARRAY_IDX(chain, i + 1, md_cert_t *)))
            return md_fail(err, APR_EINVAL, "certificate %d of the chain is not signed by the one "
                           "after it", i + 1);
    return md_chain_check_strength(chain, err);
}

/* ---- strength ---- */

/* Bits of security that TLS asks for: see SSL_CTX_set_security_level(3). */
static int find_least_bits(void)
{
    static const int BITS[] = { 0, 80, 112, 128, 192, 256 };
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    int level = ctx ? SSL_CTX_get_security_level(ctx) : 0;

    SSL_CTX_free(ctx);
    return BITS[level < 0 ? 0 : level > 5 ? 5 : level];
}

int md_chain_least_bits(void)
{
    static int known = -1; /* the same for all threads */
    int bits = __atomic_load_n(&known, __ATOMIC_RELAXED);

    if (bits < 0) {
        bits = find_least_bits();
        __atomic_store_n(&known, bits, __ATOMIC_RELAXED);
    }
    return bits;
}

/* Of the signature; nobody checks that of a root. */
static int signature_bits(X509 *x509)
{
    int bits;

    if (X509_get_extension_flags(x509) & EXFLAG_SS)
        return INT_MAX;
    return X509_get_signature_info(x509, NULL, NULL, &bits, NULL) == 1 ? bits : 0;
}

apr_status_t md_chain_check_strength(const apr_array_header_t *chain, md_err_t *err)
{
    int least = md_chain_least_bits(), i, key_bits, sig_bits;
    apr_status_t rv = APR_SUCCESS;
    EVP_PKEY *pkey;
    X509 *x509;

    for (i = 0; i < chain->nelts && rv == APR_SUCCESS; ++i) {
        x509 = APR_ARRAY_IDX(chain, i, md_cert_t *)->x509;
        pkey = X509_get0_pubkey(x509);
        key_bits = pkey ? EVP_PKEY_get_security_bits(pkey) : 0;
        sig_bits = signature_bits(x509);
        if (key_bits < least || sig_bits < least)
            rv = md_fail(err, APR_EINVAL, "the %s of certificate %d of the chain is too weak for "
                         "the security level of TLS: it has %d bits, %d are required",
                         key_bits < least ? "key" : "signature", i + 1,
                         key_bits < least ? key_bits : sig_bits, least);
    }
    ERR_clear_error();
    return rv;
}

/* ---- one certificate ---- */

int md_cert_fits_key(const md_cert_t *cert, const md_key_t *key)
{
    EVP_PKEY *public_key = X509_get0_pubkey(cert->x509);
    int fits = public_key && EVP_PKEY_eq(public_key, md_key_evp(key)) == 1;

    ERR_clear_error();
    return fits;
}

/* Decoding a private key takes OpenSSL longer than all else that a start does for a domain. But
 * RSAPrivateKey (RFC 8017 A.1.2) begins like the public key, and ECPrivateKey (RFC 5915 3) ends
 * with it. */
int md_cert_fits_pem(const md_cert_t *cert, const char *pem, apr_size_t len)
{
    const unsigned char *public_key, *private_key;
    PKCS8_PRIV_KEY_INFO *info = NULL;
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    int public_len, private_len, tag, class, fits = 0;
    const ASN1_OBJECT *algorithm;
    ASN1_OBJECT *cert_algorithm;
    long content_len;

    if (bio)
        info = PEM_read_bio_PKCS8_PRIV_KEY_INFO(bio, NULL, NULL, NULL);
    if (!info || !PKCS8_pkey_get0(&algorithm, &private_key, &private_len, NULL, info)
        || !X509_PUBKEY_get0_param(&cert_algorithm, &public_key, &public_len, NULL,
                                   X509_get_X509_PUBKEY(cert->x509))
        || OBJ_cmp(algorithm, cert_algorithm))
        goto out;
    if (OBJ_obj2nid(algorithm) == NID_rsaEncryption) { /* what is inside the SEQUENCE */
        if (ASN1_get_object(&public_key, &content_len, &tag, &class, public_len) & 0x80)
            goto out;
        public_len = (int)content_len;
    }
    fits = public_len > 32
           && memmem(private_key, (size_t)private_len, public_key, (size_t)public_len) != NULL;
out:
    PKCS8_PRIV_KEY_INFO_free(info);
    BIO_free(bio);
    ERR_clear_error();
    return fits;
}

apr_time_t md_cert_time(const ASN1_TIME *time)
{
    apr_time_exp_t x;
    apr_time_t t;
    struct tm tm;

    memset(&x, 0, sizeof(x));
    if (!time || !ASN1_TIME_to_tm(time, &tm))
        return 0;
    x.tm_year = tm.tm_year;
    x.tm_mon = tm.tm_mon;
    x.tm_mday = tm.tm_mday;
    x.tm_hour = tm.tm_hour;
    x.tm_min = tm.tm_min;
    x.tm_sec = tm.tm_sec;
    return apr_time_exp_get(&t, &x) == APR_SUCCESS ? t : 0;
}

/* ---- names ---- */

static const char *lower_copy(const char *text, apr_pool_t *p)
{
    char *copy = apr_pstrdup(p, text), *c;

    for (c = copy; *c; ++c)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return copy;
}

/* The text of a dNSName; NULL for names with a NUL inside, which are meant to deceive. */
static const char *dns_text(const ASN1_IA5STRING *name, apr_pool_t *p)
{
    const char *text = (const char *)ASN1_STRING_get0_data(name);
    int len = ASN1_STRING_length(name);

    return text && len > 0 && strlen(text) == (size_t)len ? lower_copy(text, p) : NULL;
}

static const char *address_text(const ASN1_OCTET_STRING *octets, apr_pool_t *p)
{
    int family = ASN1_STRING_length(octets) == 4 ? AF_INET : AF_INET6;
    char text[INET6_ADDRSTRLEN];

    if (ASN1_STRING_length(octets) != 4 && ASN1_STRING_length(octets) != 16)
        return NULL;
    return apr_pstrdup(p, inet_ntop(family, ASN1_STRING_get0_data(octets), text, sizeof(text)));
}

static apr_array_header_t *alt_names(const X509 *x509, apr_pool_t *p)
{
    apr_array_header_t *list;
    const GENERAL_NAME *name;
    GENERAL_NAMES *names;
    const char *text;
    int i;

    if (X509_get_ext_by_NID(x509, NID_subject_alt_name, -1) < 0)
        return NULL;
    names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    list = apr_array_make(p, sk_GENERAL_NAME_num(names), sizeof(const char *));
    for (i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
        name = sk_GENERAL_NAME_value(names, i);
        text = name->type == GEN_DNS ? dns_text(name->d.dNSName, p)
               : name->type == GEN_IPADD ? address_text(name->d.iPAddress, p) : NULL;
        if (text)
            APR_ARRAY_PUSH(list, const char *) = text;
    }
    GENERAL_NAMES_free(names);
    return list;
}

/* As alt_names writes it: IPv6 addresses have many forms. */
static const char *wanted_text(const char *name, apr_pool_t *p)
{
    unsigned char octets[sizeof(struct in6_addr)];
    char text[INET6_ADDRSTRLEN];

    if (strchr(name, ':') && inet_pton(AF_INET6, name, octets) == 1)
        return apr_pstrdup(p, inet_ntop(AF_INET6, octets, text, sizeof(text)));
    return lower_copy(name, p);
}

const char *md_cert_uncovered(const md_cert_info_t *info, const apr_array_header_t *names,
                              apr_pool_t *p)
{
    apr_hash_t *set = apr_hash_make(p);
    const char *text, *dot;
    int i;

    for (i = 0; info->names && i < info->names->nelts; ++i)
        apr_hash_set(set, APR_ARRAY_IDX(info->names, i, const char *), APR_HASH_KEY_STRING, "");
    for (i = 0; i < names->nelts; ++i) {
        text = wanted_text(APR_ARRAY_IDX(names, i, const char *), p);
        dot = strchr(text, '.');
        if (!apr_hash_get(set, text, APR_HASH_KEY_STRING)
            && !(dot && dot != text
                 && apr_hash_get(set, apr_pstrcat(p, "*", dot, NULL), APR_HASH_KEY_STRING)))
            return APR_ARRAY_IDX(names, i, const char *);
    }
    return NULL;
}

/* ---- identification ---- */

static const char *serial_text(const X509 *x509, apr_pool_t *p)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);

    return md_hex_encode(ASN1_STRING_get0_data(serial), (apr_size_t)ASN1_STRING_length(serial), 1,
                         p);
}

static const char *fingerprint(const X509 *x509, apr_pool_t *p)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    if (!X509_digest(x509, EVP_sha256(), digest, &len))
        return NULL;
    return md_hex_encode(digest, len, 0, p);
}

static const char *issuer_name(const X509 *x509, apr_pool_t *p)
{
    char *line = X509_NAME_oneline(X509_get_issuer_name(x509), NULL, 0);
    const char *name = line ? md_text_printable(line, p) : NULL;

    OPENSSL_free(line);
    return name;
}

static const char *issuer_uri(const X509 *x509, apr_pool_t *p)
{
    AUTHORITY_INFO_ACCESS *list = X509_get_ext_d2i(x509, NID_info_access, NULL, NULL);
    const ACCESS_DESCRIPTION *access;
    const ASN1_STRING *uri;
    const char *found = NULL;
    int i;

    for (i = 0; !found && i < sk_ACCESS_DESCRIPTION_num(list); ++i) {
        access = sk_ACCESS_DESCRIPTION_value(list, i);
        if (OBJ_obj2nid(access->method) != NID_ad_ca_issuers || access->location->type != GEN_URI)
            continue;
        uri = access->location->d.uniformResourceIdentifier;
        found = md_text_printable(apr_pstrmemdup(p, (const char *)ASN1_STRING_get0_data(uri),
                                                 (apr_size_t)ASN1_STRING_length(uri)), p);
    }
    AUTHORITY_INFO_ACCESS_free(list);
    return found;
}

/* The content octets of the serial number's DER encoding: with a leading zero where the top bit is
 * set. */
static const char *serial_octets(const X509 *x509, apr_pool_t *p)
{
    unsigned char *der = NULL;
    const unsigned char *content;
    const char *text = NULL;
    int len, tag, class;
    long content_len;

    len = i2d_ASN1_INTEGER(X509_get0_serialNumber(x509), &der);
    content = der;
    if (len > 0 && !(ASN1_get_object(&content, &content_len, &tag, &class, len) & 0x80))
        text = md_base64url_encode(content, (apr_size_t)content_len, p);
    OPENSSL_free(der);
    return text;
}

static const char *ari_id(X509 *x509, apr_pool_t *p)
{
    const ASN1_OCTET_STRING *aki = X509_get0_authority_key_id(x509);
    const char *serial = serial_octets(x509, p);

    if (!aki || !serial)
        return NULL;
    return apr_pstrcat(p, md_base64url_encode(ASN1_STRING_get0_data(aki),
                                              (apr_size_t)ASN1_STRING_length(aki), p),
                       ".", serial, NULL);
}

apr_uint64_t md_cert_dice(const md_cert_info_t *info)
{
    char digits[17]; /* of a digest */

    apr_cpystrn(digits, info->fingerprint ? info->fingerprint : "", sizeof(digits));
    return strtoull(digits, NULL, 16);
}

const md_cert_info_t *md_cert_info(const md_cert_t *cert, apr_pool_t *p)
{
    md_cert_info_t *info = apr_pcalloc(p, sizeof(*info));

    info->validity.start = md_cert_time(X509_get0_notBefore(cert->x509));
    info->validity.end = md_cert_time(X509_get0_notAfter(cert->x509));
    info->names = alt_names(cert->x509, p);
    info->must_staple = X509_get_ext_by_NID(cert->x509, NID_tlsfeature, -1) >= 0;
    info->serial = serial_text(cert->x509, p);
    info->fingerprint = fingerprint(cert->x509, p);
    info->issuer_name = issuer_name(cert->x509, p);
    info->issuer_uri = issuer_uri(cert->x509, p);
    info->ari_id = ari_id(cert->x509, p);
    ERR_clear_error();
    return info;
}

md_window_t md_cert_common_validity(const apr_array_header_t *certs)
{
    md_window_t common = { 0, 0 };
    const md_cert_info_t *cert;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (!cert)
            continue;
        if (cert->validity.start > common.start)
            common.start = cert->validity.start;
        if (!common.end || cert->validity.end < common.end)
            common.end = cert->validity.end;
    }
    if (common.start >= common.end)
        common.start = common.end = 0;
    return common;
}
