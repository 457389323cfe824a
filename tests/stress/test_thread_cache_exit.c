/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Thread caches where threads and pools come and go: threads by the thousand
 * that leave regions to their successors, threads that end while their pool is
 * destroyed, pools that follow one another in the same place, more pools than
 * have caches, destructors that still give back, caches that move from thread
 * to thread. Nothing stays behind, and the addresses in use do not grow.
 */
#include "mrpool/inline.h"
#include "mrpool/thread.h"
#include "stress.h"

#include <sched.h>

#define AT_ONCE 4
#define LEGACY 64
#define TAKEN 24
#define POOLS 70 /* more than MRP_V1_SLOTS */
#define SLOTS 4

struct heir {
    struct mrp_region *region;
    uint64_t mark;
};

struct load {
    struct stress_world world;
    size_t rounds;

    pthread_mutex_t mutex; /* what threads leave to others */
    struct heir legacy[LEGACY];
    size_t n_legacy;
    uint64_t last_mark;

    _Atomic(struct mrp_pool *) pool;
    struct mrp_pool *pools[POOLS];
    atomic_size_t n_done;
    pthread_barrier_t barrier;
    struct mrp_thread_slot *slots[SLOTS];
    atomic_flag is_busy[SLOTS];
};

static size_t random_size(struct stress_thread *thread)
{
    return stress_random(thread) & (((size_t)1 << (4 + stress_random(thread) % 11)) - 1);
}

static void check_rest(struct mrp_pool *pool)
{
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    stress_check_rest(pool);
}

/* A few regions of all sizes, back at once: the thread has caches then. */
static void use(struct mrp_pool *pool, struct stress_thread *thread)
{
    struct mrp_region *held[TAKEN] = {NULL};

    for (size_t i = 0; i < TAKEN && stress_goes_on(); i++) {
        held[i] = mrp_region_alloc(pool, random_size(thread));
        if (STRESS_CHECK(held[i] != NULL)) {
            stress_fill(held[i], thread->number << 32 | i);
        }
    }
    for (size_t i = 0; i < TAKEN && stress_goes_on(); i++) {
        STRESS_CHECK(stress_is_intact(held[i], thread->number << 32 | i));
        STRESS_CHECK(mrp_region_free(held[i]) == MRP_OK);
    }
}

/* -- threads by the thousand -- */

/* Give back what others have left, all or some of it. */
static void inherit(struct load *load, size_t n_most)
{
    for (size_t i = 0; i < n_most; i++) {
        struct heir heir = {NULL, 0};

        pthread_mutex_lock(&load->mutex);
        if (load->n_legacy > 0) {
            heir = load->legacy[--load->n_legacy];
        }
        pthread_mutex_unlock(&load->mutex);
        if (heir.region == NULL) {
            return;
        }
        STRESS_CHECK(stress_is_intact(heir.region, heir.mark));
        STRESS_CHECK(mrp_region_free(heir.region) == MRP_OK);
    }
}

/* Leave it to others, or give it back if they have enough. */
static void bequeath(struct load *load, struct heir heir)
{
    pthread_mutex_lock(&load->mutex);
    if (load->n_legacy < LEGACY) {
        load->legacy[load->n_legacy++] = heir;
        heir.region = NULL;
    }
    pthread_mutex_unlock(&load->mutex);
    if (heir.region != NULL) {
        STRESS_CHECK(stress_is_intact(heir.region, heir.mark));
        STRESS_CHECK(mrp_region_free(heir.region) == MRP_OK);
    }
}

static void live_shortly(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct heir own[TAKEN];

    for (size_t i = 0; i < TAKEN && stress_goes_on(); i++) {
        own[i].mark = thread->seed;
        own[i].region = mrp_region_alloc(load->world.pool, random_size(thread));
        if (!STRESS_CHECK(own[i].region != NULL)) {
            return;
        }
        stress_fill(own[i].region, own[i].mark);
    }
    inherit(load, stress_random(thread) % TAKEN);
    for (size_t i = 0; i < TAKEN && stress_goes_on(); i++) {
        if (i % 2 == 0) {
            STRESS_CHECK(stress_is_intact(own[i].region, own[i].mark));
            STRESS_CHECK(mrp_region_free(own[i].region) == MRP_OK);
        } else {
            bequeath(load, own[i]);
        }
    }
}

