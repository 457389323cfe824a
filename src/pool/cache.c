/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The slow paths of a thread's cache: a bin that is empty or full exchanges a magazine
 * with the depot (Bonwick and Adams, "Magazines and Vmem", 2001, section 3); a bin that
 * others ask for gives back all it has.
 */
#include "pool/cache.h"
#include "pool/depot.h"

#include "base/error.h"
#include "pool/wait.h"

#include <string.h>

#define CACHE_SHARE 8 /* of max_bytes may lie in caches at most, if nothing is set */
#define REFUSALS 64 /* until one bin makes room for another */

/* -- bins -- */

/* Load a magazine with `count` regions in it. Whoever asks for the class meanwhile either
 * finds this limit and clears it, or is seen here. */
static void load_magazine(struct mrp_pool *pool, unsigned class,
    struct mrp_cache_slot *slot, unsigned bin, struct mrp_magazine *magazine,
    size_t count)
{
    struct mrp_region **bottom = magazine->regions;

    mrp_store_relaxed(&slot->bottom[bin], bottom);
    mrp_store_relaxed(&slot->top[bin], bottom + count);
    mrp_store_relaxed(
        &slot->limit[bin], bottom + pool->classes.classes[class].magazine_capacity);
    mrp_fence_seq_cst(); /* pairs with the one in ask() of grow.c */
    if (mrp_depot_asks(pool, class) != 0) {
        mrp_store_relaxed(&slot->limit[bin], NULL);
    }
}

/* An empty bin gets regions: those of the other magazine, or a full one of the depot,
 * unless others ask for what is there. */
static bool refill(
    struct mrp_pool *pool, unsigned class, struct mrp_cache_slot *slot, unsigned bin)
{
    struct mrp_magazine *previous = slot->previous[bin];
    struct mrp_magazine *loaded = mrp_magazine_of(slot->bottom[bin]);
    struct mrp_magazine *full = previous;

    if (mrp_load_relaxed(&previous->count) == 0) {
        full = mrp_depot_asks(pool, class) == 0 ? mrp_depot_take_full(pool, class) : NULL;
        if (full == NULL) {
            return false;
        }
        mrp_depot_put_empty(pool, class, previous);
    }
    mrp_store_relaxed(&loaded->count, 0);
    mrp_store_relaxed(&slot->previous[bin], loaded);
    load_magazine(
        pool, class, slot, bin, full, pool->classes.classes[class].magazine_capacity);
    return true;
}

/* A bin at its limit gets room: false if there is no empty magazine. */
static bool spill(
    struct mrp_pool *pool, unsigned class, struct mrp_cache_slot *slot, unsigned bin)
{
    size_t capacity = pool->classes.classes[class].magazine_capacity;
    struct mrp_magazine *previous = slot->previous[bin], *empty = previous;
    struct mrp_magazine *loaded = mrp_magazine_of(slot->bottom[bin]);
    size_t count = (size_t)(slot->top[bin] - slot->bottom[bin]);

    if (count < capacity) { /* the limit was cleared by one who asks no more */
        load_magazine(pool, class, slot, bin, loaded, count);
        return true;
    }
    if (mrp_load_relaxed(&previous->count) != 0) {
        empty = mrp_depot_take_empty(pool, class);
        if (empty == NULL) {
            return false;
        }
        mrp_depot_put_full(pool, class, previous);
    }
    mrp_store_relaxed(&loaded->count, (uint32_t)capacity);
    mrp_store_relaxed(&slot->previous[bin], loaded);
    load_magazine(pool, class, slot, bin, empty, 0);
    return true;
}

static size_t charge_of(const struct mrp_pool *pool, unsigned class)
{
    const struct mrp_size_class *size_class = &pool->classes.classes[class];

    return 2 * size_class->magazine_capacity * size_class->block_size;
}

/* To the slot's charge and the pool's; modulo 2^64. */
static void add_charge(struct mrp_pool *pool, struct mrp_cache_slot *slot, size_t charge)
{
    size_t sum = slot->charge + charge;

    if ((slot->charge == 0) != (sum == 0)) {
        mrp_add_relaxed(&pool->n_threads, sum == 0 ? UINT32_MAX : 1);
    }
    mrp_store_relaxed(&slot->charge, sum);
    mrp_add_relaxed(&pool->cache_charge, charge);
}

/* Give up a bin: regions and magazines to the depot. The others keep theirs. */
static void close_bin(
    struct mrp_pool *pool, unsigned class, struct mrp_cache_slot *slot, unsigned bin)
{
    struct mrp_magazine *loaded = mrp_magazine_of(slot->bottom[bin]);
    struct mrp_magazine *previous = slot->previous[bin];
    size_t count = (size_t)(slot->top[bin] - slot->bottom[bin]);

