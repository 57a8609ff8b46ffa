/* SPDX-License-Identifier: Apache-2.0 */
/* How far it is with each authorization of an order. */
#include "md_acme_proof.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_text.h"

#define LOOK_MOST 10 /* authorizations at a time */

/* One authorization, and what was chosen to prove it. */
typedef struct proof_t {
    const char *url;                 /* of the authorization; what the CA lists later may differ */
    const md_authz_t *authz;         /* NULL: not looked at in this run */
    const md_challenge_t *challenge; /* set up; NULL: not yet, or there is nothing to prove */
    const char *setup;               /* see md_solver_setup */
    int is_complete;                 /* and there for all to see; */
    int is_announced;                /* and nobody objected */
    int is_answered;                 /* the CA was told to look */
    int is_told_again;               /* once more, as it found nothing at first (8.2) */
} proof_t;

md_proofs_t *md_proofs_make(const md_proofs_t *conf, const apr_array_header_t *urls)
{
    proof_t proof = { .url = NULL };
    md_proofs_t *proofs;
    apr_pool_t *own;
    int i;

    apr_pool_create(&own, conf->p);
    proofs = apr_pmemdup(own, conf, sizeof(*conf));
    proofs->own = own;
    proofs->list = apr_array_make(own, urls->nelts + 1, sizeof(proof_t));
    for (i = 0; i < urls->nelts; ++i) {
        proof.url = apr_pstrdup(own, APR_ARRAY_IDX(urls, i, const char *));
        APR_ARRAY_PUSH(proofs->list, proof_t) = proof;
    }
    return proofs;
}

void md_proofs_destroy(md_proofs_t *proofs)
{
    apr_pool_destroy(proofs->own);
}

static int is_pending(const proof_t *proof)
{
    return proof->authz && proof->authz->status == MD_AUTHZ_PENDING;
}

/* The identifier of the order that the authorization is for, as we wrote it. */
static const md_identifier_t *identifier_of(const md_proofs_t *proofs, const md_authz_t *authz)
{
    const md_identifier_t *wanted;
    int i;

    for (i = 0; i < proofs->identifiers->nelts; ++i) {
        wanted = &APR_ARRAY_IDX(proofs->identifiers, i, md_identifier_t);
        if (wanted->type == authz->identifier.type
            && !strcasecmp(md_dns_name_is_wildcard(wanted->value) ? wanted->value + 2
                                                                  : wanted->value,
                           authz->identifier.value))
            return wanted;
    }
    return NULL;
}

/* Look at the authorization: one that is for something else is not touched, whatever the CA wants
 * with it. */
static apr_status_t look(md_authz_t **pauthz, const md_proofs_t *proofs, const char *url,
                         md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_authz_fetch(pauthz, proofs->acme, md_acct_signer(proofs->acct), url, err, p);
    if (rv == APR_SUCCESS && !identifier_of(proofs, *pauthz))
        rv = md_fail(err, APR_EINVAL, "the CA asks for proof of control over '%s', which was "
                     "not ordered", (*pauthz)->identifier.value);
    return rv;
}

/* ---- the passes: each takes one proof a step further ---- */

static int is_unseen(const proof_t *proof)
{
    return !proof->authz;
}

static apr_status_t see_authz(md_proofs_t *proofs, proof_t *proof, md_err_t *err, apr_pool_t *tmp)
{
    md_authz_t *authz;
    apr_status_t rv;

    (void)tmp;
    proofs->activity = "Starting challenges for domains";
    rv = look(&authz, proofs, proof->url, err, proofs->own);
    if (rv == APR_SUCCESS)
        rv = md_authz_check(authz, NULL, err, proofs->own);
    if (rv == APR_SUCCESS)
        proof->authz = authz;
    return rv;
}

static int is_unset(const proof_t *proof)
{
    return is_pending(proof) && !proof->challenge;
}

