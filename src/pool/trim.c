/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Giving back. Sifting a class takes its free regions off the stacks, counts them by slab,
 * retires the slabs that are nothing but free, and puts the others back. It happens under
 * the pool's mutex, a few thousand regions at a time: who is dry takes the same mutex and
 * finds what the sifter has in its hands (mrp_sift_take), so that nothing is missed. A
 * chunk without slabs is idle, and goes the way of all idle memory (retention.h).
 */
#include "base/clock.h"
#include "base/error.h"
#include "pool/cache.h"
#include "pool/depot.h"
#include "pool/growth.h"
#include "pool/rails.h"
#include "pool/wait.h"

#define REGIONS_PER_TURN 4096 /* sifted before others get the mutex: some 20 us */
#define TICKS_PER_DECAY 8
#define SHORTEST_TICK UINT64_C(10000000) /* ns */
#define DENSE_SHARE 2 /* a slab of which more is in use */
#define LOOSE_LOOKED_AT 4096 /* when the size of a depot is guessed */

/* -- what a sifter holds -- */

static void hold_magazine(
    struct mrp_pool *pool, struct mrp_sift *sift, struct mrp_magazine *magazine)
{
    mrp_store_relaxed(&magazine->link, sift->magazines);
    sift->magazines = mrp_magazine_index(pool, magazine) + 1;
}

static struct mrp_magazine *held_magazine(struct mrp_pool *pool, struct mrp_sift *sift)
{
    struct mrp_magazine *magazine;

    if (sift->magazines == 0) {
        return NULL;
    }
    magazine = mrp_magazine_at(pool, sift->magazines - 1);
    sift->magazines = mrp_load_relaxed(&magazine->link);
    return magazine;
}

/* It leaves the sifter's hands: false for one that is handed out no more. */
static bool let_go(struct mrp_pool *pool, struct mrp_region *region)
{
    struct mrp_slab *slab = mrp_slab_of(pool, region);

    if (slab->is_retired) {
        return false;
    }
    slab->n_collected--;
    pool->depots[slab->size_class].sift.n_regions--;
    return true;
}

/* One that is held, counted still; or NULL. The rest of a magazine stays in hand: put on the
 * stacks, it would be free and uncounted, and its slabs not be retired. */
static struct mrp_region *held_region(struct mrp_pool *pool, unsigned class)
{
    size_t capacity = pool->classes.classes[class].magazine_capacity;
    struct mrp_sift *sift = &pool->depots[class].sift;
    struct mrp_magazine *magazine;

    if (sift->loose.first == 0 && (magazine = held_magazine(pool, sift)) != NULL) {
        for (size_t i = 0; i < capacity; i++) {
            mrp_list_push(pool, &sift->loose, magazine->regions[i]);
        }
        mrp_depot_put_empty(pool, class, magazine);
    }
    return mrp_list_pop(pool, &sift->loose);
}

struct mrp_region *mrp_sift_take(struct mrp_pool *pool, unsigned class)
{
    struct mrp_sift *sift = &pool->depots[class].sift;
    struct mrp_region *region;

    do {
        region = mrp_list_pop(pool, &sift->dense);
        if (region == NULL) {
            region = held_region(pool, class);
        }
    } while (region != NULL && !let_go(pool, region));
    return region;
}

/* -- one class -- */

/* Let others have the mutex: those who are dry first. */
static void take_turns(struct mrp_pool *pool)
{
    const struct mrp_thread_model *model = mrp_thread_model_use();

    pthread_mutex_unlock(&pool->mutex);
    for (unsigned n = 0; mrp_load_relaxed(&pool->n_dry) > 0 && n < 1000; n++) {
        model->yield();
    }
    pthread_mutex_lock(&pool->mutex);
}

static void count_in(struct mrp_pool *pool, struct mrp_region *const *regions, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct mrp_slab *slab = mrp_slab_of(pool, regions[i]);

        slab->n_collected++;
        pool->depots[slab->size_class].sift.n_regions++;
    }
}

