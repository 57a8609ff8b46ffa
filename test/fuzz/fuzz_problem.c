/* SPDX-License-Identifier: Apache-2.0 */
/* Problem documents, and what is kept of them. */
#include "fuzz.h"

#include <string.h>

#include "../../md_acme.h"
#include "../../md_job.h"
#include "../../md_limits.h"
#include "../../md_text.h"

/* The record of the run can be read back, and says the same. */
static void check_kept(const md_err_t *err, apr_pool_t *p)
{
    md_job_t *job = md_job_make(MD_STORE_STAGING, "one.example.org", p);
    md_json_t *json, *again;
    const char *text;

    md_job_result(job, "Creating new order", err, p);
    md_job_log(job, apr_time_now(), "error", err->type, err->detail);
    json = md_job_to_json(job, 1, p);
    text = md_json_text(json, 0, p);
    holds(strlen(text) <= MD_MAX_FILE);
    holds(md_json_parse(&again, text, strlen(text), NULL, p) == APR_SUCCESS);
    holds(md_json_equal(json, again));
    holds(!err->subproblems || md_json_has(json, "last.subproblems"));
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    md_err_t err = fuzz_err(p), copy = fuzz_err(p);
    md_json_t *problem;
    apr_status_t rv;

    if (md_json_parse(&problem, data, len, NULL, p) != APR_SUCCESS)
        return;
    rv = md_problem_fail(&err, problem, "prefix: ");
    holds(rv != APR_SUCCESS && err.rv == rv && err.detail);
    holds(!strncmp(err.detail, "prefix: ", 8) && strlen(err.detail) <= MD_MAX_DETAIL + 5);
    holds(!err.type || strlen(err.type) <= MD_MAX_TEXT);
    holds(!err.subproblems || strlen(err.subproblems) <= MD_MAX_SUBPROBLEM_TEXT);
    (void)md_problem_is(&err, MD_PROBLEM_RATE_LIMITED);
    (void)md_problem_parts(&err, p);
    md_err_copy(&copy, &err);
    holds(md_text_same(copy.detail, err.detail) && copy.scope == err.scope);
    check_kept(&err, p);
}
