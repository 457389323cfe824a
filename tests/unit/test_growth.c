/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth: exactly how often memory is mapped and registered, by one thread and by many,
 * and where it ends.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <unistd.h>

/* Chunks of 16, 32, 64, 7 times 128 and the last 16 MiB. */
static void grow__a_gibibyte_of_64_kib_regions_is_11_registrations(void **state)
{
    static struct mrp_region *regions[16385];
    static const size_t mib[] = {16, 32, 64, 128, 128, 128, 128, 128, 128, 128, 16};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.n_rails = 2;
    params.max_bytes = MRP_GIB;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 16384; i++) {
        regions[i] = mrp_region_alloc(f->pool, 64 * MRP_KIB);
        assert_non_null(regions[i]);
    }
    assert_none(mrp_region_alloc(f->pool, 64 * MRP_KIB), MRP_ERR_LIMIT,
        "has mapped 1073741824 of at most 1073741824 bytes");
    for (size_t rail = 0; rail < 2; rail++) {
        assert_int_equal(f->networks[rail].n_register, 11);
        for (size_t i = 0; i < 11; i++) {
            assert_int_equal(f->networks[rail].events[i].size, mib[i] * MRP_MIB);
        }
    }
    pool_fixture_check_registrations(f, 2);
    assert_int_equal(mrp_region_free_many(regions, 16384, NULL), MRP_OK);
    assert_int_equal(mrp_region_alloc_many(f->pool, 64 * MRP_KIB, 16384, regions), 16384);
    assert_int_equal(mrp_region_free_many(regions, 16384, NULL), MRP_OK);
    assert_int_equal(f->networks[0].n_register, 11);
    assert_int_equal(f->networks[0].n_deregister, 0);
}

static void grow__chunks_double_from_chunk_min_to_chunk_max(void **state)
{
    static const size_t mib[] = {1, 2, 4, 4, 4};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[15];

    params.chunk_min = MRP_MIB;
    params.chunk_max = 4 * MRP_MIB;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 15; i++) {
        regions[i] = pool_fixture_alloc(f, MRP_MIB);
    }
    assert_int_equal(f->networks[0].n_register, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(f->networks[0].events[i].size, mib[i] * MRP_MIB);
    }
    assert_int_equal(mrp_region_free_many(regions, 15, NULL), MRP_OK);
}

/* A block larger than the planned chunk gets one it fits. */
static void grow__a_block_larger_than_chunk_max(void **state)
{
    static const size_t sizes[] = {100, 3 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.chunk_min = params.chunk_max = 256 * MRP_KIB;
    params.block_sizes = sizes;
    params.n_block_sizes = 2;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 3 * MRP_MIB);
    memset(mrp_region_address(region), 1, 3 * MRP_MIB);
    pool_fixture_free(region);
    pool_fixture_free(pool_fixture_alloc(f, 1));
    pool_fixture_check_registrations(f, 1);
}

/* -- many threads -- */

#define N_THREADS 8

struct racer {
    struct mrp_pool *pool;
    size_t size, count;
    pthread_barrier_t *start;
    struct mrp_region *regions[1000];
    size_t n_failed;
};

static void *race(void *argument)
{
    struct racer *racer = argument;

    pthread_barrier_wait(racer->start);
    for (size_t i = 0; i < racer->count; i++) {
        racer->regions[i] = mrp_region_alloc(racer->pool, racer->size);
        racer->n_failed += racer->regions[i] == NULL;
    }
    return NULL;
}

static void run_race(struct pool_fixture *f, size_t size, size_t count)
{
    static struct racer racers[N_THREADS];
    pthread_t threads[N_THREADS];
    pthread_barrier_t start;

    pthread_barrier_init(&start, NULL, N_THREADS);
    for (size_t i = 0; i < N_THREADS; i++) {
        racers[i] = (struct racer){.pool = f->pool, .count = count, .start = &start};
        racers[i].size = size != 0 ? size : (size_t)64 << i; /* 0: each its own */
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&start);
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(racers[i].n_failed, 0);
        assert_int_equal(mrp_region_free_many(racers[i].regions, count, NULL), MRP_OK);
    }
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
}