static void *live_shortly_main(void *argument)
{
    live_shortly(argument);
    return NULL;
}

/* A row of threads, AT_ONCE of them alive at a time. */
static void run_threads(struct load *load, size_t first, size_t end)
{
    struct stress_thread threads[AT_ONCE];

    for (size_t i = first; i < end; i++) {
        struct stress_thread *thread = &threads[i % AT_ONCE];

        if (i >= first + AT_ONCE) {
            pthread_join(thread->thread, NULL);
        }
        *thread = (struct stress_thread){.shared = load, .number = i, .seed = i + 1};
        assert_int_equal(
            pthread_create(&thread->thread, NULL, live_shortly_main, thread), 0);
    }
    for (size_t i = end - AT_ONCE; i < end; i++) {
        pthread_join(threads[i % AT_ONCE].thread, NULL);
    }
    stress_run(1, live_shortly, load); /* fails for what was noted */
}

/* Bytes of all mappings that a child finds wiped: the arenas of thread caches.
 */
static size_t wiped_size(void)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    unsigned long first = 0, end = 0;
    size_t size = 0;
    char line[512];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmFlags:", 8) == 0) {
            size += strstr(line, " wf") == NULL ? 0 : end - first;
        } else if (strchr(line, '-') != NULL) {
            sscanf(line, "%lx-%lx ", &first, &end);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return size;
}

static void threads__thousands_in_bounded_memory(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE};
    size_t arena = mrp_align_up(sizeof(struct mrp_cache_arena), 4096);
    size_t n_threads = test_is_watched() ? 1000 : 3000, warm = 200;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    params.chunk_min = MRP_MIB;
    params.thread_cache_size = 8 * MRP_MIB;
    for (size_t i = 0; i < 2; i++) {
        size_t n_maps, resident, mapped;

        memset(&load, 0, sizeof load);
        pthread_mutex_init(&load.mutex, NULL);
        params.checks = checks[i];
        stress_create(&load.world, &params);
        run_threads(&load, 0, warm);
        n_maps = test_count_maps();
        resident = test_status_size("VmRSS:");
        mapped = stress_stats(load.world.pool).mapped_size;
        run_threads(&load, warm, n_threads);
        /* an arena for each of those alive at once, and one for this thread */
        assert_in_range(wiped_size(), 1, (AT_ONCE + 1) * arena);
        /* live at a time: at most these, and what lies in caches of those alive */
        assert_in_range(stress_stats(load.world.pool).mapped_size, mapped, 2 * mapped);
        if (!test_is_watched()) {
            assert_in_range(test_count_maps(), 1, n_maps + 32);
            assert_in_range(
                test_status_size("VmRSS:"), 1, resident + mapped + 4 * MRP_MIB);
        }
        inherit(&load, LEGACY);
        check_rest(load.world.pool);
        stress_destroy(&load.world);
        pthread_mutex_destroy(&load.mutex);
    }
}

/* -- threads that end while the pool goes -- */

static void *use_and_end(void *argument)
{
    struct stress_thread *thread = argument;
    struct load *load = thread->shared;

    use(load->pool, thread);
    use(load->world.pool, thread);
    atomic_fetch_add(&load->n_done, 1); /* from here on it uses no pool */
    return NULL;
}

