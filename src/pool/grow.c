/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth: the slow path of an allocation. A thread that finds its class dry takes the
 * pool's mutex, looks again, and then either waits for the thread that is already cutting
 * a slab of the class, or becomes that thread. The mutex is held for bookkeeping only:
 * mapping, registering, region_init and the writing of descriptors happen outside it,
 * announced by `growing` (of the class) and `chunk_growing` (of the pool).
 */
#include "pool/pool.h"

#define SLAB_SIZE_MAX (2 * MRP_MIB)
#define SLAB_BLOCKS_MAX                                                                  \
    1024 /* so that the request that ran dry does not write megabytes */
#define SLAB_CHUNK_SHARE 64 /* one slab takes at most this part of a chunk */
#define BATCH 128

/* -- budgets and numbers
 * ------------------------------------------------------------------- */

static enum mrp_status over_budget(const struct mrp_pool *pool, size_t size)
{
    if (pool->n_rails > 0 && pool->n_charged >= pool->max_registrations) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s holds %zu of %zu registrations per rail: free regions, use larger "
            "chunks "
            "(chunk_min), or raise max_registrations (MRPOOL_MAX_REGISTRATIONS)",
            pool->member.named.name, pool->n_charged, pool->max_registrations);
    }
    return mrp_fail(MRP_ERR_LIMIT, 0,
        "pool %s has mapped %zu of at most %zu bytes and needs %zu more: free regions, "
        "or raise "
        "max_bytes (MRPOOL_MAX_BYTES)",
        pool->member.named.name, pool->mapped_size, pool->max_bytes, size);
}

/* Under the mutex. */
static bool fits_budget(const struct mrp_pool *pool, size_t size)
{
    return (size == 0 || (size <= pool->max_bytes &&
                             pool->mapped_size <= pool->max_bytes - size)) &&
           (pool->n_rails == 0 || pool->n_charged < pool->max_registrations);
}

/* Under the mutex. */
static enum mrp_status take_chunk_id(struct mrp_pool *pool, uint32_t *chunk_id)
{
    uint32_t id = pool->n_chunk_ids;
    enum mrp_status status;

    if (pool->free_chunk_id != 0) {
        *chunk_id = pool->free_chunk_id - 1;
        pool->free_chunk_id = mrp_chunk_entry(pool, *chunk_id)->next_free;
        return MRP_OK;
    }
    if (id == MRP_CHUNKS_MAX) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s has %u chunks and registered buffers, the most a pool can have: "
            "free some, "
            "or use a second pool",
            pool->member.named.name, id);
    }
    status = mrp_range_commit(pool, &pool->chunk_area,
        MRP_CHUNK_TABLE_OFFSET + (id + 1) * sizeof(struct mrp_chunk_entry), "chunks");
    for (size_t rail = 0; status == MRP_OK && rail < pool->n_rails; rail++) {
        size_t end = (rail * MRP_CHUNKS_MAX + id + 1) * sizeof(struct mrp_key_line);

        status =
            mrp_range_commit(pool, &pool->key_areas[rail], MRP_KEYS_OFFSET + end, "keys");
    }
    if (status == MRP_OK) {
        *chunk_id = pool->n_chunk_ids++;
    }
    return status;
}

enum mrp_status mrp_pool_charge(struct mrp_pool *pool, size_t size, uint32_t *chunk_id)
{
    enum mrp_status status;
    size_t excess;

    pthread_mutex_lock(&pool->mutex);
    if (!fits_budget(pool, size)) {
        excess = pool->mapped_size + size > pool->max_bytes
                     ? pool->mapped_size + size - pool->max_bytes
                     : 1;
        pthread_mutex_unlock(&pool->mutex);
        mrp_retention_evict(&pool->context->retention, pool, excess);
        pthread_mutex_lock(&pool->mutex);
    }
    status =
        fits_budget(pool, size) ? take_chunk_id(pool, chunk_id) : over_budget(pool, size);
    if (status == MRP_OK) {
        pool->mapped_size += size;
        pool->n_charged++;
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

void mrp_pool_discharge(struct mrp_pool *pool, size_t size, uint32_t chunk_id)
{
    struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, chunk_id);

    pthread_mutex_lock(&pool->mutex);
    entry->chunk = NULL;
    entry->next_free = pool->free_chunk_id;
    pool->free_chunk_id = chunk_id + 1;
    pool->mapped_size -= size;
    pool->n_charged--;
    pthread_mutex_unlock(&pool->mutex);
}

/* -- chunks
 * ----------------------------------------------------------------------------------- */

/* Without remote access no remote key is given out, even where the network made one. */
static uint32_t key_flags(uint32_t access, const struct mrp_registration *registration)
{
    uint32_t remote = MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC;

    if ((access & remote) == 0 || registration->key_size == 0) {
        return MRP_KEY_REGISTERED;
    }
    return MRP_KEY_REGISTERED |
           (registration->key_size > sizeof(uint64_t) ? MRP_KEY_BLOB : MRP_KEY_REMOTE);
}

void mrp_pool_enter_chunk(
    struct mrp_pool *pool, struct mrp_chunk *chunk, uint32_t chunk_id)
{
    uintptr_t base = (uintptr_t)chunk->mapping.address;
    struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, chunk_id);

