/* SPDX-License-Identifier: Apache-2.0 */
/* What reaches us from outside: ports, and whether TLS is spoken there. */
#include "mod_md.h"

#include <string.h>

#include <ap_listen.h>
#include <http_log.h>
#include <http_vhost.h>

APLOG_USE_MODULE(md);

static int is_http_on(const ap_listen_rec *lr, int port)
{
    return lr->bind_addr && lr->bind_addr->port == port
           && (!lr->protocol || !strncmp(lr->protocol, "http", 4));
}

int mod_md_has_listener(int port)
{
    const ap_listen_rec *lr;

    for (lr = ap_listeners; port > 0 && lr; lr = lr->next)
        if (is_http_on(lr, port))
            return 1;
    return 0;
}

void mod_md_reachability(md_reg_t *reg, server_rec *main_server)
{
    reg->http_reachable = mod_md_has_listener(reg->conf->port_http);
    reg->https_reachable = mod_md_has_listener(reg->conf->port_https);
    ap_log_error(APLOG_MARK, mod_md_progress_level(), 0, main_server, APLOGNO(10037)
                 "server seems%s reachable via http: (local port %d) and%s reachable via https: "
                 "(local port %d)", reg->http_reachable ? "" : " not", reg->conf->port_http,
                 reg->https_reachable ? "" : " not", reg->conf->port_https);
}

static int is_on_port(const server_addr_rec *addr, int port)
{
    return addr->host_port == 0 || addr->host_port == port;
}

int mod_md_has_address_on(const server_rec *s, int port)
{
    const server_addr_rec *addr;

    for (addr = s->addrs; addr; addr = addr->next)
        if (is_on_port(addr, port))
            return 1;
    return 0;
}

/* We ask httpd, which knows its rules. */
static void look(md_doors_t *doors, const apr_sockaddr_t *addr, int port, server_rec *main_server)
{
    apr_sockaddr_t at = *addr;
    conn_rec conn = { .local_addr = &at, .base_server = main_server };
    const server_rec **pdoor;

    at.port = (apr_port_t)port;
    ap_update_vhost_given_ip(&conn);
    pdoor = mod_md_server(conn.base_server)->is_ssl ? &doors->tls : &doors->plain;
    if (!*pdoor)
        *pdoor = conn.base_server;
}

void mod_md_find_doors(md_doors_t *doors, const server_rec *s, int port, server_rec *main_server)
{
    const server_addr_rec *addr;
    const ap_listen_rec *lr;

    if (ap_find_linked_module("mod_tls.c")) /* it goes by ports, not by servers */
        return;
    for (lr = ap_listeners; lr && !s->is_virtual; lr = lr->next)
        if (is_http_on(lr, port))
            look(doors, lr->bind_addr, port, main_server);
    for (addr = s->addrs; addr && s->is_virtual; addr = addr->next)
        if (!port || is_on_port(addr, port))
            look(doors, addr->host_addr, port ? port : addr->host_port, main_server);
}
