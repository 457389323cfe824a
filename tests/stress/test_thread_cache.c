/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Thread caches between threads that stay: regions freed by another thread than
 * the one that took them, of every size class, in both directions, while pools
 * grow from nothing; one size for ever. Memory stays within what is in flight
 * and in caches.
 */
#include "mrpool/inline.h"
#include "mrpool/thread.h"
#include "stress.h"

#include <sched.h>

#define RING 64
#define PAIRS (STRESS_THREADS / 2)
#define CLASSES_MAX 64
#define SHELF 64
#define HAND 100
#define MAGAZINES_MOST (2 * 126) /* regions in one thread's bin */
#define SLAB_MOST 1024 /* regions in one slab */

struct parcel {
    struct mrp_region *region;
    uint64_t mark;
};

struct ring {
    _Alignas(64) atomic_size_t head; /* written by the producer */
    _Alignas(64) atomic_size_t tail; /* written by the consumer */
    struct parcel parcels[RING];
};

/* A place that any thread may fill or empty. */
struct shelf {
    _Alignas(64) atomic_flag is_busy;
    struct parcel parcel;
};

struct load {
    struct stress_world world;
    struct mrp_pool *pools[2];
    size_t rounds;
    size_t sizes[CLASSES_MAX]; /* the largest request of each class */
    size_t n_sizes;
    struct ring rings[2][PAIRS];
    struct shelf shelves[SHELF];
    struct parcel hands[STRESS_THREADS][HAND];
    pthread_barrier_t barrier;
    bool is_directed; /* half of the threads only take, half of them only give
                       back */
};

/* -- at rest -- */

static struct mrp_pool_stats check_rest(struct mrp_pool *pool)
{
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    return stress_check_rest(pool);
}

/* -- parcels -- */

static struct parcel pack(struct mrp_pool *pool, size_t size, uint64_t mark)
{
    struct parcel parcel = {mrp_region_alloc_inline(pool, size), mark};

    if (STRESS_CHECK(parcel.region != NULL)) {
        STRESS_CHECK(mrp_region_capacity(parcel.region) >= size);
        stress_fill(parcel.region, mark);
    }
    return parcel;
}

static void unpack(struct parcel parcel)
{
    STRESS_CHECK(stress_is_intact(parcel.region, parcel.mark));
    STRESS_CHECK(mrp_region_free_inline(parcel.region) == MRP_OK);
}

static bool send(struct ring *ring, struct parcel parcel, size_t most)
{
    size_t head = mrp_load_relaxed(&ring->head);

    while (head - mrp_load_acquire(&ring->tail) >= most) {
        if (!stress_goes_on()) {
            return false;
        }
        sched_yield();
    }
    ring->parcels[head % RING] = parcel;
    mrp_store_release(&ring->head, head + 1);
    return true;
}

static bool receive(struct ring *ring, struct parcel *parcel)
{
    size_t tail = mrp_load_relaxed(&ring->tail);

    while (mrp_load_acquire(&ring->head) == tail) {
        if (!stress_goes_on()) {
            return false;
        }
        sched_yield();
    }
    *parcel = ring->parcels[tail % RING];
    mrp_store_release(&ring->tail, tail + 1);
    return true;
}

/* -- every class -- */

static void find_sizes(struct load *load)
{
    struct mrp_pool *pool = load->world.pool;
    size_t huge = stress_stats(pool).tiers[MRP_TIER_HUGE].max_size;

    load->n_sizes = 0;
    for (size_t size = 1; size <= huge; size = load->sizes[load->n_sizes - 1] + 1) {
        struct mrp_region *region = mrp_region_alloc(pool, size);

        assert_non_null(region);
        load->sizes[load->n_sizes++] = mrp_region_capacity(region);
        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_true(load->n_sizes < CLASSES_MAX);
    }
    assert_in_range(load->n_sizes, 30, CLASSES_MAX);
}

/* Fewer where each is more work, and never more than 2 MiB of one pair in flight. */
static size_t rounds_of(const struct load *load, size_t size)
{
    return mrp_max(mrp_min(load->rounds, load->rounds * 16 * MRP_KIB / size), 16);
}

static size_t most_in_flight(size_t size)
{
    return mrp_max(mrp_min(RING, 2 * MRP_MIB / size), 1);
}

static void pair_up(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    size_t pair = thread->number / 2;
    struct ring *ring = &load->rings[0][pair];
    struct parcel parcel;

    for (size_t i = 0; i < load->n_sizes; i++) {
        /* each pair with another class: all of them grow at once */
        size_t size = load->sizes[(i + pair * load->n_sizes / PAIRS) % load->n_sizes];
        size_t rounds = rounds_of(load, size);

        for (size_t n = 0; n < rounds && stress_goes_on(); n++) {
            if (thread->number % 2 == 0) {
                parcel = pack(load->world.pool, size, pair << 32 | n);
                send(ring, parcel, most_in_flight(size));
            } else if (receive(ring, &parcel)) {
                unpack(parcel);
            }
        }
    }
}

