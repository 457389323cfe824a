/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How checks and thread caches are set: by the pool, else by the environment; what is
 * wrong is refused by name.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

#include <stdlib.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static int clear_environment(void **unused)
{
    (void)unused;
    unsetenv("MRPOOL_CHECKS");
    unsetenv("MRPOOL_THREAD_CACHE_SIZE");
    return 0;
}

static int setup(void **state)
{
    clear_environment(state);
    return pool_fixture_setup(state);
}

static int teardown(void **state)
{
    clear_environment(NULL);
    return pool_fixture_teardown(state);
}

static enum mrp_status create(
    struct pool_fixture *f, uint32_t checks, size_t thread_cache_size)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.checks = checks;
    params.thread_cache_size = thread_cache_size;
    return mrp_pool_create(f->context, &params, &f->pool);
}

static void destroy(struct pool_fixture *f)
{
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
}

static void checks__are_state_by_default(void **state)
{
    struct pool_fixture *f = *state;

    assert_int_equal(create(f, MRP_CHECKS_DEFAULT, 0), MRP_OK);
    assert_int_equal(f->pool->checks, MRP_CHECKS_STATE);
    assert_int_equal(f->pool->thread_cache_size, 0);
    assert_int_not_equal(f->pool->cache_slot, MRP_NO_SLOT);
}

static void checks__of_the_environment(void **state)
{
    static const struct {
        const char *text;
        enum mrp_checks checks;
    } cases[] = {{"none", MRP_CHECKS_NONE}, {"state", MRP_CHECKS_STATE},
        {"full", MRP_CHECKS_FULL}};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(cases); i++) {
        setenv("MRPOOL_CHECKS", cases[i].text, 1);
        assert_int_equal(create(f, MRP_CHECKS_DEFAULT, 0), MRP_OK);
        assert_int_equal(f->pool->checks, cases[i].checks);
        assert_int_equal(f->pool->cache_slot == MRP_NO_SLOT, i == 2);
        destroy(f);
        for (uint32_t own = MRP_CHECKS_NONE; own <= MRP_CHECKS_FULL; own++) {
            assert_int_equal(create(f, own, 0), MRP_OK); /* the pool's own comes first */
            assert_int_equal(f->pool->checks, own);
            destroy(f);
        }
    }
}

static void checks__wrong_ones_are_refused(void **state)
{
    static const char *const wrong[] = {
        "nonef", "non", "all", "1", " state", "none|state"};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(wrong); i++) {
        setenv("MRPOOL_CHECKS", wrong[i], 1);
        assert_refused(
            create(f, MRP_CHECKS_DEFAULT, 0), MRP_ERR_INVALID, "MRPOOL_CHECKS");
        assert_null(f->pool);
    }
    unsetenv("MRPOOL_CHECKS");
    assert_refused(create(f, 4, 0), MRP_ERR_INVALID, "checks is 4");
    assert_refused(create(f, UINT32_MAX, 0), MRP_ERR_INVALID, "checks is 4294967295");
}

static void cache_size__of_the_environment(void **state)
{
    static const struct {
        const char *text;
        size_t size;
    } cases[] = {{"1", 1}, {"300000", 300000}, {"64K", 64 << 10}, {"2M", 2 << 20},
        {"1g", 1 << 30}};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(cases); i++) {
        setenv("MRPOOL_THREAD_CACHE_SIZE", cases[i].text, 1);
        assert_int_equal(create(f, MRP_CHECKS_STATE, 0), MRP_OK);
        assert_int_equal(f->pool->thread_cache_size, cases[i].size);
        assert_int_equal(f->pool->cache_slot == MRP_NO_SLOT, cases[i].size == 1);
        destroy(f);
        assert_int_equal(create(f, MRP_CHECKS_STATE, 12345), MRP_OK);
        assert_int_equal(f->pool->thread_cache_size, 12345);
        destroy(f);
    }
}

static void cache_size__wrong_ones_are_refused(void **state)
{
    static const char *const wrong[] = {
        "0", "-1", "12q", "much", "1.5M", "99999999999999999999", "200T"};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(wrong); i++) {
        setenv("MRPOOL_THREAD_CACHE_SIZE", wrong[i], 1);
        assert_refused(
            create(f, MRP_CHECKS_STATE, 0), MRP_ERR_INVALID, "MRPOOL_THREAD_CACHE_SIZE");
        assert_null(f->pool);
    }
    unsetenv("MRPOOL_THREAD_CACHE_SIZE");
    assert_refused(
        create(f, MRP_CHECKS_STATE, SIZE_MAX), MRP_ERR_INVALID, "thread_cache_size");
}

/* What is refused takes no cache slot with it. */
static void refusals__take_no_slot(void **state)
{
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3 * MRP_V1_SLOTS; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);

        params.checks = i % 2 == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE;
        params.alignment = 3;
        assert_refused(
            mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_INVALID, "alignment");
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            create(f, i == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE, 0), MRP_OK);
        assert_int_not_equal(f->pool->cache_slot, MRP_NO_SLOT);
        destroy(f);
    }
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(checks__are_state_by_default),
        TEST(checks__of_the_environment),
        TEST(checks__wrong_ones_are_refused),
        TEST(cache_size__of_the_environment),
        TEST(cache_size__wrong_ones_are_refused),
        TEST(refusals__take_no_slot),
    };

    return cmocka_run_group_tests(tests, clear_environment, clear_environment);
}
