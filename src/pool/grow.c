/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth: the slow path of an allocation. A thread that finds its class dry takes the
 * pool's mutex, looks again, and then either waits for the thread that is already cutting
 * a slab of the class, or becomes that thread. The mutex is held for bookkeeping only:
 * mapping, registering, region_init and the writing of descriptors happen outside it,
 * announced by `growing` (of the class) and `chunk_growing` (of the pool).
 */
#include "base/error.h"
#include "pool/cache.h"
#include "pool/debug.h"
#include "pool/depot.h"
#include "pool/growth.h"
#include "pool/large.h"
#include "pool/wait.h"

#include <string.h>

#define BATCH 128

/* -- asking -- */

/* Ask all threads to give back what they free of the class from now on. Under the mutex.
 */
static void ask(struct mrp_pool *pool, unsigned class, uint32_t asks)
{
    struct mrp_thread *cursor = NULL;
    struct mrp_cache_slot *slot;
    unsigned bin;

    mrp_store_relaxed(&pool->depots[class].asks, asks);
    /* Pairs with the fence in load_magazine(): who stores a limit after this one sees the
     * number; and with mrp_stack_push_chain(): what was pushed before is found below. */
    mrp_fence_seq_cst();
    if (class == MRP_CLASS_BARE) {
        return;
    }
    bin = pool->classes.classes[class].bin;
    while ((slot = mrp_thread_next(pool, &cursor)) != NULL) {
        if (mrp_load_relaxed(&slot->limit[bin]) != NULL) {
            mrp_store_relaxed(&slot->limit[bin], NULL);
        }
    }
}

/* Take what is there, unless somebody stands in line for it; it answers those that were
 * refused. Under the mutex. */
static struct mrp_region *take_answer(struct mrp_pool *pool, unsigned class)
{
    _Atomic uint32_t *asks = &pool->depots[class].asks;
    struct mrp_region *region =
        pool->depots[class].n_waiting > 0 ? NULL : mrp_depot_take_locked(pool, class);

    if (region != NULL && (mrp_load_relaxed(asks) & MRP_ASKS_REFUSED) != 0) {
        mrp_store_relaxed(asks, mrp_load_relaxed(asks) & ~MRP_ASKS_REFUSED);
    }
    return region;
}

/* The request cannot be met, its record says why: the next one shall. What another thread
 * has freed meanwhile meets it all the same. Under the mutex. */
static struct mrp_region *refuse(struct mrp_pool *pool, unsigned class)
{
    ask(pool, class, mrp_load_relaxed(&pool->depots[class].asks) | MRP_ASKS_REFUSED);
    return take_answer(pool, class);
}

/* Wait until somebody's growth ends, or a region comes back; NULL: it has ended. Under
 * the mutex, released meanwhile. */
static struct mrp_region *wait_for_region(
    struct mrp_pool *pool, unsigned class, const bool *is_growing)
{
    _Atomic uint32_t *asks = &pool->depots[class].asks;
    struct mrp_region *region;

    ask(pool, class, mrp_load_relaxed(asks) + 1);
    while ((region = take_answer(pool, class)) == NULL && *is_growing) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    mrp_store_relaxed(asks, mrp_load_relaxed(asks) - 1);
    return region;
}

/* -- new memory -- */

static enum mrp_status refuse_own(const struct mrp_pool *pool)
{
    return mrp_fail(MRP_ERR_BUSY, 0,
        "pool %s is growing in this very thread: its provider, its backend or "
        "region_init allocates from the pool it works for",
        pool->member.named.name);
}

bool mrp_is_no_more(enum mrp_status status)
{
    return status == MRP_ERR_LIMIT || status == MRP_ERR_MEMORY ||
        status == MRP_ERR_REGISTER;
}

/* What the search for a slab has tried. */
struct search {
    uint32_t flags; /* enum mrp_region_request_flag */
    bool has_regrouped, has_sifted_all, is_told;
    struct mrp_region *served; /* a region that came back meanwhile */
};

/* Before more is mapped: is as much free in other classes, or on its way? True when it is
 * time to look again. Under the mutex, released meanwhile. */
static bool look_before_mapping(
    struct mrp_pool *pool, unsigned class, struct search *search)
{
    if (pool->chunk_growing) {
        search->served = wait_for_region(pool, class, &pool->chunk_growing);
        return true;
    }
    if (pool->n_coming > 0) { /* an idle chunk */
        mrp_wait(&pool->grown, &pool->mutex);
        return true;
    }
    if (!search->has_regrouped &&
        (pool->is_sifting || mrp_depots_size(pool) >= mrp_next_chunk_size(pool))) {
        search->has_regrouped = true;
        mrp_pool_sift_all(pool, false);
        search->served = take_answer(pool, class);
        return true;
    }
    return false;
}