    entry->chunk = chunk;
    entry->generation++;
    chunk->id = chunk_id;
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        const struct mrp_registration *registration = &chunk->registrations[rail];
        struct mrp_key_line *line = mrp_key_line(pool, rail, chunk_id);

        mrp_store_relaxed(&line->local_desc, registration->local_desc);
        mrp_store_relaxed(&line->remote_key, registration->remote_key);
        mrp_store_relaxed(&line->remote_delta, registration->remote_base - base);
        mrp_store_relaxed(&line->native, registration->native);
        mrp_store_relaxed(&line->base, base);
        mrp_store_relaxed(&line->size, chunk->mapping.size);
        mrp_store_relaxed(&line->flags, key_flags(chunk->access, registration));
    }
}

void mrp_pool_leave_chunk(struct mrp_pool *pool, uint32_t chunk_id)
{
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        mrp_store_relaxed(&mrp_key_line(pool, rail, chunk_id)->flags, 0);
    }
}

/* Bytes of a chunk that holds at least one block of the class, as large as doubling and
 * budget allow. Under the mutex. */
static size_t plan_chunk(const struct mrp_pool *pool, size_t least)
{
    size_t size = mrp_max(pool->next_chunk_size, least);
    size_t left = pool->max_bytes - mrp_min(pool->mapped_size, pool->max_bytes);

    if (pool->backend->max_size !=
        0) { /* fixed memory: all of it at once, less the alignment */
        size = pool->backend->max_size - (pool->classes.alignment - MRP_LINE);
    }
    if (size > left) {
        size = mrp_align_down(left, MRP_GRANULE_SIZE);
    }
    return mrp_max(size, least);
}

/* Charge the budget, map and register. A refused budget is final: *tried says whether the
 * system was asked at all. */
static enum mrp_status make_chunk(struct mrp_pool *pool, size_t size,
    struct mrp_chunk **made, uint32_t *chunk_id, bool *tried)
{
    struct mrp_chunk_request request = {
        .backend = pool->backend,
        .size = size,
        .alignment = mrp_max(pool->classes.alignment, MRP_LINE),
        .rails = pool->rails,
        .n_rails = pool->n_rails,
        .access = pool->access,
        .native_flags = pool->native_flags,
        .pool = pool,
    };
    enum mrp_status status = mrp_pool_charge(pool, size, chunk_id);

