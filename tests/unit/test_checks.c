/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What each setting of checks finds, and what none of them lets through.
 */
#include "pool/depot.h"
#include "thread_cache.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

typedef enum mrp_status free_function(struct mrp_region *region);

static enum mrp_status free_one(struct mrp_region *region)
{
    return mrp_region_free_many(&region, 1, NULL);
}

static free_function *const free_functions[] = {
    mrp_region_free, mrp_region_free_inline, free_one, mrp_region_release};

static void destroy(struct pool_fixture *f)
{
    if (mrp_pool_check(f->pool) != MRP_OK || mrp_pool_destroy(f->pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    f->pool = NULL;
}

static void job_free(void *argument)
{
    CHECK(mrp_region_free(argument) == MRP_OK);
}

/* -- twice -- */

static void none__a_second_free_is_found_by_pool_check(void **state)
{
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3; i++) { /* not by release, which counts references */
        struct mrp_region *region;
        unsigned bin;

        cache_create(f, MRP_CHECKS_NONE, 0);
        region = mrp_region_alloc(f->pool, 200);
        assert_non_null(region);
        bin = cache_class(f->pool, 200)->bin;
        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(free_functions[i](region), MRP_OK);
        assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "is free twice");
        assert_ptr_equal(mrp_v1_pop(cache_slot(f->pool), bin), region);
        destroy(f);
    }
}

/* Two threads' caches have it, or one and the depot. */
static void none__a_second_free_elsewhere_is_found_by_pool_check(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct partner partner;

    cache_create(f, MRP_CHECKS_NONE, 0);
    region = mrp_region_alloc(f->pool, 200);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    partner_start(&partner);
    partner_do(&partner, job_free, region);
    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "is free twice");
    partner_stop(&partner);
    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "is free twice");
    assert_ptr_equal(
        mrp_v1_pop(cache_slot(f->pool), cache_class(f->pool, 200)->bin), region);
}

/* Without caches it closes a ring of the free ones: all that walks it comes to an end. */
static void none__a_second_free_without_caches_ends_nowhere_else(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    cache_create(f, MRP_CHECKS_NONE, 1);
    region = mrp_region_alloc(f->pool, 200);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "is free twice");
    pool_fixture_stats(f->pool);
    mrp_pool_destroy(f->pool); /* what is live cannot be told any more */
    f->pool = NULL;
}

static void state_and_full__a_second_free_is_refused(void **state)
{
    struct pool_fixture *f = *state;

    for (int checks = MRP_CHECKS_STATE; checks <= MRP_CHECKS_FULL; checks++) {
        cache_create(f, (enum mrp_checks)checks, 0);
        for (size_t i = 0; i < N_OF(free_functions) * N_OF(free_functions); i++) {
            struct mrp_region *region = pool_fixture_alloc(f, 200);
            free_function *first = free_functions[i / N_OF(free_functions)];
            free_function *second = free_functions[i % N_OF(free_functions)];

            assert_int_equal(first(region), MRP_OK);
            assert_refused(second(region), MRP_ERR_STALE, "is free");
            assert_refused(second(region), MRP_ERR_STALE, "is free");
            assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
            assert_refused(second(region), MRP_ERR_STALE, "is free");
            assert_refused(mrp_region_retain(region), MRP_ERR_STALE, "is free");
        }
        destroy(f);
    }
}

/* By whichever thread. */
static void job_refused(void *argument)
{
    for (size_t i = 0; i < N_OF(free_functions); i++) {
        CHECK(free_functions[i](argument) == MRP_ERR_STALE);
    }
}

static void state_and_full__a_second_free_by_another_thread_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct partner partner;

    partner_start(&partner);
    for (int checks = MRP_CHECKS_STATE; checks <= MRP_CHECKS_FULL; checks++) {
        struct mrp_region *region;

        cache_create(f, (enum mrp_checks)checks, 0);
        region = pool_fixture_alloc(f, 200);
        partner_do(&partner, job_free, region);
        for (size_t i = 0; i < N_OF(free_functions); i++) {
            assert_refused(free_functions[i](region), MRP_ERR_STALE, "is free");
        }
        region = pool_fixture_alloc(f, 200);
        pool_fixture_free(region);
        partner_do(&partner, job_refused, region);
        destroy(f);
    }
    partner_stop(&partner);
}