static apr_status_t set_up(md_proofs_t *proofs, proof_t *proof, md_err_t *err, apr_pool_t *tmp)
{
    apr_status_t rv;

    proofs->activity = apr_psprintf(proofs->p, "Setting up challenge for domain %s",
                                    proof->authz->shown_name);
    rv = md_solver_setup(&proof->challenge, &proofs->setup, proof->authz,
                         proofs->acct->thumbprint, proofs->solver, err, tmp);
    if (rv == APR_SUCCESS)
        proof->setup = apr_pstrdup(proofs->own, proofs->setup);
    else
        proof->challenge = NULL;
    return rv;
}

/* Whoever objects to a type leaves the others. */
static void object(const md_proofs_t *proofs, proof_t *proof, md_err_t *err)
{
    md_authz_object(proof->authz, proof->challenge->type, apr_pstrdup(proofs->own, err->detail));
    proof->challenge = NULL;
    md_err_clear(err);
}

static int is_incomplete(const proof_t *proof)
{
    return is_pending(proof) && !proof->is_complete;
}

static apr_status_t complete(md_proofs_t *proofs, proof_t *proof, md_err_t *err, apr_pool_t *tmp)
{
    apr_status_t rv;

    rv = md_solver_complete(proofs->solver, proof->setup, &proofs->wait, err, tmp);
    if (APR_STATUS_IS_EAGAIN(rv))
        proofs->activity = "Setting up TXT records and looking for them in the DNS";
    proof->is_complete = rv == APR_SUCCESS;
    if (rv == APR_SUCCESS || APR_STATUS_IS_EAGAIN(rv) || APR_STATUS_IS_EINTR(rv))
        return rv;
    object(proofs, proof, err);
    return APR_SUCCESS;
}

static int is_unannounced(const proof_t *proof)
{
    return is_pending(proof) && !proof->is_announced;
}

static apr_status_t announce(md_proofs_t *proofs, proof_t *proof, md_err_t *err, apr_pool_t *tmp)
{
    const md_solver_conf_t *solver = proofs->solver;
    apr_status_t rv = APR_SUCCESS;

    (void)tmp;
    if (solver->announce)
        rv = solver->announce(solver->baton, proof->setup, &proofs->wait, err);
    proof->is_announced = rv == APR_SUCCESS;
    if (rv == APR_SUCCESS || proofs->wait > 0 || APR_STATUS_IS_EINTR(rv))
        return rv;
    proof->is_complete = 0;
    object(proofs, proof, err);
    return APR_SUCCESS;
}

static int is_unanswered(const proof_t *proof)
{
    return is_pending(proof) && !proof->is_answered;
}

static apr_status_t tell(md_proofs_t *proofs, proof_t *proof, md_err_t *err, apr_pool_t *tmp)
{
    apr_status_t rv;

    rv = md_challenge_answer(proofs->acme, md_acct_signer(proofs->acct), proof->authz,
                             proof->challenge, err, tmp);
    if (APR_STATUS_IS_EINVAL(rv))
        proofs->failed_type = apr_pstrdup(proofs->p, proof->challenge->type);
    return rv;
}

static apr_status_t answer_challenge(md_proofs_t *proofs, proof_t *proof, md_err_t *err,
                                     apr_pool_t *tmp)
{
    apr_status_t rv = APR_SUCCESS;

    proofs->activity = "Starting challenges for domains";
    if (md_text_same(proof->challenge->status, "pending") || !proof->challenge->status)
        rv = tell(proofs, proof, err, tmp); /* else an earlier run did */
    proof->is_answered = rv == APR_SUCCESS;
    return rv;
}

enum { PASS_SEE, PASS_SET_UP, PASS_COMPLETE, PASS_ANNOUNCE, PASS_ANSWER, PASS_COUNT };

static const struct {
    int (*is_open)(const proof_t *proof);
    apr_status_t (*take)(md_proofs_t *proofs, proof_t *proof, md_err_t *err, apr_pool_t *tmp);
} PASSES[PASS_COUNT] = {
    [PASS_SEE]      = { is_unseen, see_authz },
    [PASS_SET_UP]   = { is_unset, set_up },
    [PASS_COMPLETE] = { is_incomplete, complete },
    [PASS_ANNOUNCE] = { is_unannounced, announce },
    [PASS_ANSWER]   = { is_unanswered, answer_challenge },
};

