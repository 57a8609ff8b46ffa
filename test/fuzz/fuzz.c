/* SPDX-License-Identifier: Apache-2.0 */
/* Between libFuzzer, or whoever has inputs, and a target. */
#include "fuzz.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "../../md_file.h"
#include "../../md_log.h"
#include "../unit/temp_dir.h"

static apr_pool_t *process;

void fuzz_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

/* Nothing has to survive a crash of the system. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

int syncfs(int fd)
{
    (void)fd;
    return 0;
}

/* With FUZZ_LOG in the environment, the log is shown. */
static void check_line(const char *file, int line, md_log_level_t level, const char *msg)
{
    if (getenv("FUZZ_LOG"))
        fprintf(stderr, "%s:%d: %d: %s\n", file, line, (int)level, msg);
    for (; *msg; ++msg)
        holds((unsigned char)*msg >= ' ' && *msg != 127);
}

static int is_told(md_log_level_t level)
{
    (void)level;
    return 1;
}

static void clean_up(void)
{
    apr_pool_destroy(process);
    temp_dir_remove();
    apr_terminate();
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    apr_initialize();
    holds(apr_pool_create(&process, NULL) == APR_SUCCESS);
    holds(temp_dir_make() == 0);
    atexit(clean_up);
    md_log_set(check_line, is_told);
    if (fuzz_start)
        fuzz_start(process);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    apr_pool_t *p;

    holds(text);
    memcpy(text, data, size);
    text[size] = '\0';
    apr_pool_create(&p, process);
    fuzz_one(text, size, p);
    apr_pool_destroy(p);
    free(text);
    return 0;
}

md_err_t fuzz_err(apr_pool_t *p)
{
    md_err_t err;

    md_err_init(&err, p);
    return err;
}

const char *fuzz_part(size_t *plen, fuzz_parts_t *parts, apr_pool_t *p)
{
    static const char BETWEEN[] = "\n---\n";
    const char *begin = parts->at, *end;

    if (!begin)
        return NULL;
    end = memmem(begin, (size_t)(parts->end - begin), BETWEEN, sizeof(BETWEEN) - 1);
    parts->at = end ? end + sizeof(BETWEEN) - 1 : NULL;
    *plen = (size_t)((end ? end : parts->end) - begin);
    return apr_pstrmemdup(p, begin, *plen);
}

const char *fuzz_line(const char **ptext, apr_pool_t *p)
{
    const char *line = *ptext;
    size_t len = strcspn(line, "\n");

    if (!*line)
        return NULL;
    *ptext += len + (line[len] == '\n');
    return apr_pstrmemdup(p, line, len);
}

/* ---- files ---- */

const char *fuzz_dir(void)
{
    return temp_dir;
}

const char *fuzz_file(const char *path, const char *data, size_t len, apr_pool_t *p)
{
    const char *full = apr_pstrcat(p, temp_dir, "/", path, NULL);
    FILE *file = fopen(full, "w");

    holds(file && fwrite(data, 1, len, file) == len && fclose(file) == 0);
    return full;
}

md_store_t *fuzz_store(apr_pool_t *p)
{
    md_err_t err = fuzz_err(p);
    md_store_t *store;

    holds(md_store_open(&store, apr_pstrcat(p, temp_dir, "/md", NULL), &err, p) == APR_SUCCESS);
    return store;
}

/* ---- keys and certificates ---- */

const char *fuzz_key_pem(void)
{
    return "-----BEGIN PRIVATE KEY-----\n"
           "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/YxM0K7Ah5JcLrVA\n"
           "PQWnIimdTdO5cX44+YzFW54bhIqhRANCAASOI9bj3E3lYwAnmkfRsSWiyDyVPJNf\n"
           "MMvZFlnt2oMDCG8f5T94rfzVDCSdUfXJsMPB+JBdQ+UHdYFw33IdeFyy\n"
           "-----END PRIVATE KEY-----\n";
}

const char *fuzz_cert_pem(void)
{
    return "-----BEGIN CERTIFICATE-----\n"
           "MIIBmTCCAT+gAwIBAgIBBTAKBggqhkjOPQQDAjAwMQswCQYDVQQGEwJYWDENMAsG\n"
           "A1UECgwEQSBDQTESMBAGA1UEAwwJQW4gaXNzdWVyMCAXDTIwMDEwMTAwMDAwMFoY\n"
           "DzIxMjAwMTAxMDAwMDAwWjAaMRgwFgYDVQQDDA9vbmUuZXhhbXBsZS5vcmcwWTAT\n"
           "BgcqhkjOPQIBBggqhkjOPQMBBwNCAASOI9bj3E3lYwAnmkfRsSWiyDyVPJNfMMvZ\n"
           "Flnt2oMDCG8f5T94rfzVDCSdUfXJsMPB+JBdQ+UHdYFw33IdeFyyo14wXDAaBgNV\n"
           "HREEEzARgg9vbmUuZXhhbXBsZS5vcmcwHQYDVR0OBBYEFFumeJYG9UxMthbTQJam\n"
           "OcduEdIoMB8GA1UdIwQYMBaAFLElY/iDtDLjmH6h6pMxwMb0P43eMAoGCCqGSM49\n"
           "BAMCA0gAMEUCIDIwH+sVgmdMjiJU9DnKbuXJjIv9KS0yo7xNQEYOxrZBAiEApsrY\n"
           "ASX7H9poAFjHvlKf3XahjiZwM/qlUQHSYhupfys=\n"
           "-----END CERTIFICATE-----\n";
}

const md_key_t *fuzz_key(void)
{
    static md_key_t *key;
    const char *pem = fuzz_key_pem();

    if (!key)
        holds(md_key_from_pem(&key, pem, strlen(pem), NULL, 0, NULL, process) == APR_SUCCESS);
    return key;
}

/* Bytes of the element that begins there; of all that is left, if it is none. */
static long element_len(const unsigned char *der, long left)
{
    const unsigned char *content = der;
    int tag, class;
    long len;

    if (ASN1_get_object(&content, &len, &tag, &class, left) & 0x81)
        return left;
    return (long)(content - der) + len;
}

const char *fuzz_pem(const char *kind, const char *data, size_t *plen, apr_pool_t *p)
{
    const unsigned char *der = (const unsigned char *)data;
    long left = (long)*plen, len;
    const char *text;
    char *pem;
    BIO *bio;

    if (left == 0 || *der != (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED))
        return data;
    bio = BIO_new(BIO_s_mem());
    for (; left > 0; der += len, left -= len) {
        len = element_len(der, left);
        PEM_write_bio(bio, kind, "", der, len);
    }
    *plen = (size_t)BIO_get_mem_data(bio, &pem);
    text = apr_pstrmemdup(p, pem, *plen);
    BIO_free(bio);
    ERR_clear_error();
    return text;
}
