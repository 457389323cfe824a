/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What one thread keeps: how its bins and the depot exchange magazines, how much it may
 * keep, and how it gives back what it has.
 */
#include "thread_cache.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define KEEPING_CHECKS \
    { \
        MRP_CHECKS_NONE, MRP_CHECKS_STATE \
    }

static const enum mrp_checks checks_with_caches[] = KEEPING_CHECKS;

static void destroy(struct pool_fixture *f)
{
    if (mrp_pool_check(f->pool) != MRP_OK || mrp_pool_destroy(f->pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    f->pool = NULL;
}

/* Take `n` regions and give them back, in that order. */
static void pass(struct mrp_pool *pool, size_t size, size_t n)
{
    struct mrp_region **regions = calloc(n, sizeof *regions);

    for (size_t i = 0; i < n; i++) {
        regions[i] = mrp_region_alloc(pool, size);
        assert_non_null(regions[i]);
    }
    for (size_t i = 0; i < n; i++) {
        pool_fixture_free(regions[i]);
    }
    free(regions);
}

/* -- bins and depot -- */

/* What docs/CONCURRENCY.md says of one bin: the loaded magazine, the other one, and what
 * lies in the depot. */
struct model {
    size_t capacity, loaded, previous, n_full, n_loose, n_cut;
};

static void look(struct mrp_pool *pool, size_t size, struct model *model)
{
    unsigned bin = cache_class(pool, size)->bin;
    const struct mrp_cache_slot *slot = cache_slot(pool);
    const struct mrp_magazine *previous = slot->previous[bin];

    *model = (struct model){cache_class(pool, size)->magazine_capacity,
        (size_t)(slot->top[bin] - slot->bottom[bin]),
        previous == NULL ? 0 : previous->count, cache_n_full(pool, size),
        cache_n_loose(pool, size), cache_depot(pool, size)->n_regions};
}

static void model_alloc(struct model *model, const struct model *after)
{
    if (model->loaded > 0) {
        model->loaded--;
    } else if (model->previous > 0) {
        model->loaded = model->capacity - 1;
        model->previous = 0;
    } else if (model->n_full > 0) {
        model->loaded = model->capacity - 1;
        model->n_full--;
    } else if (model->n_loose > 0) {
        model->n_loose--;
    } else { /* whole magazines as far as there are, the rest loose */
        size_t n_new = after->n_cut - model->n_cut - 1;

        assert_true(after->n_cut > model->n_cut);
        model->n_cut = after->n_cut;
        model->n_full = n_new / model->capacity;
        model->n_loose = n_new % model->capacity;
    }
}

static void model_free(struct model *model)
{
    if (model->loaded < model->capacity) {
        model->loaded++;
        return;
    }
    model->n_full += model->previous > 0;
    model->previous = model->capacity;
    model->loaded = 1;
}

static void compare(const struct model *model, const struct model *found, size_t step)
{
    if (memcmp(model, found, sizeof *model) != 0) {
        fail_msg("step %zu, magazines of %zu: %zu and %zu regions, %zu full, %zu loose; "
                 "not %zu and %zu, %zu, %zu",
            step, model->capacity, found->loaded, found->previous, found->n_full,
            found->n_loose, model->loaded, model->previous, model->n_full,
            model->n_loose);
    }
}

#define HELD 700

/* A random walk between nothing held and much, compared at each step. */
static void walk(struct pool_fixture *f, size_t size, size_t n_steps)
{
    struct mrp_region *held[HELD];
    struct model model, found;
    size_t n_held = 0, goal = 0;
    uint64_t seed = 3;

    pass(f->pool, size, 1);
    look(f->pool, size, &model);
    assert_int_equal(model.loaded, 1);
    for (size_t step = 0; step < n_steps; step++) {
        bool is_alloc = n_held < goal || n_held == 0;

        if (is_alloc) {
            held[n_held++] = mrp_region_alloc(f->pool, size);
            assert_non_null(held[n_held - 1]);
        } else {
            pool_fixture_free(held[--n_held]);
        }
        look(f->pool, size, &found);
        if (is_alloc) {
            model_alloc(&model, &found);
        } else {
            model_free(&model);
        }
        compare(&model, &found, step);
        assert_int_equal(n_held + found.loaded + found.previous +
                found.n_full * found.capacity + found.n_loose,
            found.n_cut);
        if (n_held == goal) {
            goal = pool_fixture_random(&seed) % HELD;
        }
    }
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_region_free_many(held, n_held, NULL), MRP_OK);
}

static void bin__exchanges_magazines_with_the_depot(void **state)
{
    static const size_t sizes[] = {64, 200, 5000, 65536, 250000};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(sizes) * N_OF(checks_with_caches); i++) {
        cache_create(f, checks_with_caches[i % N_OF(checks_with_caches)], 0);
        assert_true(cache_class(f->pool, sizes[i / 2])->magazine_capacity > 1);
        walk(f, sizes[i / 2], test_is_watched() ? 2000 : 20000);
        destroy(f);
    }
}

