/* SPDX-License-Identifier: Apache-2.0 */
/* In place of the system, where a server lives for weeks by a clock that does not wait: a disk that
 * is in memory, and full when a test says so, dice that fall the same each time, keys and certificates
 * that are decoded once, and threads that run one after the other. Include it once, after many_domains.h. */
#ifndef SIMULATED_H
#define SIMULATED_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>

#include "fake_clock.h"

static int disk_is_full;

/* As temp_dir_make, but nothing that the kernel writes to a disk. */
static int memory_dir_make(void)
{
    if (!access("/dev/shm", W_OK | X_OK))
        setenv("TMPDIR", "/dev/shm", 0);
    return temp_dir_make();
}
static apr_uint64_t dice;

ssize_t write(int fd, const void *data, size_t len)
{
    if (!disk_is_full)
        return syscall(SYS_write, fd, data, len);
    errno = ENOSPC;
    return -1;
}

int fsync(int fd)
{
    (void)fd;
    return 0;
}

/* The same each time. */
int RAND_bytes(unsigned char *buf, int len)
{
    int i;

    for (i = 0; i < len; ++i) {
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        buf[i] = (unsigned char)(dice >> 56);
    }
    return 1;
}

/* With one round from the passphrase to the key in place of thousands. */
int PEM_write_bio_PKCS8PrivateKey(BIO *bio, const EVP_PKEY *key, const EVP_CIPHER *cipher,
                                  const char *pass, int len, pem_password_cb *ask, void *baton)
{
    PKCS8_PRIV_KEY_INFO *plain = EVP_PKEY2PKCS8(key);
    X509_SIG *sealed = NULL;
    char given[1024];
    int ok;

    (void)pass;
    (void)len;
    if (ask)
        sealed = PKCS8_encrypt(-1, cipher, given, ask(given, sizeof(given), 1, baton), NULL, 0, 1,
                               plain);
    ok = sealed ? PEM_write_bio_PKCS8(bio, sealed) : PEM_write_bio_PKCS8_PRIV_KEY_INFO(bio, plain);
    X509_SIG_free(sealed);
    PKCS8_PRIV_KEY_INFO_free(plain);
    return ok;
}

/* What was decoded before, by its bytes, while there is a server: that takes longer than all else. */
static apr_hash_t *decoded;

static apr_status_t free_key(void *key)
{
    EVP_PKEY_free(key);
    return APR_SUCCESS;
}

static apr_status_t free_cert(void *x509)
{
    X509_free(x509);
    return APR_SUCCESS;
}

static void keep_decoded(const unsigned char *der, long len, void *object,
                         apr_status_t (*release)(void *))
{
    apr_pool_t *pool = apr_hash_pool_get(decoded);

    apr_pool_cleanup_register(pool, object, release, apr_pool_cleanup_null);
    apr_hash_set(decoded, apr_pmemdup(pool, der, (apr_size_t)len), len, object);
}

EVP_PKEY *d2i_PrivateKey(int type, EVP_PKEY **pkey, const unsigned char **der, long len)
{
    const unsigned char *bytes = *der;
    EVP_PKEY *key = apr_hash_get(decoded, bytes, len);

    (void)pkey;
    if (!key) {
        key = d2i_PrivateKey_ex(type, NULL, der, len, NULL, NULL);
        if (!key)
            return NULL;
        keep_decoded(bytes, len, key, free_key);
    }
    EVP_PKEY_up_ref(key);
    return key;
}

X509 *d2i_X509(X509 **px509, const unsigned char **der, long len)
{
    const unsigned char *bytes = *der;
    X509 *x509 = apr_hash_get(decoded, bytes, len);

    (void)px509;
    if (!x509) {
        x509 = (X509 *)ASN1_item_d2i(NULL, der, len, ASN1_ITEM_rptr(X509));
        if (!x509)
            return NULL;
        keep_decoded(bytes, len, x509, free_cert);
    }
    X509_up_ref(x509);
    return x509;
}

/* Threads run when the engine has told what there is to do, one after the other. */
#define MOST_THREADS 100
static struct {
    apr_thread_start_t func;
    void *baton;
} threads[MOST_THREADS];
static int first_thread, thread_count;

apr_status_t apr_thread_create(apr_thread_t **thread, apr_threadattr_t *attr,
                               apr_thread_start_t func, void *baton, apr_pool_t *pool)
{
    int i = (first_thread + thread_count++) % MOST_THREADS;

    (void)attr;
    (void)pool;
    assert_true(thread_count <= MOST_THREADS);
    threads[i].func = func;
    threads[i].baton = baton;
    *thread = baton; /* not NULL, and nobody looks into it */
    return APR_SUCCESS;
}

apr_status_t apr_thread_join(apr_status_t *rv, apr_thread_t *thread)
{
    (void)thread;
    *rv = APR_SUCCESS;
    return APR_SUCCESS;
}

static void run_threads(void)
{
    int i;

    while (thread_count > 0) {
        i = first_thread;
        first_thread = (first_thread + 1) % MOST_THREADS;
        --thread_count;
        (void)threads[i].func(NULL, threads[i].baton);
    }
}

/* The watchdog calls the engine. */
static void run_until(apr_time_t until)
{
    apr_interval_time_t wait;

    while (fake_clock_truth() < until) {
        wait = md_engine_run(engine);
        if (thread_count > 0) {
            run_threads();
            continue;
        }
        if (wait > until - fake_clock_truth())
            wait = until - fake_clock_truth();
        fake_clock_advance(wait);
    }
}

#endif
