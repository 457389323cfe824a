/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Standing in line at the limit: who waits, how long, in which order they are served, and
 * what wakes them.
 */
#include "gate.h"
#include "waiting.h"

#define PAGE 4096
#define BLOCK (64 * MRP_KIB)
#define N_BLOCKS (CHUNK / BLOCK)

static struct mrp_region *regions[4 * PAGES_OF(1)];

static void create_to_wait(struct pool_fixture *f, size_t n_chunks, uint32_t wait_ms)
{
    struct mrp_pool_params params = small_chunks_params(f, n_chunks);

    params.at_limit = MRP_AT_LIMIT_WAIT;
    params.wait_ms = wait_ms;
    pool_fixture_create(f, &params);
}

/* -- whether and how long -- */

static void wait__ends_at_the_deadline_and_says_why(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_stats stats;
    uint64_t begin;

    create_to_wait(f, 1, 60);
    take_all(f, regions, N_BLOCKS, BLOCK);
    begin = clock_ms();
    assert_none(mrp_region_alloc(f->pool, BLOCK), MRP_ERR_LIMIT, "waited 60 ms");
    assert_true(clock_ms() - begin >= 60);
    assert_non_null(strstr(mrp_error_last()->text, "raise max_bytes"));
    assert_non_null(strstr(mrp_error_last()->text, "1048576"));
    assert_non_null(strstr(mrp_error_last()->text, "65536 bytes"));
    assert_non_null(strstr(mrp_error_last()->text, "waits in vain"));
    begin = clock_ms();
    assert_none(mrp_region_alloc(f->pool, 3 * MRP_MIB), MRP_ERR_LIMIT, "");
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.n_waiting, 0);
    assert_true(stats.n_waits >= 1);
    give_all(f, regions, N_BLOCKS);
}

static void wait__is_the_requests_wish_before_the_pools(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    uint64_t begin = clock_ms();

    small_chunks_create(f, 1); /* fails at the limit */
    take_all(f, regions, N_BLOCKS, BLOCK);
    assert_none(mrp_region_alloc(f->pool, BLOCK), MRP_ERR_LIMIT, "max_bytes");
    assert_null(strstr(mrp_error_last()->text, "waited"));
    assert_int_equal(pool_fixture_stats(f->pool).n_waits, 0);
    request.wait_ms = 40;
    begin = clock_ms();
    assert_none(mrp_region_alloc_with(f->pool, BLOCK, &request), MRP_ERR_LIMIT, "40 ms");
    assert_true(clock_ms() - begin >= 40);
    assert_int_equal(pool_fixture_stats(f->pool).n_waits, 1);
    give_all(f, regions, N_BLOCKS);
}

static void wait__never_with_nowait_or_nogrow(void **state)
{
    static const uint32_t flags[] = {
        MRP_REQUEST_NOWAIT, MRP_REQUEST_NOGROW, MRP_REQUEST_NOGROW | MRP_REQUEST_NOWAIT};
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;

    create_to_wait(f, 1, LONG_MS);
    take_all(f, regions, N_BLOCKS, BLOCK);
    for (size_t i = 0; i < 3; i++) {
        request.flags = flags[i];
        request.wait_ms = i % 2 == 0 ? 0 : UINT32_MAX;
        assert_none(
            mrp_region_alloc_with(f->pool, BLOCK, &request), MRP_ERR_AGAIN, "pool");
        assert_none(
            mrp_region_alloc_with(f->pool, 2 * CHUNK, &request), MRP_ERR_AGAIN, "pool");
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_waits, 0);
    give_all(f, regions, N_BLOCKS);
}

/* What will never fit is refused at the deadline at the latest, not waited for for ever. */
static void wait__refuses_at_once_what_is_no_matter_of_room(void **state)
{
    struct pool_fixture *f = *state;

    create_to_wait(f, 1, LONG_MS);
    assert_none(mrp_region_alloc(f->pool, SIZE_MAX), MRP_ERR_INVALID, "");
    assert_none(mrp_region_alloc(NULL, 1), MRP_ERR_STALE, "");
    assert_int_equal(pool_fixture_stats(f->pool).n_waits, 0);
}

/* -- in which order -- */