/* However many magazines are full, a free finds an empty one. */
static void bin__always_finds_an_empty_magazine(void **state)
{
    struct pool_fixture *f = *state;
    size_t n = 5000, size = 64, capacity;
    struct mrp_region **regions = calloc(n, sizeof *regions);

    cache_create(f, MRP_CHECKS_STATE, 0);
    capacity = cache_class(f->pool, size)->magazine_capacity;
    for (size_t round = 0; round < 3; round++) {
        assert_int_equal(mrp_region_alloc_many(f->pool, size, n, regions), n);
        for (size_t i = 0; i < n; i++) {
            size_t n_loose = cache_n_loose(f->pool, size);

            pool_fixture_free(regions[i]);
            assert_int_equal(cache_n_loose(f->pool, size), n_loose);
        }
        assert_true(cache_n_full(f->pool, size) >= n / capacity - 2);
    }
    free(regions);
}

static void stats__tell_what_is_cached(void **state)
{
    static const size_t sizes[] = {100, 3000, 40000, 200000};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(checks_with_caches); i++) {
        struct mrp_pool_stats stats;
        size_t bytes = 0;

        cache_create(f, checks_with_caches[i], 0);
        stats = pool_fixture_stats(f->pool);
        assert_int_equal(stats.n_threads, 0);
        for (size_t tier = 0; tier < MRP_TIERS; tier++) {
            size_t n = 10 + tier;

            pass(f->pool, sizes[tier], n);
            bytes += cache_count(f->pool, sizes[tier]) *
                cache_class(f->pool, sizes[tier])->block_size;
            stats = pool_fixture_stats(f->pool);
            assert_true(cache_count(f->pool, sizes[tier]) > 0);
            assert_int_equal(
                stats.tiers[tier].n_cached, cache_count(f->pool, sizes[tier]));
            assert_int_equal(stats.tiers[tier].n_live, 0);
            assert_int_equal(stats.tiers[tier].n_free, stats.tiers[tier].n_regions);
            assert_int_equal(stats.cached_size, bytes);
            assert_int_equal(stats.n_threads, 1);
        }
        assert_int_equal(bytes, cache_bytes(f->pool, cache_slot(f->pool)));
        destroy(f);
    }
}

/* -- how much -- */

/* Every magnitude alike; what is taken is given back in another order. */
static void churn(struct mrp_pool *pool, size_t most, size_t n_rounds, size_t limit)
{
    struct mrp_region *held[200] = {NULL};
    uint64_t seed = 11;

    for (size_t i = 0; i < n_rounds; i++) {
        struct mrp_region **place = &held[pool_fixture_random(&seed) % N_OF(held)];
        size_t size = ((size_t)1 << pool_fixture_random(&seed) % 21) - 1;

        if (*place != NULL) {
            CHECK(mrp_region_free(*place) == MRP_OK);
        }
        *place = mrp_region_alloc(pool, mrp_min(size, most));
        CHECK(*place != NULL);
        CHECK(cache_bytes(pool, cache_slot(pool)) <= limit);
        CHECK(cache_slot(pool)->charge <= limit);
    }
    for (size_t i = 0; i < N_OF(held); i++) {
        if (held[i] != NULL) {
            CHECK(mrp_region_free(held[i]) == MRP_OK);
            CHECK(cache_bytes(pool, cache_slot(pool)) <= limit);
        }
    }
}

static void limit__bounds_what_a_thread_keeps(void **state)
{
    static const size_t limits[] = {2, 20000, 100000, 300000, 1 << 20, 5 << 20};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(limits); i++) {
        cache_create(f, checks_with_caches[i % 2], limits[i]);
        churn(f->pool, MRP_MIB, test_is_watched() ? 500 : 10000, limits[i]);
        check_fail();
        assert_true(limits[i] <= 20000 || cache_bytes(f->pool, cache_slot(f->pool)) > 0);
        destroy(f);
    }
}

static void limit__of_one_byte_is_none(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_stats stats;

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        cache_create(f, (enum mrp_checks)checks, 1);
        assert_int_equal(f->pool->cache_slot, MRP_NO_SLOT);
        pass(f->pool, 200, 1000);
        stats = pool_fixture_stats(f->pool);
        assert_int_equal(stats.n_threads, 0);
        assert_int_equal(stats.cached_size, 0);
        assert_int_equal(stats.tiers[0].n_free, stats.tiers[0].n_regions);
        destroy(f);
    }
}

