/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the DNS, many at a time, while nobody waits for them. Only md_dns.c knows the
 * library that asks (c-ares), which may be missing. Whatever answers is not trusted: what it says
 * is bounded, and names in it are names. */
#ifndef MD_DNS_H
#define MD_DNS_H

#include <apr_tables.h>

#include "md_err.h"

/* Numbers of RFC 1035 3.2.2, RFC 3596, RFC 8659 4. */
typedef enum {
    MD_DNS_A = 1,
    MD_DNS_NS = 2,
    MD_DNS_CNAME = 5,
    MD_DNS_TXT = 16,
    MD_DNS_AAAA = 28,
    MD_DNS_CAA = 257
} md_dns_type_t;

typedef enum {
    MD_DNS_OPEN,    /* not answered yet */
    MD_DNS_FOUND,   /* there are such records */
    MD_DNS_EMPTY,   /* there are none, though the name, or one below it, exists */
    MD_DNS_NO_NAME, /* the name does not exist (NXDOMAIN) */
    MD_DNS_FAILED   /* nothing is known: see `why` */
} md_dns_state_t;

/* By type: an address, a name in lower case, all strings of a TXT record in one, the value of a CAA
 * record. What is no text is left out. */
typedef struct md_dns_record_t {
    const char *value;
    const char *tag;          /* of CAA, lower case */
    int is_critical;          /* CAA */
} md_dns_record_t;

typedef struct md_dns_answer_t {
    const char *name;         /* asked about, lower case */
    md_dns_type_t type;
    md_dns_state_t state;
    int is_authoritative;
    const char *alias;        /* where CNAME records led to from `name`, NULL: nowhere */
    apr_array_header_t *records; /* md_dns_record_t, of the name at the end of these; never NULL */
    const char *why;          /* MD_DNS_FAILED, as a phrase */
} md_dns_answer_t;

/* Who is asked. */
typedef struct md_dns_route_t {
    const apr_array_header_t *resolvers; /* `address`, `address:port` or `[address]:port`; NULL:
                                          * those of the system */
    int port;                 /* of all other servers, 0: 53 */
} md_dns_route_t;

typedef struct md_dns_t md_dns_t;

/* What asks, and its version; NULL: this build cannot ask. */
const char *md_dns_library(void);

/* Can this be a resolver of a route? NULL, or what is wrong, as a phrase. */
const char *md_dns_check_resolver(const char *text, apr_pool_t *p);

/* For one thread at a time. Questions that are open when `p` goes away are dropped. APR_ENOTIMPL:
 * this build cannot ask. */
MD_MUST_CHECK
apr_status_t md_dns_create(md_dns_t **pdns, const md_dns_route_t *route, md_err_t *err,
                           apr_pool_t *p);

/* Ask a resolver, once: who asks the same again sees the same answer. It is open at first, and
 * lives as long as `dns`. */
const md_dns_answer_t *md_dns_ask(md_dns_t *dns, const char *name, md_dns_type_t type);

/* Ask the server at this address, which is not to ask others. Each time anew. */
const md_dns_answer_t *md_dns_ask_at(md_dns_t *dns, const char *address, const char *name,
                                     md_dns_type_t type);

/* Go on with all of them; never blocks. 1: some are open, call again after *pwait. Each ends by
 * itself, within ten seconds or so. */
int md_dns_poll(md_dns_t *dns, apr_interval_time_t *pwait);

/* What a message (RFC 1035 4.1) says about answer->name and answer->type, into the rest of
 * `answer`. */
void md_dns_parse(md_dns_answer_t *answer, const unsigned char *message, apr_size_t len,
                  apr_pool_t *p);

#endif
