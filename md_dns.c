/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS by c-ares: a channel for the resolvers, and one for each other server. c-ares sends,
 * repeats and receives; what a message says is read here, as its own parsers differ from version to
 * version and tell nothing of aliases and authority. */
#include "md_dns.h"

#include <stdlib.h>
#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"

#include <arpa/inet.h>

/* ---- addresses of resolvers ---- */

static int is_address(int family, const char *text)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(family, text, address) == 1;
}

static int is_port(const char *text)
{
    size_t len = strspn(text, "0123456789");

    return len > 0 && len <= 5 && !text[len] && atoi(text) > 0 && atoi(text) <= 65535;
}

const char *md_dns_check_resolver(const char *text, apr_pool_t *p)
{
    const char *colon = strrchr(text, ':'), *end = strchr(text, ']');

    if (is_address(AF_INET, text) || is_address(AF_INET6, text))
        return NULL;
    if (*text == '[' && end && is_address(AF_INET6, apr_pstrmemdup(p, text + 1,
                                                                   (apr_size_t)(end - text - 1))))
        return end[1] == '\0' || (end[1] == ':' && is_port(end + 2)) ? NULL : "no valid port";
    if (colon && is_address(AF_INET, apr_pstrmemdup(p, text, (apr_size_t)(colon - text))))
        return is_port(colon + 1) ? NULL : "no valid port";
    return "no address, with or without :port";
}

#ifndef MD_HAVE_CARES

const char *md_dns_library(void)
{
    return NULL;
}

apr_status_t md_dns_create(md_dns_t **pdns, const md_dns_route_t *route, md_err_t *err,
                           apr_pool_t *p)
{
    (void)route;
    (void)p;
    *pdns = NULL;
    return md_fail(err, APR_ENOTIMPL, "this build cannot ask the DNS, as it was made without "
                   "c-ares");
}

static const md_dns_answer_t NO_ANSWER = { .state = MD_DNS_FAILED, .why = "nobody can ask" };

const md_dns_answer_t *md_dns_ask(md_dns_t *dns, const char *name, md_dns_type_t type)
{
    (void)dns;
    (void)name;
    (void)type;
    return &NO_ANSWER;
}

const md_dns_answer_t *md_dns_ask_at(md_dns_t *dns, const char *address, const char *name,
                                     md_dns_type_t type)
{
    (void)address;
    return md_dns_ask(dns, name, type);
}

int md_dns_poll(md_dns_t *dns, apr_interval_time_t *pwait)
{
    (void)dns;
    (void)pwait;
    return 0;
}

void md_dns_parse(md_dns_answer_t *answer, const unsigned char *message, apr_size_t len,
                  apr_pool_t *p)
{
    (void)message;
    (void)len;
    answer->records = apr_array_make(p, 1, sizeof(md_dns_record_t));
    answer->state = MD_DNS_FAILED;
    answer->why = NO_ANSWER.why;
}

#else

#include <ctype.h>
#include <poll.h>

/* What later versions have in place of some functions, Debian 12's does not have. */
#define CARES_NO_DEPRECATED
#include <ares.h>

#include "md_clock.h"

#define TRY_TIME     1500                      /* milliseconds, of the first try; */
#define TRIES        2                         /* the next one takes twice as long */
#define UDP_SIZE     1232                      /* passes everywhere in one piece */
#define MOST_AT_WORK 64                        /* questions at the same time */
#define TICK_LEAST   apr_time_from_msec(2)
#define TICK_MOST    apr_time_from_msec(100)
#define MOST_SOCKETS 16                        /* of a channel that are looked at, in turn */
#define CLASS_IN     1
#define HEADER_SIZE  12

/* The resolvers, or one other server. */
typedef struct channel_t {
    md_dns_t *dns;
    ares_channel ares;
    apr_array_header_t *sockets; /* struct pollfd */
} channel_t;

typedef struct question_t {
    md_dns_answer_t answer;      /* first: that is what others know of it */
    md_dns_t *dns;
    channel_t *channel;          /* NULL: it could not be made */
} question_t;

struct md_dns_t {
    apr_pool_t *p;
    md_dns_route_t route;
    apr_hash_t *channels;        /* by address; "": the resolvers */
    apr_hash_t *asked;           /* question_t by type and name: those for resolvers */
    apr_array_header_t *list;    /* question_t *, in the order they were asked; */
    int started, at_work;        /* how many of these */
    apr_size_t kept;             /* bytes of answers */
    apr_time_t moved_at;         /* steady: when the last one was answered or begun */
};