/* Of the smallest pool there is a thread keeps an eighth, and not a byte more. */
static void limit__of_small_pools_is_an_eighth(void **state)
{
    static const size_t sizes[] = {256 << 10, 1 << 20, 4 << 20, 64 << 20};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    for (size_t i = 0; i < N_OF(sizes); i++) {
        struct mrp_region *regions[1000];
        size_t n = 0;

        params.max_bytes = sizes[i];
        params.checks = MRP_CHECKS_STATE;
        pool_fixture_create(f, &params);
        while (
            n < N_OF(regions) && (regions[n] = mrp_region_alloc(f->pool, 1024)) != NULL) {
            n++;
        }
        for (size_t j = 0; j < n; j++) {
            pool_fixture_free(regions[j]);
            assert_true(cache_bytes(f->pool, cache_slot(f->pool)) <= sizes[i] / 8);
        }
        destroy(f);
    }
}

struct share {
    struct mrp_pool *pool;
    size_t limit, kept;
};

static void use_share(void *argument)
{
    struct share *share = argument;

    churn(share->pool, 300000, test_is_watched() ? 300 : 3000, share->limit);
    share->kept = cache_slot(share->pool)->charge;
}

/* What all threads keep together is bounded, and each gets something. */
static void limit__is_shared_by_the_threads(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct partner partners[8];
    size_t most = 16 * MRP_MIB,
           sum = 0; /* of a pool that has grown to less than 256 MiB */

    params.max_bytes = 256 * MRP_MIB;
    params.checks = MRP_CHECKS_STATE;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < N_OF(partners); i++) {
        struct share share = {f->pool, most, 0};

        partner_start(&partners[i]);
        partner_do(&partners[i], use_share, &share);
        sum += share.kept;
        assert_true(sum <= most);
        assert_int_equal(mrp_load_relaxed(&f->pool->cache_charge), sum);
    }
    assert_true(sum > most * 9 / 10);
    for (size_t i = 0; i < N_OF(partners); i++) {
        partner_stop(&partners[i]);
    }
    assert_int_equal(mrp_load_relaxed(&f->pool->cache_charge), 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
    assert_int_equal(pool_fixture_stats(f->pool).cached_size, 0);
}

/* Classes that a thread may not keep cost the others nothing. */
static void limit__too_large_a_class_leaves_the_others_alone(void **state)
{
    struct pool_fixture *f = *state;
    size_t n;

    cache_create(f, MRP_CHECKS_STATE, 200000);
    pass(f->pool, 200, 20);
    n = cache_count(f->pool, 200);
    assert_true(n >= 20);
    for (size_t i = 0; i < 10; i++) {
        pass(f->pool, 60000, 3);
        assert_int_equal(cache_count(f->pool, 60000), 0);
        assert_int_equal(cache_count(f->pool, 200), n);
        pass(f->pool, 50000, 3);
        assert_int_equal(cache_count(f->pool, 50000), 0);
        assert_int_equal(cache_count(f->pool, 200), n);
    }
}

/* What fits, but not beside what is there, takes its place after a while, not at once: two
 * classes in turn do not push each other out all the time. */
static void limit__a_class_that_stays_gets_its_place(void **state)
{
    struct pool_fixture *f = *state;
    size_t n, passes = 0;

    cache_create(f, MRP_CHECKS_STATE, 1300000);
    assert_int_equal(cache_class(f->pool, 60000)->magazine_capacity, 8);
    pass(f->pool, 200, 20);
    n = cache_depot(f->pool, 200)->n_regions;
    pass(f->pool, 60000, 3); /* 2 * 8 * 64 KiB, and 200 KiB left */
    assert_true(cache_count(f->pool, 60000) >= 3);
    pass(f->pool, 50000, 3);
    assert_int_equal(cache_count(f->pool, 50000), 0);
    while (cache_count(f->pool, 50000) == 0 && passes++ < 100) {
        pass(f->pool, 50000, 3);
    }
    assert_in_range(passes, 1, 64); /* two bins had to go, each after 64 refusals */
    assert_int_equal(cache_count(f->pool, 60000), 0);
    assert_int_equal(cache_count(f->pool, 200), 0);
    assert_int_equal(mrp_load_relaxed(&cache_depot(f->pool, 200)->n_caches), 0);
    assert_int_equal(cache_n_loose(f->pool, 200) +
            cache_n_full(f->pool, 200) * cache_class(f->pool, 200)->magazine_capacity,
        n);
}

/* -- giving back -- */

