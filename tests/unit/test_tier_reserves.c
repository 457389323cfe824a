/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What tiers leave each other: one kind of buffer cannot starve another, however much of
 * it is asked for first.
 */
#include "waiting.h"

#define PAGE 4096

static struct mrp_region *regions[20000];

static void create(
    struct pool_fixture *f, size_t n_chunks, const size_t reserves[MRP_TIERS])
{
    struct mrp_pool_params params = small_chunks_params(f, n_chunks);

    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        params.tiers[tier].reserve = reserves[tier];
    }
    pool_fixture_create(f, &params);
}

static size_t take_what_there_is(struct pool_fixture *f, size_t first, size_t size)
{
    size_t n = first;

    while (n < 20000 && (regions[n] = mrp_region_alloc(f->pool, size)) != NULL) {
        n++;
    }
    assert_true(n < 20000);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    return n;
}

/* Each tier is asked for all it can give, in each order: the others have their reserve. */
static void reserve__is_kept_from_each_other_tier(void **state)
{
    static const size_t sizes[] = {1024, 16 * MRP_KIB, 64 * MRP_KIB, MRP_MIB};
    static const size_t reserves[] = {CHUNK, CHUNK, CHUNK, 2 * CHUNK};
    struct pool_fixture *f = *state;

    for (size_t greedy = 0; greedy < MRP_TIERS; greedy++) {
        size_t n, first;

        create(f, 6, reserves);
        n = take_what_there_is(f, 0, sizes[greedy]);
        assert_non_null(strstr(mrp_error_last()->text, "reserve"));
        assert_true(n * sizes[greedy] >= reserves[greedy]);
        for (size_t tier = 0; tier < MRP_TIERS; tier++) {
            if (tier != greedy) {
                first = n;
                n = take_what_there_is(f, first, sizes[tier]);
                if ((n - first) * sizes[tier] < reserves[tier]) {
                    fail_msg("after tier %zu, tier %zu got %zu of %zu bytes: %s", greedy,
                        tier, (n - first) * sizes[tier], reserves[tier],
                        mrp_error_last()->text);
                }
            }
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        give_all(f, regions, n);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void reserve__is_kept_from_larger_than_huge_regions(void **state)
{
    static const size_t reserves[] = {0, 2 * CHUNK, 0, 0};
    struct pool_fixture *f = *state;
    size_t n, n_large;

    create(f, 8, reserves);
    n_large = take_what_there_is(f, 0, 2 * CHUNK);
    assert_non_null(strstr(mrp_error_last()->text, "reserve"));
    assert_int_equal(n_large, 3);
    n = take_what_there_is(f, n_large, PAGE);
    assert_int_equal(n - n_large, PAGES_OF(2));
    give_all(f, regions, n);
}

/* Idle memory counts as there: it is given up for whom the reserve is. */
static void reserve__is_kept_beside_idle_memory(void **state)
{
    static const size_t reserves[] = {0, 2 * CHUNK, 0, 0};
    struct pool_fixture *f = *state;
    size_t n, n_large;

    create(f, 8, reserves);
    n_large = take_what_there_is(f, 0, 2 * CHUNK);
    give_all(f, regions, n_large);
    n = take_what_there_is(f, 0, 64 * MRP_KIB);
    assert_int_equal(n, 6 * 16);
    n = take_what_there_is(f, n, PAGE);
    assert_int_equal(n - 6 * 16, PAGES_OF(2));
    give_all(f, regions, n);
}

/* Once a tier has its reserve in use, it takes from the rest like all others. */
static void reserve__is_no_bound_for_its_own_tier(void **state)
{
    static const size_t reserves[] = {0, CHUNK, 0, 0};
    struct pool_fixture *f = *state;
    size_t n;

    create(f, 4, reserves);
    n = take_what_there_is(f, 0, PAGE);
    assert_int_equal(n, PAGES_OF(4));
    give_all(f, regions, n);
    trim(f, SIZE_MAX);
    n = take_what_there_is(f, 0, 64 * MRP_KIB);
    assert_int_equal(n, 3 * 16);
    give_all(f, regions, n);
}

/* One who waits for a tier's reserve is not served with it either. */
static void reserve__is_kept_from_those_who_wait(void **state)
{
    static const size_t reserves[] = {0, CHUNK, 0, 0};
    static struct request request;
    struct pool_fixture *f = *state;
    size_t n;

    create(f, 2, reserves);
    n = take_what_there_is(f, 0, 64 * MRP_KIB);
    assert_int_equal(n, 16);
    request_begin(&request, f, 64 * MRP_KIB, LONG_MS);
    take_all(f, regions + n, PAGES_OF(1), PAGE);
    give_all(f, regions + n, PAGES_OF(1));
    assert_false(request_is_over(&request));
    pool_fixture_free(regions[0]);
    regions[0] = request_get(&request);
    give_all(f, regions, n);
}

static void reserve__beyond_max_bytes_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 4);

    params.tiers[0].reserve = params.tiers[3].reserve = 3 * CHUNK;
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_INVALID,
        "tiers[3].reserve");
    assert_null(f->pool);
    params.tiers[0].reserve = CHUNK;
    pool_fixture_create(f, &params);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].reserve, CHUNK);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[3].reserve, 3 * CHUNK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(reserve__is_kept_from_each_other_tier),
        POOL_TEST(reserve__is_kept_from_larger_than_huge_regions),
        POOL_TEST(reserve__is_kept_beside_idle_memory),
        POOL_TEST(reserve__is_no_bound_for_its_own_tier),
        POOL_TEST(reserve__is_kept_from_those_who_wait),
        POOL_TEST(reserve__beyond_max_bytes_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
