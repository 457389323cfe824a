/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Slabs: runs of granules taken from chunks for one size class, and given back. All under
 * the pool's mutex: bookkeeping only. Descriptors are cut by who grows (grow.c).
 */
#include "base/error.h"
#include "pool/cache.h"
#include "pool/depot.h"
#include "pool/growth.h"

#define SLAB_SIZE_MAX (2 * MRP_MIB)
#define SLAB_BLOCKS_MAX \
    1024 /* so that the request that ran dry does not write megabytes */
#define SLAB_CHUNK_SHARE 64 /* one slab takes at most this part of a chunk */

/* -- granules -- */

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

/* A small share of the chunk, in whole units of the shortest slab. */
static size_t wanted_granules(size_t block_size, const struct mrp_chunk *chunk)
{
    size_t unit = shortest_slab(block_size, chunk->granule_shift);
    size_t share = mrp_min(chunk->mapping.size / SLAB_CHUNK_SHARE, SLAB_SIZE_MAX);
    size_t most = mrp_min(share, SLAB_BLOCKS_MAX * block_size) >> chunk->granule_shift;

    return mrp_max(most / unit, 1) * unit;
}

struct run {
    struct mrp_chunk *chunk;
    uint32_t begin;
    size_t n;
};

static bool is_free_run(const struct mrp_chunk *chunk, size_t begin, size_t n)
{
    while (n > 0 && mrp_load_relaxed(&chunk->granules[begin + n - 1]) == 0) {
        n--;
    }
    return n == 0;
}

/* The first run of `wanted` free granules: at a multiple of that, so that slabs which come
 * and go leave room for others of their length, else anywhere; else the longest there is.
 */
static struct run find_run(struct mrp_chunk *chunk, size_t wanted)
{
    struct run best = {chunk, 0, 0};
    uint32_t i = chunk->first_free;

    for (size_t begin = (i + wanted - 1) / wanted * wanted;
         begin + wanted <= chunk->n_granules; begin += wanted) {
        if (is_free_run(chunk, begin, wanted)) {
            return (struct run){chunk, (uint32_t)begin, wanted};
        }
    }
    while (i < chunk->n_granules && best.n < wanted) {
        uint32_t begin = i;

        while (i < chunk->n_granules && i - begin < wanted &&
            mrp_load_relaxed(&chunk->granules[i]) == 0) {
            i++;
        }
        if (i - begin > best.n) {
            best.begin = begin;
            best.n = i - begin;
        }
        i += i == begin;
    }
    return best;
}

/* Room for a slab of the class: in the oldest chunk of its node that has as much as is wanted, so that
 * younger ones can empty, else where there is most that holds a block. n is 0 when none
 * has any. */
static struct run find_room(struct mrp_pool *pool, size_t block_size, int node)
{
    struct run best = {NULL, 0, 0};
    size_t best_size = block_size - 1;

    for (struct mrp_chunk *chunk = pool->with_room; chunk != NULL;
         chunk = chunk->next_with_room) {
        size_t n_free = chunk->n_granules - chunk->n_granules_used, wanted;
        struct run run;

        if (chunk->node != node || n_free << chunk->granule_shift <= best_size) {
            continue;
        }
        wanted = wanted_granules(block_size, chunk);
        run = find_run(chunk, wanted);
        if (run.n == wanted) {
            return run;
        }
        if (run.n << chunk->granule_shift > best_size) {
            best = run;
            best_size = run.n << chunk->granule_shift;
        }
    }
    return best;
}

void mrp_chunk_offer(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    struct mrp_chunk **link = &pool->with_room;

    if (chunk->has_room) {
        return;
    }
    while (*link != NULL && (*link)->serial < chunk->serial) {
        link = &(*link)->next_with_room;
    }
    chunk->next_with_room = *link;
    chunk->has_room = true;
    *link = chunk;
}