static void line__serves_one_class_in_order_of_arrival(void **state)
{
    static struct request requests[5];
    struct pool_fixture *f = *state;

    create_to_wait(f, 1, LONG_MS);
    take_all(f, regions, N_BLOCKS, BLOCK);
    atomic_store(&n_ended, 0);
    for (size_t i = 0; i < 5; i++) {
        request_begin(&requests[i], f, BLOCK, 0);
    }
    for (size_t i = 0; i < 5; i++) {
        pool_fixture_free(regions[i]);
        assert_ptr_equal(request_get(&requests[i]), regions[i]);
        assert_int_equal(requests[i].order, i + 1);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_waits, 5);
    for (size_t i = 0; i < 5; i++) {
        pool_fixture_free(requests[i].region);
    }
    give_all(f, regions + 5, N_BLOCKS - 5);
}

/* A slab's worth of room at a time: the first of whatever class has it. */
static void line__offers_room_in_order_of_arrival(void **state)
{
    static const size_t sizes[] = {16 * MRP_KIB, 8 * MRP_KIB, 1024, 12 * MRP_KIB};
    static struct request requests[4];
    struct pool_fixture *f = *state;

    create_to_wait(f, 1, LONG_MS);
    take_all(f, regions, PAGES_OF(1), PAGE);
    atomic_store(&n_ended, 0);
    for (size_t i = 0; i < 4; i++) {
        request_begin(&requests[i], f, sizes[i], 0);
    }
    for (size_t i = 0; i < 3; i++) { /* the fourth needs three slabs */
        for (size_t j = 0; j < 4; j++) {
            assert_false(request_is_over(&requests[i]));
            pool_fixture_free(regions[i * 4 + j]);
        }
        assert_non_null(request_get(&requests[i]));
        assert_int_equal(requests[i].order, i + 1);
    }
    assert_false(request_is_over(&requests[3]));
    for (size_t i = 12; i < 60; i++) {
        pool_fixture_free(regions[i]);
    }
    assert_non_null(request_get(&requests[3]));
    for (size_t i = 0; i < 4; i++) {
        pool_fixture_free(requests[i].region);
    }
    give_all(f, regions + 60, PAGES_OF(1) - 60);
}

static void line__one_that_gives_up_does_not_hold_up_the_others(void **state)
{
    static struct request first, second;
    struct pool_fixture *f = *state;

    small_chunks_create(f, 1);
    take_all(f, regions, N_BLOCKS, BLOCK);
    request_begin(&first, f, CHUNK, 500);
    request_begin(&second, f, BLOCK, LONG_MS);
    assert_null(request_end(&first));
    assert_int_equal(first.error.status, MRP_ERR_LIMIT);
    assert_true(first.waited_ms >= 500);
    pool_fixture_free(regions[0]);
    pool_fixture_free(request_get(&second));
    give_all(f, regions + 1, N_BLOCKS - 1);
}

/* The newcomer does not take what the first in line waits for. */
static void line__newcomers_stand_behind(void **state)
{
    static struct request first, newcomer;
    struct pool_fixture *f = *state;

    small_chunks_create(f, 1);
    take_all(f, regions, N_BLOCKS, BLOCK);
    request_begin(&first, f, BLOCK, LONG_MS);
    request_begin(&newcomer, f, BLOCK, LONG_MS);
    pool_fixture_free(regions[0]);
    assert_ptr_equal(request_get(&first), regions[0]);
    assert_false(request_is_over(&newcomer));
    pool_fixture_free(first.region);
    pool_fixture_free(request_get(&newcomer));
    give_all(f, regions + 1, N_BLOCKS - 1);
}

/* One in line has been offered room, and is at it: what is left is for those who wait, not
 * for who comes now, of whatever size. */
static void line__newcomers_take_no_room_that_is_offered(void **state)
{
    static struct request first;
    struct pool_fixture *f = *state;
    struct gate gate;

    gate_init(&gate, 3); /* its registration */
    gate_at(&f->networks[0], &gate);
    small_chunks_create(f, 4);
    take_all(f, regions, 2, 2 * CHUNK);
    request_begin(&first, f, CHUNK + 1, LONG_MS);
    pool_fixture_free(regions[0]);
    gate_await(&gate);
    assert_none(mrp_region_alloc(f->pool, 64), MRP_ERR_LIMIT, "1 requests stand in line");
    assert_none(
        mrp_region_alloc(f->pool, 2 * CHUNK), MRP_ERR_LIMIT, "1 requests stand in line");
    gate_open(&gate);
    pool_fixture_free(request_get(&first));
    pool_fixture_free(pool_fixture_alloc(f, 64));
    pool_fixture_free(regions[1]);
}