const char *md_dns_library(void)
{
    return "c-ares";
}

/* ---- messages (RFC 1035 4.1) ---- */

/* What is left to be read. */
typedef struct reader_t {
    const unsigned char *message;
    apr_size_t len, at;
    apr_pool_t *p;
} reader_t;

typedef struct resource_t {
    const char *owner;           /* NULL: no name that anybody uses */
    unsigned type, class;
    apr_size_t data, len;        /* where its data is */
} resource_t;

static unsigned number_at(const reader_t *r, apr_size_t at)
{
    return (unsigned)r->message[at] << 8 | r->message[at + 1];
}

/* As hosts and records are named; what c-ares escapes is none. */
static const char *proper_name(const char *text, apr_pool_t *p)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-_.*";
    char *name, *c;

    if (strlen(text) > 255 || text[strspn(text, LETTERS)])
        return NULL;
    name = apr_pstrdup(p, text);
    for (c = name; *c; ++c)
        *c = (char)tolower((unsigned char)*c);
    return name;
}

/* Returns where it ends, 0: it is none. */
static apr_size_t read_name(const char **pname, const reader_t *r, apr_size_t at)
{
    char *text;
    long size;

    *pname = NULL;
    if (at >= r->len
        || ares_expand_name(r->message + at, r->message, (int)r->len, &text, &size)
               != ARES_SUCCESS)
        return 0;
    *pname = proper_name(text, r->p);
    ares_free_string(text);
    return size > 0 && (apr_size_t)size <= r->len - at ? at + (apr_size_t)size : 0;
}

/* The next record; 0: there is none, or it is damaged. */
static int read_resource(resource_t *resource, reader_t *r)
{
    apr_size_t at = read_name(&resource->owner, r, r->at);

    if (!at || r->len - at < 10)
        return 0;
    resource->type = number_at(r, at);
    resource->class = number_at(r, at + 2);
    resource->len = number_at(r, at + 8);
    resource->data = at + 10;
    if (resource->len > r->len - resource->data)
        return 0;
    r->at = resource->data + resource->len;
    return 1;
}

/* Bytes as text; NULL if they are none. */
static const char *text_of(const void *bytes, apr_size_t len, apr_pool_t *p)
{
    return memchr(bytes, '\0', len) ? NULL : apr_pstrmemdup(p, bytes, len);
}

static const char *read_address(const reader_t *r, const resource_t *resource, int family)
{
    apr_size_t size = family == AF_INET ? 4 : 16;
    char text[INET6_ADDRSTRLEN];

    if (resource->len != size
        || !inet_ntop(family, r->message + resource->data, text, sizeof(text)))
        return NULL;
    return apr_pstrdup(r->p, text);
}

/* RFC 1035 3.3.14: strings, which for all who use them are one (RFC 7208 3.3). */
static const char *read_txt(const reader_t *r, const resource_t *resource)
{
    const unsigned char *from = r->message + resource->data;
    char *text = apr_palloc(r->p, resource->len + 1);
    apr_size_t at = 0, len = 0, size;

    while (at < resource->len) {
        size = from[at++];
        if (size > resource->len - at)
            return NULL;
        memcpy(text + len, from + at, size);
        at += size;
        len += size;
    }
    return text_of(text, len, r->p);
}

/* RFC 8659 4.1: flags, tag and value. */
static const char *read_caa(md_dns_record_t *record, const reader_t *r,
                            const resource_t *resource)
{
    const unsigned char *from = r->message + resource->data;
    apr_size_t size = resource->len >= 2 ? from[1] : 0;
    const char *tag;

    if (size == 0 || size > resource->len - 2)
        return NULL;
    tag = text_of(from + 2, size, r->p);
    record->tag = tag ? proper_name(tag, r->p) : NULL;
    record->is_critical = (from[0] & 0x80) != 0;
    return record->tag ? text_of(from + 2 + size, resource->len - 2 - size, r->p) : NULL;
}