void mrp_chunk_retract(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    struct mrp_chunk **link = &pool->with_room;

    while (*link != chunk) {
        link = &(*link)->next_with_room;
    }
    *link = chunk->next_with_room;
    chunk->has_room = false;
}

/* -- what the tiers leave each other -- */

/* Bytes that other tiers than `tier` (MRP_TIERS: all) may still claim. */
static size_t tiers_unmet(const struct mrp_pool *pool, unsigned tier)
{
    size_t used[MRP_TIERS] = {0}, unmet = 0;
    bool is_any = false;

    for (unsigned other = 0; other < MRP_TIERS; other++) {
        is_any = is_any || (other != tier && pool->tier_reserve[other] > 0);
    }
    if (!is_any) { /* as most pools: a slab is taken without a look at all classes */
        return 0;
    }
    for (size_t i = 0; i < mrp_n_classes(&pool->classes); i++) {
        used[pool->classes.classes[i].tier] += pool->depots[i].slab_size;
    }
    for (unsigned other = 0; other < MRP_TIERS; other++) {
        if (other != tier && used[other] < pool->tier_reserve[other]) {
            unmet += pool->tier_reserve[other] - used[other];
        }
    }
    return unmet;
}

static size_t slab_bytes(const struct mrp_pool *pool)
{
    size_t bytes = 0;

    for (size_t i = 0; i < mrp_n_classes(&pool->classes); i++) {
        bytes += pool->depots[i].slab_size;
    }
    return bytes;
}

enum mrp_status mrp_heed_reserves(struct mrp_pool *pool, unsigned tier, size_t size)
{
    size_t unmet = tiers_unmet(pool, tier), left;

    if (unmet == 0) {
        return MRP_OK;
    }
    left = pool->max_bytes - mrp_min(pool->mapped_size, pool->max_bytes) +
        pool->idle_size + pool->chunk_size - slab_bytes(pool);
    return left >= size + unmet
        ? MRP_OK
        : mrp_fail(MRP_ERR_LIMIT, 0,
              "pool %s has %zu bytes left, and keeps %zu of them for other tiers "
              "(tiers[].reserve): %zu more are refused; free regions of the same tier, "
              "lower the reserves, or raise max_bytes (%zu)",
              pool->member.named.name, left, unmet, size, pool->max_bytes);
}

/* -- records and descriptors -- */

static unsigned bucket_of(size_t n_groups)
{
    return (unsigned)mrp_min(n_groups, MRP_SLAB_BUCKETS) - 1;
}

/* A retired record with at least so many groups, and not many more. */
static struct mrp_slab *reuse_record(struct mrp_pool *pool, size_t n_groups)
{
    for (size_t bucket = bucket_of(n_groups);
         bucket < MRP_SLAB_BUCKETS && bucket <= n_groups * 2; bucket++) {
        uint32_t *link = &pool->free_slabs[bucket];

        while (*link != 0 && mrp_slab_at(pool, *link - 1)->n_groups < n_groups) {
            link = &mrp_slab_at(pool, *link - 1)->next;
        }
        if (*link != 0) {
            struct mrp_slab *slab = mrp_slab_at(pool, *link - 1);

            *link = slab->next;
            return slab;
        }
    }
    return NULL;
}

/* Descriptors, links, groups and user data for a new record. */
static enum mrp_status commit_descriptors(struct mrp_pool *pool, size_t end)
{
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
    if (status == MRP_OK) {
        status = mrp_range_commit(pool, &pool->number_area,
            (uintptr_t)mrp_slab_number(pool, (uint32_t)end) - (uintptr_t)pool,
            "slab numbers");
    }
    if (status == MRP_OK && pool->user_base != NULL) {
        status = mrp_range_commit(
            pool->user_base, &pool->user_area, end * pool->user_stride, "user data");
    }
    return status;
}