/* -- what wakes -- */

static void wake__by_a_free_of_the_class_by_any_thread(void **state)
{
    static struct request request;
    struct pool_fixture *f = *state;

    small_chunks_create(f, 1);
    take_all(f, regions, PAGES_OF(1), PAGE);
    for (size_t i = 0; i < 3; i++) {
        request_begin(&request, f, PAGE, LONG_MS);
        if (i == 0) {
            pool_fixture_free(regions[i]);
        } else if (i == 1) {
            assert_int_equal(mrp_region_free_many(&regions[i], 1, NULL), MRP_OK);
        } else {
            assert_int_equal(mrp_region_release(regions[i]), MRP_OK);
        }
        regions[i] = request_get(&request);
    }
    give_all(f, regions, PAGES_OF(1));
}

static void wake__by_a_slab_of_another_class(void **state)
{
    static struct request request;
    struct pool_fixture *f = *state;

    small_chunks_create(f, 1);
    take_all(f, regions, PAGES_OF(1), PAGE);
    request_begin(&request, f, 16 * MRP_KIB, LONG_MS);
    for (size_t i = 8; i < 11; i++) {
        pool_fixture_free(regions[i]);
    }
    assert_false(request_is_over(&request));
    pool_fixture_free(regions[11]);
    pool_fixture_free(request_get(&request));
    give_all(f, regions, 8);
    give_all(f, regions + 12, PAGES_OF(1) - 12);
}

static void wake__by_a_chunk_for_one_larger_than_huge(void **state)
{
    static struct request request;
    struct pool_fixture *f = *state;

    small_chunks_create(f, 4);
    take_all(f, regions, PAGES_OF(4), PAGE);
    request_begin(&request, f, 2 * CHUNK, LONG_MS);
    give_all(f, regions, PAGES_OF(1));
    assert_false(request_is_over(&request));
    give_all(f, regions + PAGES_OF(1), PAGES_OF(1));
    pool_fixture_free(request_get(&request));
    give_all(f, regions + PAGES_OF(2), PAGES_OF(2));
}

static void wake__by_one_larger_than_huge(void **state)
{
    static struct request small, large;
    struct pool_fixture *f = *state;

    small_chunks_create(f, 4);
    take_all(f, regions, 2, 2 * CHUNK);
    request_begin(&small, f, PAGE, LONG_MS);
    pool_fixture_free(regions[0]);
    regions[0] = request_get(&small);
    request_begin(&large, f, 2 * CHUNK, LONG_MS);
    pool_fixture_free(regions[1]);
    pool_fixture_free(request_get(&large));
    pool_fixture_free(regions[0]);
}

static void wake__by_memory_of_the_callers_that_is_deregistered(void **state)
{
    static char memory[3][5000];
    static struct request request;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 8);

    params.max_registrations = 3;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(
            mrp_region_register(f->pool, memory[i], 5000, NULL, &regions[i]), MRP_OK);
    }
    assert_none(mrp_region_alloc(f->pool, PAGE), MRP_ERR_LIMIT, "max_registrations");
    request_begin(&request, f, PAGE, LONG_MS);
    pool_fixture_free(regions[1]);
    regions[1] = request_get(&request);
    give_all(f, regions, 3);
}

/* -- threads with caches -- */

struct keeper {
    struct pool_fixture *f;
    struct mrp_region *regions[PAGES_OF(1)];
    size_t n;
};

static void keep_some(void *argument)
{
    struct keeper *keeper = argument;

    for (size_t i = 0; i < keeper->n; i++) {
        CHECK(mrp_region_free(keeper->regions[i]) == MRP_OK);
    }
}

static void flush(void *argument)
{
    struct keeper *keeper = argument;

    CHECK(mrp_thread_flush(keeper->f->pool) == MRP_OK);
}

