/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Room: what a request may cost others, who is waited for, and what a chunk has to hold.
 */
#include "context/wire.h"
#include "pool/pool.h"
#include "support/pool_fixture.h"

#include <pthread.h>
#include <unistd.h>

#define N_IDLE 4

/* A pool of 16 MiB with N_IDLE idle chunks of 2 MiB. */
static void create_with_idle(struct pool_fixture *f)
{
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[N_IDLE];

    params.max_bytes = 16 * MRP_MIB;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < N_IDLE; i++) {
        regions[i] = pool_fixture_alloc(f, 2 * MRP_MIB);
    }
    for (size_t i = 0; i < N_IDLE; i++) {
        pool_fixture_free(regions[i]);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, N_IDLE);
}

static void charge__a_hopeless_request_costs_no_idle_memory(void **state)
{
    struct pool_fixture *f = *state;

    create_with_idle(f);
    assert_none(mrp_region_alloc(f->pool, MRP_GIB), MRP_ERR_LIMIT, "can never fit");
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, N_IDLE);
    assert_int_equal(f->networks[0].n_deregister, 0);
}

static void charge__gives_up_no_more_idle_memory_than_it_takes(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    create_with_idle(f);
    region = pool_fixture_alloc(f, 10 * MRP_MIB); /* 8 MiB are free, 8 idle */
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, N_IDLE - 1);
    pool_fixture_free(region);
}

/* -- memory in an evictor's hands -- */

static atomic_bool is_evicting;

static void deregister_slowly(struct test_provider *network, void *address, size_t size)
{
    (void)network;
    (void)address;
    (void)size;
    atomic_store(&is_evicting, true);
    usleep(100 * 1000);
}

static void *trim(void *context)
{
    return (void *)(intptr_t)mrp_context_trim(context, 0);
}

static void charge__waits_for_memory_that_another_thread_gives_up(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    pthread_t thread;
    void *status;

    create_with_idle(f);
    atomic_store(&is_evicting, false);
    f->networks[0].on_deregister = deregister_slowly;
    assert_int_equal(pthread_create(&thread, NULL, trim, f->context), 0);
    while (!atomic_load(&is_evicting)) {
        usleep(1000);
    }
    region = pool_fixture_alloc(f, 15 * MRP_MIB);
    assert_int_equal(pthread_join(thread, &status), 0);
    assert_null(status);
    f->networks[0].on_deregister = NULL;
    pool_fixture_free(region);
}

/* -- what a chunk has to hold -- */

static void grow__blocks_that_no_granule_divides(void **state)
{
    static const size_t sizes[] = {
        20 * MRP_MIB + 64, 33 * MRP_MIB + 64, 40 * MRP_MIB + 64};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        struct mrp_region *regions[64];
        size_t n = 0;

        params.max_bytes = MRP_GIB;
        params.block_sizes = &sizes[i];
        params.n_block_sizes = 1;
        pool_fixture_create(f, &params);
        while (n < 64 && (regions[n] = mrp_region_alloc(f->pool, sizes[i])) != NULL) {
            n++;
        }
        assert_in_range(n, MRP_GIB / sizes[i] * 3 / 4, MRP_GIB / sizes[i]);
        assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* -- handles that outlive their pool -- */

static void destroy__late_free_never_meets_another_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *late, *other;

    pool_fixture_create(f, NULL);
    late = pool_fixture_alloc(f, 100);
    assert_refused(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED, "1 regions");
    for (size_t i = 0; i < 4; i++) {
        pool_fixture_create(f, NULL);
        other = pool_fixture_alloc(f, 100);
        assert_ptr_not_equal(other, late);
        assert_refused(mrp_region_free(late), MRP_ERR_STALE, "has been destroyed");
        pool_fixture_free(other);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* -- a forged token -- */

static void token__of_bytes_beyond_its_chunk_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *first, *second, *found;
    struct mrp_wire_token fields;
    struct mrp_token token;

    pool_fixture_create(f, NULL);
    first = pool_fixture_alloc(f, 2 * MRP_MIB);
    second = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_token(second, &token), MRP_OK);
    assert_int_equal(mrp_token_decode(&token, &fields), MRP_OK);
    fields.offset +=
        (uintptr_t)mrp_region_address(first) - (uintptr_t)mrp_region_address(second);
    fields.offset &= ((uint64_t)1 << 48) - 1;
    mrp_token_encode(&fields, &token);
    assert_refused(mrp_token_resolve(f->pool, &token, &found), MRP_ERR_STALE, "token");
    pool_fixture_free(first);
    pool_fixture_free(second);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(charge__a_hopeless_request_costs_no_idle_memory),
        POOL_TEST(charge__gives_up_no_more_idle_memory_than_it_takes),
        POOL_TEST(charge__waits_for_memory_that_another_thread_gives_up),
        POOL_TEST(grow__blocks_that_no_granule_divides),
        POOL_TEST(destroy__late_free_never_meets_another_pool),
        POOL_TEST(token__of_bytes_beyond_its_chunk_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