/* Take what is on the stacks, once round: others may put back as fast. */
static void gather(struct mrp_pool *pool, unsigned class)
{
    size_t capacity = pool->classes.classes[class].magazine_capacity, turn = 0;
    struct mrp_depot *depot = &pool->depots[class];
    size_t n_magazines = depot->n_magazines, n_regions = depot->n_regions;
    struct mrp_magazine *magazine;
    struct mrp_region *region;

    while (n_magazines-- > 0 && (magazine = mrp_depot_take_full(pool, class)) != NULL) {
        count_in(pool, magazine->regions, capacity);
        hold_magazine(pool, &depot->sift, magazine);
        turn += capacity;
        if (turn >= REGIONS_PER_TURN) {
            take_turns(pool);
            turn = 0;
        }
    }
    while (n_regions-- > 0 && (region = mrp_depot_take(pool, class)) != NULL) {
        count_in(pool, &region, 1);
        mrp_list_push(pool, &depot->sift.loose, region);
        if (++turn >= REGIONS_PER_TURN) {
            take_turns(pool);
            turn = 0;
        }
    }
}

/* It has no slab any more, and is on no list. */
static void make_idle(
    struct mrp_pool *pool, struct mrp_chunk *chunk, struct mrp_chunk **emptied)
{
    pool->n_chunks--;
    pool->chunk_size -= chunk->mapping.size;
    pool->n_openings++;
    pool->n_coming++;
    pool->n_idle++;
    pool->idle_size += chunk->mapping.size;
    chunk->next_with_room = *emptied;
    *emptied = chunk;
}

/* Retire the slabs whose regions are all in hand; *retired: numbers + 1 by `next`. */
static void retire_free(
    struct mrp_pool *pool, unsigned class, uint32_t *retired, struct mrp_chunk **emptied)
{
    size_t turn = 0;
    uint32_t next;

    for (uint32_t number = pool->depots[class].slabs; number != 0; number = next) {
        struct mrp_slab *slab = mrp_slab_at(pool, number - 1);
        struct mrp_chunk *chunk = slab->chunk;

        next = slab->next;
        slab->n_missing = slab->n_cut - slab->n_collected;
        if (slab->n_missing > 0 || slab->is_cutting ||
            pool->depots[class].n_regions - slab->n_cut <
                pool->depots[class].n_preallocated) {
            continue;
        }
        turn += slab->n_cut;
        pool->depots[class].sift.n_regions -= slab->n_cut;
        mrp_slab_retire(pool, slab);
        slab->next = *retired;
        *retired = number;
        mrp_line_room(pool);
        if (chunk->n_granules_used == 0) {
            mrp_chunk_retract(pool, chunk);
            make_idle(pool, chunk, emptied);
        }
        if (turn >= REGIONS_PER_TURN && next != 0) {
            /* The list may change: begin again. What is retired is off it, so this ends;
             * new slabs are being cut, or have regions that nobody has gathered. */
            take_turns(pool);
            turn = 0;
            next = pool->depots[class].slabs;
        }
    }
}

static bool is_dense(const struct mrp_pool *pool, const struct mrp_region *region)
{
    const struct mrp_slab *slab = mrp_slab_of(pool, region);

    return !slab->is_retired && slab->n_missing > slab->n_cut / DENSE_SHARE;
}

/* Regions on their way back. */
struct packer {
    struct mrp_region *regions[MRP_MAGAZINE_REGIONS];
    size_t n;
};

/* Threads without caches want single regions, the others magazines. */
static void unpack(struct mrp_pool *pool, unsigned class, struct packer *packer)
{
    if (packer->n > 0 && pool->classes.classes[class].bin == 0) {
        mrp_depot_put_loose(pool, class, packer->regions, packer->n);
    } else {
        mrp_depot_put_many(pool, class, packer->regions, packer->n);
    }
    packer->n = 0;
}

static void pack(struct mrp_pool *pool, unsigned class, struct packer *packer,
    struct mrp_region *region)
{
    packer->regions[packer->n++] = region;
    if (packer->n == pool->classes.classes[class].magazine_capacity) {
        unpack(pool, class, packer);
    }
}

/* Put back what is held: regions of slabs with many free ones first, so that those are
 * taken last, and may yet become free. */
