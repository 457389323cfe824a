/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Temporary regions: beyond the pool's budgets, within the context's, given back at their
 * free.
 */
#include "small_chunks.h"

#define PAGE 4096
#define BLOCK (64 * MRP_KIB)
#define N_BLOCKS (CHUNK / BLOCK)

static struct mrp_region *regions[N_BLOCKS + 16];

static void create(struct pool_fixture *f, size_t max_registrations)
{
    struct mrp_pool_params params =
        small_chunks_params(f, max_registrations == 0 ? 1 : 8);

    params.at_limit = MRP_AT_LIMIT_TEMPORARY;
    params.max_registrations = max_registrations;
    params.user_size = 8;
    pool_fixture_create(f, &params);
}

static struct mrp_region *check_temporary(struct pool_fixture *f, size_t size)
{
    struct mrp_pool_stats before = pool_fixture_stats(f->pool), stats;
    size_t n_live = f->networks[0].n_live;
    struct mrp_region *region = pool_fixture_alloc(f, size), *slice, *found = NULL;
    struct mrp_region_info info = pool_fixture_query(region);
    struct mrp_token token;
    uint64_t key;

    assert_int_equal(info.kind, MRP_REGION_TEMPORARY);
    assert_int_equal(info.tier, -1);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.n_temporary, before.n_temporary + 1);
    assert_true(stats.temporary_size >= before.temporary_size + size);
    assert_int_equal(stats.mapped_size, before.mapped_size);
    assert_int_equal(f->networks[0].n_live, n_live + 1);
    /* a region like any other */
    memset(mrp_region_address(region), 1, mrp_region_capacity(region));
    assert_int_equal(*(uint64_t *)mrp_region_user(region), 0);
    assert_ptr_equal(mrp_region_find(f->pool, mrp_region_address(region)), region);
    assert_int_equal(mrp_region_remote_key(region, 0, &key), MRP_OK);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    assert_int_equal(mrp_token_resolve(f->pool, &token, &found), MRP_OK);
    assert_ptr_equal(found, region);
    assert_int_equal(mrp_region_slice(region, 0, 1, &slice), MRP_OK);
    assert_refused(mrp_region_free(region), MRP_ERR_BUSY, "");
    pool_fixture_free(slice);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    return region;
}

static void temporary__goes_beyond_max_bytes(void **state)
{
    static const size_t sizes[] = {1, PAGE, BLOCK, MRP_MIB, 3 * MRP_MIB};
    struct pool_fixture *f = *state;

    create(f, 0);
    take_all(f, regions, N_BLOCKS, BLOCK);
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    for (size_t i = 0; i < 5; i++) {
        regions[N_BLOCKS + i] = check_temporary(f, sizes[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        struct mrp_region *region = regions[N_BLOCKS + i];
        size_t n_live = f->networks[0].n_live;

        pool_fixture_free(region);
        assert_int_equal(f->networks[0].n_live, n_live - 1); /* at once, not idle */
        assert_refused(mrp_region_free(region), MRP_ERR_STALE, "");
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    assert_int_equal(pool_fixture_stats(f->pool).temporary_size, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    check_held(f, 1);
    give_all(f, regions, N_BLOCKS);
    take_all(f, regions, N_BLOCKS, BLOCK); /* of the pool's own again */
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    give_all(f, regions, N_BLOCKS);
}

static void temporary__goes_beyond_max_registrations(void **state)
{
    struct pool_fixture *f = *state;

    create(f, 1);
    take_all(f, regions, N_BLOCKS, BLOCK);
    regions[N_BLOCKS] = check_temporary(f, BLOCK);
    assert_int_equal(f->networks[0].n_live, 2);
    pool_fixture_free(regions[N_BLOCKS]);
    assert_int_equal(f->networks[0].n_live, 1);
    give_all(f, regions, N_BLOCKS);
}

/* The pool's own free memory first, if it has to be regrouped for that. */
static void temporary__only_where_nothing_is_free(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *other;

    create(f, 0);
    take_all(f, regions, N_BLOCKS, BLOCK);
    give_all(f, regions, N_BLOCKS);
    other = pool_fixture_alloc(f, PAGE);
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    pool_fixture_free(other);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
    other = pool_fixture_alloc(f, CHUNK);
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    pool_fixture_free(other);
}

static void temporary__not_for_requests_that_may_not_grow_or_that_wait(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;

    create(f, 0);
    take_all(f, regions, N_BLOCKS, BLOCK);
    request.flags = MRP_REQUEST_NOGROW;
    assert_none(mrp_region_alloc_with(f->pool, BLOCK, &request), MRP_ERR_AGAIN, "");
    request.flags = MRP_REQUEST_NOWAIT;
    assert_none(mrp_region_alloc_with(f->pool, BLOCK, &request), MRP_ERR_AGAIN, "");
    request.flags = 0;
    request.wait_ms = 20;
    assert_none(mrp_region_alloc_with(f->pool, BLOCK, &request), MRP_ERR_LIMIT, "20 ms");
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    give_all(f, regions, N_BLOCKS);
}

static void temporary__that_cannot_be_registered_costs_nothing(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats before;

    create(f, 0);
    take_all(f, regions, N_BLOCKS, BLOCK);
    before = context_stats(f);
    test_provider_fail_next(&f->networks[0], 1, 0, MRP_ERR_REGISTER);
    assert_none(mrp_region_alloc(f->pool, BLOCK), MRP_ERR_REGISTER, "as told");
    assert_int_equal(context_stats(f).charged_size, before.charged_size);
    assert_int_equal(context_stats(f).n_charged, before.n_charged);
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    assert_int_equal(pool_fixture_stats(f->pool).temporary_size, 0);
    f->networks[0].fail_at = SIZE_MAX;
    regions[N_BLOCKS] = check_temporary(f, BLOCK);
    give_all(f, regions, N_BLOCKS + 1);
}

/* Within the context: its budget ends them, too. */
static void temporary__within_the_contexts_budget(void **state)
{
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_context *context;
    struct mrp_pool *pool;
    size_t n = 0;

    context_params.max_bytes = CHUNK + 4 * BLOCK;
    assert_int_equal(mrp_context_create(&context_params, &context), MRP_OK);
    params.max_bytes = params.chunk_min = params.chunk_max = CHUNK;
    params.at_limit = MRP_AT_LIMIT_TEMPORARY;
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    while (n < N_BLOCKS + 16 && (regions[n] = mrp_region_alloc(pool, BLOCK)) != NULL) {
        n++;
    }
    assert_int_equal(n, N_BLOCKS + 4);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_non_null(strstr(mrp_error_last()->text, "the context's"));
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    small_chunks_create(f, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(temporary__goes_beyond_max_bytes),
        POOL_TEST(temporary__goes_beyond_max_registrations),
        POOL_TEST(temporary__only_where_nothing_is_free),
        POOL_TEST(temporary__not_for_requests_that_may_not_grow_or_that_wait),
        POOL_TEST(temporary__that_cannot_be_registered_costs_nothing),
        POOL_TEST(temporary__within_the_contexts_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
