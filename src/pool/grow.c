/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth: the slow path of an allocation. A thread that finds its class dry takes the
 * pool's mutex, looks again, and then either waits for the thread that is already cutting
 * a slab of the class, or becomes that thread. The mutex is held for bookkeeping only:
 * mapping, registering, region_init and the writing of descriptors happen outside it,
 * announced by `growing` (of the class) and `chunk_growing` (of the pool).
 */
#include "pool/cache.h"

#define SLAB_SIZE_MAX (2 * MRP_MIB)
#define SLAB_BLOCKS_MAX \
    1024 /* so that the request that ran dry does not write megabytes */
#define SLAB_CHUNK_SHARE 64 /* one slab takes at most this part of a chunk */
#define BATCH 128

/* -- slabs -- */

/* The shortest slab that is whole granules and wastes at most an eighth behind its last
 * block. Standard classes, five to eight times a power of two, have one without waste. */
static size_t shortest_slab(size_t block_size, uint32_t shift)
{
    size_t granule = (size_t)1 << shift;
    size_t least = mrp_align_up(block_size, granule) >> shift;

    for (size_t granules = least; granules < least + 8; granules++) {
        if ((granules << shift) % block_size == 0) {
            return granules;
        }
    }
    for (size_t granules = least;; granules++) {
        if ((granules << shift) % block_size <= (granules << shift) / 8) {
            return granules;
        }
    }
}

/* Granules for the next slab of a class in a chunk: a small share of the chunk in whole
 * units of the shortest slab, or what is left if that holds a block; 0 if it does not. */
static size_t plan_slab(size_t block_size, const struct mrp_chunk *chunk)
{
    size_t unit = shortest_slab(block_size, chunk->granule_shift);
    size_t room = chunk->n_granules - chunk->n_granules_used;
    size_t share = mrp_min(chunk->mapping.size / SLAB_CHUNK_SHARE, SLAB_SIZE_MAX);
    size_t most = mrp_min(share, SLAB_BLOCKS_MAX * block_size) >> chunk->granule_shift;
    size_t wanted = mrp_max(most / unit, 1) * unit;

    if (wanted <= room) {
        return wanted;
    }
    return room << chunk->granule_shift >= block_size ? room : 0;
}

static void drop_full_chunks(struct mrp_pool *pool)
{
    struct mrp_chunk **link = &pool->with_room;

    while (*link != NULL) {
        if ((*link)->n_granules_used == (*link)->n_granules) {
            *link = (*link)->next_with_room;
        } else {
            link = &(*link)->next_with_room;
        }
    }
}

/* Descriptors, links and user data for a slab, in whole groups. Under the mutex. */
static enum mrp_status take_descriptors(
    struct mrp_pool *pool, size_t n_blocks, uint32_t *first)
{
    size_t n = mrp_align_up(n_blocks, MRP_REGIONS_PER_GROUP),
           end = pool->n_descriptors + n;
    enum mrp_status status;

    if (end > MRP_REGIONS_MAX) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s has cut %u of at most %u regions: use larger blocks or a second "
            "pool",
            pool->member.named.name, pool->n_descriptors, MRP_REGIONS_MAX);
    }
    status = mrp_range_commit(pool, &pool->descriptor_area,
        MRP_DESCRIPTORS_OFFSET + end * sizeof(struct mrp_region), "regions");
    if (status == MRP_OK) {
        status = mrp_range_commit(
            pool, &pool->link_area, MRP_LINKS_OFFSET + end * sizeof(uint32_t), "links");
    }
    if (status == MRP_OK && pool->checks == MRP_CHECKS_NONE) {
        status = mrp_range_commit(pool, &pool->group_area,
            (uintptr_t)mrp_group_bin(pool, (uint32_t)end) - (uintptr_t)pool, "groups");
    }
    if (status == MRP_OK && pool->user_base != NULL) {
        status = mrp_range_commit(
            pool->user_base, &pool->user_area, end * pool->user_stride, "user data");
    }
    if (status == MRP_OK) {
        *first = pool->n_descriptors;
        mrp_store_relaxed(&pool->n_descriptors, (uint32_t)end);
    }
    return status;
}

/* Bytes from a thread's arena to its bin of the class; 0: it has none. */
static uint32_t bin_offset(const struct mrp_pool *pool, unsigned class)
{
    size_t bin = pool->classes.classes[class].bin;

    return bin == 0 || pool->cache_slot == MRP_NO_SLOT
        ? 0
        : (uint32_t)((size_t)pool->cache_slot * sizeof(struct mrp_cache_slot) +
              bin * sizeof(void *));
}

/* Let frees that do not read descriptors know the class. Under the mutex. */
static void name_groups(
    struct mrp_pool *pool, unsigned class, uint32_t first, size_t n_blocks)
{
    uint32_t *end = mrp_group_bin(pool, first + (uint32_t)n_blocks - 1) + 1;

    for (uint32_t *group = mrp_group_bin(pool, first);
         pool->checks == MRP_CHECKS_NONE && group < end; group++) {
        mrp_store_relaxed(group, bin_offset(pool, class));
    }
}