static void free__by_another_thread_at_every_class(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE, MRP_CHECKS_FULL};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    params.chunk_min = MRP_MIB;
    params.thread_cache_size = 16 * MRP_MIB;
    for (size_t i = 0; i < 3; i++) {
        memset(&load, 0, sizeof load);
        load.rounds = stress_rounds(6000);
        params.checks = checks[i];
        stress_create(&load.world, &params);
        find_sizes(&load);
        stress_run(STRESS_THREADS, pair_up, &load);
        check_rest(load.world.pool);
        stress_destroy(&load.world);
    }
}

/* -- many to many -- */

static void visit_shelf(struct load *load, struct stress_thread *thread, uint64_t mark)
{
    struct shelf *shelf = &load->shelves[stress_random(thread) % SHELF];
    bool may_take = !load->is_directed || thread->number % 2 == 0;
    bool may_give = !load->is_directed || thread->number % 2 == 1;
    size_t size = load->sizes[stress_random(thread) % load->n_sizes];
    struct parcel parcel = {NULL, 0};

    if (atomic_flag_test_and_set_explicit(&shelf->is_busy, memory_order_acquire)) {
        return;
    }
    if (shelf->parcel.region == NULL && may_take) {
        shelf->parcel = pack(load->world.pool, size, mark);
    } else if (shelf->parcel.region != NULL && may_give) {
        parcel = shelf->parcel;
        shelf->parcel.region = NULL;
    }
    atomic_flag_clear_explicit(&shelf->is_busy, memory_order_release);
    if (parcel.region != NULL) {
        unpack(parcel);
    }
}

static void exchange(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t n = 0; n < load->rounds && stress_has_time(); n++) {
        visit_shelf(load, thread, thread->number << 32 | n);
    }
}

static void clear_shelves(struct load *load)
{
    for (size_t i = 0; i < SHELF; i++) {
        if (load->shelves[i].parcel.region != NULL) {
            unpack(load->shelves[i].parcel);
            load->shelves[i].parcel.region = NULL;
        }
    }
}

static void free__by_any_of_many_threads(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load;

    (void)state;
    params.chunk_min = MRP_MIB;
    params.thread_cache_size = 16 * MRP_MIB;
    for (size_t i = 0; i < 4; i++) {
        memset(&load, 0, sizeof load);
        load.rounds = stress_rounds(300000);
        load.is_directed = i % 2 == 1;
        params.checks = i / 2 == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE;
        stress_create(&load.world, &params);
        find_sizes(&load);
        load.n_sizes = load.n_sizes * 2 / 3; /* to 64 KiB or so: the huge ones are slow */
        stress_run(STRESS_THREADS, exchange, &load);
        clear_shelves(&load);
        check_rest(load.world.pool);
        stress_destroy(&load.world);
    }
}

/* -- from nothing -- */

/* All take of one class at the same moment, and each gives back what its neighbour
 * took. */
static void grow_and_pass_on(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct parcel *own = load->hands[thread->number];
    struct parcel *other = load->hands[(thread->number + 1) % STRESS_THREADS];

    for (size_t i = 0; i < HAND; i++) {
        own[i] = pack(load->world.pool, load->sizes[0], thread->number * HAND + i);
    }
    pthread_barrier_wait(&load->barrier);
    for (size_t i = 0; i < HAND && stress_goes_on(); i++) {
        unpack(other[i]);
    }
}

static void growth__from_nothing_into_caches(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static const size_t sizes[] = {1, 700, 5000, 20000};
    static struct load load;

    (void)state;
    params.chunk_min = params.chunk_max = 256 * MRP_KIB;
    params.thread_cache_size = 16 * MRP_MIB;
    pthread_barrier_init(&load.barrier, NULL, STRESS_THREADS);
    for (size_t round = 0; round < stress_rounds(100); round++) {
        size_t wanted = STRESS_THREADS * HAND, n_regions = 0;
        struct mrp_pool_stats stats;

        load.sizes[0] = sizes[round % 4];
        params.checks = round % 8 < 4 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE;
        stress_create(&load.world, &params);
        stress_run(STRESS_THREADS, grow_and_pass_on, &load);
        stats = check_rest(load.world.pool);
        for (size_t tier = 0; tier < MRP_TIERS; tier++) {
            n_regions += stats.tiers[tier].n_regions;
        }
        /* what nobody could see was free: in the other threads' bins */
        assert_in_range(
            n_regions, wanted, wanted + STRESS_THREADS * MAGAZINES_MOST + SLAB_MOST);
        stress_destroy(&load.world);
    }
    pthread_barrier_destroy(&load.barrier);
}

/* -- two pools, opposite directions -- */

