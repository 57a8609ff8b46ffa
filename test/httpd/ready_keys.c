/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded in front of OpenSSL by tests that are not about making RSA keys, which is what takes most of the time of all
 * tests: the next key that is ready in $TEST_READY_KEYS and that no server of this test has had yet (who makes
 * $TEST_USED_KEYS/<bits>-<number> has it). When there is none, a key is made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

static int ready = -1; /* the directory */
static __thread EVP_PKEY_CTX *rsa;
static __thread int rsa_bits;

/* While we are who started the server: its user may not get there by path. */
static void __attribute__((constructor)) open_ready(void)
{
    const char *path = getenv("TEST_READY_KEYS");

    if (path)
        ready = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int EVP_PKEY_CTX_set_rsa_keygen_bits(EVP_PKEY_CTX *ctx, int bits)
{
    int (*set)(EVP_PKEY_CTX *, int);

    *(void **)&set = dlsym(RTLD_NEXT, "EVP_PKEY_CTX_set_rsa_keygen_bits");
    rsa = ctx;
    rsa_bits = bits;
    return set(ctx, bits);
}

static EVP_PKEY *ready_key(int bits)
{
    const char *used = getenv("TEST_USED_KEYS");
    EVP_PKEY *pkey = NULL;
    char path[4096];
    FILE *file;
    int i, fd;

    for (i = 0; used && !pkey; ++i) {
        snprintf(path, sizeof(path), "%d-%d.pem", bits, i);
        fd = openat(ready, path, O_RDONLY | O_CLOEXEC);
        file = fd >= 0 ? fdopen(fd, "r") : NULL;
        if (!file)
            return NULL;
        snprintf(path, sizeof(path), "%s/%d-%d", used, bits, i);
        if (mkdir(path, 0700) == 0)
            pkey = PEM_read_PrivateKey(file, NULL, NULL, NULL);
        fclose(file);
    }
    return pkey;
}

int EVP_PKEY_generate(EVP_PKEY_CTX *ctx, EVP_PKEY **ppkey)
{
    int (*generate)(EVP_PKEY_CTX *, EVP_PKEY **);

    /* The next context may be at the same address, and be for keys of another type. */
    if (ctx == rsa && EVP_PKEY_CTX_is_a(ctx, "RSA") && !*ppkey && (*ppkey = ready_key(rsa_bits)))
        return 1;
    *(void **)&generate = dlsym(RTLD_NEXT, "EVP_PKEY_generate");
    return generate(ctx, ppkey);
}