/* The old owner's free hits the new one, whose own is then refused. */
static void state_and_full__a_free_past_reuse_leaves_one_to_be_refused(void **state)
{
    struct pool_fixture *f = *state;

    for (int checks = MRP_CHECKS_STATE; checks <= MRP_CHECKS_FULL; checks++) {
        struct mrp_region *old, *new;
        struct mrp_token token;

        cache_create(f, (enum mrp_checks)checks, 0);
        old = pool_fixture_alloc(f, 200);
        assert_int_equal(mrp_region_token(old, &token), MRP_OK);
        pool_fixture_free(old);
        new = pool_fixture_alloc(f, 200);
        assert_ptr_equal(old, new); /* last in, first out */
        assert_refused(mrp_token_resolve(f->pool, &token, &old), MRP_ERR_STALE, "");
        assert_int_equal(mrp_region_free(old), MRP_OK);
        assert_refused(mrp_region_free(new), MRP_ERR_STALE, "is free");
        assert_refused(mrp_region_free_inline(new), MRP_ERR_STALE, "is free");
        assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
        destroy(f);
    }
}

struct race {
    struct pool_fixture *f;
    _Atomic(struct mrp_region *) region;
    atomic_size_t round, n_done, n_won, n_lost;
    size_t n_rounds;
};

static void free_in_race(struct race *race, size_t round, size_t number)
{
    enum mrp_status status =
        free_functions[(round >> number) % N_OF(free_functions)](race->region);

    race->n_won += status == MRP_OK;
    race->n_lost += status == MRP_ERR_STALE;
    race->n_done++;
}

static void job_race(void *argument)
{
    struct race *race = argument;

    for (size_t round = 1; round <= race->n_rounds; round++) {
        while (race->round < round) {
            sched_yield();
        }
        free_in_race(race, round, 2);
    }
}

static void full__one_of_two_racing_frees_wins(void **state)
{
    struct race race = {.f = *state};
    struct partner partner;

    race.n_rounds = test_is_watched() ? 1000 : 10000;
    cache_create(race.f, MRP_CHECKS_FULL, 0);
    partner_start(&partner);
    partner_begin(&partner, job_race, &race);
    for (size_t round = 1; round <= race.n_rounds; round++) {
        race.region = pool_fixture_alloc(race.f, 200);
        race.round = round;
        free_in_race(&race, round, 0);
        while (race.n_done != 2 * round) {
            sched_yield();
        }
        assert_int_equal(race.n_won, round);
        assert_int_equal(race.n_lost, round);
    }
    partner_wait(&partner);
    partner_stop(&partner);
    assert_int_equal(pool_fixture_stats(race.f->pool).tiers[0].n_live, 0);
}

/* -- what is no region -- */

static void refuse(struct mrp_region *region)
{
    for (size_t i = 0; i < N_OF(free_functions); i++) {
        mrp_error_clear();
        if (free_functions[i](region) != MRP_ERR_STALE ||
            mrp_error_last()->status != MRP_ERR_STALE) {
            fail_msg("%p, function %zu: %s", (void *)region, i, mrp_error_last()->text);
        }
    }
}

static struct mrp_region *beside(const void *address, ptrdiff_t offset)
{
    return (struct mrp_region *)((uintptr_t)address + (uintptr_t)offset); /* NOLINT */
}