/* Bytes of the smallest chunk that will do: whole granules of the chunk that one block, or
 * a little more, would be. */
size_t mrp_least_chunk(const struct mrp_pool *pool, unsigned class)
{
    size_t block_size = pool->classes.classes[class].block_size;
    size_t granule_max = (size_t)1 << MRP_GRANULE_SHIFT_MAX;

    return mrp_align_up(
        block_size, (size_t)1 << mrp_granule_shift(block_size + granule_max));
}

static enum mrp_status build_chunk(
    struct mrp_pool *pool, unsigned class, const struct search *search)
{
    enum mrp_status status;

    pool->chunk_growing = true;
    pool->chunk_grower = mrp_thread_id();
    mrp_wake_all(&pool->grown); /* who would not wait for that */
    status = mrp_pool_build_chunk(pool, mrp_least_chunk(pool, class),
        pool->classes.classes[class].node, search->is_told);
    pool->chunk_growing = false;
    mrp_wake_all(&pool->grown);
    return status;
}

/* Room for a slab in chunks that are there, idle ones too. MRP_ERR_AGAIN, without a record:
 * at the end of this no thread has any, in its hands or elsewhere. Under the mutex, released
 * meanwhile. */
static enum mrp_status take_room(
    struct mrp_pool *pool, unsigned class, struct mrp_slab **slab)
{
    const struct mrp_size_class *size_class = &pool->classes.classes[class];
    enum mrp_status status;
    uint64_t n_openings;

    do {
        n_openings = pool->n_openings;
        status = mrp_slab_take(pool, class, slab);
        if (status == MRP_ERR_AGAIN) { /* before idle memory is taken that is others' */
            status = mrp_heed_reserves(pool, size_class->tier, size_class->block_size);
            if (status == MRP_OK) {
                mrp_pool_take_up(pool, mrp_least_chunk(pool, class), size_class->node);
                status = MRP_ERR_AGAIN;
            }
        }
    } while (status == MRP_ERR_AGAIN && pool->n_openings != n_openings);
    return status;
}

/* More room: what free memory makes room when it is regrouped, a new chunk; or a
 * region that came back meanwhile. Under the mutex, released meanwhile. */
static enum mrp_status seek_room(
    struct mrp_pool *pool, unsigned class, struct search *search)
{
    if ((search->flags & MRP_REQUEST_NOGROW) != 0) {
        return mrp_fail(MRP_ERR_AGAIN, 0,
            "pool %s has no free region of %zu bytes and may not grow here",
            pool->member.named.name, pool->classes.classes[class].capacity);
    }
    if (pool->chunk_growing && pool->chunk_grower == mrp_thread_id()) {
        return refuse_own(pool);
    }
    return look_before_mapping(pool, class, search) ? MRP_OK
                                                    : build_chunk(pool, class, search);
}

/* There is no more to be had: all that is free is regrouped, once; true when that has
 * brought something. Leaves the record. Under the mutex, released meanwhile. */
static bool regroup_at_last(struct mrp_pool *pool, unsigned class, struct search *search)
{
    struct mrp_error cause = *mrp_error_last();
    bool is_more;

    if (search->has_sifted_all || (search->flags & MRP_REQUEST_NOGROW) != 0) {
        return false; /* what that makes idle may be given up at once, and deregistered */
    }
    search->has_regrouped = search->has_sifted_all = true;
    is_more = mrp_pool_sift_all(pool, true);
    search->served = take_answer(pool, class);
    mrp_error_restore(&cause);
    return is_more || search->served != NULL;
}

/* It is refused: but since it looked the mutex has been released, and what another thread has
 * made room meanwhile nobody has told. Leaves the record. Under the mutex, as above. */
static enum mrp_status look_once_more(struct mrp_pool *pool, unsigned class,
    enum mrp_status refusal, struct mrp_slab **slab)
{
    struct mrp_error cause = *mrp_error_last();

    if (mrp_is_no_more(refusal) && take_room(pool, class, slab) == MRP_OK) {
        return MRP_OK;
    }
    mrp_error_restore(&cause);
    return refusal;
}

/* A slab, from a new chunk if need be; or, with none, a region that came back meanwhile.
 * Under the mutex, which may be released meanwhile. */