/* A slab from a chunk that has room; *slab is untouched and MRP_ERR_AGAIN returned,
 * without a record, when none has. Under the mutex. */
static enum mrp_status take_slab(
    struct mrp_pool *pool, unsigned class, struct mrp_slab *slab)
{
    size_t block_size = pool->classes.classes[class].block_size, n_granules = 0;
    size_t n_blocks, slab_size;
    uint64_t entry;
    struct mrp_depot *depot = &pool->depots[class];
    struct mrp_chunk *chunk;
    enum mrp_status status;
    uint32_t first;

    for (chunk = pool->with_room; chunk != NULL; chunk = chunk->next_with_room) {
        n_granules = plan_slab(block_size, chunk);
        if (n_granules > 0) {
            break;
        }
    }
    if (chunk == NULL) {
        return MRP_ERR_AGAIN;
    }
    slab_size = n_granules << chunk->granule_shift;
    n_blocks = slab_size / block_size;
    status = mrp_depot_provision(pool, class, n_blocks);
    if (status == MRP_OK) {
        status = take_descriptors(pool, n_blocks, &first);
    }
    if (status != MRP_OK) {
        return status;
    }
    name_groups(pool, class, first, n_blocks);
    *slab =
        (struct mrp_slab){chunk, (size_t)chunk->n_granules_used << chunk->granule_shift,
            first, 0, (uint32_t)n_blocks};
    entry = mrp_slab_pack(first, slab->offset, class, slab_size % block_size != 0);
    for (size_t i = 0; i < n_granules; i++) {
        mrp_store_release(&chunk->granules[chunk->n_granules_used + i], entry);
    }
    chunk->n_granules_used += (uint32_t)n_granules;
    depot->slab_size += slab_size;
    drop_full_chunks(pool);
    return MRP_OK;
}

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

/* Take what is there; it answers those that were refused. Under the mutex. */
static struct mrp_region *take_answer(struct mrp_pool *pool, unsigned class)
{
    _Atomic uint32_t *asks = &pool->depots[class].asks;
    struct mrp_region *region = mrp_depot_take_locked(pool, class);

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
        "region_init "
        "allocates from the pool it works for",
        pool->member.named.name);
}

/* A slab, from a new chunk if need be; or, with none, a region that came back while
 * another thread built a chunk. Under the mutex, which may be released meanwhile. */
static enum mrp_status find_slab(struct mrp_pool *pool, unsigned class, uint32_t flags,
    struct mrp_slab *slab, struct mrp_region **served)
{
    size_t block_size = pool->classes.classes[class].block_size;
    size_t granule_max = (size_t)1 << MRP_GRANULE_SHIFT_MAX;
    /* whole granules of the chunk that this, or a little more, would be */
    size_t least = mrp_align_up(
        block_size, (size_t)1 << mrp_granule_shift(block_size + granule_max));
    enum mrp_status status;

    for (;;) {
        status = take_slab(pool, class, slab);
        if (status != MRP_ERR_AGAIN) {
            return status;
        }
        if ((flags & MRP_REQUEST_NOGROW) != 0) {
            return mrp_fail(MRP_ERR_AGAIN, 0,
                "pool %s has no free region of %zu bytes and may not grow here",
                pool->member.named.name, pool->classes.classes[class].capacity);
        }
        if (pool->chunk_growing && pool->chunk_grower == mrp_thread_id()) {
            return refuse_own(pool);
        }
        if (pool->chunk_growing) {
            *served = wait_for_region(pool, class, &pool->chunk_growing);
            if (*served != NULL) {
                return MRP_OK;
            }
            continue;
        }
        pool->chunk_growing = true;
        pool->chunk_grower = mrp_thread_id();
        status = mrp_pool_build_chunk(pool, least);
        pool->chunk_growing = false;
        mrp_wake_all(&pool->grown);
        if (status != MRP_OK) {
            return status;
        }
    }
}

/* -- regions -- */

/* Write one descriptor, run region_init on it as on a live region. */
static enum mrp_status cut_region(struct mrp_pool *pool, unsigned class,
    const struct mrp_slab *slab, uint32_t block, struct mrp_region **cut)
{
    const struct mrp_size_class *size_class = &pool->classes.classes[class];
    struct mrp_region *region = mrp_region_at(pool, slab->descriptor + block);
    uintptr_t address = (uintptr_t)slab->chunk->mapping.address + slab->offset +
        block * size_class->block_size;
    enum mrp_status status;

    region->offset = (int64_t)(address + pool->classes.lead - (uintptr_t)region);
    region->capacity = size_class->capacity;
    mrp_store_relaxed(&region->size, size_class->capacity); /* where nobody keeps it */
    region->cache = bin_offset(pool, class);
    region->chunk = slab->chunk->id;
    mrp_store_relaxed(&region->size_class, (uint8_t) class);
    mrp_store_relaxed(&region->kind, MRP_REGION_POOLED);
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    status = mrp_region_init_user(pool, region);
    if (pool->checks != MRP_CHECKS_NONE) {
        mrp_store_relaxed(&region->state, MRP_STATE_FREE);
    }
    *cut = region;
    return status;
}