    *tried = status == MRP_OK;
    if (status != MRP_OK) {
        return status;
    }
    status = mrp_chunk_create(pool->context, &request, made);
    if (status != MRP_OK) {
        mrp_pool_discharge(pool, size, *chunk_id);
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->mapped_size += (*made)->mapping.size - size; /* rounded up to its pages */
    pthread_mutex_unlock(&pool->mutex);
    return MRP_OK;
}

/* A full system is asked twice: after idle memory has been given up, and for less. */
static enum mrp_status make_chunk_or_retry(struct mrp_pool *pool, size_t size,
    size_t least, struct mrp_chunk **made, uint32_t *chunk_id)
{
    bool tried;
    enum mrp_status status = make_chunk(pool, size, made, chunk_id, &tried);

    if (tried && (status == MRP_ERR_MEMORY || status == MRP_ERR_LIMIT ||
                     status == MRP_ERR_REGISTER)) {
        mrp_retention_evict(&pool->context->retention, NULL, size);
        status = make_chunk(
            pool, mrp_max(least, mrp_min(size, pool->chunk_min)), made, chunk_id, &tried);
    }
    return status;
}

/* About a thousand granules a chunk. */
static uint32_t granule_shift(size_t chunk_size)
{
    uint32_t shift =
        63u - (uint32_t)__builtin_clzl(chunk_size) - MRP_GRANULES_PER_CHUNK_SHIFT;

    return chunk_size >> MRP_GRANULES_PER_CHUNK_SHIFT < MRP_GRANULE_SIZE
               ? MRP_GRANULE_SHIFT
           : shift > MRP_GRANULE_SHIFT_MAX ? MRP_GRANULE_SHIFT_MAX
                                           : shift;
}

/* The table of a chunk's granules, from the granule area. Under the mutex. */
static enum mrp_status take_granules(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    uint32_t shift = granule_shift(chunk->mapping.size);
    size_t n_granules = chunk->mapping.size >> shift;
    size_t begin = MRP_GRANULES_OFFSET + pool->granules_used;
    size_t end = begin + n_granules * sizeof *chunk->granules;
    enum mrp_status status =
        mrp_range_commit(pool, &pool->granule_area, end, "granule tables");

    if (status == MRP_OK) {
        pool->granules_used += n_granules * sizeof *chunk->granules;
        chunk->granules = (_Atomic uint64_t *)((uintptr_t)pool + begin); /* NOLINT */
        chunk->granule_shift = shift;
        chunk->n_granules = (uint32_t)n_granules;
        chunk->n_granules_used = 0;
    }
    return status;
}

/* Give the chunk its granule table and show it to lookups. No lock. */
static enum mrp_status publish_chunk(
    struct mrp_pool *pool, struct mrp_chunk *chunk, uint32_t id)
{
    enum mrp_status status;

    pthread_mutex_lock(&pool->mutex);
    status = take_granules(pool, chunk);
    pthread_mutex_unlock(&pool->mutex);
    if (status == MRP_OK) {
        mrp_pool_enter_chunk(pool, chunk, id);
        chunk->region = NULL;
        status = mrp_chunk_publish(chunk);
    }
    if (status != MRP_OK) {
        size_t size = chunk->mapping.size;

        mrp_pool_leave_chunk(pool, id);
        mrp_chunk_destroy(chunk);
        mrp_pool_discharge(pool, size, id);
    }
    return status;
}

/* Build one chunk. The caller has set chunk_growing and holds the mutex, which is
 * released meanwhile. */
static enum mrp_status build_chunk(struct mrp_pool *pool, size_t least)
{
    size_t size = plan_chunk(pool, least);
    struct mrp_chunk *chunk;
    enum mrp_status status;
    uint32_t id;

    pthread_mutex_unlock(&pool->mutex);
    status = make_chunk_or_retry(pool, size, least, &chunk, &id);
    if (status == MRP_OK) {
        status = publish_chunk(pool, chunk, id);
    }
    pthread_mutex_lock(&pool->mutex);
    if (status != MRP_OK) {
        return status;
    }
    chunk->next_with_room = pool->with_room;
    pool->with_room = chunk;
    chunk->next_shared = pool->all_chunks;
    pool->all_chunks = chunk;
    pool->n_chunks++;
    pool->chunk_size += chunk->mapping.size;
    pool->n_growths++;
    pool->next_chunk_size =
        mrp_min(mrp_max(pool->next_chunk_size, chunk->mapping.size) * 2, pool->chunk_max);
    return MRP_OK;
}

/* -- slabs
 * ---------------------------------------------------------------------------------------
 */

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
    if (status == MRP_OK && pool->user_base != NULL) {
        status = mrp_range_commit(
            pool->user_base, &pool->user_area, end * pool->user_stride, "user data");
    }
    if (status == MRP_OK) {
        *first = pool->n_descriptors;
        pool->n_descriptors = (uint32_t)end;
    }
    return status;
}

/* A slab from a chunk that has room; *slab is untouched and MRP_ERR_AGAIN returned,
 * without a record, when none has. Under the mutex. */
static enum mrp_status take_slab(
    struct mrp_pool *pool, unsigned class, struct mrp_slab *slab)
{
    size_t block_size = pool->classes.classes[class].block_size, n_granules = 0, n_blocks;
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
    n_blocks = (n_granules << chunk->granule_shift) / block_size;
    status = mrp_depot_provision(pool, class, n_blocks);
    if (status == MRP_OK) {
        status = take_descriptors(pool, n_blocks, &first);
    }
    if (status != MRP_OK) {
        return status;
    }
    *slab =
        (struct mrp_slab){chunk, (size_t)chunk->n_granules_used << chunk->granule_shift,
            first, 0, (uint32_t)n_blocks};
    for (size_t i = 0; i < n_granules; i++) {
        mrp_store_release(&chunk->granules[chunk->n_granules_used + i],
            mrp_slab_pack(first, slab->offset, class));
    }
    chunk->n_granules_used += (uint32_t)n_granules;
    depot->slab_size += n_granules << chunk->granule_shift;
    drop_full_chunks(pool);
    return MRP_OK;
}