static enum mrp_status find_slab(
    struct mrp_pool *pool, unsigned class, struct search *search, struct mrp_slab **slab)
{
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status;

    do {
        status = take_room(pool, class, slab);
        if (status == MRP_OK) {
            break;
        }
        if (status == MRP_ERR_AGAIN) {
            status = seek_room(pool, class, search);
        }
        if (status != MRP_OK &&
            !(mrp_is_no_more(status) && regroup_at_last(pool, class, search))) {
            status = look_once_more(pool, class, status, slab);
            if (status != MRP_OK) {
                return status;
            }
            break;
        }
    } while (search->served == NULL);
    mrp_error_restore(&before); /* what failed on the way has been made good */
    return MRP_OK;
}

/* -- regions -- */

/* Write one descriptor, run region_init on it as on a live region. */
static enum mrp_status cut_region(struct mrp_pool *pool, const struct mrp_slab *slab,
    uint32_t block, struct mrp_region **cut)
{
    unsigned class = slab->size_class;
    const struct mrp_size_class *size_class = &pool->classes.classes[class];
    struct mrp_region *region = mrp_region_at(pool, slab->descriptor + block);
    uintptr_t address = (uintptr_t)slab->chunk->mapping.address +
        ((size_t)slab->granule << slab->chunk->granule_shift) +
        block * size_class->block_size;
    enum mrp_status status;

    region->offset = (int64_t)(address + pool->classes.lead - (uintptr_t)region);
    region->capacity = size_class->capacity;
    mrp_store_relaxed(&region->size, size_class->capacity); /* where nobody keeps it */
    mrp_store_relaxed(&region->length, 0);
    /* tokens of who had these bytes before, in another slab, are not its owners' */
    if (mrp_load_relaxed(&region->generation) <
        mrp_load_relaxed(&slab->chunk->generation)) {
        mrp_store_relaxed(
            &region->generation, mrp_load_relaxed(&slab->chunk->generation));
    }
    region->cache = mrp_bin_offset(pool, class);
    region->chunk = slab->chunk->id;
    mrp_store_relaxed(&region->size_class, (uint8_t) class);
    mrp_store_relaxed(&region->kind, MRP_REGION_POOLED);
    mrp_store_relaxed(&region->cookie, 0); /* of no owner before */
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    if (pool->user_base != NULL) { /* a descriptor that has served before begins anew */
        memset(mrp_region_user(region), 0, pool->user_size);
    }
    mrp_debug_cut(pool, region);
    status = mrp_region_init_user(pool, region);
    mrp_debug_end(pool, region);
    if (pool->checks != MRP_CHECKS_NONE) {
        mrp_store_relaxed(&region->state, MRP_STATE_FREE);
    }
    *cut = region;
    return status;
}

/* Cut a slab into free regions. The first one is kept for the request that ran dry. No
 * lock. *n_allocs: what the descriptors have counted before. */
static enum mrp_status cut_slab(struct mrp_pool *pool, const struct mrp_slab *slab,
    uint32_t *n_cut, uint64_t *n_allocs, struct mrp_region **served)
{
    unsigned class = slab->size_class;
    struct mrp_region *batch[BATCH], *region;
    enum mrp_status status = MRP_OK;
    size_t n_batch = 0;

    for (; *n_cut < slab->n_blocks; (*n_cut)++) {
        status = cut_region(pool, slab, *n_cut, &region);
        if (status != MRP_OK) {
            break;
        }
        *n_allocs += mrp_load_relaxed(&region->generation);
        if (*served == NULL) {
            *served = region;
            continue;
        }
        batch[n_batch++] = region;
        if (n_batch == mrp_min(BATCH, pool->classes.classes[class].magazine_capacity)) {
            mrp_depot_put_many(pool, class, batch, n_batch);
            n_batch = 0;
        }
    }
    mrp_depot_put_many(pool, class, batch, n_batch);
    return *served != NULL ? MRP_OK : status;
}

static void cut_bare(struct mrp_pool *pool, const struct mrp_slab *slab, uint32_t *n_cut,
    struct mrp_region **served)
{
    for (; *n_cut < slab->n_blocks; (*n_cut)++) {
        struct mrp_region *region = mrp_region_at(pool, slab->descriptor + *n_cut);

        /* it may have been a block: no thread's cache takes it any more */
        region->cache = 0;
        region->cookie = 0;
        mrp_store_relaxed(&region->size_class, MRP_CLASS_BARE);
        mrp_store_relaxed(&region->state, MRP_STATE_FREE);
        if (*served == NULL) {
            *served = region;
        } else {
            mrp_depot_put(pool, region);
        }
    }
}