static struct mrp_slab *make_record(struct mrp_pool *pool, size_t n_groups)
{
    size_t first = pool->n_descriptors, end = first + n_groups * MRP_REGIONS_PER_GROUP;
    uint32_t number = pool->n_slabs;
    struct mrp_slab *slab = mrp_slab_at(pool, number);

    if (commit_descriptors(pool, end) != MRP_OK ||
        mrp_range_commit(pool, &pool->slab_area,
            MRP_SLABS_OFFSET + (number + 1) * sizeof *slab, "slabs") != MRP_OK) {
        return NULL;
    }
    pool->n_slabs++;
    slab->descriptor = (uint32_t)first;
    slab->n_groups = (uint32_t)n_groups;
    for (size_t i = 0; i < n_groups; i++) {
        *mrp_slab_number(pool, (uint32_t)(first + i * MRP_REGIONS_PER_GROUP)) = number;
    }
    mrp_store_relaxed(&pool->n_descriptors, (uint32_t)end);
    return slab;
}

static struct mrp_slab *take_record(
    struct mrp_pool *pool, unsigned class, size_t n_blocks)
{
    size_t n_groups =
        mrp_align_up(n_blocks, MRP_REGIONS_PER_GROUP) / MRP_REGIONS_PER_GROUP;
    struct mrp_slab *slab = reuse_record(pool, n_groups);
    uint32_t *head = &pool->depots[class].slabs;
    uint32_t number;

    if (slab == NULL) {
        slab = make_record(pool, n_groups);
    }
    if (slab == NULL) {
        return NULL;
    }
    number = (uint32_t)(slab - mrp_slab_at(pool, 0));
    slab->chunk = NULL;
    slab->granule = slab->n_granules = 0;
    slab->n_blocks = (uint32_t)n_blocks;
    slab->n_cut = slab->n_collected = slab->n_missing = 0;
    slab->size_class = (uint8_t) class;
    slab->is_cutting = true;
    slab->is_retired = false;
    slab->previous = 0;
    slab->next = *head;
    if (*head != 0) {
        mrp_slab_at(pool, *head - 1)->previous = number + 1;
    }
    *head = number + 1;
    return slab;
}

uint32_t mrp_bin_offset(const struct mrp_pool *pool, unsigned class)
{
    size_t bin = pool->classes.classes[class].bin;

    return bin == 0 || pool->cache_slot == MRP_NO_SLOT
        ? 0
        : (uint32_t)((size_t)pool->cache_slot * sizeof(struct mrp_cache_slot) +
              bin * sizeof(void *));
}

/* Let frees that do not read descriptors know the bin; 0: none takes them. */
static void name_groups(
    struct mrp_pool *pool, const struct mrp_slab *slab, uint32_t bin_offset)
{
    uint32_t *group = mrp_group_bin(pool, slab->descriptor);

    for (uint32_t i = 0; pool->checks == MRP_CHECKS_NONE && i < slab->n_groups; i++) {
        mrp_store_relaxed(&group[i], bin_offset);
    }
}

/* -- taking -- */

static void enter_granules(struct mrp_slab *slab, size_t block_size)
{
    struct mrp_chunk *chunk = slab->chunk;
    size_t offset = (size_t)slab->granule << chunk->granule_shift;
    size_t size = (size_t)slab->n_granules << chunk->granule_shift;
    uint64_t entry =
        mrp_slab_pack(slab->descriptor, offset, slab->size_class, size % block_size != 0);

    for (uint32_t i = 0; i < slab->n_granules; i++) {
        mrp_store_release(&chunk->granules[slab->granule + i], entry);
    }
    chunk->n_granules_used += slab->n_granules;
    if (slab->granule == chunk->first_free) {
        chunk->first_free += slab->n_granules;
    }
}

enum mrp_status mrp_slab_take(
    struct mrp_pool *pool, unsigned class, struct mrp_slab **taken)
{
    size_t block_size = pool->classes.classes[class].block_size, size, n_blocks;
    struct run room = find_room(pool, block_size, pool->classes.classes[class].node);
    struct mrp_slab *slab;
    enum mrp_status status;

