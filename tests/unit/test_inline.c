/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The inline forms do what the functions do: the same calls, by one form in one pool and
 * by the other in its twin, give the same regions and the same refusals.
 */
#include "thread_cache.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define HELD 400

/* Two pools that have seen the same calls. */
struct twins {
    struct mrp_pool *pools[2]; /* by function, by inline form */
    struct mrp_region *held[2][HELD]; /* NULL, live or stale alike */
    uint64_t seed;
};

static void create_twins(struct pool_fixture *f, struct twins *twins,
    enum mrp_checks checks, size_t headroom, size_t thread_cache_size)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    memset(twins, 0, sizeof *twins);
    twins->seed = 5;
    params.max_bytes = 64 * MRP_MIB;
    params.decay_ms =
        UINT32_MAX; /* or one of the two would sift, and the other not yet */
    params.checks = (uint32_t)checks;
    params.headroom = headroom;
    params.thread_cache_size = thread_cache_size;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mrp_pool_create(f->context, &params, &twins->pools[i]), MRP_OK);
    }
}

static struct mrp_region *take(struct twins *twins, size_t which, size_t size)
{
    mrp_error_clear();
    return which == 0 ? mrp_region_alloc(twins->pools[0], size)
                      : mrp_region_alloc_inline(twins->pools[1], size);
}

static enum mrp_status give(size_t which, struct mrp_region *region)
{
    mrp_error_clear();
    return which == 0 ? mrp_region_free(region) : mrp_region_free_inline(region);
}

/* What can be seen of a region. */
static void compare_regions(const struct mrp_region *one, const struct mrp_region *other)
{
    struct mrp_region_info infos[2] = {MRP_REGION_INFO_INIT, MRP_REGION_INFO_INIT};

    assert_int_equal(mrp_region_index(one), mrp_region_index(other));
    assert_int_equal(mrp_region_query(one, &infos[0]), MRP_OK);
    assert_int_equal(mrp_region_query(other, &infos[1]), MRP_OK);
    assert_int_equal(infos[0].size, infos[1].size);
    assert_int_equal(infos[0].capacity, infos[1].capacity);
    assert_int_equal(infos[0].length, infos[1].length);
    assert_int_equal(infos[0].kind, infos[1].kind);
    assert_int_equal(infos[0].references, infos[1].references);
    assert_int_equal(infos[0].generation, infos[1].generation);
}

static void alloc_both(struct twins *twins, size_t place)
{
    size_t magnitude = (size_t)1 << pool_fixture_random(&twins->seed) % 22;
    size_t size = pool_fixture_random(&twins->seed) % (2 * magnitude);
    struct mrp_region **one = &twins->held[0][place], **other = &twins->held[1][place];
    enum mrp_status status;

    if (pool_fixture_random(&twins->seed) % 50 == 0) {
        size = SIZE_MAX - size;
    }
    *one = take(twins, 0, size);
    status = mrp_error_last()->status;
    *other = take(twins, 1, size);
    assert_int_equal(status, mrp_error_last()->status);
    assert_true((*one == NULL) == (*other == NULL));
    if (*one != NULL) {
        compare_regions(*one, *other);
    }
}

/* Keeps the handle, to be given back once more now and then. */
static void free_both(struct twins *twins, size_t place, bool is_checked)
{
    struct mrp_region **one = &twins->held[0][place], **other = &twins->held[1][place];
    enum mrp_status status = give(0, *one);

    assert_int_equal(mrp_error_last()->status, status);
    assert_int_equal(give(1, *other), status);
    assert_int_equal(mrp_error_last()->status, status);
    if (status == MRP_OK && (!is_checked || pool_fixture_random(&twins->seed) % 4 != 0)) {
        *one = *other = NULL;
    } else if (status == MRP_OK) {
        assert_int_equal(give(0, *one), MRP_ERR_STALE);
        assert_int_equal(give(1, *other), MRP_ERR_STALE);
        *one = *other = NULL;
    }
}

/* Two references, of which a free is refused where they are counted. */
static void share_both(struct twins *twins, size_t place)
{
    for (size_t i = 0; i < 2; i++) {
        struct mrp_region *region = twins->held[i][place];

        assert_int_equal(mrp_region_set_length(region, 0), MRP_OK);
        assert_int_equal(mrp_region_retain(region), MRP_OK);
        assert_int_equal(give(i, region), MRP_ERR_BUSY);
        assert_int_equal(mrp_error_last()->status, MRP_ERR_BUSY);
        assert_int_equal(mrp_region_release(region), MRP_OK);
    }
}

static void compare_pools(struct twins *twins)
{
    struct mrp_pool_stats stats[2];

    for (size_t i = 0; i < 2; i++) {
        stats[i] = pool_fixture_stats(twins->pools[i]);
        stats[i].name = NULL;
        assert_int_equal(mrp_pool_check(twins->pools[i]), MRP_OK);
    }
    assert_memory_equal(&stats[0], &stats[1], sizeof stats[0]);
}

static void live_alike(struct twins *twins, size_t n_rounds)
{
    bool is_checked = twins->pools[0]->checks != MRP_CHECKS_NONE;

    for (size_t round = 0; round < n_rounds; round++) {
        size_t place = pool_fixture_random(&twins->seed) % HELD;

        if (twins->held[0][place] == NULL) {
            alloc_both(twins, place);
        } else if (is_checked && pool_fixture_random(&twins->seed) % 16 == 0) {
            share_both(twins, place);
        } else {
            free_both(twins, place, is_checked);
        }
        if (round % 1000 == 0) {
            compare_pools(twins);
        }
    }
    for (size_t place = 0; place < HELD; place++) {
        if (twins->held[0][place] != NULL) {
            free_both(twins, place, false);
        }
    }
    compare_pools(twins);
}