static void garbage__is_refused(void **state)
{
    struct pool_fixture *f = *state;
    _Alignas(64) char on_stack[256] = {0};
    char *on_heap = calloc(1, 4096);

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        struct mrp_region *region, *large;

        cache_create(f, (enum mrp_checks)checks, 0);
        region = mrp_region_alloc(f->pool, 200);
        large = mrp_region_alloc(f->pool, 5 * MRP_MIB);
        pool_fixture_free(mrp_region_alloc(f->pool, 200)); /* there is a cache */
        refuse(NULL);
        refuse(beside(on_stack, 0));
        refuse(beside(on_stack, 64));
        refuse(beside(on_heap, 0));
        refuse(beside(NULL, 64));
        refuse(beside(NULL, -64));
        for (ptrdiff_t offset = 1; offset < 64; offset++) {
            refuse(beside(region, offset));
            refuse(beside(large, offset));
        }
        for (size_t offset = 0; offset < MRP_DESCRIPTORS_OFFSET; offset += 65 * MRP_KIB) {
            refuse(beside(f->pool, (ptrdiff_t)mrp_align_down(offset, 64)));
        }
        refuse(beside(f->pool, -64));
        refuse(beside(f->pool, MRP_RANGE_SIZE - 64)); /* descriptors never cut */
        refuse(mrp_region_at(f->pool, f->pool->n_descriptors));
        refuse(mrp_region_at(f->pool, f->pool->n_descriptors + 1000));
        refuse(mrp_region_address(region));
        refuse((struct mrp_region *)(void *)f->context);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_int_equal(mrp_region_free(large), MRP_OK);
        destroy(f);
        refuse(region);
        refuse(large);
    }
    free(on_heap);
}

/* -- what has been overwritten, full -- */

/* Damage a descriptor in one of many ways. */
#define DAMAGES 10

static void damage(struct mrp_region *region, int how)
{
    switch (how) {
    case 0:
        region->offset += 64; /* in its own block */
        break;
    case 1:
        region->offset -= 64; /* in another */
        break;
    case 2:
        region->offset += 4096;
        break;
    case 3:
        region->offset = 0; /* in the tables */
        break;
    case 4:
        region->offset ^= INT64_C(1) << 45; /* nowhere */
        break;
    case 5:
        region->size_class++;
        break;
    case 6:
        region->size_class = 255;
        break;
    case 7:
        region->kind = MRP_REGION_LARGE;
        break;
    case 8:
        region->kind = 77;
        break;
    default:
        region->capacity *= 2;
        break;
    }
}

static void full__an_overwritten_live_region_is_found(void **state)
{
    struct pool_fixture *f = *state;

    cache_create(f, MRP_CHECKS_FULL, 0);
    for (int i = 0; i < 3 * DAMAGES; i++) { /* release does not verify */
        struct mrp_region *region = pool_fixture_alloc(f, 200), *next;
        struct mrp_region saved = *region;

        damage(region, i / 3);
        assert_refused(free_functions[i % 3](region), MRP_ERR_CORRUPT, "overwritten");
        next = pool_fixture_alloc(f, 200);
        assert_ptr_not_equal(next, region); /* it is not used again */
        pool_fixture_free(next);
        *region = saved;
        pool_fixture_free(region);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    }
}

static void full__an_overwritten_free_region_is_found(void **state)
{
    struct pool_fixture *f = *state;

    cache_create(f, MRP_CHECKS_FULL, 0);
    for (int i = 0; i <= DAMAGES; i++) {
        struct mrp_region *region = pool_fixture_alloc(f, 200), saved;

        pool_fixture_free(region);
        saved = *region;
        if (i == DAMAGES) {
            region->state = MRP_STATE_LIVE;
        } else {
            damage(region, i);
        }
        assert_none(mrp_region_alloc(f->pool, 200), MRP_ERR_CORRUPT, "overwritten");
        pool_fixture_free(pool_fixture_alloc(f, 200)); /* the next one is sound */
        *region = saved;
        mrp_depot_put(f->pool, region);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    }
}

/* -- references -- */