/* 0: it is not what it has to be. */
static int read_record(md_dns_record_t *record, const reader_t *r, const resource_t *resource)
{
    *record = (md_dns_record_t){ .value = NULL };
    switch (resource->type) {
    case MD_DNS_A:
        record->value = read_address(r, resource, AF_INET);
        break;
    case MD_DNS_AAAA:
        record->value = read_address(r, resource, AF_INET6);
        break;
    case MD_DNS_NS:
    case MD_DNS_CNAME:
        (void)read_name(&record->value, r, resource->data);
        break;
    case MD_DNS_TXT:
        record->value = read_txt(r, resource);
        break;
    case MD_DNS_CAA:
        record->value = read_caa(record, r, resource);
        break;
    default:
        break;
    }
    return record->value != NULL;
}

/* Past the header and what was asked. */
static int begin_reading(reader_t *r)
{
    unsigned questions;
    const char *name;

    if (r->len < HEADER_SIZE || r->len > MD_MAX_DNS_MESSAGE)
        return 0;
    r->at = HEADER_SIZE;
    for (questions = number_at(r, 4); questions > 0; --questions) {
        r->at = read_name(&name, r, r->at);
        if (!r->at || r->len - r->at < 4)
            return 0;
        r->at += 4;
    }
    return 1;
}

static int has_all_answers(reader_t r)
{
    unsigned count = number_at(&r, 6);
    resource_t resource;

    while (count > 0 && read_resource(&resource, &r))
        --count;
    return count == 0;
}

/* One pass over the answers for records of `name`. Returns where an alias of it leads. */
static const char *collect(md_dns_answer_t *answer, const char *name, reader_t r)
{
    unsigned count = number_at(&r, 6);
    const char *alias = NULL;
    md_dns_record_t record;
    resource_t resource;

    for (; count > 0 && read_resource(&resource, &r); --count) {
        if (resource.class != CLASS_IN || !resource.owner || strcmp(resource.owner, name))
            continue;
        if (resource.type == (unsigned)answer->type
            && answer->records->nelts < MD_MAX_DNS_RECORDS
            && read_record(&record, &r, &resource))
            APR_ARRAY_PUSH(answer->records, md_dns_record_t) = record;
        else if (resource.type == MD_DNS_CNAME && read_record(&record, &r, &resource))
            alias = record.value;
    }
    return alias;
}

/* Aliases may come in any order, and in circles. */
static void read_answers(md_dns_answer_t *answer, const reader_t *r)
{
    const char *name = answer->name;
    int hops;

    for (hops = 0; name && hops <= MD_MAX_DNS_ALIASES; ++hops) {
        if (hops > 0)
            answer->alias = name;
        name = collect(answer, name, *r);
        if (answer->records->nelts > 0)
            return;
    }
}

static const char *word_of(unsigned rcode)
{
    static const char *const WORDS[] = { NULL, "FORMERR", "SERVFAIL", NULL, "NOTIMP", "REFUSED" };

    return rcode < sizeof(WORDS) / sizeof(WORDS[0]) && WORDS[rcode] ? WORDS[rcode] : "an error";
}

void md_dns_parse(md_dns_answer_t *answer, const unsigned char *message, apr_size_t len,
                  apr_pool_t *p)
{
    reader_t r = { .message = message, .len = len, .p = p };
    unsigned rcode;

    answer->records = apr_array_make(p, 2, sizeof(md_dns_record_t));
    answer->alias = NULL;
    answer->state = MD_DNS_FAILED;
    answer->why = "the answer is damaged or too large";
    if (!begin_reading(&r) || !has_all_answers(r))
        return;
    rcode = message[3] & 0x0f;
    answer->is_authoritative = (message[2] & 0x04) != 0;
    if (rcode != 0 && rcode != 3) {
        answer->why = apr_pstrcat(p, "the answer is ", word_of(rcode), NULL);
        return;
    }
    answer->why = NULL;
    read_answers(answer, &r);
    answer->state = answer->records->nelts > 0 ? MD_DNS_FOUND
                    : rcode == 3 ? MD_DNS_NO_NAME : MD_DNS_EMPTY;
}

/* ---- channels ---- */

static apr_status_t close_channels(void *baton)
{
    md_dns_t *dns = baton;
    apr_hash_index_t *hi;
    channel_t *channel;

    for (hi = apr_hash_first(NULL, dns->channels); hi; hi = apr_hash_next(hi)) {
        channel = apr_hash_this_val(hi);
        if (channel->ares)
            ares_destroy(channel->ares);
    }
    return APR_SUCCESS;
}

