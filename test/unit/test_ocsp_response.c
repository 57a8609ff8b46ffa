/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to an OCSP responder, and whether its answers are believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "responder.h"

#include "../../md_limits.h"
#include "../../md_text.h"

#define DAY (24L * 3600)

static apr_pool_t *p;
static md_err_t err;
static md_ocsp_cert_t *cert;
static apr_time_t now;

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    now = md_time_parse_http("Mon, 02 Feb 2026 08:00:00 GMT");
    responder_make(now, p);
    return responder_cert(&cert, responder.leaf, responder.ca_cert, &err, p)
           == APR_SUCCESS ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    responder_end();
    apr_pool_destroy(p);
    return 0;
}

static md_ocsp_request_t request_with(const unsigned char *nonce)
{
    md_ocsp_request_t request;

    assert_int_equal(md_ocsp_request_make(&request, cert, nonce, &err, p), APR_SUCCESS);
    return request;
}

static void what_a_responder_knows_of_a_certificate(void **state)
{
    md_ocsp_cert_t *none;

    (void)state;
    assert_string_equal(cert->responder_url, RESPONDER_URL);
    assert_int_equal(strlen(cert->sha1), 40);
    assert_int_equal(strlen(cert->sha256), 64);
    assert_int_equal(cert->issued_at, now - apr_time_from_sec(7200));
    assert_int_equal(responder_cert(&none, responder.ca.x509, responder.ca_cert, &err, p),
                     APR_SUCCESS);
    assert_null(none->responder_url);
    assert_int_equal(responder_cert(&none, responder.ca.x509, responder.leaf_cert, &err, p),
                     APR_EINVAL);
}

/* Cut short or changed: it is refused, or understood in part, but nothing is read beyond its end. */
static void certificates_that_are_none(void **state)
{
    unsigned char *der = NULL, *changed;
    md_ocsp_cert_t *none;
    int i, len = i2d_X509(responder.leaf, &der);

    (void)state;
    for (i = 0; i < len; ++i) {
        changed = malloc((size_t)len);
        memcpy(changed, der, (size_t)len);
        changed[i] ^= 0x81;
        (void)!md_ocsp_cert_make(&none, changed, len, responder.ca_cert, &err, p);
        free(changed);
        changed = malloc((size_t)i + 1);
        memcpy(changed, der, (size_t)i);
        assert_int_equal(md_ocsp_cert_make(&none, changed, i, responder.ca_cert, &err, p),
                         APR_EINVAL);
        free(changed);
    }
    OPENSSL_free(der);
}

static void requests(void **state)
{
    unsigned char nonce[MD_OCSP_NONCE_LEN] = { 0, 1, 2 };
    md_ocsp_request_t plain = request_with(NULL), with = request_with(nonce);
    const unsigned char *der = with.der;
    OCSP_REQUEST *req = d2i_OCSP_REQUEST(NULL, &der, (long)with.len);
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), responder.leaf, responder.ca.x509);

    (void)state;
    assert_non_null(req);
    assert_int_equal(OCSP_request_onereq_count(req), 1);
    assert_int_equal(OCSP_id_cmp(id, OCSP_onereq_get0_id(OCSP_request_onereq_get0(req, 0))), 0);
    assert_int_equal(OCSP_REQUEST_get_ext_count(req), 1);
    assert_non_null(memmem(with.der, with.len, nonce, sizeof(nonce)));
    assert_true(plain.len + sizeof(nonce) < with.len);
    OCSP_REQUEST_free(req);
    OCSP_CERTID_free(id);
}

/* RFC 5019 5; the escapes are those of its example. */
static void requests_as_urls(void **state)
{
    static const unsigned char DER[] = { 0xfb, 0xef, 0xff, 0x00 };
    md_ocsp_request_t small = { DER, sizeof(DER) }, plain = request_with(NULL);
    const char *long_url = apr_pstrcat(p, "http://", apr_pstrmemdup(p, RESPONDER_URL, 10), NULL);
    char *pad = apr_palloc(p, 201);

    (void)state;
    assert_string_equal(md_ocsp_get_url("http://a.test", &small, p), "http://a.test/%2B%2B%2F%2FAA%3D%3D");
    assert_string_equal(md_ocsp_get_url("http://a.test/", &small, p), "http://a.test/%2B%2B%2F%2FAA%3D%3D");
    assert_non_null(md_ocsp_get_url(RESPONDER_URL, &plain, p));
    memset(pad, 'x', 200);
    pad[200] = '\0';
    assert_null(md_ocsp_get_url(apr_pstrcat(p, long_url, "/", pad, NULL), &plain, p));
}