static void references__are_busy_where_they_are_counted(void **state)
{
    struct pool_fixture *f = *state;

    for (int checks = MRP_CHECKS_STATE; checks <= MRP_CHECKS_FULL; checks++) {
        struct mrp_region *region, *slice;

        cache_create(f, (enum mrp_checks)checks, 0);
        pool_fixture_free(pool_fixture_alloc(f, 200));
        region = pool_fixture_alloc(f, 200);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(mrp_region_retain(region), MRP_OK);
            assert_refused(free_functions[i](region), MRP_ERR_BUSY, "2 references");
            assert_int_equal(mrp_region_release(region), MRP_OK);
            assert_int_equal(mrp_region_slice(region, 0, 100, &slice), MRP_OK);
            assert_refused(free_functions[i](region), MRP_ERR_BUSY, "2 references");
            assert_int_equal(free_functions[i](slice), MRP_OK);
            assert_refused(free_functions[i](slice), MRP_ERR_STALE, "");
        }
        assert_int_equal(pool_fixture_query(region).references, 1);
        assert_int_equal(mrp_region_release(region), MRP_OK);
        destroy(f);
    }
}

static void none__the_last_reference_gives_the_region_back(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *slice;

    cache_create(f, MRP_CHECKS_NONE, 0);
    pool_fixture_free(mrp_region_alloc(f->pool, 200));
    region = mrp_region_alloc(f->pool, 200);
    assert_int_equal(mrp_region_retain(region), MRP_OK);
    assert_int_equal(mrp_region_release(region), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 1);
    assert_int_equal(mrp_region_slice(region, 0, 100, &slice), MRP_OK);
    assert_int_equal(mrp_region_release(region), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 1);
    assert_int_equal(mrp_region_free(slice), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_slices, 0);
}

/* The fast path reads and writes nothing of the descriptor. */
static void none__descriptors_are_left_alone(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, before;

    cache_create(f, MRP_CHECKS_NONE, 0);
    region = mrp_region_alloc(f->pool, 200);
    assert_int_equal(mrp_region_set_length(region, 77), MRP_OK);
    before = *region;
    for (size_t size = 193; size <= 256; size++) {
        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_ptr_equal(mrp_region_alloc(f->pool, size), region);
        assert_int_equal(mrp_region_free_inline(region), MRP_OK);
        assert_ptr_equal(mrp_region_alloc_inline(f->pool, size), region);
        assert_memory_equal(region, &before, sizeof before);
        assert_int_equal(mrp_region_size(region), 256);
        assert_int_equal(mrp_region_length(region), 77);
    }
    assert_int_equal(mrp_region_free(region), MRP_OK);
}

/* -- who is live -- */

#define HELD 300

struct leaks {
    const void *addresses[2 * HELD];
    size_t n;
};

static void note_leak(const struct mrp_leak *leak, void *user)
{
    struct leaks *leaks = user;

    if (leaks->n < N_OF(leaks->addresses)) {
        leaks->addresses[leaks->n++] = leak->address;
    }
}

static int order(const void *a, const void *b)
{
    uintptr_t left = *(const uintptr_t *)a, right = *(const uintptr_t *)b;

    return left < right ? -1 : left > right;
}

static const size_t mixed_sizes[] = {1, 64, 200, 3000, 20000, 70000, 300000};

struct holder {
    struct mrp_pool *pool;
    struct mrp_region *held[HELD];
    uint64_t seed;
};

/* Takes twice as many, of all sizes, and gives half of them back. */
static void job_hold(void *argument)
{
    struct holder *holder = argument;
    struct mrp_region *more[HELD];

    for (size_t i = 0; i < HELD; i++) {
        size_t size = mixed_sizes[i % N_OF(mixed_sizes)];

        holder->held[i] = mrp_region_alloc(holder->pool, size);
        more[i] = mrp_region_alloc(holder->pool, size);
        CHECK(holder->held[i] != NULL && more[i] != NULL);
    }
    for (size_t i = 0; i < HELD; i++) {
        if (pool_fixture_random(&holder->seed) % 2 == 0) {
            struct mrp_region *swapped = more[i];

            more[i] = holder->held[i];
            holder->held[i] = swapped;
        }
        CHECK(mrp_region_free(more[i]) == MRP_OK);
    }
}