/* c-ares tells what it waits for. */
static void on_socket(void *baton, ares_socket_t fd, int readable, int writable)
{
    channel_t *channel = baton;
    apr_array_header_t *sockets = channel->sockets;
    struct pollfd *socket = NULL;
    int i;

    for (i = 0; i < sockets->nelts && !socket; ++i)
        if (APR_ARRAY_IDX(sockets, i, struct pollfd).fd == fd)
            socket = &APR_ARRAY_IDX(sockets, i, struct pollfd);
    if (!readable && !writable) {
        if (socket)
            *socket = *(struct pollfd *)apr_array_pop(sockets);
        return;
    }
    if (!socket)
        socket = apr_array_push(sockets);
    *socket = (struct pollfd){ .fd = fd };
    socket->events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
}

static const char *servers_of(const md_dns_t *dns, const char *address)
{
    if (!*address)
        return dns->route.resolvers ? apr_array_pstrcat(dns->p, dns->route.resolvers, ',') : NULL;
    return apr_psprintf(dns->p, strchr(address, ':') ? "[%s]:%d" : "%s:%d", address,
                        dns->route.port ? dns->route.port : 53);
}

static void open_channel(channel_t *channel, const char *address)
{
    struct ares_options options = { .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_EDNS,
                                    .timeout = TRY_TIME, .tries = TRIES, .ednspsz = UDP_SIZE,
                                    .sock_state_cb = on_socket, .sock_state_cb_data = channel };
    const char *servers = servers_of(channel->dns, address);
    int set = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ
              | ARES_OPT_SOCK_STATE_CB;

#ifdef ARES_OPT_QUERY_CACHE
    set |= ARES_OPT_QUERY_CACHE; /* who asks again wants to know anew */
    options.qcache_max_ttl = 0;
#endif
    if (*address)
        options.flags |= ARES_FLAG_NORECURSE | ARES_FLAG_NOCHECKRESP; /* there is no other one */
    if (ares_init_options(&channel->ares, &options, set) != ARES_SUCCESS) {
        channel->ares = NULL;
        return;
    }
    if (!servers || ares_set_servers_ports_csv(channel->ares, servers) == ARES_SUCCESS)
        return;
    ares_destroy(channel->ares);
    channel->ares = NULL;
}

/* NULL: there is no memory for one, or too many. */
static channel_t *channel_to(md_dns_t *dns, const char *address)
{
    channel_t *channel = apr_hash_get(dns->channels, address, APR_HASH_KEY_STRING);

    if (!channel && apr_hash_count(dns->channels) <= MD_MAX_DNS_SERVERS) {
        channel = apr_pcalloc(dns->p, sizeof(*channel));
        channel->dns = dns;
        channel->sockets = apr_array_make(dns->p, 4, sizeof(struct pollfd));
        apr_hash_set(dns->channels, apr_pstrdup(dns->p, address), APR_HASH_KEY_STRING, channel);
        open_channel(channel, address);
    }
    return channel && channel->ares ? channel : NULL;
}

apr_status_t md_dns_create(md_dns_t **pdns, const md_dns_route_t *route, md_err_t *err,
                           apr_pool_t *p)
{
    md_dns_t *dns = apr_pcalloc(p, sizeof(*dns));

    *pdns = NULL;
    dns->p = p;
    dns->route = *route;
    dns->channels = apr_hash_make(p);
    dns->asked = apr_hash_make(p);
    dns->list = apr_array_make(p, 20, sizeof(question_t *));
    apr_pool_pre_cleanup_register(p, dns, close_channels);
    if (!channel_to(dns, ""))
        return md_fail(err, APR_ENOMEM, "the DNS cannot be asked for lack of memory, or as "
                       "/etc/resolv.conf or MDDnsResolver is of no use");
    *pdns = dns;
    return APR_SUCCESS;
}

/* ---- questions ---- */

/* In place of an answer; c-ares keeps those that say no more than that to itself. */
static const char *failure_of(int status)
{
    switch (status) {
    case ARES_ETIMEOUT:
        return "there was no answer";
    case ARES_ECONNREFUSED:
        return "no server can be reached, or what it answers is SERVFAIL or REFUSED";
    case ARES_ESERVFAIL:
        return "the answer is SERVFAIL";
    case ARES_EREFUSED:
        return "the answer is REFUSED";
    default:
        return ares_strerror(status);
    }
}

