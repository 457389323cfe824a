/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What once went wrong between threads, or nearly did: found by reading, by a model or by
 * another test. Each case says what would happen again.
 */
#include "mrpool/thread.h"
#include "pool/pool.h"
#include "stress.h"

#include <sched.h>

#define BLOCK (2 * MRP_KIB)
#define REGIONS_MAX 1024

struct load {
    struct stress_world world;
    struct mrp_region *regions[REGIONS_MAX];
    size_t n_regions; /* as many as the pool has */
    size_t magazine; /* regions in one */
    _Atomic(struct mrp_pool *) pool;
    atomic_size_t n_done;
    size_t rounds;
};

/* A pool at its cap, all of whose regions of BLOCK bytes the caller has. */
static void create_dry(struct load *load)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    const struct mrp_pool *pool;

    memset(load, 0, sizeof *load);
    params.chunk_min = params.chunk_max = params.max_bytes = 512 * MRP_KIB;
    params.thread_cache_size = 4 * MRP_MIB;
    stress_create(&load->world, &params);
    pool = load->world.pool;
    load->magazine =
        pool->classes.classes[mrp_class_of(&pool->classes, BLOCK)].magazine_capacity;
    load->n_regions =
        mrp_region_alloc_many(load->world.pool, BLOCK, REGIONS_MAX, load->regions);
    assert_in_range(load->n_regions, 4 * load->magazine, REGIONS_MAX - 1);
    /* that ended with a refusal: answered, so that caches are in use again */
    assert_int_equal(mrp_region_free(load->regions[0]), MRP_OK);
    load->regions[0] = mrp_region_alloc(load->world.pool, BLOCK);
    assert_non_null(load->regions[0]);
}

static void end_dry(struct load *load)
{
    assert_int_equal(mrp_region_free_many(load->regions, load->n_regions, NULL), MRP_OK);
    stress_check_pool(&load->world);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(stress_stats(load->world.pool).n_threads, 0);
    stress_destroy(&load->world);
}

/* The step of one thread between two of the main one. */
static void run_beside(void (*work)(struct stress_thread *), struct load *load)
{
    stress_run(1, work, load);
}

/* -- a thread with a full second magazine is not refused -- */

static void be_refused(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    STRESS_CHECK(mrp_region_alloc(load->world.pool, BLOCK) == NULL);
    STRESS_CHECK(mrp_error_last()->status == MRP_ERR_LIMIT);
}

static void give_and_take_one(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region **last = &load->regions[load->n_regions - 1];

    STRESS_CHECK(mrp_region_free(*last) == MRP_OK);
    *last = mrp_region_alloc(load->world.pool, BLOCK);
    STRESS_CHECK(*last != NULL);
}

/* Others were refused, so the depot was asked before the thread's own second magazine: it
 * was refused, with MRP_ERR_LIMIT, what it had itself. */
static void alloc__finds_its_own_second_magazine_though_others_ask(void **state)
{
    static struct load load;
    size_t n_kept;

    (void)state;
    create_dry(&load);
    n_kept = 2 * load.magazine;
    assert_int_equal(mrp_region_free_many(load.regions, n_kept, NULL), MRP_OK);
    run_beside(be_refused, &load);
    for (size_t i = 0; i < n_kept; i++) {
        load.regions[i] = mrp_region_alloc(load.world.pool, BLOCK);
        assert_non_null(load.regions[i]);
    }
    run_beside(give_and_take_one, &load); /* now nobody asks */
    /* and by the batch */
    assert_int_equal(mrp_region_free_many(load.regions, n_kept, NULL), MRP_OK);
    run_beside(be_refused, &load);
    assert_int_equal(
        mrp_region_alloc_many(load.world.pool, BLOCK, n_kept, load.regions), n_kept);
    end_dry(&load);
}

/* -- a limit that was cleared for nothing -- */

/* Who asked has been served by somebody else: the magazine at its cleared limit is
 * neither empty nor full. Taken for full, it is handed on with what it never held. */
static void limit__cleared_by_one_who_asks_no_more(void **state)
{
    static struct load load;

    (void)state;
    for (size_t n_loaded = 0; n_loaded <= 20; n_loaded++) {
        create_dry(&load);
        assert_in_range(load.magazine, 2, 20);
        assert_int_equal(mrp_region_free_many(load.regions, n_loaded, NULL), MRP_OK);
        if (n_loaded < 2 * load.magazine) {
            run_beside(be_refused, &load); /* our limit is cleared */
            run_beside(give_and_take_one, &load); /* nobody asks any more */
        }
        for (size_t i = n_loaded; i < 3 * load.magazine; i++) {
            assert_int_equal(mrp_region_free(load.regions[i]), MRP_OK);
            stress_check_pool(&load.world);
        }
        for (size_t i = 0; i < 3 * load.magazine; i++) {
            load.regions[i] = mrp_region_alloc(load.world.pool, BLOCK);
            assert_non_null(load.regions[i]);
        }
        end_dry(&load);
    }
}

/* -- a flush of all pools beside the end of one -- */

/* All have come here as often as the caller, and go on at once. */
static void meet(struct load *load, size_t round)
{
    atomic_fetch_add(&load->n_done, 1);
    for (size_t spins = 1; atomic_load(&load->n_done) < 2 * round && stress_goes_on();
         spins++) {
        if (spins % 4096 == 0) {
            sched_yield();
        }
    }
}

/* One makes and destroys pools, the other flushes when it uses the pool no more. */
static void flush_or_destroy(struct stress_thread *thread)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load *load = thread->shared;

    params.chunk_min = 256 * MRP_KIB;
    for (size_t round = 1; round <= load->rounds && stress_goes_on(); round++) {
        if (thread->number == 0) {
            load->pool = stress_add_pool(&load->world, &params);
        }
        meet(load, 2 * round - 1);
        for (size_t size = 1; size < 20000 && load->pool != NULL; size *= 2) {
            struct mrp_region *region = mrp_region_alloc(load->pool, size);

            STRESS_CHECK(region != NULL && mrp_region_free(region) == MRP_OK);
        }
        meet(load, 2 * round);
        if (thread->number == 0) {
            STRESS_CHECK(mrp_pool_destroy(load->pool) == MRP_OK);
        } else {
            STRESS_CHECK(mrp_thread_flush(NULL) == MRP_OK);
        }
    }
}

/* Both closed the bins of the calling thread: magazines and regions were on the depot's
 * stacks twice, or came to a range that served the next pool. */
static void flush__of_all_pools_while_one_is_destroyed(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    load.rounds = stress_rounds(3000);
    stress_create(&load.world, &params);
    stress_run(2, flush_or_destroy, &load);
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc__finds_its_own_second_magazine_though_others_ask),
        cmocka_unit_test(limit__cleared_by_one_who_asks_no_more),
        cmocka_unit_test(flush__of_all_pools_while_one_is_destroyed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
