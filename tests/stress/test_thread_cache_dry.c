/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool at its cap: what threads keep is asked back. No request to give back
 * is lost, who waits for another thread's growth is served by what comes back
 * before, and while there are enough regions for all every thread gets on.
 */
#include "mrpool/thread.h"
#include "pool/pool.h"
#include "stress.h"

#include <sched.h>

#define BLOCK (2 * MRP_KIB)
#define POOL_SIZE (512 * MRP_KIB)
#define MAGAZINE_MOST 64
#define REGIONS_MAX 1024
#define COLD_SIZE (32 * MRP_MIB)
#define RETRIES 1000000 /* each of them lets others run */

struct load {
    struct stress_world world;
    struct mrp_region *regions[REGIONS_MAX];
    size_t n_regions; /* as many as the pool has */
    size_t magazine; /* regions in one */
    size_t rounds, share;
    char *cold; /* memory that is in no cache of a processor */
    size_t next_cold;
    size_t grown; /* what the one who grows asks for */
    uint32_t flags;
    atomic_size_t n_refused, n_most; /* refusals; the most that one request met */
    atomic_size_t phase, n_arrived;
    atomic_bool was_refused, is_stuck, is_served, goes;
};

/* A pool of one chunk, all of whose regions of BLOCK bytes the caller has. */
static void create_dry(struct load *load, uint32_t checks)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    const struct mrp_pool *pool;

    params.chunk_min = params.chunk_max = params.max_bytes = POOL_SIZE;
    params.thread_cache_size = 4 * MRP_MIB;
    params.checks = checks;
    stress_create(&load->world, &params);
    pool = load->world.pool;
    load->magazine =
        pool->classes.classes[mrp_class_of(&pool->classes, BLOCK)].magazine_capacity;
    assert_in_range(load->magazine, 2, MAGAZINE_MOST);
    load->n_regions =
        mrp_region_alloc_many(load->world.pool, BLOCK, REGIONS_MAX, load->regions);
    assert_in_range(load->n_regions, POOL_SIZE / BLOCK - 8, REGIONS_MAX - 1);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
}

static void give_all(struct load *load)
{
    assert_int_equal(mrp_region_free_many(load->regions, load->n_regions, NULL), MRP_OK);
}

/* All regions are free, once, and every one can be taken. */
static void end_dry(struct load *load)
{
    struct mrp_pool_stats stats;

    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    stats = stress_stats(load->world.pool);
    assert_int_equal(stats.n_threads, 0);
    assert_int_equal(stats.cached_size, 0);
    assert_int_equal(
        mrp_region_alloc_many(load->world.pool, BLOCK, load->n_regions, load->regions),
        load->n_regions);
    give_all(load);
    stress_destroy(&load->world);
}

static struct mrp_region *take(struct load *load, uint32_t flags)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    request.flags = flags;
    return mrp_region_alloc_with(load->world.pool, BLOCK, &request);
}

/* Both threads are here. No lock and no sleep: they go on within nanoseconds.
 */
static void meet(struct load *load, size_t *phase)
{
    size_t next = ++*phase;

    if (atomic_fetch_add(&load->n_arrived, 1) % 2 == 1) {
        atomic_store(&load->phase, next);
    }
    for (size_t spins = 1; atomic_load(&load->phase) != next && stress_goes_on();
         spins++) {
        if (spins % 4096 == 0) {
            sched_yield();
        }
    }
}

static void dawdle(struct stress_thread *thread, uint32_t most)
{
    for (uint32_t n = stress_random(thread) % most; n > 0; n--) {
        atomic_signal_fence(memory_order_seq_cst); /* a turn is not optimised away */
    }
}

/* -- all that a thread keeps comes back with its next free -- */

static void keep_and_give_one(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    size_t phase = 0;

    for (size_t n_kept = 0; n_kept <= 2 * load->magazine && stress_goes_on(); n_kept++) {
        struct mrp_region *got[2 * MAGAZINE_MOST + 1];
        size_t n_got = 0;

        if (thread->number == 0) {
            for (size_t i = 0; i < n_kept; i++) {
                STRESS_CHECK(mrp_region_free(load->regions[i]) == MRP_OK);
            }
        }
        meet(load, &phase);
        if (thread->number == 1) { /* nothing is to be seen of what the other keeps */
            STRESS_CHECK(take(load, 0) == NULL);
            STRESS_CHECK(mrp_error_last()->status == MRP_ERR_LIMIT);
        }
        meet(load, &phase);
        if (thread->number == 0) {
            STRESS_CHECK(mrp_region_free(load->regions[n_kept]) == MRP_OK);
        }
        meet(load, &phase);
        if (thread->number == 1) {
            while (n_got <= n_kept && (got[n_got] = take(load, 0)) != NULL) {
                n_got++;
            }
            STRESS_CHECK(n_got == n_kept + 1);
            memcpy(load->regions, got, n_got * sizeof got[0]);
        }
        meet(load, &phase);
    }
}

static void ask__gives_back_all_that_is_kept(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE};
    static struct load load;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        memset(&load, 0, sizeof load);
        create_dry(&load, checks[i]);
        stress_run(2, keep_and_give_one, &load);
        give_all(&load);
        end_dry(&load);
    }
}