    mrp_store_relaxed(&slot->top[bin], NULL);
    mrp_store_relaxed(&slot->bottom[bin], NULL);
    mrp_store_relaxed(&slot->limit[bin], NULL);
    mrp_store_relaxed(&slot->previous[bin], NULL);
    mrp_store_relaxed(
        &slot->active[bin / 64], slot->active[bin / 64] & ~(UINT64_C(1) << bin % 64));
    add_charge(pool, slot, 0 - charge_of(pool, class));
    if (mrp_load_relaxed(&previous->count) != 0) {
        mrp_depot_put_full(pool, class, previous);
    } else {
        mrp_depot_put_empty(pool, class, previous);
    }
    if (count == pool->classes.classes[class].magazine_capacity) {
        mrp_depot_put_full(pool, class, loaded);
    } else {
        mrp_depot_put_many(pool, class, loaded->regions, count);
        mrp_depot_put_empty(pool, class, loaded);
    }
    mrp_sub_relaxed(&pool->depots[class].n_caches, 1);
}

static unsigned class_of_bin(const struct mrp_pool *pool, unsigned bin)
{
    unsigned class = 0;

    while (pool->classes.classes[class].bin != bin) {
        class ++;
    }
    return class;
}

struct mrp_pool *mrp_cache_close(struct mrp_cache_slot *slot)
{
    struct mrp_pool *pool = (struct mrp_pool *)(slot->pool & /* NOLINT */
        ~(MRP_V1_UNCHECKED | MRP_V1_ROOMY));

    MRP_FOR_ACTIVE(slot, bin)
    {
        close_bin(pool, class_of_bin(pool, bin), slot, bin);
    }
    return pool;
}

/* -- opening -- */

/* What its thread finds in a slot of the pool. */
static uintptr_t owner_word(const struct mrp_pool *pool)
{
    bool is_unchecked = pool->checks == MRP_CHECKS_NONE;
    bool is_roomy = pool->classes.lead + pool->classes.tailroom > 0;

    return (uintptr_t)pool | (is_unchecked ? MRP_V1_UNCHECKED : 0) |
        (is_roomy ? MRP_V1_ROOMY : 0);
}

/* The next of the slot's bins gives up its place, now and then: a thread whose sizes do
 * not all fit must not exchange them all the time, nor keep for good those it met first.
 */
static void make_room(struct mrp_pool *pool, struct mrp_cache_slot *slot)
{
    unsigned bin = mrp_next_active(slot, slot->hand);

    if (++slot->n_refused % REFUSALS != 0) {
        return;
    }
    if (bin == MRP_V1_BINS) {
        bin = mrp_next_active(slot, 0);
    }
    if (bin < MRP_V1_BINS) {
        unsigned class = class_of_bin(pool, bin);

        close_bin(pool, class, slot, bin);
        slot->hand = bin + 1;
        mrp_depot_tell(pool, class, NULL, 0);
    }
}

/* Empty magazines for one bin, counted; false without an error record. */
static bool get_magazines(struct mrp_pool *pool, unsigned class,
    struct mrp_magazine **loaded, struct mrp_magazine **previous)
{
    struct mrp_error before;
    enum mrp_status status;

    if (pthread_mutex_trylock(&pool->mutex) != 0) { /* the depot serves; next time then */
        return false;
    }
    before = *mrp_error_last();
    mrp_add_relaxed(&pool->depots[class].n_caches, 1);
    status = mrp_depot_provision(pool, class, 0);
    *loaded = status == MRP_OK ? mrp_depot_take_empty(pool, class) : NULL;
    *previous = *loaded != NULL ? mrp_depot_take_empty(pool, class) : NULL;
    pthread_mutex_unlock(&pool->mutex);
    if (*previous == NULL) {
        mrp_sub_relaxed(&pool->depots[class].n_caches, 1);
    }
    if (*previous == NULL && *loaded != NULL) {
        mrp_depot_put_empty(pool, class, *loaded);
    }
    if (status != MRP_OK) {
        mrp_error_restore(&before);
    }
    return *previous != NULL;
}

static bool open_bin(
    struct mrp_pool *pool, unsigned class, struct mrp_cache_slot *slot, unsigned bin)
{
    size_t most = pool->thread_cache_size, kept = slot->charge;
    size_t charge = charge_of(pool, class);
    struct mrp_magazine *loaded, *previous;

    if (most == 0) { /* what all threads keep together is bounded */
        most =
            mrp_min(pool->max_bytes / CACHE_SHARE, mrp_load_relaxed(&pool->cache_most));
        kept = mrp_load_relaxed(&pool->cache_charge);
    }
    if (charge > most || mrp_depot_asks(pool, class) != 0) {
        return false;
    }
    if (kept + charge > most) {
        make_room(pool, slot);
        return false;
    }
    if (!get_magazines(pool, class, &loaded, &previous)) {
        return false;
    }
    add_charge(pool, slot, charge);
    mrp_store_relaxed(
        &slot->active[bin / 64], slot->active[bin / 64] | UINT64_C(1) << bin % 64);
    mrp_store_relaxed(&previous->count, 0);
    mrp_store_relaxed(&slot->previous[bin], previous);
    load_magazine(pool, class, slot, bin, loaded, 0);
    return true;
}