static void on_answer(void *baton, int status, int timeouts, unsigned char *message, int len)
{
    question_t *question = baton;
    md_dns_answer_t *answer = &question->answer;
    md_dns_t *dns = question->dns;

    (void)timeouts;
    --dns->at_work;
    dns->moved_at = md_clock_steady();
    if (message && len > 0 && dns->kept < MD_MAX_DNS_KEPT) {
        dns->kept += (apr_size_t)len;
        md_dns_parse(answer, message, (apr_size_t)len, dns->p);
        return;
    }
    answer->state = MD_DNS_FAILED;
    answer->why = message ? "there were too many answers" : failure_of(status);
}

static question_t *add(md_dns_t *dns, const char *address, const char *name, md_dns_type_t type)
{
    question_t *question = apr_pcalloc(dns->p, sizeof(*question));
    md_dns_answer_t *answer = &question->answer;

    question->dns = dns;
    answer->name = proper_name(name, dns->p);
    answer->type = type;
    answer->records = apr_array_make(dns->p, 1, sizeof(md_dns_record_t));
    question->channel = channel_to(dns, address);
    if (!question->channel || !answer->name || dns->list->nelts >= MD_MAX_DNS_QUESTIONS) {
        answer->state = MD_DNS_FAILED;
        answer->why = answer->name ? "there are too many questions, or too little memory"
                                   : "this is not a name";
        answer->name = "";
        return question;
    }
    APR_ARRAY_PUSH(dns->list, question_t *) = question;
    return question;
}

const md_dns_answer_t *md_dns_ask(md_dns_t *dns, const char *name, md_dns_type_t type)
{
    const char *key = apr_psprintf(dns->p, "%d %s", type, name);
    question_t *question = apr_hash_get(dns->asked, key, APR_HASH_KEY_STRING);

    if (!question) {
        question = add(dns, "", name, type);
        apr_hash_set(dns->asked, key, APR_HASH_KEY_STRING, question);
    }
    return &question->answer;
}

const md_dns_answer_t *md_dns_ask_at(md_dns_t *dns, const char *address, const char *name,
                                     md_dns_type_t type)
{
    return &add(dns, address, name, type)->answer;
}

/* c-ares may answer before it returns. */
static void start_some(md_dns_t *dns)
{
    question_t *question;

    while (dns->started < dns->list->nelts && dns->at_work < MOST_AT_WORK) {
        question = APR_ARRAY_IDX(dns->list, dns->started++, question_t *);
        ++dns->at_work;
        dns->moved_at = md_clock_steady();
        ares_query(question->channel->ares, question->answer.name, CLASS_IN,
                   (int)question->answer.type, on_answer, question);
    }
}

/* What arrived, and what nobody waits for any longer. The sockets change meanwhile. */
static void look_after(channel_t *channel)
{
    struct pollfd ready[MOST_SOCKETS];
    int count = channel->sockets->nelts < MOST_SOCKETS ? channel->sockets->nelts : MOST_SOCKETS;
    int i;

    memcpy(ready, channel->sockets->elts, sizeof(ready[0]) * (size_t)count);
    if (count > 0 && poll(ready, (nfds_t)count, 0) > 0)
        for (i = 0; i < count; ++i)
            if (ready[i].revents)
                ares_process_fd(channel->ares,
                                ready[i].revents & ~POLLOUT ? ready[i].fd : ARES_SOCKET_BAD,
                                ready[i].revents & POLLOUT ? ready[i].fd : ARES_SOCKET_BAD);
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

/* Often at first, as most answers come soon. */
static apr_interval_time_t next_look(const md_dns_t *dns)
{
    apr_interval_time_t wait = (md_clock_steady() - dns->moved_at) / 4;

    return wait < TICK_LEAST ? TICK_LEAST : wait > TICK_MOST ? TICK_MOST : wait;
}

int md_dns_poll(md_dns_t *dns, apr_interval_time_t *pwait)
{
    apr_hash_index_t *hi;
    channel_t *channel;

    for (hi = apr_hash_first(NULL, dns->channels); hi && dns->at_work; hi = apr_hash_next(hi)) {
        channel = apr_hash_this_val(hi);
        if (channel->ares)
            look_after(channel);
    }
    start_some(dns);
    if (dns->at_work)
        *pwait = next_look(dns);
    return dns->at_work > 0;
}

#endif
