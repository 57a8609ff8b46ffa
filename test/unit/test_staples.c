/* SPDX-License-Identifier: Apache-2.0 */
/* The memory with the responses that processes and threads share. Also run under TSan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "responder.h"

#include "../../md_clock.h"
#include "../../md_staples.h"

#define READERS 3
#define ROUNDS  20000

static apr_pool_t *p, *process;
static md_err_t err;
static md_staples_t *staples;
static int is_over;

static const char *pem_of(md_cert_t *cert)
{
    apr_array_header_t *chain = apr_array_make(p, 2, sizeof(md_cert_t *));

    APR_ARRAY_PUSH(chain, md_cert_t *) = cert;
    APR_ARRAY_PUSH(chain, md_cert_t *) = responder.ca_cert;
    return md_chain_to_pem(chain, p);
}

static md_staples_t *make_staples(void)
{
    md_staples_t *made = md_staples_make(p);

    assert_int_equal(md_staples_add(made, "one", 3, pem_of(responder.leaf_cert), NULL, &err),
                     APR_SUCCESS);
    assert_int_equal(md_staples_share(made, process, &err), APR_SUCCESS);
    return made;
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    apr_pool_create(&process, NULL);
    md_err_init(&err, p);
    responder_make(md_clock_now(), p);
    staples = make_staples();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    responder_end();
    apr_pool_destroy(p);
    apr_pool_destroy(process);
    return 0;
}

static const md_stapled_t *the_one(const md_staples_t *of)
{
    return md_staples_at(of, 0);
}

/* All bytes of it, and its length, tell the number. */
static void fill(md_staple_t *staple, int number)
{
    memset(staple, 0, sizeof(*staple));
    staple->len = 1000 + number % 5000;
    staple->from = staple->until = staple->ends_at = staple->steady_ends_at = number;
    memset(staple->der, number % 256, (size_t)staple->len);
}

static int is_whole(const md_staple_t *staple)
{
    const unsigned char *der = MD_STAPLE_DER(staple);
    int number = (int)staple->from;
    apr_int64_t i;

    if (staple->ends_at != number || staple->len != 1000 + number % 5000)
        return 0;
    for (i = 0; i < staple->len; ++i)
        if (der[i] != (unsigned char)(number % 256))
            return 0;
    return 1;
}

static void put(int number)
{
    md_staple_t staple;

    fill(&staple, number);
    md_staples_put(staples, the_one(staples), &staple);
}

/* Returns how many were torn. */
static void *read_on(void *baton)
{
    intptr_t torn = 0;
    md_staple_t staple;

    (void)baton;
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
        torn += md_staples_get(&staple, staples, the_one(staples)) && !is_whole(&staple);
    return (void *)torn;
}

static void readers_see_whole_responses(void **state)
{
    pthread_t threads[READERS];
    void *torn;
    int i;

    (void)state;
    is_over = 0;
    for (i = 0; i < READERS; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, NULL), 0);
    for (i = 1; i <= ROUNDS; ++i)
        put(i);
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (i = 0; i < READERS; ++i) {
        pthread_join(threads[i], &torn);
        assert_null(torn);
    }
}

static void ids(void **state)
{
    const md_stapled_t *found;
    const char *alone = md_chain_to_pem(&(apr_array_header_t){ p, sizeof(md_cert_t *), 1, 1,
                                                               (char *)&responder.leaf_cert }, p);

    (void)state;
    assert_true(md_staples_knows(&found, staples, "one", 3));
    assert_ptr_equal(found, the_one(staples));
    assert_ptr_equal(found, md_staples_of(staples, MD_STAPLES_OTHER));
    assert_false(md_staples_knows(&found, staples, "on", 2));
    assert_null(found);
    assert_int_equal(md_staples_add(staples, "two", 3, alone, NULL, &err), APR_EOF);
    assert_int_equal(md_staples_add(staples, "3", 1, "no PEM", NULL, &err), APR_EOF);
    assert_int_equal(md_staples_add(staples, "4", 1, pem_of(responder.ca_cert), NULL, &err),
                     APR_ENOENT);
    assert_non_null(strstr(err.detail, "has no OCSP responder URL"));
    assert_true(md_staples_knows(&found, staples, "4", 1)); /* and is not looked at again */
    assert_null(found);
    assert_int_equal(md_staples_count(staples), 1);
}

static void a_child_sees_what_another_one_got(void **state)
{
    md_staple_t staple;
    int status;
    pid_t pid;

    (void)state;
    assert_false(md_staples_get(&staple, staples, the_one(staples)));
    pid = fork();
    if (pid == 0) {
        put(7);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(md_staples_get(&staple, staples, the_one(staples)));
    assert_true(is_whole(&staple));
    assert_int_equal(staple.from, 7);
    md_staples_put(staples, the_one(staples), NULL);
    assert_false(md_staples_get(&staple, staples, the_one(staples)));
}

static void a_reload_keeps_what_is_there(void **state)
{
    const md_staple_plan_t failed = { 12345, 3 };
    md_staple_plan_t plan;
    md_staples_t *reloaded;
    md_staple_t staple;

    (void)state;
    put(9);
    md_staples_set_plan(staples, the_one(staples), &failed);
    reloaded = make_staples();
    assert_true(md_staples_get(&staple, reloaded, the_one(reloaded)));
    assert_int_equal(staple.from, 9);
    plan = md_staples_plan(reloaded, the_one(reloaded));
    assert_int_equal(plan.errors, 3);
    assert_int_equal(plan.due_at, 12345);
    assert_false(md_staples_is_ready(reloaded, the_one(reloaded)));
    assert_ptr_equal(md_staples_claim(reloaded), the_one(reloaded));
    assert_null(md_staples_claim(reloaded));
}

static void when_a_response_may_be_stapled(void **state)
{
    md_ocsp_answer_t answer = { .this_update = 1000, .next_update = 5000, .ends_at = 4000 };
    md_staple_t staple;

    (void)state;
    md_staple_fill(&staple, &answer, (const unsigned char *)"x", 1, 2000, 700);
    assert_int_equal(staple.until, 5000);
    assert_true(md_staple_is_usable(&staple, 3999, 2699));
    assert_false(md_staple_is_usable(&staple, 4000, 2699));
    assert_false(md_staple_is_usable(&staple, 10, 2700)); /* the date went back */
    assert_string_equal(md_staple_status(&staple), "good");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ids),
        TEST(a_child_sees_what_another_one_got),
        TEST(a_reload_keeps_what_is_there),
        TEST(when_a_response_may_be_stapled),
        TEST(readers_see_whole_responses),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
