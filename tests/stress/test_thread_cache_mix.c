/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Everything at once: eight threads draw calls at random, each from a sequence
 * of its own that is the same in every run, over all modes of checks. Whatever
 * was asked for, regions have one owner, and at the end all of them are free.
 *
 * thread model: counting
 */
#include "mrpool/inline.h"
#include "mrpool/thread.h"
#include "stress.h"

#include <sched.h>

#define HELD 32
#define SHELF 16
#define BULK_MOST 200

/* What a thread has in one of its hands; empty: region is NULL. */
struct held {
    struct mrp_region *region;
    struct mrp_region *slice; /* of it, or NULL */
    uint64_t mark;
    size_t n_retained; /* references beside the first */
    bool is_pointer; /* given back by its address */
};

/* Where threads leave regions for each other. */
struct shelf {
    _Alignas(64) atomic_flag is_busy;
    struct held held;
};

struct load {
    struct stress_world world;
    size_t rounds;
    uint32_t checks;
    struct shelf shelves[SHELF];
};

struct player {
    struct load *load;
    struct stress_thread *thread;
    struct mrp_pool *pool;
    struct mrp_thread_slot *slot;
    struct held held[HELD];
};

/* Mostly small, some medium, few larger than the huge tier. */
static size_t random_size(struct stress_thread *thread)
{
    uint32_t kind = stress_random(thread) % 256;
    uint32_t bits = kind == 0 ? 21 : kind < 16 ? 17 : 6 + stress_random(thread) % 7;

    return 1 + (stress_random(thread) & (((size_t)1 << bits) - 1));
}

static void keep(
    struct player *player, struct held *held, struct mrp_region *region, size_t size)
{
    static atomic_uint_fast64_t marks;

    if (region != NULL) {
        held->region = region;
        held->mark = atomic_fetch_add_explicit(&marks, 1, memory_order_relaxed);
        STRESS_CHECK(mrp_region_capacity(region) >= size);
        STRESS_CHECK(player->load->checks == MRP_CHECKS_NONE
                ? mrp_region_size(region) >= size
                : mrp_region_size(region) == size);
        STRESS_CHECK(mrp_region_pool(region) == player->pool);
        stress_fill(region, held->mark);
    }
}

/* -- taking -- */

static void take_plain(struct player *player, struct held *held)
{
    size_t size = random_size(player->thread);
    bool is_inline = stress_random(player->thread) % 2 == 0;
    struct mrp_region *region = is_inline ? mrp_region_alloc_inline(player->pool, size)
                                          : mrp_region_alloc(player->pool, size);

    STRESS_CHECK(region != NULL);
    keep(player, held, region, size);
}