static void be_slow(struct test_provider *provider, void *address, size_t size)
{
    (void)provider;
    (void)address;
    (void)size;
    usleep(20000);
}

static void grow__8_threads_at_an_empty_tier_make_one_chunk(void **state)
{
    static const size_t sizes[] = {1, 5000, 64 * MRP_KIB, MRP_MIB};
    struct pool_fixture *f = *state;

    f->networks[0].on_register = be_slow; /* so that all of them come meanwhile */
    for (size_t i = 0; i < 4; i++) {
        pool_fixture_create(f, NULL);
        f->networks[0].n_register = 0;
        run_race(f, sizes[i], 1);
        assert_int_equal(f->networks[0].n_register, 1);
        assert_int_equal(pool_fixture_stats(f->pool).n_chunks, 1);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* Nor do they cut more than one of them would. */
static void grow__8_threads_cut_one_slab(void **state)
{
    struct pool_fixture *f = *state;
    size_t n_regions;

    f->networks[0].on_register = be_slow;
    pool_fixture_create(f, NULL);
    pool_fixture_free(pool_fixture_alloc(f, 1));
    n_regions = pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].n_regions;
    assert_true(n_regions >= N_THREADS);
    for (size_t round = 0; round < 20; round++) {
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        pool_fixture_create(f, NULL);
        run_race(f, 1, 1);
        assert_int_equal(
            pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].n_regions, n_regions);
    }
}

/* Each thread of another class: they still share what the first one of them maps. */
static void grow__8_classes_at_once_make_one_chunk(void **state)
{
    struct pool_fixture *f = *state;

    f->networks[0].on_register = be_slow;
    pool_fixture_create(f, NULL);
    run_race(f, 0, 1);
    assert_int_equal(f->networks[0].n_register, 1);
    assert_int_equal(pool_fixture_stats(f->pool).n_chunks, 1);
}

/* 8 x 512 regions of 64 KiB: 256 MiB in chunks of 16, 32, 64, 128 and 128 MiB. */
static void grow__8_threads_make_as_many_chunks_as_one(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = MRP_GIB;
    pool_fixture_create(f, &params);
    run_race(f, 64 * MRP_KIB, 512);
    assert_int_equal(f->networks[0].n_register, 5);
    run_race(f, 64 * MRP_KIB, 512);
    assert_int_equal(f->networks[0].n_register, 5);
}

static void *take_and_free_10(void *argument)
{
    struct racer *racer = argument;

    for (size_t i = 0; i < 10; i++) {
        racer->regions[i] = mrp_region_alloc(racer->pool, 8 * MRP_MIB);
    }
    return (void *)(uintptr_t)(mrp_region_free_many(racer->regions, 10, NULL) == MRP_OK);
}

static void take_turns_with_10_buffers(struct pool_fixture *f)
{
    static struct racer racer;
    pthread_t thread;
    void *is_fine;

    racer.pool = f->pool;
    for (size_t i = 0; i < 10 * 5; i++) {
        assert_int_equal(pthread_create(&thread, NULL, take_and_free_10, &racer), 0);
        pthread_join(thread, &is_fine);
        assert_non_null(is_fine);
    }
    assert_int_equal(f->networks[0].n_register, 10);
    assert_int_equal(f->networks[0].n_deregister, 0);
}

static void large__10_buffers_of_8_mib_in_threads_in_turn(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    take_turns_with_10_buffers(f);
}

/* The same where nothing would be kept otherwise. */
static void large__10_buffers_of_8_mib_that_never_go(void **state)
{
    struct mrp_retention_params nothing = MRP_RETENTION_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    assert_int_equal(mrp_context_retain(f->context, &nothing), MRP_OK);
    params.never_free = true;
    pool_fixture_create(f, &params);
    take_turns_with_10_buffers(f);
}