/* A slab for the class: one that was left half-way, or a new one. Under the mutex. */
static enum mrp_status begin_slab(
    struct mrp_pool *pool, unsigned class, struct search *search, struct mrp_slab **slab)
{
    uint32_t pending = pool->depots[class].pending;

    if (class == MRP_CLASS_BARE) {
        return mrp_slab_take_bare(pool, slab);
    }
    if (pending != 0) {
        *slab = mrp_slab_at(pool, pending - 1);
        (*slab)->is_cutting = true;
        return MRP_OK;
    }
    return find_slab(pool, class, search, slab);
}

/* Cut one slab of the class and serve one region of it. Under the mutex, released
 * meanwhile. */
static enum mrp_status grow_class(
    struct mrp_pool *pool, unsigned class, struct search *search)
{
    struct mrp_depot *depot = &pool->depots[class];
    struct mrp_slab *slab = NULL;
    uint64_t n_allocs = 0;
    uint32_t n_cut;
    enum mrp_status status;

    depot->growing = true;
    depot->grower = mrp_thread_id();
    status = begin_slab(pool, class, search, &slab);
    if (status == MRP_OK && search->served == NULL) {
        n_cut = slab->n_cut;
        pthread_mutex_unlock(&pool->mutex);
        if (class == MRP_CLASS_BARE) {
            cut_bare(pool, slab, &n_cut, &search->served);
        } else {
            status = cut_slab(pool, slab, &n_cut, &n_allocs, &search->served);
        }
        pthread_mutex_lock(&pool->mutex);
        depot->n_regions += n_cut - slab->n_cut;
        depot->n_allocs -= n_allocs;
        slab->n_cut = n_cut;
        slab->n_missing = 0; /* nobody has counted them */
        slab->is_cutting = false;
        depot->sift_due = depot->sift_due || pool->is_sifting;
        depot->pending = slab->n_cut < slab->n_blocks /* region_init failed */
            ? (uint32_t)(slab - mrp_slab_at(pool, 0)) + 1
            : 0;
    }
    depot->growing = false;
    mrp_wake_all(&pool->grown);
    return status;
}

/* -- a request that found its class dry -- */

/* Grow, or wait for who grows the class already. Under the mutex, released meanwhile. */
static struct mrp_region *find_region(
    struct mrp_pool *pool, unsigned class, const struct mrp_region_request *request)
{
    uint32_t flags = request->flags;
    struct mrp_depot *depot = &pool->depots[class];
    bool is_own = depot->growing && depot->grower == mrp_thread_id();
    struct search search = {.flags = flags, .is_told = mrp_pool_is_told(pool, request)};
    struct mrp_region *region = take_answer(pool, class);

    while (region == NULL && depot->growing && !is_own &&
        (flags & MRP_REQUEST_NOGROW) == 0) {
        region = wait_for_region(pool, class, &depot->growing);
    }
    /* to map is what this one may not; the cutting of a slab is soon over */
    while (region == NULL && depot->growing && !is_own && !pool->chunk_growing &&
        pool->region_init == NULL && (flags & MRP_REQUEST_NOWAIT) == 0) {
        mrp_wait(&pool->grown, &pool->mutex);
        region = take_answer(pool, class);
    }
    if (region != NULL) {
        return region;
    }
    if (is_own) {
        refuse_own(pool);
    } else if ((flags & MRP_REQUEST_NOWAIT) != 0) {
        mrp_fail(MRP_ERR_AGAIN, 0,
            "pool %s has no free region of that size and may not grow here",
            pool->member.named.name);
    } else if (depot->growing) { /* that may be mapping and registering */
        mrp_fail(MRP_ERR_AGAIN, 0, "pool %s is growing in another thread",
            pool->member.named.name);
    } else if ((mrp_line_is_served(pool) || depot->n_waiting > 0) &&
        class != MRP_CLASS_BARE) {
        mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s has no free region of %zu bytes, and %u requests stand in line "
            "for room: wait (wait_ms), or free some",
            pool->member.named.name, pool->classes.classes[class].capacity,
            mrp_load_relaxed(&pool->n_waiting));
    } else if (grow_class(pool, class, &search) == MRP_OK) {
        return search.served;
    }
    return NULL;
}

static struct mrp_region *attempt(struct mrp_pool *pool, void *user)
{
    unsigned class = *(const unsigned *)user;
    struct search search = {.is_told = true};