/* The calling thread's slot of the pool, with an open bin for the class; NULL: the depot
 * alone serves it. */
static struct mrp_cache_slot *find_slot(struct mrp_pool *pool, unsigned class)
{
    unsigned bin = pool->classes.classes[class].bin;
    struct mrp_cache_arena *arena;
    struct mrp_cache_slot *slot;

    if (pool->cache_slot == MRP_NO_SLOT || bin == 0) {
        return NULL;
    }
    slot = &mrp_bins_v1->slots[pool->cache_slot];
    if (slot->bottom[bin] != NULL) {
        return slot;
    }
    arena = mrp_thread_arena();
    if (arena == NULL) {
        return NULL;
    }
    slot = &arena->slots[pool->cache_slot];
    if (slot->charge == 0) { /* the first bin, or the first of a pool in that place */
        slot->pool = owner_word(pool);
        slot->n_refused = slot->hand = 0;
        mrp_thread_refresh(arena);
    }
    return open_bin(pool, class, slot, bin) ? slot : NULL;
}

/* -- taking -- */

struct mrp_region *mrp_cache_take(struct mrp_pool *pool, unsigned class)
{
    unsigned bin = pool->classes.classes[class].bin;
    struct mrp_cache_slot *slot = find_slot(pool, class);
    struct mrp_region *region = slot == NULL ? NULL : mrp_v1_pop(slot, bin);

    if (region == NULL && slot != NULL && refill(pool, class, slot, bin)) {
        region = mrp_v1_pop(slot, bin);
    }
    if (region == NULL && mrp_depot_asks(pool, class) == 0) {
        region = mrp_depot_take(pool, class);
    } /* else under the mutex: who takes there, answers */
    return region;
}

size_t mrp_cache_take_many(
    struct mrp_pool *pool, unsigned class, size_t count, struct mrp_region **regions)
{
    unsigned bin = pool->classes.classes[class].bin;
    struct mrp_cache_slot *slot = find_slot(pool, class);
    size_t taken = 0;

    while (slot != NULL && taken < count) {
        struct mrp_region **top = slot->top[bin];
        size_t n = mrp_min((size_t)(top - slot->bottom[bin]), count - taken);

        memcpy(regions + taken, top - n, n * sizeof *top);
        mrp_store_relaxed(&slot->top[bin], top - n);
        taken += n;
        if (taken < count && !refill(pool, class, slot, bin)) {
            break;
        }
    }
    return mrp_depot_asks(pool, class) != 0
        ? taken
        : taken + mrp_depot_take_many(pool, class, count - taken, regions + taken);
}

/* -- giving back -- */

void mrp_cache_put(struct mrp_pool *pool, struct mrp_region *region)
{
    mrp_cache_put_many(pool, mrp_depot_of(region), &region, 1);
}

void mrp_cache_put_many(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count)
{
    unsigned bin = pool->classes.classes[class].bin;
    struct mrp_cache_slot *slot = find_slot(pool, class);
    struct mrp_region *const *given = regions;
    size_t n_given = count;

    while (slot != NULL && count > 0) {
        struct mrp_region **top = slot->top[bin];
        struct mrp_region **limit = mrp_load_relaxed(&slot->limit[bin]);
        size_t n = limit > top ? mrp_min((size_t)(limit - top), count) : 0;

        memcpy(top, regions, n * sizeof *top);
        mrp_store_relaxed(&slot->top[bin], top + n);
        regions += n;
        count -= n;
        if (count > 0 &&
            (mrp_depot_asks(pool, class) != 0 || !spill(pool, class, slot, bin))) {
            break;
        }
    }
    if (count > 0) {
        mrp_depot_put_many(pool, class, regions, count);
    }
    /* after everything above has reached the depot: none who waits misses it */
    if (mrp_depot_asks(pool, class) == 0) {
        return;
    }
    if (slot != NULL) {
        close_bin(pool, class, slot, bin);
        mrp_depot_tell(pool, class, NULL, 0);
    } else {
        mrp_depot_tell(pool, class, given, n_given);
    }
}

void mrp_cache_give_asked(struct mrp_pool *pool, unsigned class)
{
    unsigned bin = pool->classes.classes[class].bin;
    struct mrp_cache_slot *slot = &mrp_bins_v1->slots[pool->cache_slot % MRP_V1_SLOTS];

    if (pool->cache_slot != MRP_NO_SLOT && bin != 0 && slot->bottom[bin] != NULL &&
        mrp_depot_asks(pool, class) != 0) {
        close_bin(pool, class, slot, bin);
    }
}