static apr_status_t check_at(md_ocsp_answer_t *answer, const responder_answer_t *what,
                             apr_time_t at)
{
    apr_size_t len;
    const unsigned char *der = responder_say(&len, what, now, p);

    return md_ocsp_check(answer, cert, NULL, der, len, at, &err, p);
}

static void what_is_believed_and_what_is_not(void **state)
{
    const struct { responder_answer_t what; apr_status_t rv; const char *why; } ROWS[] = {
        { { .next_off = DAY }, APR_SUCCESS, NULL },
        { { .this_off = -5 * DAY, .next_off = 60 }, APR_SUCCESS, NULL },
        { { .next_off = DAY, .signer = SIGNER_DELEGATE }, APR_SUCCESS, NULL },
        { { .next_off = DAY, .cert_status = V_OCSP_CERTSTATUS_REVOKED }, APR_SUCCESS, NULL },
        { { .next_off = 0 }, APR_SUCCESS, NULL },
        { { .this_off = 240, .next_off = DAY }, APR_SUCCESS, NULL },
        { { .this_off = 360, .next_off = DAY }, APR_EINVAL, "in the future" },
        { { .this_off = -2 * DAY, .next_off = -60 }, APR_EINVAL, "was valid only until" },
        { { .this_off = -2 * DAY }, APR_EINVAL, "does not say how long" },
        { { .this_off = 200, .next_off = 100 }, APR_EINVAL, "ends before it begins" },
        { { .next_off = DAY, .signer = SIGNER_NO_PURPOSE }, APR_EINVAL, "not for signing OCSP" },
        { { .next_off = DAY, .signer = SIGNER_ENDED }, APR_EINVAL, "signer expired on" },
        { { .next_off = DAY, .signer = SIGNER_STRANGER }, APR_EINVAL, "" },
        { { .next_off = DAY, .signer = SIGNER_OTHER }, APR_EINVAL, "not issued by the issuer" },
        { { .next_off = DAY, .signer = SIGNER_STRANGER, .is_by_key = 1 }, APR_EINVAL,
          "not issued by the issuer" },
        { { .next_off = DAY, .is_by_key = 1 }, APR_SUCCESS, NULL },
        { { .next_off = DAY, .signer = SIGNER_TOMORROW }, APR_EINVAL, "not valid yet" },
        { { .next_off = DAY, .signer = SIGNER_NO_EXT }, APR_EINVAL, "not for signing OCSP" },
        { { .next_off = DAY, .signer = SIGNER_NO_USAGE }, APR_EINVAL, "not for signing OCSP" },
        { { .next_off = DAY, .signer = SIGNER_MALFORMED }, APR_EINVAL, "malformed" },
        { { .next_off = DAY, .signer = SIGNER_MISNAMED }, APR_EINVAL, "not issued by the issuer" },
        { { .next_off = DAY, .signer = SIGNER_RENAMED }, APR_EINVAL, "not issued by the issuer" },
        /* OpenSSL 3.5 takes such a date for no response at all. */
        { { .next_off = DAY, .this_is_bad = 1 }, APR_EINVAL, "" },
        { { .next_off = DAY, .next_is_bad = 1 }, APR_EINVAL, "" },
        { { .next_off = DAY, .is_forged = 1 }, APR_EINVAL, "signature of the response" },
        { { .next_off = DAY, .is_forged = 1, .signer = SIGNER_DELEGATE }, APR_EINVAL, "signature" },
        { { .next_off = DAY, .about = responder.other_leaf }, APR_EINVAL, "another certificate" },
        { { .next_off = DAY, .cert_status = V_OCSP_CERTSTATUS_UNKNOWN }, APR_ENOENT, "(unknown)" },
        { { .next_off = DAY, .is_padded = 1 }, APR_EINVAL, "not an OCSP response" },
        { { .response_status = OCSP_RESPONSE_STATUS_TRYLATER }, APR_EAGAIN, "trylater" },
        { { .response_status = OCSP_RESPONSE_STATUS_INTERNALERROR }, APR_EAGAIN, "internalerror" },
        { { .response_status = OCSP_RESPONSE_STATUS_UNAUTHORIZED }, APR_ENOENT, "unauthorized" },
        { { .response_status = OCSP_RESPONSE_STATUS_MALFORMEDREQUEST }, APR_EINVAL, "malformed" },
        { { .response_status = OCSP_RESPONSE_STATUS_SIGREQUIRED }, APR_EINVAL, "sigrequired" },
    };
    md_ocsp_answer_t answer;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        assert_int_equal(check_at(&answer, &ROWS[i].what, now), ROWS[i].rv);
        if (ROWS[i].why && !strstr(err.detail, ROWS[i].why))
            fail_msg("'%s' does not say '%s'", err.detail, ROWS[i].why);
    }
}