/* -- no request is lost, whenever it comes -- */

/* Keep this processor's store buffer busy, so that what is stored next is seen late. */
static void store_slowly(struct load *load)
{
    for (size_t i = 0; i < 16; i++) {
        load->next_cold = (load->next_cold + 4096 + MRP_LINE) % COLD_SIZE;
        load->cold[load->next_cold] = 1;
    }
}

static void give(struct load *load, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        STRESS_CHECK(mrp_region_free(load->regions[i]) == MRP_OK);
    }
}

/* The owner's limit is cleared, and nobody asks any more: the other thread has answered
 * itself with a region of its own. */
static void clear_limit(struct load *load)
{
    struct mrp_region **own = &load->regions[load->n_regions - 1];

    STRESS_CHECK(take(load, 0) == NULL);
    STRESS_CHECK(mrp_region_free(*own) == MRP_OK);
    *own = take(load, 0);
    STRESS_CHECK(*own != NULL);
}

/* At the moment the owner frees, so that it loads a magazine, the other is refused:
 * either the owner sees the request, or the request finds the new limit. With its next
 * free the owner gives back all. */
static void meet_and_ask(struct stress_thread *thread, size_t n_kept, size_t *phase)
{
    struct load *load = thread->shared;
    struct mrp_region *region;

    meet(load, phase);
    if (thread->number == 0) {
        dawdle(thread, 2000);
        store_slowly(load);
        give(load, n_kept, n_kept + 1);
    } else {
        dawdle(thread, 200);
        region = take(load, MRP_REQUEST_NOWAIT);
        atomic_store(&load->was_refused, region == NULL);
        if (region != NULL) { /* it was heard at once */
            STRESS_CHECK(mrp_region_free(region) == MRP_OK);
            STRESS_CHECK(mrp_thread_flush(NULL) == MRP_OK);
        }
    }
    meet(load, phase);
    if (thread->number == 0) {
        give(load, n_kept + 1, n_kept + 2);
        if (!atomic_load(&load->was_refused)) {
            STRESS_CHECK(mrp_thread_flush(NULL) == MRP_OK);
        }
    }
    meet(load, phase);
}

/* In turn: the owner's free exchanges its magazines, or restores a cleared limit. */
static void load_while_asked(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *got[MAGAZINE_MOST + 2];
    size_t phase = 0;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        bool restores = round % 2 == 1;
        size_t n_kept = restores ? 1 : load->magazine;

        if (thread->number == 0) {
            give(load, 0, n_kept);
        }
        meet(load, &phase);
        if (thread->number == 1 && restores) {
            clear_limit(load);
        }
        meet_and_ask(thread, n_kept, &phase);
        if (thread->number == 1) {
            for (size_t i = 0; i < n_kept + 2; i++) {
                got[i] = take(load, 0);
                STRESS_CHECK(got[i] != NULL);
            }
            memcpy(load->regions, got, (n_kept + 2) * sizeof got[0]);
        }
        meet(load, &phase);
    }
}

static void ask__is_never_lost(void **state)
{
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    load.rounds = stress_rounds(200000);
    load.cold = calloc(1, COLD_SIZE);
    assert_non_null(load.cold);
    create_dry(&load, MRP_CHECKS_STATE);
    stress_run(2, load_while_asked, &load);
    free(load.cold);
    give_all(&load);
    end_dry(&load);
}

/* -- waiting for a growth that does not end -- */

static void stick(struct test_provider *provider, void *address, size_t size)
{
    struct load *load = provider->hook_user;

    (void)address;
    (void)size;
    atomic_store(&load->is_stuck, true);
    while (!atomic_load(&load->goes) && stress_goes_on()) {
        sched_yield();
    }
}

static bool wait_for(atomic_bool *flag)
{
    while (!atomic_load(flag) && stress_goes_on()) {
        sched_yield();
    }
    return stress_goes_on();
}