static void check_stats(struct mrp_pool *pool)
{
    struct mrp_pool_stats stats = pool_fixture_stats(pool);
    size_t n_live = 0, live_size = 0, n_cached = 0, wanted_size = 0;

    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        n_live += stats.tiers[tier].n_live;
        live_size += stats.tiers[tier].live_size;
        n_cached += stats.tiers[tier].n_cached;
        assert_int_equal(stats.tiers[tier].n_live + stats.tiers[tier].n_free,
            stats.tiers[tier].n_regions);
        assert_true(stats.tiers[tier].n_cached <= stats.tiers[tier].n_free);
    }
    for (size_t i = 0; i < HELD; i++) {
        size_t size = mixed_sizes[i % N_OF(mixed_sizes)];

        wanted_size += 2 *
            (pool->checks == MRP_CHECKS_NONE ? cache_class(pool, size)->capacity : size);
    }
    assert_int_equal(n_live, 2 * HELD);
    assert_int_equal(live_size, wanted_size);
    assert_true((n_cached > 0) == (pool->checks != MRP_CHECKS_FULL));
    assert_int_equal(stats.n_threads, pool->checks == MRP_CHECKS_FULL ? 0 : 2);
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
}

static void check_leaks(
    struct leaks *leaks, const struct holder *one, const struct holder *other)
{
    const void *wanted[2 * HELD];

    for (size_t i = 0; i < HELD; i++) {
        wanted[i] = mrp_region_address(one->held[i]);
        wanted[HELD + i] = mrp_region_address(other->held[i]);
    }
    leaks->n = 0;
    assert_refused(mrp_pool_destroy(one->pool), MRP_ERR_LEAKED, "600 regions");
    assert_int_equal(leaks->n, 2 * HELD);
    qsort(wanted, N_OF(wanted), sizeof wanted[0], order);
    qsort(leaks->addresses, leaks->n, sizeof leaks->addresses[0], order);
    assert_memory_equal(wanted, leaks->addresses, sizeof wanted);
}

/* Whatever the checks, with caches in two threads. */
static void live__ones_are_counted_and_reported_exactly(void **state)
{
    static struct leaks leaks;
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;
    struct partner partner;

    (void)state;
    context_params.on_leak = note_leak;
    context_params.on_leak_user = &leaks;
    assert_int_equal(mrp_context_create(&context_params, &context), MRP_OK);
    partner_start(&partner);
    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        struct holder one = {.seed = 1}, other = {.seed = 2};

        params.max_bytes = MRP_GIB;
        params.checks = (uint32_t)checks;
        assert_int_equal(mrp_pool_create(context, &params, &one.pool), MRP_OK);
        other.pool = one.pool;
        job_hold(&one);
        partner_do(&partner, job_hold, &other);
        check_stats(one.pool);
        check_leaks(&leaks, &one, &other);
        refuse(one.held[0]);
    }
    partner_stop(&partner);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(none__a_second_free_is_found_by_pool_check),
        POOL_TEST(none__a_second_free_elsewhere_is_found_by_pool_check),
        POOL_TEST(none__a_second_free_without_caches_ends_nowhere_else),
        POOL_TEST(state_and_full__a_second_free_is_refused),
        POOL_TEST(state_and_full__a_second_free_by_another_thread_is_refused),
        POOL_TEST(state_and_full__a_free_past_reuse_leaves_one_to_be_refused),
        POOL_TEST(full__one_of_two_racing_frees_wins),
        POOL_TEST(garbage__is_refused),
        POOL_TEST(full__an_overwritten_live_region_is_found),
        POOL_TEST(full__an_overwritten_free_region_is_found),
        POOL_TEST(references__are_busy_where_they_are_counted),
        POOL_TEST(none__the_last_reference_gives_the_region_back),
        POOL_TEST(none__descriptors_are_left_alone),
        POOL_TEST(live__ones_are_counted_and_reported_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