static void destroy__while_threads_that_used_it_end(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    params.chunk_min = 256 * MRP_KIB;
    params.thread_cache_size = 8 * MRP_MIB;
    stress_create(&load.world, &params);
    for (size_t round = 0; round < stress_rounds(1000); round++) {
        struct stress_thread threads[AT_ONCE];

        params.checks = round % 2 == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE;
        load.pool = stress_add_pool(&load.world, &params);
        assert_non_null(load.pool);
        atomic_store(&load.n_done, 0);
        for (size_t i = 0; i < AT_ONCE; i++) {
            threads[i] =
                (struct stress_thread){.shared = &load, .number = i, .seed = round + i};
            assert_int_equal(
                pthread_create(&threads[i].thread, NULL, use_and_end, &threads[i]), 0);
        }
        while (atomic_load(&load.n_done) < AT_ONCE) {
            sched_yield();
        }
        if (mrp_pool_destroy(load.pool) != MRP_OK) {
            fail_msg("%s", mrp_error_last()->text);
        }
        for (size_t i = 0; i < AT_ONCE; i++) {
            pthread_join(threads[i].thread, NULL);
        }
    }
    if (!stress_goes_on()) {
        fail_msg("%s", stress_failure);
    }
    check_rest(load.world.pool);
    stress_destroy(&load.world);
}

/* -- pools that follow one another -- */

/* Thread 0 makes a pool, all use it, thread 0 destroys it: their caches of it
 * go, those of the standing pool stay, and the next pool finds the same place
 * empty. */
static void outlive(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds; round++) {
        struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
        struct mrp_pool *pool;

        if (thread->number == 0) {
            params.chunk_min = 256 * MRP_KIB;
            params.checks = MRP_CHECKS_NONE + (uint32_t)(round % 3);
            load->pool = stress_add_pool(&load->world, &params);
        }
        pthread_barrier_wait(&load->barrier);
        pool = load->pool;
        if (pool != NULL) {
            use(pool, thread);
        }
        pthread_barrier_wait(&load->barrier);
        if (thread->number == 0 && pool != NULL) {
            STRESS_CHECK(mrp_pool_check(pool) == MRP_OK);
            STRESS_CHECK(mrp_pool_destroy(pool) == MRP_OK);
        } else { /* meanwhile, in the same arenas */
            use(load->world.pool, thread);
        }
        /* a handle kept too long: refused, or the pool of the next round's */
        if (thread->number == 1 && pool != NULL) {
            pthread_barrier_wait(&load->barrier);
            STRESS_CHECK(mrp_region_alloc(pool, 100) == NULL);
            STRESS_CHECK(mrp_error_last()->status == MRP_ERR_STALE);
            pthread_barrier_wait(&load->barrier);
        } else {
            pthread_barrier_wait(&load->barrier);
            pthread_barrier_wait(&load->barrier);
        }
    }
}

static void pools__follow_one_another_under_threads_that_stay(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    load.rounds = stress_rounds(1500);
    pthread_barrier_init(&load.barrier, NULL, AT_ONCE);
    stress_create(&load.world, &params);
    stress_run(AT_ONCE, outlive, &load);
    check_rest(load.world.pool);
    stress_destroy(&load.world);
    pthread_barrier_destroy(&load.barrier);
}

/* -- more pools than a thread has room for -- */

static void use_all_pools(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        use(load->pools[stress_random(thread) % POOLS], thread);
        if (stress_random(thread) % 64 == 0) {
            STRESS_CHECK(mrp_thread_flush(NULL) == MRP_OK);
        }
    }
}

static void pools__more_than_have_caches(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    load.rounds = stress_rounds(4000);
    params.chunk_min = 256 * MRP_KIB;
    stress_create(&load.world, &params);
    for (size_t i = 0; i < POOLS; i++) {
        params.checks = i % 2 == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE;
        load.pools[i] = stress_add_pool(&load.world, &params);
        assert_non_null(load.pools[i]);
    }
    stress_run(AT_ONCE, use_all_pools, &load);
    for (size_t i = 0; i < POOLS; i++) {
        check_rest(load.pools[i]);
        assert_int_equal(mrp_pool_destroy(load.pools[i]), MRP_OK);
    }
    stress_destroy(&load.world);
}