/* Gives back a region and takes it again until the one who waits has got it. */
static void give_until_served(struct load *load)
{
    struct mrp_region *region = load->regions[0];

    for (size_t n = 0; region != NULL && !atomic_load(&load->is_served); n++) {
        if (!STRESS_CHECK(n < RETRIES) ||
            !STRESS_CHECK(mrp_region_free(region) == MRP_OK)) {
            return;
        }
        sched_yield();
        region = take(load, MRP_REQUEST_NOWAIT);
    }
    if (region != NULL) {
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
    wait_for(&load->is_served);
}

/* 0 is stuck in a growth of the class or of another, 1 waits for that, 2 has a region to
 * give. */
static void grow_wait_or_give(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *region;

    if (thread->number != 0 && !wait_for(&load->is_stuck)) {
        return;
    }
    if (thread->number == 2) {
        give_until_served(load);
        atomic_store(&load->goes, true);
        return;
    }
    region =
        mrp_region_alloc(load->world.pool, thread->number == 0 ? load->grown : BLOCK);
    STRESS_CHECK(region != NULL);
    if (thread->number == 1) {
        STRESS_CHECK(!atomic_load(&load->goes));
        atomic_store(&load->is_served, true);
    }
    STRESS_CHECK(mrp_region_free(region) == MRP_OK);
}

static void ask__serves_who_waits_before_the_growth_ends(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    params.chunk_min = params.chunk_max = 256 * MRP_KIB;
    params.max_bytes = 16 * MRP_MIB;
    params.thread_cache_size = 4 * MRP_MIB;
    for (size_t round = 0; round < stress_rounds(300); round++) {
        memset(&load, 0, sizeof load);
        stress_create(&load.world, &params);
        do {
            load.regions[load.n_regions] =
                take(&load, load.n_regions == 0 ? 0 : MRP_REQUEST_NOGROW);
        } while (load.regions[load.n_regions] != NULL && load.n_regions++ < REGIONS_MAX);
        load.grown = round % 2 == 0 ? BLOCK : 100;
        load.world.network.hook_user = &load;
        load.world.network.on_register = stick;
        stress_run(3, grow_wait_or_give, &load);
        load.regions[0] =
            load.regions[--load.n_regions]; /* that one has been given back */
        give_all(&load);
        load.world.network.on_register = NULL;
        stress_destroy(&load.world);
    }
}

/* -- enough for all -- */

/* NULL, and a failure noted, after so many refusals that the thread would never
 * get any. */
static struct mrp_region *insist(struct load *load)
{
    bool gets_on = false;

    for (size_t n = 0; n < RETRIES && stress_goes_on(); n++) {
        struct mrp_region *region = take(load, load->flags);

        if (region != NULL) {
            if (n > atomic_load(&load->n_most)) {
                atomic_store(&load->n_most, n); /* about the most */
            }
            return region;
        }
        STRESS_CHECK(mrp_error_last()->status == MRP_ERR_LIMIT ||
            mrp_error_last()->status == MRP_ERR_AGAIN);
        atomic_fetch_add(&load->n_refused, 1);
        sched_yield();
    }
    STRESS_CHECK(gets_on);
    return NULL;
}

/* Each takes up to its share, in bursts, and gives back up to all of it. */
static void take_a_share(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *held[REGIONS_MAX / STRESS_THREADS];
    uint64_t mark = thread->number << 32;
    size_t n_held = 0, n;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        for (n = stress_random(thread) % (load->share - n_held + 1); n > 0; n--) {
            held[n_held] = insist(load);
            if (held[n_held] == NULL) {
                return;
            }
            stress_fill(held[n_held], mark + n_held);
            n_held++;
        }
        for (n = stress_random(thread) % (n_held + 1); n > 0; n--) {
            n_held--;
            STRESS_CHECK(stress_is_intact(held[n_held], mark + n_held));
            STRESS_CHECK(mrp_region_free(held[n_held]) == MRP_OK);
        }
        if (stress_random(thread) % 64 == 0) {
            sched_yield();
        }
    }
    while (n_held > 0) {
        n_held--;
        STRESS_CHECK(stress_is_intact(held[n_held], mark + n_held));
        STRESS_CHECK(mrp_region_free(held[n_held]) == MRP_OK);
    }
}

static void cap__enough_for_all_lets_all_get_on(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE, MRP_CHECKS_FULL};
    static const uint32_t flags[] = {0, MRP_REQUEST_NOGROW, MRP_REQUEST_NOWAIT};
    static struct load load;

    (void)state;
    for (size_t i = 0; i < 9; i++) {
        memset(&load, 0, sizeof load);
        load.rounds = stress_rounds(3000);
        load.flags = flags[i % 3];
        create_dry(&load, checks[i / 3]);
        give_all(&load);
        load.share = load.n_regions / STRESS_THREADS;
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        stress_run(STRESS_THREADS, take_a_share, &load);
        assert_in_range(atomic_load(&load.n_most), 0, RETRIES - 1);
        end_dry(&load);
    }
}

/* Regions go round by way of all threads: who is refused has nothing to give
 * back. */
static void take_one_at_a_time(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct mrp_region *region = insist(load);

        if (region == NULL) {
            return;
        }
        stress_fill(region, thread->number);
        if (stress_random(thread) % 16 == 0) {
            sched_yield();
        }
        STRESS_CHECK(stress_is_intact(region, thread->number));
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
}

static void cap__one_region_a_thread_is_enough(void **state)
{
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    load.rounds = stress_rounds(20000);
    create_dry(&load, MRP_CHECKS_STATE);
    /* the rest stays taken */
    assert_int_equal(mrp_region_free_many(load.regions, STRESS_THREADS, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    stress_run(STRESS_THREADS, take_one_at_a_time, &load);
    for (size_t i = 0; i < STRESS_THREADS; i++) {
        load.regions[i] = insist(&load);
    }
    give_all(&load);
    end_dry(&load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ask__gives_back_all_that_is_kept),
        cmocka_unit_test(ask__is_never_lost),
        cmocka_unit_test(ask__serves_who_waits_before_the_growth_ends),
        cmocka_unit_test(cap__enough_for_all_lets_all_get_on),
        cmocka_unit_test(cap__one_region_a_thread_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