static void what_it_says(void **state)
{
    const responder_answer_t revoked = { .cert_status = V_OCSP_CERTSTATUS_REVOKED, .reason = 1,
                                         .this_off = -3600, .next_off = DAY };
    const responder_answer_t open = { .signer = SIGNER_DELEGATE };
    const responder_answer_t late = { .signer = SIGNER_DELEGATE, .next_off = 2 * RESPONDER_YEAR };
    md_ocsp_answer_t answer;

    (void)state;
    assert_int_equal(check_at(&answer, &revoked, now), APR_SUCCESS);
    assert_int_equal(answer.status, MD_OCSP_REVOKED);
    assert_int_equal(answer.this_update, now - apr_time_from_sec(3600));
    assert_int_equal(answer.next_update, now + apr_time_from_sec(DAY));
    assert_int_equal(answer.ends_at, answer.next_update);
    assert_int_equal(check_at(&answer, &revoked, answer.ends_at - 1), APR_SUCCESS);
    assert_int_equal(check_at(&answer, &revoked, answer.ends_at), APR_EINVAL);
    assert_int_equal(check_at(&answer, &revoked, now), APR_SUCCESS);
    assert_int_equal(answer.revoked_at, now - apr_time_from_sec(3600));
    assert_string_equal(answer.reason, "keyCompromise");
    assert_int_equal(check_at(&answer, &open, now), APR_SUCCESS);
    assert_int_equal(answer.status, MD_OCSP_GOOD);
    assert_int_equal(answer.next_update, 0);
    assert_int_equal(answer.ends_at, now + apr_time_from_sec(RESPONDER_YEAR));
    /* nobody believes it longer than its signer */
    assert_int_equal(check_at(&answer, &late, now), APR_SUCCESS);
    assert_int_equal(answer.ends_at, now + apr_time_from_sec(RESPONDER_YEAR));
    assert_int_equal(check_at(&answer, &late, answer.ends_at), APR_EINVAL);
}

static void nonces(void **state)
{
    unsigned char ours[MD_OCSP_NONCE_LEN] = { 1 }, another[MD_OCSP_NONCE_LEN] = { 2 };
    md_ocsp_request_t sent = request_with(ours), wrong = request_with(another);
    md_ocsp_request_t plain = request_with(NULL);
    const struct { const md_ocsp_request_t *sent, *repeated; apr_status_t rv; } ROWS[] = {
        { &sent, &sent, APR_SUCCESS }, { &sent, &wrong, APR_EINVAL }, { &sent, NULL, APR_SUCCESS },
        { &plain, &sent, APR_SUCCESS }, { &plain, NULL, APR_SUCCESS }, { NULL, &sent, APR_SUCCESS },
    };
    md_ocsp_answer_t answer;
    const unsigned char *der;
    apr_size_t len, i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        const responder_answer_t what = { .next_off = DAY, .request = ROWS[i].repeated };

        der = responder_say(&len, &what, now, p);
        assert_int_equal(md_ocsp_check(&answer, cert, ROWS[i].sent, der, len, now, &err, p),
                         ROWS[i].rv);
    }
}

/* Each byte changed, all cut short: nothing of that is believed. */
static void garbage(void **state)
{
    const responder_answer_t what = { .next_off = DAY, .signer = SIGNER_DELEGATE };
    md_ocsp_answer_t answer;
    apr_size_t len, i;
    const unsigned char *der = responder_say(&len, &what, now, p);
    unsigned char *changed = apr_palloc(p, len + 1);
    int believed = 0;

    (void)state;
    assert_int_equal(md_ocsp_check(&answer, cert, NULL, der, len, now, &err, p), APR_SUCCESS);
    for (i = 0; i < len; ++i) {
        memcpy(changed, der, len);
        changed[i] ^= 0x01;
        believed += md_ocsp_check(&answer, cert, NULL, changed, len, now, &err, p) == APR_SUCCESS;
        assert_int_not_equal(md_ocsp_check(&answer, cert, NULL, der, i, now, &err, p), APR_SUCCESS);
    }
    assert_int_equal(believed, 0);
    memcpy(changed, der, len);
    changed[len] = 0;
    assert_int_equal(md_ocsp_check(&answer, cert, NULL, changed, len + 1, now, &err, p), APR_EINVAL);
    assert_int_equal(md_ocsp_check(&answer, cert, NULL, (const unsigned char *)"<html>", 6, now,
                                   &err, p), APR_EINVAL);
}

#define TEST(f) cmocka_unit_test(f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_responder_knows_of_a_certificate),
        TEST(certificates_that_are_none),
        TEST(requests),
        TEST(requests_as_urls),
        TEST(what_is_believed_and_what_is_not),
        TEST(what_it_says),
        TEST(nonces),
        TEST(garbage),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, setup, teardown);
}