static void put_back(struct mrp_pool *pool, unsigned class)
{
    struct mrp_sift *sift = &pool->depots[class].sift;
    struct packer packer = {.n = 0};
    struct mrp_region *region;
    bool is_second = false;
    size_t turn = 0;

    for (;;) {
        region = is_second ? mrp_list_pop(pool, &sift->dense) : held_region(pool, class);
        if (region == NULL && is_second) {
            break;
        }
        if (region == NULL) {
            is_second = true;
        } else if (!is_second && is_dense(pool, region)) {
            mrp_list_push(pool, &sift->dense, region);
        } else if (let_go(pool, region)) {
            pack(pool, class, &packer, region);
        }
        if (++turn >= REGIONS_PER_TURN) {
            unpack(pool, class, &packer);
            take_turns(pool);
            turn = 0;
        }
    }
    unpack(pool, class, &packer);
}

/* -- idle chunks -- */

/* Nobody asked for this now, so nobody can be told: a failure shows as parked memory. */
static bool evict_empty(struct mrp_retained *item)
{
    struct mrp_chunk *chunk = mrp_idle_chunk(item);
    struct mrp_pool *pool = chunk->pool;
    struct mrp_error before = *mrp_error_last();
    size_t size = item->size;

    if (!mrp_chunk_begin_leave(chunk)) {
        return false;
    }
    mrp_chunk_withdraw(chunk);
    mrp_pool_dissolve_chunk(chunk);
    mrp_error_restore(&before);
    mrp_pool_count_idle(pool, -1, size, true);
    return true;
}

/* Put chunks without slabs on the retention list, whose bounds may give some up. Under the
 * mutex, released meanwhile. */
static void keep_idle(struct mrp_pool *pool, struct mrp_chunk *emptied)
{
    while (emptied != NULL) {
        struct mrp_chunk *next = emptied->next_with_room;

        pthread_mutex_unlock(&pool->mutex);
        mrp_pool_retain(pool, emptied, evict_empty);
        pthread_mutex_lock(&pool->mutex);
        pool->n_coming--; /* only now can it be found there */
        pool->idle_changes++;
        mrp_line_room(pool);
        mrp_wake_all(&pool->grown);
        emptied = next;
    }
}

/* -- sifting -- */

/* Only one thread sifts: two would each hold what makes the other's slabs whole. */
static void begin_sifting(struct mrp_pool *pool)
{
    while (pool->is_sifting) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    mrp_store_relaxed(&pool->is_sifting, true);
}

static void end_sifting(struct mrp_pool *pool)
{
    mrp_store_relaxed(&pool->is_sifting, false);
    if (mrp_load_relaxed(&pool->n_waiting) > 0) { /* what was freed meanwhile */
        mrp_store_relaxed(&pool->member.is_owed, true);
    }
    mrp_wake_all(&pool->grown);
}

static void sift_class(struct mrp_pool *pool, unsigned class, struct mrp_chunk **emptied)
{
    uint32_t retired = 0;

    pool->depots[class].sift_due = false;
    gather(pool, class);
    retire_free(pool, class, &retired, emptied);
    put_back(pool, class);
    while (retired != 0) { /* now no list has their regions */
        struct mrp_slab *slab = mrp_slab_at(pool, retired - 1);

        retired = slab->next;
        mrp_slab_recycle(pool, slab);
    }
}

void mrp_pool_sift(struct mrp_pool *pool, unsigned class)
{
    struct mrp_chunk *emptied = NULL;

    begin_sifting(pool);
    sift_class(pool, class, &emptied);
    end_sifting(pool);
    keep_idle(pool, emptied);
}

/* -- all classes -- */

/* Free regions in the depot, roughly. Under the mutex: others take and give meanwhile. */
static size_t guess_free(const struct mrp_pool *pool, unsigned class)
{
    return mrp_depot_count(pool, class, pool->depots[class].n_regions, LOOSE_LOOKED_AT);
}

size_t mrp_depots_size(struct mrp_pool *pool)
{
    size_t size = 0;

    for (unsigned class = 0; class < mrp_n_classes(&pool->classes); class ++) {
        if (pool->depots[class].n_regions > 0) {
            size += guess_free(pool, class) * pool->classes.classes[class].block_size;
        }
    }
    return size;
}