static void destroy_twins(struct twins *twins)
{
    for (size_t i = 0; i < 2; i++) {
        if (mrp_pool_destroy(twins->pools[i]) != MRP_OK) {
            fail_msg("%s", mrp_error_last()->text);
        }
    }
}

static void inline__does_what_the_functions_do(void **state)
{
    static const size_t headrooms[] = {0, 100};
    static const size_t cache_sizes[] = {MRP_GIB, 100000, 1};
    struct pool_fixture *f = *state;

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        for (size_t i = 0; i < N_OF(headrooms) * N_OF(cache_sizes); i++) {
            struct twins twins;

            create_twins(f, &twins, (enum mrp_checks)checks,
                headrooms[i % N_OF(headrooms)], cache_sizes[i / N_OF(headrooms)]);
            live_alike(&twins, test_is_watched() ? 1000 : 10000);
            destroy_twins(&twins);
        }
    }
}

/* Each form takes what the other has given back, at once. */
static void inline__shares_the_cache_with_the_functions(void **state)
{
    struct pool_fixture *f = *state;

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_STATE; checks++) {
        struct mrp_region *region, *again;

        cache_create(f, (enum mrp_checks)checks, 0);
        region = mrp_region_alloc(f->pool, 200);
        for (size_t i = 0; i < 16; i++) {
            size_t n = cache_count(f->pool, 200);

            assert_int_equal(
                i % 2 == 0 ? mrp_region_free(region) : mrp_region_free_inline(region),
                MRP_OK);
            assert_int_equal(cache_count(f->pool, 200), n + 1);
            again = i / 2 % 2 == 0 ? mrp_region_alloc(f->pool, 250)
                                   : mrp_region_alloc_inline(f->pool, 250);
            assert_ptr_equal(again, region);
            assert_int_equal(cache_count(f->pool, 200), n);
        }
        assert_int_equal(mrp_region_free_inline(region), MRP_OK);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* Whatever the last owner left. */
static void owner__begins_anew(void **state)
{
    struct pool_fixture *f = *state;

    for (int checks = MRP_CHECKS_STATE; checks <= MRP_CHECKS_FULL; checks++) {
        struct mrp_region *region, *again;
        uint32_t generation = 0;

        cache_create(f, (enum mrp_checks)checks, 0);
        region = pool_fixture_alloc(f, 200);
        for (size_t i = 0; i < 8; i++) {
            generation = pool_fixture_query(region).generation;
            assert_int_equal(mrp_region_set_length(region, 50), MRP_OK);
            assert_int_equal(give(i % 2, region), MRP_OK);
            again = i < 4 ? mrp_region_alloc(f->pool, 210 + i)
                          : mrp_region_alloc_inline(f->pool, 210 + i);
            assert_ptr_equal(again, region);
            assert_int_equal(mrp_region_length(region), 0);
            assert_int_equal(mrp_region_size(region), 210 + i);
            assert_int_equal(pool_fixture_query(region).generation, generation + 1);
        }
        pool_fixture_free(region);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* What is no pool is refused, whatever slot its address would have. */
static void inline__refuses_what_is_no_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool *pool;

    cache_create(f, MRP_CHECKS_STATE, 0);
    pool = f->pool;
    pool_fixture_free(pool_fixture_alloc(f, 200));
    assert_none(mrp_region_alloc_inline(NULL, 200), MRP_ERR_STALE, "NULL");
    for (size_t offset = 1; offset < 70; offset++) { /* as slots in use are marked */
        struct mrp_pool *beside =
            (struct mrp_pool *)((uintptr_t)pool + offset); /* NOLINT */

        assert_none(mrp_region_alloc_inline(beside, 200), MRP_ERR_STALE, "not a pool");
        assert_none(mrp_region_alloc(beside, 200), MRP_ERR_STALE, "not a pool");
    }
    for (unsigned bit = MRP_RANGE_SHIFT; bit < 64; bit++) {
        struct mrp_pool *other =
            (struct mrp_pool *)((uintptr_t)pool ^ (uintptr_t)1 << bit); /* NOLINT */

        assert_none(mrp_region_alloc_inline(other, 200), MRP_ERR_STALE, "");
        assert_none(mrp_region_alloc(other, 200), MRP_ERR_STALE, "");
    }
    assert_int_equal(cache_count(pool, 200), 1);
}

/* The first call of a thread, by either form, of either kind. */
static void job_first_alloc(void *argument)
{
    struct mrp_region *region = mrp_region_alloc_inline(argument, 200);

    CHECK(region != NULL);
    CHECK(mrp_region_free_inline(region) == MRP_OK);
    CHECK(cache_count(argument, 200) > 0);
}

static void job_first_free(void *argument)
{
    struct mrp_pool *pool = mrp_region_pool(argument);

    CHECK(mrp_region_free_inline(argument) == MRP_OK);
    CHECK(cache_count(pool, 200) == 1);
}

static void inline__may_be_a_threads_first_call(void **state)
{
    struct pool_fixture *f = *state;
    struct partner partners[2];

    cache_create(f, MRP_CHECKS_STATE, 0);
    partner_start(&partners[0]);
    partner_start(&partners[1]);
    partner_do(&partners[0], job_first_alloc, f->pool);
    partner_do(&partners[1], job_first_free, pool_fixture_alloc(f, 200));
    partner_stop(&partners[0]);
    partner_stop(&partners[1]);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(inline__does_what_the_functions_do),
        POOL_TEST(inline__shares_the_cache_with_the_functions),
        POOL_TEST(owner__begins_anew),
        POOL_TEST(inline__refuses_what_is_no_pool),
        POOL_TEST(inline__may_be_a_threads_first_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
