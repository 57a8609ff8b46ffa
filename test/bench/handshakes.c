/* SPDX-License-Identifier: Apache-2.0 */
/* handshakes <port> <name> <seconds> <processes>: how many full handshakes with a server on
 * loopback, whose client asks for an OCSP response, end in that time, and how many had one. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

typedef struct tally_t {
    long done, stapled;
} tally_t;

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int connect_to(int port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
        exit(1);
    return fd;
}

static void shake_hands(tally_t *tally, SSL_CTX *ctx, int port, const char *name)
{
    const unsigned char *response;
    SSL *ssl = SSL_new(ctx);
    int fd = connect_to(port);

    if (!ssl || !SSL_set_fd(ssl, fd) || !SSL_set_tlsext_host_name(ssl, name)
        || !SSL_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp) || SSL_connect(ssl) != 1)
        exit(1);
    ++tally->done;
    tally->stapled += SSL_get_tlsext_status_ocsp_resp(ssl, &response) > 0;
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

static tally_t work(int port, const char *name, double until)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    tally_t tally = { 0, 0 };

    while (seconds() < until)
        shake_hands(&tally, ctx, port, name);
    SSL_CTX_free(ctx);
    return tally;
}

int main(int argc, char **argv)
{
    tally_t all = { 0, 0 }, one;
    int pipes[2], processes, i, status, failed = 0;

    if (argc != 5 || pipe(pipes))
        return 2;
    processes = atoi(argv[4]);
    for (i = 0; i < processes; ++i) {
        if (fork())
            continue;
        one = work(atoi(argv[1]), argv[2], seconds() + atof(argv[3]));
        _exit(write(pipes[1], &one, sizeof(one)) != sizeof(one));
    }
    for (i = 0; i < processes; ++i) {
        wait(&status);
        failed += status != 0;
        if (status == 0 && read(pipes[0], &one, sizeof(one)) == sizeof(one)) {
            all.done += one.done;
            all.stapled += one.stapled;
        }
    }
    printf("%ld %ld\n", all.done, all.stapled);
    return failed != 0;
}