/* A progress thread must not stand behind the one that registers. */
struct held {
    struct pool_fixture *f;
    pthread_barrier_t inside, leave;
};

static void hold(struct test_provider *provider, void *address, size_t size)
{
    struct held *held = provider->hook_user;

    (void)address;
    (void)size;
    pthread_barrier_wait(&held->inside);
    pthread_barrier_wait(&held->leave);
}

static void *grow_once(void *argument)
{
    struct held *held = argument;

    return mrp_region_alloc(held->f->pool, 64 * MRP_KIB);
}

static void grow__nowait_passes_a_thread_that_registers(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    struct held held = {.f = f};
    struct mrp_region *small;
    struct mrp_region_request nogrow = MRP_REGION_REQUEST_INIT;
    pthread_t thread;
    void *region;

    pool_fixture_create(f, NULL);
    small = pool_fixture_alloc(f, MRP_MIB + 1);
    pthread_barrier_init(&held.inside, NULL, 2);
    pthread_barrier_init(&held.leave, NULL, 2);
    f->networks[0].hook_user = &held;
    f->networks[0].on_register = hold;
    assert_int_equal(pthread_create(&thread, NULL, grow_once, &held), 0);
    pthread_barrier_wait(&held.inside);
    request.flags = MRP_REQUEST_NOWAIT;
    nogrow.flags = MRP_REQUEST_NOGROW;
    assert_none(
        mrp_region_alloc_with(f->pool, 64 * MRP_KIB, &request), MRP_ERR_AGAIN, "");
    assert_none(mrp_region_alloc_with(f->pool, 10, &nogrow), MRP_ERR_AGAIN, "");
    pool_fixture_free(small); /* nobody is held up */
    pool_fixture_free(pool_fixture_alloc(f, MRP_MIB + 1));
    pthread_barrier_wait(&held.leave);
    pthread_join(thread, &region);
    assert_non_null(region);
    pool_fixture_free(region);
    f->networks[0].on_register = NULL;
    pthread_barrier_destroy(&held.inside);
    pthread_barrier_destroy(&held.leave);
}

/* -- budgets -- */

static void cap__max_bytes_is_never_passed(void **state)
{
    static struct mrp_region *regions[100000];
    static const size_t budgets[] = {
        256 * MRP_KIB, 300 * MRP_KIB, 3 * MRP_MIB, 8 * MRP_MIB, 13 * MRP_MIB};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 5; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        struct mrp_pool_stats stats;
        uint64_t seed = i;
        size_t n = 0;

        params.max_bytes = budgets[i];
        pool_fixture_create(f, &params);
        while (n < 100000) {
            size_t size = (size_t)1 << pool_fixture_random(&seed) % 19;

            regions[n] = mrp_region_alloc(f->pool, size);
            stats = pool_fixture_stats(f->pool);
            assert_true(stats.mapped_size <= budgets[i]);
            if (regions[n] == NULL) {
                break;
            }
            n++;
        }
        assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
        assert_non_null(strstr(mrp_error_last()->text, "raise max_bytes"));
        assert_true(stats.mapped_size >= budgets[i] / 2);
        assert_int_equal(f->networks[0].live_size, stats.mapped_size);
        assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
        assert_int_equal(mrp_region_alloc_many(f->pool, 0, 100, regions), 100);
        assert_int_equal(mrp_region_free_many(regions, 100, NULL), MRP_OK);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void cap__max_registrations_is_never_passed(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[10];
    size_t n = 0;

    params.max_registrations = 3;
    params.chunk_min = params.chunk_max = MRP_MIB;
    pool_fixture_create(f, &params);
    while (n < 10 && (regions[n] = mrp_region_alloc(f->pool, MRP_MIB)) != NULL) {
        n++;
    }
    assert_int_equal(n, 3);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_non_null(
        strstr(mrp_error_last()->text, "3 of 3 registrations on rail 0 (first)"));
    assert_non_null(strstr(mrp_error_last()->text, "MRPOOL_MAX_REGISTRATIONS"));
    assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_LIMIT, "3 of 3");
    assert_int_equal(f->networks[0].n_register, 3);
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
}