/* Whether what is free could fill a slab at all: the smallest the class has. */
static bool is_worthwhile(struct mrp_pool *pool, unsigned class)
{
    uint32_t number = pool->depots[class].slabs;
    size_t least = SIZE_MAX;

    for (size_t n = 0; number != 0 && n < 64; n++) {
        const struct mrp_slab *slab = mrp_slab_at(pool, number - 1);

        least = mrp_min(least, slab->n_cut);
        number = slab->next;
    }
    return least != SIZE_MAX && guess_free(pool, class) >= least;
}

/* Chunks that never got a slab: what they were made for was served otherwise. */
static void keep_unused(struct mrp_pool *pool, struct mrp_chunk **emptied)
{
    struct mrp_chunk *chunk = pool->with_room, *next;

    for (; chunk != NULL; chunk = next) {
        next = chunk->next_with_room;
        if (chunk->n_granules_used == 0) {
            mrp_chunk_retract(pool, chunk);
            make_idle(pool, chunk, emptied);
        }
    }
}

bool mrp_pool_sift_all(struct mrp_pool *pool, bool is_thorough)
{
    uint64_t n_openings = pool->n_openings; /* also by another thread that sifts now */
    struct mrp_chunk *emptied = NULL;

    begin_sifting(pool);
    for (unsigned class = 0; class < mrp_n_classes(&pool->classes); class ++) {
        if (is_thorough ? pool->depots[class].slabs != 0 : is_worthwhile(pool, class)) {
            sift_class(pool, class, &emptied);
        }
    }
    keep_unused(pool, &emptied);
    end_sifting(pool);
    keep_idle(pool, emptied);
    return pool->n_openings != n_openings;
}

/* -- on demand -- */

uint64_t mrp_pool_openings(struct mrp_pool *pool)
{
    uint64_t n_openings;

    pthread_mutex_lock(&pool->mutex);
    n_openings = pool->n_openings;
    pthread_mutex_unlock(&pool->mutex);
    return n_openings;
}

bool mrp_pool_regroup(struct mrp_pool *pool, uint64_t n_openings)
{
    bool is_room;

    pthread_mutex_lock(&pool->mutex);
    mrp_pool_sift_all(pool, true);
    is_room = pool->n_openings != n_openings;
    while (pool->n_coming > 0) { /* of another thread that sifted */
        mrp_wait(&pool->grown, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    return is_room;
}

enum mrp_status mrp_pool_trim(struct mrp_pool *pool, size_t keep, size_t *released)
{
    size_t n_items, idle;
    uint64_t before;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    before = pool->released_size;
    mrp_pool_sift_all(pool, true);
    pthread_mutex_unlock(&pool->mutex);
    mrp_quarantine_expire(pool);
    mrp_retention_count(&pool->context->retention, pool, NULL, NULL, &n_items, &idle);
    if (!pool->never_free && idle > keep) {
        mrp_retention_evict(&pool->context->retention, pool, idle - keep, NULL, NULL);
    }
    mrp_line_end(pool);
    if (released != NULL) {
        pthread_mutex_lock(&pool->mutex);
        *released = (size_t)(pool->released_size - before);
        pthread_mutex_unlock(&pool->mutex);
    }
    return MRP_OK;
}

/* -- by and by -- */

static void decay(struct mrp_pool *pool, uint64_t now)
{
    uint64_t age = pool->decay_ms * UINT64_C(1000000);

    if (pthread_mutex_trylock(&pool->mutex) != 0) { /* who has it may be dry: next time */
        return;
    }
    if (!pool->is_sifting) {
        mrp_pool_sift_all(pool, false);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (now > age) {
        mrp_retention_evict_aged(
            &pool->context->retention, pool, now - age, pool->reserve, 1);
    }
}

void mrp_pool_tick(struct mrp_pool *pool)
{
    uint64_t last = mrp_load_relaxed(&pool->last_tick), now, pause;

    mrp_quarantine_tick(pool);
    if (pool->decay_ms != UINT32_MAX && !pool->never_free) {
        now = mrp_clock_coarse();
        pause =
            mrp_max(pool->decay_ms * UINT64_C(1000000) / TICKS_PER_DECAY, SHORTEST_TICK);
        if (now - last >= pause && mrp_cas_relaxed(&pool->last_tick, &last, now)) {
            decay(pool, now);
        }
    }
    mrp_line_end(pool);
}