/* Regions in the caches of a thread that does nothing: its flush, or its end, wakes. */
static void check_wakes_by_a_threads_cache(struct pool_fixture *f, size_t size, bool ends)
{
    static struct request request;
    static struct keeper keeper;
    struct mrp_pool_params params;
    struct partner partner;

    params = small_chunks_params(f, 1);
    params.debug = MRP_DEBUG_OFF; /* caches, whatever watches */
    pool_fixture_create(f, &params);
    take_all(f, regions, PAGES_OF(1), PAGE);
    keeper = (struct keeper){.f = f, .n = 8};
    memcpy(keeper.regions, regions, 8 * sizeof regions[0]);
    partner_start(&partner);
    partner_do(&partner, keep_some, &keeper);
    if (pool_fixture_stats(f->pool).cached_size == 8 * PAGE) {
        request_begin(&request, f, size, LONG_MS);
        assert_false(request_is_over(&request));
        if (ends) {
            partner_stop(&partner);
        } else {
            partner_do(&partner, flush, &keeper);
        }
        pool_fixture_free(request_get(&request));
        assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
    } else {
        test_skip("wake__by_a_thread", "no thread caches");
        ends = false;
    }
    if (!ends) {
        partner_stop(&partner);
    }
    give_all(f, regions + 8, PAGES_OF(1) - 8);
}

static void wake__by_a_thread_that_flushes(void **state)
{
    check_wakes_by_a_threads_cache(*state, PAGE, false);
}

static void wake__by_a_thread_that_flushes_a_slab(void **state)
{
    check_wakes_by_a_threads_cache(*state, 16 * MRP_KIB, false);
}

static void wake__by_a_thread_that_ends(void **state)
{
    check_wakes_by_a_threads_cache(*state, PAGE, true);
}

static void wake__by_a_thread_that_ends_and_leaves_a_slab(void **state)
{
    check_wakes_by_a_threads_cache(*state, 16 * MRP_KIB, true);
}

/* -- at once -- */

/* The head of the line looks by itself ten times a second, here 80 ms later: the quickest of
 * many wake-ups tells that it does not come to that. */
static void check_wakes_at_once(struct pool_fixture *f, size_t size, size_t n_freed)
{
    static struct request request;
    uint64_t shortest = UINT64_MAX;

    small_chunks_create(f, 1);
    take_all(f, regions, PAGES_OF(1), PAGE);
    for (size_t i = 0; i < 20 && shortest > 40; i++) {
        uint64_t begin;

        request_begin(&request, f, size, LONG_MS);
        begin = clock_ms();
        for (size_t j = 0; j < n_freed; j++) {
            pool_fixture_free(regions[j]);
        }
        partner_wait(&request.partner);
        shortest = mrp_min(shortest, clock_ms() - begin);
        pool_fixture_free(request_get(&request));
        assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
        take_all(f, regions, n_freed, PAGE);
    }
    assert_in_range(shortest, 0, 40);
    give_all(f, regions, PAGES_OF(1));
}

static void wake__at_once_by_a_region(void **state)
{
    check_wakes_at_once(*state, PAGE, 1);
}

static void wake__at_once_by_room(void **state)
{
    check_wakes_at_once(*state, 16 * MRP_KIB, 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(wait__ends_at_the_deadline_and_says_why),
        POOL_TEST(wait__is_the_requests_wish_before_the_pools),
        POOL_TEST(wait__never_with_nowait_or_nogrow),
        POOL_TEST(wait__refuses_at_once_what_is_no_matter_of_room),
        POOL_TEST(line__serves_one_class_in_order_of_arrival),
        POOL_TEST(line__offers_room_in_order_of_arrival),
        POOL_TEST(line__one_that_gives_up_does_not_hold_up_the_others),
        POOL_TEST(line__newcomers_stand_behind),
        POOL_TEST(line__newcomers_take_no_room_that_is_offered),
        POOL_TEST(wake__by_a_free_of_the_class_by_any_thread),
        POOL_TEST(wake__by_a_slab_of_another_class),
        POOL_TEST(wake__by_a_chunk_for_one_larger_than_huge),
        POOL_TEST(wake__by_one_larger_than_huge),
        POOL_TEST(wake__by_memory_of_the_callers_that_is_deregistered),
        POOL_TEST(wake__by_a_thread_that_flushes),
        POOL_TEST(wake__by_a_thread_that_flushes_a_slab),
        POOL_TEST(wake__by_a_thread_that_ends),
        POOL_TEST(wake__by_a_thread_that_ends_and_leaves_a_slab),
        POOL_TEST(wake__at_once_by_a_region),
        POOL_TEST(wake__at_once_by_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