/* -- destructors of the user's -- */

static pthread_key_t early_key, late_key; /* made before the library's, and after */

static void free_at_exit(void *region)
{
    STRESS_CHECK(mrp_region_free(region) == MRP_OK);
}

/* What its destructors free goes back whether its caches are still there or
 * not. */
static void leave_to_destructors(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    use(load->world.pool, thread);
    pthread_setspecific(early_key, mrp_region_alloc(load->world.pool, 100));
    pthread_setspecific(late_key, mrp_region_alloc(load->world.pool, 3000));
    STRESS_CHECK(
        pthread_getspecific(early_key) != NULL && pthread_getspecific(late_key) != NULL);
}

static void exit__destructors_still_give_back(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE, MRP_CHECKS_FULL};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        memset(&load, 0, sizeof load);
        params.checks = checks[i];
        stress_create(&load.world, &params);
        for (size_t round = 0; round < stress_rounds(50); round++) {
            stress_run(STRESS_THREADS, leave_to_destructors, &load);
        }
        check_rest(load.world.pool);
        stress_destroy(&load.world);
    }
}

/* -- caches that are nobody's own -- */

/* Whichever slot is free serves this thread; regions go back by way of any
 * thread. */
static void borrow_a_slot(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        size_t i = stress_random(thread) % SLOTS;

        if (atomic_flag_test_and_set_explicit(&load->is_busy[i], memory_order_acquire)) {
            sched_yield();
            continue;
        }
        request.slot = load->slots[i];
        for (size_t n = 0; n < TAKEN && stress_goes_on(); n++) {
            struct heir heir = {NULL, thread->seed};

            heir.region =
                mrp_region_alloc_with(load->world.pool, random_size(thread), &request);
            if (STRESS_CHECK(heir.region != NULL)) {
                stress_fill(heir.region, heir.mark);
                bequeath(load, heir);
            }
        }
        if (stress_random(thread) % 16 == 0) {
            STRESS_CHECK(mrp_thread_slot_destroy(load->slots[i]) == MRP_OK);
            STRESS_CHECK(mrp_thread_slot_create(&load->slots[i]) == MRP_OK);
        }
        atomic_flag_clear_explicit(&load->is_busy[i], memory_order_release);
        inherit(load, TAKEN);
    }
}

static void slots__move_between_threads(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    pthread_mutex_init(&load.mutex, NULL);
    load.rounds = stress_rounds(8000);
    params.thread_cache_size = 8 * MRP_MIB;
    stress_create(&load.world, &params);
    for (size_t i = 0; i < SLOTS; i++) {
        assert_int_equal(mrp_thread_slot_create(&load.slots[i]), MRP_OK);
    }
    stress_run(STRESS_THREADS, borrow_a_slot, &load);
    inherit(&load, LEGACY);
    for (size_t i = 0; i < SLOTS; i++) {
        assert_int_equal(mrp_thread_slot_destroy(load.slots[i]), MRP_OK);
    }
    check_rest(load.world.pool);
    stress_destroy(&load.world);
    pthread_mutex_destroy(&load.mutex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads__thousands_in_bounded_memory),
        cmocka_unit_test(destroy__while_threads_that_used_it_end),
        cmocka_unit_test(pools__follow_one_another_under_threads_that_stay),
        cmocka_unit_test(pools__more_than_have_caches),
        cmocka_unit_test(exit__destructors_still_give_back),
        cmocka_unit_test(slots__move_between_threads),
    };
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct stress_world world;
    int failed;

    pthread_key_create(&early_key, free_at_exit);
    stress_create(&world, &params); /* now the library has its key */
    mrp_region_free(mrp_region_alloc(world.pool, 1));
    pthread_key_create(&late_key, free_at_exit);
    stress_destroy(&world);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    pthread_key_delete(late_key);
    pthread_key_delete(early_key);
    return failed;
}