/* A slab, from a new chunk if need be. Under the mutex, which may be released meanwhile.
 */
static enum mrp_status find_slab(
    struct mrp_pool *pool, unsigned class, uint32_t flags, struct mrp_slab *slab)
{
    size_t least =
        mrp_align_up(pool->classes.classes[class].block_size, MRP_GRANULE_SIZE);
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
        if (pool->chunk_growing) {
            pthread_cond_wait(&pool->grown, &pool->mutex);
            continue;
        }
        pool->chunk_growing = true;
        status = build_chunk(pool, least);
        pool->chunk_growing = false;
        pthread_cond_broadcast(&pool->grown);
        if (status != MRP_OK) {
            return status;
        }
    }
}

/* -- regions
 * --------------------------------------------------------------------------------------
 */

static enum mrp_status init_user(struct mrp_pool *pool, struct mrp_region *region)
{
    if (pool->region_init == NULL) {
        return MRP_OK;
    }
    return pool->region_init(region,
        pool->user_base + (size_t)mrp_region_index(region) * pool->user_stride,
        pool->region_init_user);
}

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
    region->chunk = slab->chunk->id;
    region->class = (uint8_t) class;
    region->kind = MRP_REGION_POOLED;
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    status = init_user(pool, region);
    mrp_store_relaxed(&region->state, MRP_STATE_FREE);
    if (status != MRP_OK && mrp_error_last()->status != status) {
        mrp_fail(status, 0, "pool %s: region_init failed: %s", pool->member.named.name,
            mrp_status_text(status));
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

        region->class = MRP_CLASS_BARE;
        mrp_store_relaxed(&region->state, MRP_STATE_FREE);
        if (slab->next == 0) {
            *served = region;
        } else {
            mrp_depot_put(pool, region);
        }
    }
}

/* Cut one slab of the class and serve one region of it. Under the mutex, released
 * meanwhile. */
static enum mrp_status grow_class(
    struct mrp_pool *pool, unsigned class, uint32_t flags, struct mrp_region **served)
{
    struct mrp_depot *depot = &pool->depots[class];
    struct mrp_slab slab = depot->pending;
    uint32_t first;
    enum mrp_status status = MRP_OK;

    depot->growing = true;
    if (slab.next == slab.n_blocks) {
        status = class == MRP_CLASS_BARE ? take_bare(pool, &slab)
                                         : find_slab(pool, class, flags, &slab);
    }
    if (status == MRP_OK) {
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
    pthread_cond_broadcast(&pool->grown);
    return status;
}

struct mrp_region *mrp_pool_grow(struct mrp_pool *pool, unsigned class, uint32_t flags)
{
    struct mrp_region *region = NULL;

    if ((flags & MRP_REQUEST_NOWAIT) == 0) {
        pthread_mutex_lock(&pool->mutex);
    } else if (pthread_mutex_trylock(&pool->mutex) != 0) {
        mrp_fail(MRP_ERR_AGAIN, 0, "pool %s is growing in another thread",
            pool->member.named.name);
        return NULL;
    }
    for (;;) {
        region = mrp_depot_take_locked(pool, class);
        if (region != NULL) {
            break;
        }
        if ((flags & MRP_REQUEST_NOWAIT) != 0) {
            mrp_fail(MRP_ERR_AGAIN, 0,
                "pool %s has no free region of that size and may not grow here",
                pool->member.named.name);
            break;
        }
        if (!pool->depots[class].growing) {
            grow_class(pool, class, flags, &region);
            break;
        }
        pthread_cond_wait(&pool->grown, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    return region;
}

enum mrp_status mrp_pool_preallocate(struct mrp_pool *pool, unsigned class, size_t count)
{
    struct mrp_region *region = NULL;
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&pool->mutex);
    while (status == MRP_OK && pool->depots[class].n_regions < count) {
        status = grow_class(pool, class, 0, &region);
        if (status == MRP_OK) {
            mrp_depot_put(pool, region);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}