static bool is_zero(const char *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static void take_with_wishes(struct player *player, struct held *held)
{
    static const uint32_t flags[] = {0, MRP_REQUEST_NOWAIT, MRP_REQUEST_NOGROW};
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    size_t size = random_size(player->thread);
    struct mrp_region *region;

    request.flags = flags[stress_random(player->thread) % 3];
    if (stress_random(player->thread) % 4 == 0) {
        request.flags |= MRP_REQUEST_ZERO;
    }
    if (stress_random(player->thread) % 4 == 0) {
        request.alignment = (size_t)64 << stress_random(player->thread) % 8;
    }
    request.slot = stress_random(player->thread) % 2 == 0 ? player->slot : NULL;
    region = mrp_region_alloc_with(player->pool, size, &request);
    if (region == NULL) {
        STRESS_CHECK((request.flags & (MRP_REQUEST_NOWAIT | MRP_REQUEST_NOGROW)) != 0 &&
            mrp_error_last()->status == MRP_ERR_AGAIN);
        return;
    }
    if ((request.flags & MRP_REQUEST_ZERO) != 0) {
        STRESS_CHECK(is_zero(mrp_region_address(region), size));
    }
    STRESS_CHECK(request.alignment == 0 ||
        (uintptr_t)mrp_region_address(region) % request.alignment == 0);
    keep(player, held, region, size);
}

static void take_pointer(struct player *player, struct held *held)
{
    size_t size = random_size(player->thread);
    void *address = mrp_ptr_alloc(player->pool, size);

    if (STRESS_CHECK(address != NULL)) {
        keep(player, held, mrp_region_find(player->pool, address), size);
        STRESS_CHECK(held->region != NULL && mrp_region_address(held->region) == address);
        held->is_pointer = true;
    }
}

/* Many are taken and given back at once, some of them one by one. */
static void take_and_give_many(struct player *player)
{
    struct mrp_region *regions[BULK_MOST];
    size_t count = 1 + stress_random(player->thread) % BULK_MOST, n_freed = 0;
    size_t size = 1 + stress_random(player->thread) % 3000, n_singles = count / 4;
    uint64_t mark = player->thread->seed;

    if (!STRESS_CHECK(
            mrp_region_alloc_many(player->pool, size, count, regions) == count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        stress_fill(regions[i], mark + i);
    }
    for (size_t i = 0; i < count; i++) {
        STRESS_CHECK(stress_is_intact(regions[i], mark + i));
    }
    for (size_t i = 0; i < n_singles; i++) {
        STRESS_CHECK(mrp_region_free_inline(regions[i]) == MRP_OK);
    }
    STRESS_CHECK(
        mrp_region_free_many(regions + n_singles, count - n_singles, &n_freed) == MRP_OK);
    STRESS_CHECK(n_freed == count - n_singles);
}

/* -- keeping -- */

static void refer(struct player *player, struct held *held)
{
    size_t capacity = mrp_region_size(held->region), offset;

    if (stress_random(player->thread) % 2 == 0) {
        STRESS_CHECK(mrp_region_retain(held->region) == MRP_OK);
        held->n_retained++;
    } else if (held->slice == NULL) {
        offset = stress_random(player->thread) % capacity;
        STRESS_CHECK(mrp_region_slice(held->region, offset, capacity - offset,
                         &held->slice) == MRP_OK);
        STRESS_CHECK((char *)mrp_region_address(held->slice) ==
            (char *)mrp_region_address(held->region) + offset);
    }
}

/* The last reference ends it, whichever that is. */
static void give(struct player *player, struct held *held)
{
    bool has_others = held->n_retained > 0 || held->slice != NULL;
    struct mrp_region *region = held->region;
    enum mrp_status status;

    STRESS_CHECK(stress_is_intact(region, held->mark));
    if (has_others && player->load->checks != MRP_CHECKS_NONE) {
        STRESS_CHECK(mrp_region_free(region) == MRP_ERR_BUSY);
    }
    for (; held->n_retained > 0; held->n_retained--) {
        STRESS_CHECK(mrp_region_release(region) == MRP_OK);
    }
    if (held->slice != NULL) {
        STRESS_CHECK(mrp_region_release(region) == MRP_OK);
        status = mrp_region_free(held->slice);
    } else if (held->is_pointer) {
        status = mrp_ptr_free(player->pool, mrp_region_address(region));
    } else if (stress_random(player->thread) % 4 == 0) {
        status = mrp_region_release(region);
    } else {
        status = mrp_region_free_inline(region);
    }
    STRESS_CHECK(status == MRP_OK);
    *held = (struct held){.region = NULL};
}

/* Swap what is in this hand with what lies on a shelf. */
static void swap(struct player *player, struct held *held)
{
    struct shelf *shelf = &player->load->shelves[stress_random(player->thread) % SHELF];
    struct held other;

    if (!atomic_flag_test_and_set_explicit(&shelf->is_busy, memory_order_acquire)) {
        other = shelf->held;
        shelf->held = *held;
        *held = other;
        atomic_flag_clear_explicit(&shelf->is_busy, memory_order_release);
    }
}

/* -- a game -- */

static void move(struct player *player)
{
    struct held *held = &player->held[stress_random(player->thread) % HELD];
    uint32_t what = stress_random(player->thread) % 128;

    if (what == 0) {
        STRESS_CHECK(
            mrp_thread_flush(held->region != NULL ? player->pool : NULL) == MRP_OK);
    } else if (what == 1) {
        STRESS_CHECK(mrp_thread_slot_destroy(player->slot) == MRP_OK);
        STRESS_CHECK(mrp_thread_slot_create(&player->slot) == MRP_OK);
    } else if (what < 4) {
        take_and_give_many(player);
    } else if (what < 32) {
        swap(player, held);
    } else if (held->region != NULL && what < 48) {
        refer(player, held);
    } else if (held->region != NULL) {
        give(player, held);
    } else if (what < 60) {
        take_pointer(player, held);
    } else if (what < 90) {
        take_with_wishes(player, held);
    } else {
        take_plain(player, held);
    }
}

static void play(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct player player = {.load = load, .thread = thread, .pool = load->world.pool};

    STRESS_CHECK(mrp_thread_slot_create(&player.slot) == MRP_OK);
    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        move(&player);
    }
    for (size_t i = 0; i < HELD; i++) {
        if (player.held[i].region != NULL) {
            give(&player, &player.held[i]);
        }
    }
    STRESS_CHECK(mrp_thread_slot_destroy(player.slot) == MRP_OK);
}

static void clear_shelves(struct load *load)
{
    struct stress_thread thread = {.number = 0};
    struct player player = {.load = load, .thread = &thread, .pool = load->world.pool};

    for (size_t i = 0; i < SHELF; i++) {
        if (load->shelves[i].held.region != NULL) {
            give(&player, &load->shelves[i].held);
        }
    }
}

static void play_with(const struct mrp_pool_params *params, size_t rounds)
{
    static struct load load;

    memset(&load, 0, sizeof load);
    load.checks = params->checks;
    load.rounds = rounds;
    stress_create(&load.world, params);
    stress_run(STRESS_THREADS, play, &load);
    clear_shelves(&load);
    if (!stress_goes_on()) {
        fail_msg("%s", stress_failure);
    }
    assert_int_equal(mrp_thread_flush(load.world.pool), MRP_OK);
    stress_check_rest(load.world.pool);
    stress_destroy(&load.world);
}

static void calls__at_random_in_all_modes(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE, MRP_CHECKS_FULL};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    (void)state;
    params.chunk_min = MRP_MIB;
    params.thread_cache_size = 8 * MRP_MIB;
    for (size_t i = 0; i < 3; i++) {
        params.checks = checks[i];
        play_with(&params, stress_rounds(100000));
    }
}

/* Caches so small that bins are opened and closed all the time; room about the
 * payload. */
static void calls__at_random_with_small_caches(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    (void)state;
    params.chunk_min = MRP_MIB;
    params.max_bytes = 256 * MRP_MIB;
    params.thread_cache_size = 100 * MRP_KIB;
    params.headroom = 8192; /* a multiple of all alignments asked for */
    params.tailroom = 24;
    for (size_t i = 0; i < 2; i++) {
        params.checks = checks[i];
        play_with(&params, stress_rounds(50000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls__at_random_in_all_modes),
        cmocka_unit_test(calls__at_random_with_small_caches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