/* Cut a slab into free regions. The first one is kept for the request that ran dry. No
 * lock. */
static enum mrp_status cut_slab(struct mrp_pool *pool, unsigned class,
    struct mrp_slab *slab, struct mrp_region **served)
{
    struct mrp_region *batch[BATCH], *region;
    enum mrp_status status = MRP_OK;
    size_t n_batch = 0;

    *served = NULL;
    for (; slab->next < slab->n_blocks; slab->next++) {
        status = cut_region(pool, class, slab, slab->next, &region);
        if (status != MRP_OK) {
            break;
        }
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

/* Descriptors without memory, for slices, large regions and user regions. */
static enum mrp_status take_bare(struct mrp_pool *pool, struct mrp_slab *slab)
{
    uint32_t first;
    enum mrp_status status = take_descriptors(pool, MRP_REGIONS_PER_GROUP, &first);

    if (status == MRP_OK) {
        *slab = (struct mrp_slab){NULL, 0, first, 0, MRP_REGIONS_PER_GROUP};
    }
    return status;
}

static void cut_bare(
    struct mrp_pool *pool, struct mrp_slab *slab, struct mrp_region **served)
{
    for (; slab->next < slab->n_blocks; slab->next++) {
        struct mrp_region *region = mrp_region_at(pool, slab->descriptor + slab->next);

        mrp_store_relaxed(&region->size_class, MRP_CLASS_BARE);
        mrp_store_relaxed(&region->state, MRP_STATE_FREE);
        if (slab->next == 0) {
            *served = region;
        } else {
            mrp_depot_put(pool, region);
        }
    }
}

/* Cut one slab of the class and serve one region of it (*served is NULL before). Under
 * the mutex, released meanwhile. */
static enum mrp_status grow_class(
    struct mrp_pool *pool, unsigned class, uint32_t flags, struct mrp_region **served)
{
    struct mrp_depot *depot = &pool->depots[class];
    struct mrp_slab slab = depot->pending;
    uint32_t first;
    enum mrp_status status = MRP_OK;

    depot->growing = true;
    depot->grower = mrp_thread_id();
    if (slab.next == slab.n_blocks) {
        status = class == MRP_CLASS_BARE ? take_bare(pool, &slab)
                                         : find_slab(pool, class, flags, &slab, served);
    }
    if (status == MRP_OK && *served == NULL) {
        pthread_mutex_unlock(&pool->mutex);
        first = slab.next;
        if (class == MRP_CLASS_BARE) {
            cut_bare(pool, &slab, served);
        } else {
            status = cut_slab(pool, class, &slab, served);
        }
        pthread_mutex_lock(&pool->mutex);
        depot->n_regions += slab.next - first;
        depot->pending = slab; /* finished, unless region_init failed */
    }
    depot->growing = false;
    mrp_wake_all(&pool->grown);
    return status;
}

struct mrp_region *mrp_pool_grow(struct mrp_pool *pool, unsigned class, uint32_t flags)
{
    struct mrp_depot *depot = &pool->depots[class];
    struct mrp_region *region;
    bool is_own;

    if ((flags & MRP_REQUEST_NOWAIT) == 0) {
        pthread_mutex_lock(&pool->mutex);
    } else if (pthread_mutex_trylock(&pool->mutex) != 0) {
        mrp_fail(MRP_ERR_AGAIN, 0, "pool %s is growing in another thread",
            pool->member.named.name);
        return NULL;
    }
    region = take_answer(pool, class);
    is_own = depot->growing && depot->grower == mrp_thread_id();
    while (region == NULL && depot->growing && !is_own &&
        (flags & MRP_REQUEST_NOGROW) == 0) {
        region = wait_for_region(pool, class, &depot->growing);
    }
    if (region == NULL && is_own) {
        refuse_own(pool);
    } else if (region == NULL && (flags & MRP_REQUEST_NOWAIT) != 0) {
        mrp_fail(MRP_ERR_AGAIN, 0,
            "pool %s has no free region of that size and may not grow here",
            pool->member.named.name);
        region = refuse(pool, class);
    } else if (region == NULL && depot->growing) {
        /* that may be mapping and registering */
        mrp_fail(MRP_ERR_AGAIN, 0, "pool %s is growing in another thread",
            pool->member.named.name);
        region = refuse(pool, class);
    } else if (region == NULL && grow_class(pool, class, flags, &region) != MRP_OK) {
        region = refuse(pool, class);
    }
    pthread_mutex_unlock(&pool->mutex);
    return region;
}

enum mrp_status mrp_pool_preallocate(struct mrp_pool *pool, unsigned class, size_t count)
{
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&pool->mutex);
    while (status == MRP_OK && pool->depots[class].n_regions < count) {
        struct mrp_region *region = NULL;

        status = grow_class(pool, class, 0, &region);
        if (status == MRP_OK) {
            mrp_depot_put(pool, region);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}