static proof_t *proof_at(const md_proofs_t *proofs, int i)
{
    return &APR_ARRAY_IDX(proofs->list, i, proof_t);
}

/* The next proof of the earliest pass that is not over; NULL: all are. */
static proof_t *next_open(const md_proofs_t *proofs, int *ppass)
{
    int i;

    for (*ppass = 0; *ppass < PASS_COUNT; ++*ppass)
        for (i = 0; i < proofs->list->nelts; ++i)
            if (PASSES[*ppass].is_open(proof_at(proofs, i)))
                return proof_at(proofs, i);
    return NULL;
}

int md_proofs_are_set_up(const md_proofs_t *proofs)
{
    int pass;

    (void)next_open(proofs, &pass);
    return pass >= PASS_COMPLETE;
}

int md_proofs_step(apr_status_t *prv, md_proofs_t *proofs, md_err_t *err, apr_pool_t *tmp)
{
    proof_t *proof;
    int pass;

    proofs->setup = NULL;
    proofs->wait = 0;
    proof = next_open(proofs, &pass);
    if (proof)
        *prv = PASSES[pass].take(proofs, proof, err, tmp);
    return proof != NULL;
}

/* ---- while the CA validates ---- */

static apr_status_t look_again(md_proofs_t *proofs, proof_t *proof, md_err_t *err, apr_pool_t *tmp)
{
    const md_challenge_t *challenge;
    md_authz_t *authz;
    apr_status_t rv;

    if (!proof->challenge)
        return APR_SUCCESS;
    rv = look(&authz, proofs, proof->url, err, tmp);
    if (rv == APR_SUCCESS)
        rv = md_authz_check(authz, proof->challenge->type, err, tmp);
    if (APR_STATUS_IS_EINVAL(rv))
        proofs->failed_type = apr_pstrdup(proofs->p, proof->challenge->type);
    challenge = rv == APR_SUCCESS ? md_authz_challenge(authz, proof->challenge->type) : NULL;
    if (!challenge || authz->status == MD_AUTHZ_VALID || !challenge->error
        || !md_text_same(challenge->status, "pending"))
        return rv;
    proofs->complaint = md_json_text(challenge->error, 1, proofs->own);
    if (proof->is_told_again++)
        return APR_SUCCESS;
    return tell(proofs, proof, err, tmp);
}

void md_proofs_watch(md_proofs_t *proofs)
{
    proofs->to_look_at = proofs->list->nelts < LOOK_MOST ? proofs->list->nelts : LOOK_MOST;
}

int md_proofs_look(apr_status_t *prv, md_proofs_t *proofs, md_err_t *err, apr_pool_t *tmp)
{
    if (proofs->to_look_at == 0)
        return 0;
    --proofs->to_look_at;
    *prv = look_again(proofs, proof_at(proofs, proofs->next_look++ % proofs->list->nelts), err,
                      tmp);
    return 1;
}

void md_proofs_complain(const md_proofs_t *proofs, md_err_t *err, apr_pool_t *tmp)
{
    const char *complaint = proofs->complaint, *text;
    md_json_t *problem;

    if (!complaint
        || md_json_parse(&problem, complaint, strlen(complaint), NULL, tmp) != APR_SUCCESS)
        return;
    text = apr_pstrcat(tmp, err->detail, ". The CA said about it: ", NULL);
    (void)md_problem_fail(err, problem, text);
}

void md_proofs_explain(md_proofs_t *proofs, const apr_array_header_t *urls, md_err_t *err,
                       apr_pool_t *tmp)
{
    md_authz_t *authz;
    int i;

    for (i = 0; i < urls->nelts; ++i) {
        if (look(&authz, proofs, APR_ARRAY_IDX(urls, i, const char *), err, tmp) != APR_SUCCESS)
            return;
        if (md_authz_check(authz, NULL, err, tmp) != APR_SUCCESS) {
            proofs->failed_type = apr_pstrdup(proofs->p, md_authz_failed_type(authz));
            return;
        }
    }
    md_fail(err, APR_EINVAL, "the CA made the order invalid without giving a reason");
}