static void flush__gives_back_all_of_one_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool *other;
    struct mrp_pool_stats stats;

    cache_create(f, MRP_CHECKS_STATE, 0);
    other = f->pool;
    cache_create(f, MRP_CHECKS_NONE, 0);
    pass(f->pool, 200, 300);
    pass(f->pool, 60000, 30);
    pass(other, 200, 300);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.cached_size, 0);
    assert_int_equal(stats.n_threads, 0);
    assert_int_equal(mrp_load_relaxed(&cache_depot(f->pool, 200)->n_caches), 0);
    assert_int_equal(cache_n_full(f->pool, 200) + cache_n_empty(f->pool, 200),
        cache_depot(f->pool, 200)->n_magazines);
    assert_int_equal(cache_slot(f->pool)->charge, 0);
    assert_true(pool_fixture_stats(other).cached_size > 0);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK); /* nothing there any more */
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);

    pass(f->pool, 200, 1); /* the caches come back */
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
    assert_true(cache_count(f->pool, 200) > 0);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).cached_size, 0);
    assert_int_equal(pool_fixture_stats(other).cached_size, 0);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(mrp_pool_check(other), MRP_OK);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
    assert_refused(mrp_thread_flush(other), MRP_ERR_STALE, "destroyed");
}

static void flush_nothing(void *argument)
{
    CHECK(mrp_thread_flush(argument) == MRP_OK);
    CHECK(mrp_thread_flush(NULL) == MRP_OK);
    CHECK(mrp_error_last()->status == MRP_OK);
}

static void flush__of_others_caches_is_nothing(void **state)
{
    struct pool_fixture *f = *state;
    struct partner partner;
    size_t n;

    cache_create(f, MRP_CHECKS_STATE, 0);
    pass(f->pool, 200, 10);
    n = pool_fixture_stats(f->pool).cached_size;
    partner_start(&partner);
    partner_do(&partner, flush_nothing, f->pool);
    partner_stop(&partner);
    assert_int_equal(pool_fixture_stats(f->pool).cached_size, n);
}

static void flush__refuses_what_is_no_pool(void **state)
{
    struct pool_fixture *f = *state;

    assert_refused(
        mrp_thread_flush((struct mrp_pool *)(void *)f), MRP_ERR_STALE, "not a pool");
    cache_create(f, MRP_CHECKS_STATE, 0);
    assert_refused(mrp_thread_flush((struct mrp_pool *)((char *)f->pool + 64)),
        MRP_ERR_STALE, "not a pool");
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK); /* never used */
}

/* A pool without caches has nothing to flush, in whatever slot its address would lie. */
static void flush__of_a_pool_without_caches(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool *with;
    size_t n;

    cache_create(f, MRP_CHECKS_STATE, 0);
    with = f->pool;
    pass(with, 200, 10);
    n = pool_fixture_stats(with).cached_size;
    cache_create(f, MRP_CHECKS_FULL, 0);
    pass(f->pool, 200, 10);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
    assert_int_equal(pool_fixture_stats(with).cached_size, n);
    assert_int_equal(mrp_pool_destroy(with), MRP_OK);
}

/* -- many at a time -- */

static void many__whole_magazines_move(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[1000], *once[2];
    size_t n_freed = 0;

    for (size_t i = 0; i < N_OF(checks_with_caches); i++) {
        cache_create(f, checks_with_caches[i], 0);
        for (size_t n = 1; n <= N_OF(regions); n += n < 300 ? 13 : 137) {
            assert_int_equal(mrp_region_alloc_many(f->pool, 200, n, regions), n);
            assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, n);
            assert_int_equal(mrp_region_free_many(regions, n, &n_freed), MRP_OK);
            assert_int_equal(n_freed, n);
            assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        destroy(f);
    }
    cache_create(f, MRP_CHECKS_STATE, 0);
    once[0] = once[1] = pool_fixture_alloc(f, 200);
    assert_refused(mrp_region_free_many(once, 2, &n_freed), MRP_ERR_STALE, "is free");
    assert_int_equal(n_freed, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(bin__exchanges_magazines_with_the_depot),
        POOL_TEST(bin__always_finds_an_empty_magazine),
        POOL_TEST(stats__tell_what_is_cached),
        POOL_TEST(limit__bounds_what_a_thread_keeps),
        POOL_TEST(limit__of_one_byte_is_none),
        POOL_TEST(limit__of_small_pools_is_an_eighth),
        POOL_TEST(limit__is_shared_by_the_threads),
        POOL_TEST(limit__too_large_a_class_leaves_the_others_alone),
        POOL_TEST(limit__a_class_that_stays_gets_its_place),
        POOL_TEST(flush__gives_back_all_of_one_pool),
        POOL_TEST(flush__of_others_caches_is_nothing),
        POOL_TEST(flush__refuses_what_is_no_pool),
        POOL_TEST(flush__of_a_pool_without_caches),
        POOL_TEST(many__whole_magazines_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