/* An even thread makes of pool 0 what its odd partner ends, and ends what that
 * makes. */
static void cross(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    size_t pair = thread->number / 2, side = thread->number % 2;
    struct ring *out = &load->rings[side][pair], *in = &load->rings[1 - side][pair];
    size_t size = load->sizes[pair];
    struct parcel parcel;

    for (size_t n = 0; n < load->rounds && stress_goes_on(); n++) {
        parcel = pack(load->pools[side], size, thread->number << 32 | n);
        if (!send(out, parcel, RING)) {
            return;
        }
        /* half a ring behind, so that neither waits for the other at each step */
        if (n >= RING / 2 && receive(in, &parcel)) {
            unpack(parcel);
        }
    }
    for (size_t n = 0; n < mrp_min(RING / 2, load->rounds); n++) {
        if (receive(in, &parcel)) {
            unpack(parcel);
        }
    }
}

static void pools__in_opposite_directions(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load = {.sizes = {64, 192, 500, 1000}};

    (void)state;
    load.rounds = stress_rounds(200000);
    params.chunk_min = MRP_MIB;
    stress_create(&load.world, &params);
    load.pools[0] = load.world.pool;
    params.checks = MRP_CHECKS_NONE;
    load.pools[1] = stress_add_pool(&load.world, &params);
    assert_non_null(load.pools[1]);
    stress_run(STRESS_THREADS, cross, &load);
    for (size_t i = 0; i < 2; i++) {
        /* of each class one thread takes and one gives back */
        size_t most = RING + 2 * MAGAZINES_MOST + SLAB_MOST;

        assert_in_range(
            check_rest(load.pools[i]).tiers[MRP_TIER_SMALL].n_regions, 1, PAIRS * most);
    }
    assert_int_equal(mrp_pool_destroy(load.pools[1]), MRP_OK);
    stress_destroy(&load.world);
}

/* -- one size for ever -- */

static void check_one_chunk(struct load *load, size_t mapped)
{
    struct mrp_pool_stats stats = check_rest(load->world.pool);

    assert_int_equal(stats.n_growths, 1);
    assert_int_equal(stats.mapped_size, mapped);
    assert_in_range(stats.tiers[MRP_TIER_SMALL].slab_size, 1, 256 * MRP_KIB);
}

/* One chunk, and a warm cache. */
static size_t start_sixteen(struct load *load, uint32_t checks)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    memset(load, 0, sizeof *load);
    params.chunk_min = 256 * MRP_KIB;
    params.checks = checks;
    stress_create(&load->world, &params);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(mrp_region_free(mrp_region_alloc(load->world.pool, 16)), MRP_OK);
    }
    return stress_stats(load->world.pool).mapped_size;
}

static void loop__twenty_million_by_one_thread(void **state)
{
    static struct load load;
    size_t mapped = start_sixteen(&load, MRP_CHECKS_STATE);

    (void)state;
    load.rounds = stress_rounds(10000000);
    for (size_t n = 0; n < load.rounds; n++) {
        struct mrp_region *region = mrp_region_alloc(load.world.pool, 16);

        if (region == NULL || mrp_region_free(region) != MRP_OK) {
            fail_msg("pair %zu: %s", n, mrp_error_last()->text);
        }
        region = mrp_region_alloc_inline(load.world.pool, 16);
        if (region == NULL || mrp_region_free_inline(region) != MRP_OK) {
            fail_msg("inline pair %zu: %s", n, mrp_error_last()->text);
        }
    }
    check_one_chunk(&load, mapped);
    stress_destroy(&load.world);
}

static void produce_or_consume(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct ring *ring = &load->rings[0][0];
    struct parcel parcel = {NULL, 0};

    for (size_t n = 0; n < load->rounds; n++) {
        if (thread->number == 0) {
            parcel.region = mrp_region_alloc(load->world.pool, 16);
            if (!STRESS_CHECK(parcel.region != NULL) || !send(ring, parcel, RING)) {
                return;
            }
        } else if (!receive(ring, &parcel) ||
            !STRESS_CHECK(mrp_region_free(parcel.region) == MRP_OK)) {
            return;
        }
    }
}

static void loop__twenty_million_from_producer_to_consumer(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE};
    static struct load load;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        size_t mapped = start_sixteen(&load, checks[i]);

        load.rounds = stress_rounds(10000000);
        stress_run(2, produce_or_consume, &load);
        check_one_chunk(&load, mapped);
        stress_destroy(&load.world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free__by_another_thread_at_every_class),
        cmocka_unit_test(free__by_any_of_many_threads),
        cmocka_unit_test(growth__from_nothing_into_caches),
        cmocka_unit_test(pools__in_opposite_directions),
        cmocka_unit_test(loop__twenty_million_by_one_thread),
        cmocka_unit_test(loop__twenty_million_from_producer_to_consumer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