static void cap__idle_memory_makes_room_for_chunks(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[8];

    params.max_bytes = 8 * MRP_MIB;
    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 8 * MRP_MIB));
    assert_int_equal(pool_fixture_stats(f->pool).idle_size, 8 * MRP_MIB);
    regions[0] = pool_fixture_alloc(f, MRP_MIB);
    assert_int_equal(pool_fixture_stats(f->pool).n_evictions, 1);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    for (size_t i = 1; i < 8; i++) {
        regions[i] = pool_fixture_alloc(f, MRP_MIB);
    }
    assert_none(mrp_region_alloc(f->pool, MRP_MIB), MRP_ERR_LIMIT, "");
    assert_int_equal(mrp_region_free_many(regions, 8, NULL), MRP_OK);
}

/* A network that can hold less than asked for gives what it has. */
static void cap__limits_of_the_network_are_told(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[3];

    f->networks[0].hidden_limit = 2;
    params.chunk_min = params.chunk_max = MRP_MIB;
    pool_fixture_create(f, &params);
    regions[0] = pool_fixture_alloc(f, MRP_MIB);
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB));
    regions[1] = pool_fixture_alloc(f, MRP_MIB); /* after the idle one has gone */
    assert_none(mrp_region_alloc(f->pool, MRP_MIB), MRP_ERR_LIMIT,
        "2 registrations are the limit");
    pool_fixture_check_registrations(f, 1);
    assert_int_equal(mrp_region_free_many(regions, 2, NULL), MRP_OK);
    regions[2] = pool_fixture_alloc(f, MRP_MIB);
    pool_fixture_free(regions[2]);
}

/* A full network is relieved of whatever is idle, of any pool. */
static void cap__idle_memory_of_another_pool_makes_room(void **state)
{
    static char memory[100];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[3];
    struct mrp_pool *other;

    f->networks[0].hidden_limit = 1;
    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_create(f->context, &params, &other), MRP_OK);
    for (size_t i = 0; i < 3; i++) {
        struct mrp_region *idle = mrp_region_alloc(other, 2 * MRP_MIB);

        assert_non_null(idle);
        assert_int_equal(mrp_region_free(idle), MRP_OK);
        if (i == 0) {
            assert_int_equal(
                mrp_region_register(f->pool, memory, 100, NULL, &regions[i]), MRP_OK);
        } else {
            regions[i] = pool_fixture_alloc(f, i == 1 ? 3 * MRP_MIB : 100);
        }
        assert_int_equal(pool_fixture_stats(other).n_evictions, i + 1);
        pool_fixture_free(regions[i]);
        assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    }
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(grow__a_gibibyte_of_64_kib_regions_is_11_registrations),
        POOL_TEST(grow__chunks_double_from_chunk_min_to_chunk_max),
        POOL_TEST(grow__a_block_larger_than_chunk_max),
        POOL_TEST(grow__8_threads_at_an_empty_tier_make_one_chunk),
        POOL_TEST(grow__8_threads_cut_one_slab),
        POOL_TEST(grow__8_classes_at_once_make_one_chunk),
        POOL_TEST(grow__8_threads_make_as_many_chunks_as_one),
        POOL_TEST(large__10_buffers_of_8_mib_in_threads_in_turn),
        POOL_TEST(large__10_buffers_of_8_mib_that_never_go),
        POOL_TEST(grow__nowait_passes_a_thread_that_registers),
        POOL_TEST(cap__max_bytes_is_never_passed),
        POOL_TEST(cap__max_registrations_is_never_passed),
        POOL_TEST(cap__idle_memory_makes_room_for_chunks),
        POOL_TEST(cap__idle_memory_of_another_pool_makes_room),
        POOL_TEST(cap__limits_of_the_network_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