    if (room.n == 0) {
        return MRP_ERR_AGAIN;
    }
    size = room.n << room.chunk->granule_shift;
    n_blocks = size / block_size;
    status = mrp_heed_reserves(pool, pool->classes.classes[class].tier, size);
    if (status == MRP_OK) {
        status = mrp_depot_provision(pool, class, n_blocks);
    }
    if (status != MRP_OK) {
        return status;
    }
    slab = take_record(pool, class, n_blocks);
    if (slab == NULL) {
        return mrp_error_last()->status;
    }
    slab->chunk = room.chunk;
    slab->granule = room.begin;
    slab->n_granules = (uint32_t)room.n;
    name_groups(pool, slab, mrp_bin_offset(pool, class));
    enter_granules(slab, block_size);
    pool->depots[class].slab_size += size;
    if (room.chunk->n_granules_used == room.chunk->n_granules) {
        mrp_chunk_retract(pool, room.chunk);
    }
    *taken = slab;
    return MRP_OK;
}

enum mrp_status mrp_slab_take_bare(struct mrp_pool *pool, struct mrp_slab **taken)
{
    *taken = take_record(pool, MRP_CLASS_BARE, MRP_REGIONS_PER_GROUP);
    return *taken != NULL ? MRP_OK : mrp_error_last()->status;
}

/* -- giving back -- */

/* Nothing finds its regions any more: neither by address nor by handle. */
static void end_regions(struct mrp_pool *pool, const struct mrp_slab *slab)
{
    struct mrp_chunk *chunk = slab->chunk;
    uint32_t most = mrp_load_relaxed(&chunk->generation), generation;
    uint64_t n_allocs = 0;

    for (uint32_t i = 0; i < slab->n_granules; i++) {
        mrp_store_release(&chunk->granules[slab->granule + i], 0);
    }
    name_groups(pool, slab, 0);
    for (uint32_t i = 0; i < slab->n_cut; i++) {
        struct mrp_region *region = mrp_region_at(pool, slab->descriptor + i);

        mrp_store_relaxed(&region->state, 0);
        generation = mrp_load_relaxed(&region->generation);
        n_allocs += generation;
        most = most > generation ? most : generation;
    }
    mrp_store_relaxed(&chunk->generation, most);
    pool->depots[slab->size_class].n_allocs += n_allocs;
}

void mrp_slab_retire(struct mrp_pool *pool, struct mrp_slab *slab)
{
    struct mrp_depot *depot = &pool->depots[slab->size_class];
    uint32_t number = (uint32_t)(slab - mrp_slab_at(pool, 0)) + 1;
    struct mrp_chunk *chunk = slab->chunk;

    end_regions(pool, slab);
    depot->n_regions -= slab->n_cut;
    depot->slab_size -= (size_t)slab->n_granules << chunk->granule_shift;
    if (depot->pending == number) {
        depot->pending = 0;
    }
    if (slab->next != 0) {
        mrp_slab_at(pool, slab->next - 1)->previous = slab->previous;
    }
    *(slab->previous != 0 ? &mrp_slab_at(pool, slab->previous - 1)->next
                          : &depot->slabs) = slab->next;
    slab->is_retired = true;
    pool->n_openings++;
    chunk->n_granules_used -= slab->n_granules;
    if (slab->granule < chunk->first_free) {
        chunk->first_free = slab->granule;
    }
    mrp_chunk_offer(pool, chunk);
}

void mrp_slab_recycle(struct mrp_pool *pool, struct mrp_slab *slab)
{
    uint32_t *head = &pool->free_slabs[bucket_of(slab->n_groups)];

    slab->next = *head;
    *head = (uint32_t)(slab - mrp_slab_at(pool, 0)) + 1;
}