    return grow_class(pool, class, &search) == MRP_OK ? search.served : NULL;
}

bool mrp_pool_is_told(
    const struct mrp_pool *pool, const struct mrp_region_request *request)
{
    return (request->flags & MRP_REQUEST_NO_LINE) != 0 || request->wait_ms != 0 ||
        pool->at_limit == MRP_AT_LIMIT_WAIT;
}

uint32_t mrp_pool_patience(
    struct mrp_pool *pool, size_t size, const struct mrp_region_request *request)
{
    if ((request->flags &
            (MRP_REQUEST_NOGROW | MRP_REQUEST_NOWAIT | MRP_REQUEST_NO_LINE)) != 0 ||
        !mrp_is_no_more(mrp_error_last()->status) || !mrp_pool_can_ever(pool, size)) {
        return 0;
    }
    if (request->wait_ms != 0) {
        return request->wait_ms;
    }
    return pool->at_limit == MRP_AT_LIMIT_WAIT ? pool->wait_ms : 0;
}

/* The pool's mutex for a thread that is dry: who sifts lets it pass. */
static bool enter_dry(struct mrp_pool *pool, uint32_t flags)
{
    /* who holds it to sift has what this one wants, and is quick */
    if ((flags & MRP_REQUEST_NOWAIT) != 0 && !mrp_load_relaxed(&pool->is_sifting)) {
        if (pthread_mutex_trylock(&pool->mutex) != 0) {
            mrp_fail(MRP_ERR_AGAIN, 0, "pool %s is growing in another thread",
                pool->member.named.name);
            return false;
        }
        return true;
    }
    mrp_add_relaxed(&pool->n_dry, 1);
    pthread_mutex_lock(&pool->mutex);
    mrp_sub_relaxed(&pool->n_dry, 1);
    return true;
}

/* While it sleeps, it frees nothing: what its caches keep serves others, or itself. */
static void flush_own(struct mrp_pool *pool, struct mrp_thread_slot *slot)
{
    struct mrp_cache_arena *own;

    mrp_thread_flush(pool);
    if (slot != NULL && mrp_thread_enter(slot, &own) == MRP_OK) {
        mrp_thread_flush(pool);
        mrp_thread_leave(own);
    }
}

struct mrp_region *mrp_pool_grow(struct mrp_pool *pool, unsigned class, size_t size,
    const struct mrp_region_request *request)
{
    struct mrp_region *region;
    uint32_t wait_ms;

    if (!enter_dry(pool, request->flags)) {
        return NULL;
    }
    region = find_region(pool, class, request);
    wait_ms = region == NULL
        ? mrp_pool_patience(
              pool, class == MRP_CLASS_BARE ? 0 : mrp_least_chunk(pool, class), request)
        : 0;
    if (wait_ms > 0) {
        pthread_mutex_unlock(&pool->mutex);
        flush_own(pool, request->slot);
        pthread_mutex_lock(&pool->mutex);
        region = mrp_line_wait(pool, class, size, wait_ms, attempt, &class);
    } else if (region == NULL) {
        region = refuse(pool, class);
    }
    mrp_line_settle(pool); /* the rest of a slab, and what regrouping has brought */
    pthread_mutex_unlock(&pool->mutex);
    mrp_line_end(pool);
    return region;
}

struct mrp_region *mrp_pool_cut(struct mrp_pool *pool, unsigned class)
{
    struct search search = {.flags = MRP_REQUEST_NOGROW};
    struct mrp_region *region = NULL;

    pthread_mutex_lock(&pool->mutex);
    region = take_answer(pool, class);
    if (region == NULL && !pool->depots[class].growing &&
        grow_class(pool, class, &search) == MRP_OK) {
        region = search.served;
    }
    mrp_line_settle(pool);
    pthread_mutex_unlock(&pool->mutex);
    return region;
}

struct mrp_region *mrp_pool_join(
    struct mrp_pool *pool, unsigned class, size_t size, struct mrp_waiter *waiter)
{
    return mrp_line_join(pool, class, size, waiter, attempt, &class);
}

enum mrp_status mrp_pool_preallocate(struct mrp_pool *pool, unsigned class, size_t count)
{
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&pool->mutex);
    pool->depots[class].n_preallocated = count;
    while (status == MRP_OK && pool->depots[class].n_regions < count) {
        struct search search = {/* all are free */
            .has_regrouped = true,
            .has_sifted_all = true};

        status = grow_class(pool, class, &search);
        if (status == MRP_OK) {
            mrp_depot_put(pool, search.served);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}
