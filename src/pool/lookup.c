/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From an address to its region: radix table -> chunk -> granule -> block, or the range
 * map for adopted memory. No lock, no write; every word read stays readable whatever
 * happens meanwhile, and the chunk's generation tells whether what was read belongs
 * together.
 */
#include "base/error.h"
#include "pool/pool.h"
#include "pool/rails.h"

/* What was read of one chunk, in one generation. */
struct sighting {
    struct mrp_chunk *chunk;
    uint32_t generation;
    uintptr_t base;
    size_t size;
};

static bool still_true(const struct sighting *seen)
{
    return mrp_load_relaxed(&seen->chunk->view.generation) == seen->generation;
}

/* Read the chunk if it is live, the pool's, and holds the address. The acquires pair with
 * the releases of mrp_chunk_publish. */
static inline __attribute__((always_inline)) bool sight(const struct mrp_pool *pool,
    struct mrp_chunk *chunk, uintptr_t address, struct sighting *seen)
{
    const struct mrp_chunk_view *view;

    if (chunk == NULL) {
        return false;
    }
    view = &chunk->view;
    seen->chunk = chunk;
    seen->generation = mrp_load_acquire(&view->generation);
    seen->base = mrp_load_acquire(&view->base);
    seen->size = mrp_load_acquire(&view->size);
    return (seen->generation & 1) != 0 && address - seen->base < seen->size &&
        mrp_load_acquire(&view->pool) == pool;
}

static bool holds(const struct sighting *seen, uintptr_t address, size_t size)
{
    return size <= seen->size - (address - seen->base);
}

/* Adopted memory may overlap: when the chunk found has just gone, another may still hold
 * the address. Ends, because a chunk leaves the map before its generation moves. */
static bool find_adopted(
    const struct mrp_pool *pool, uintptr_t address, size_t size, struct sighting *seen)
{
    struct mrp_chunk *chunk;

    do {
        chunk = mrp_address_map_find_range(&pool->context->map, pool, address, size);
    } while (chunk != NULL &&
        !(sight(pool, chunk, address, seen) && holds(seen, address, size)));
    return chunk != NULL;
}

/* A chunk of the pool that holds the address; of several that overlap, one that holds
 * `size` bytes from there. */
static inline __attribute__((always_inline)) bool find_chunk(
    const struct mrp_pool *pool, uintptr_t address, size_t size, struct sighting *seen)
{
    return __builtin_expect(
               sight(pool, mrp_address_map_find_aligned(address), address, seen), 1) ||
        find_adopted(pool, address, size, seen);
}

/* The region whose block an address in a slab belongs to. */
static inline struct mrp_region *region_in(
    const struct mrp_pool *pool, uint64_t slab, size_t chunk_offset)
{
    const struct mrp_size_class *class = &pool->classes.classes[mrp_slab_class(slab)];
    size_t block = mrp_block_of(class, chunk_offset - mrp_slab_offset(slab));

    return mrp_region_at(pool, mrp_slab_descriptor(slab) + (uint32_t)block);
}

/* The same for any entry of the table, where none and the rest behind a slab's last block
 * belong to nobody. No division: what is read of a chunk that is gone may be no class. */
static struct mrp_region *region_at(const struct mrp_pool *pool,
    const struct mrp_chunk_view *view, _Atomic uint64_t *granules, size_t offset)
{
    size_t shift = mrp_load_acquire(&view->granule_shift), end = offset >> shift;
    size_t n_granules = mrp_load_acquire(&view->n_granules), block_end;
    uint64_t slab = end < n_granules ? mrp_load_acquire(&granules[end]) : 0;
    const struct mrp_size_class *class = &pool->classes.classes[mrp_slab_class(slab)];

    if (slab == 0) {
        return NULL;
    }
    while (end < n_granules && mrp_load_acquire(&granules[end]) == slab) {
        end++;
    }
    block_end =
        (mrp_block_of(class, offset - mrp_slab_offset(slab)) + 1) * class->block_size;
    return mrp_slab_offset(slab) + block_end <= end << shift
        ? region_in(pool, slab, offset)
        : NULL;
}

/* Everything but whole slabs of aligned chunks: large regions, adopted memory, arrays,
 * and no. */
static __attribute__((noinline)) struct mrp_region *find_elsewhere(
    struct mrp_pool *pool, uintptr_t address)
{
    struct mrp_region *region = NULL;
    struct sighting seen;

    if (mrp_pool_check_handle(pool) != MRP_OK) {
        return NULL;
    }
    while (find_chunk(pool, address, 1, &seen)) {
        const struct mrp_chunk_view *view = &seen.chunk->view;
        _Atomic uint64_t *granules = mrp_load_acquire(&view->granules);

        region = granules == NULL ? mrp_load_acquire(&view->region)
                                  : region_at(pool, view, granules, address - seen.base);
        if (still_true(&seen)) {
            break;
        }
        region = NULL;
    }
    if (region != NULL) {
        return region;
    }
    mrp_fail_literal("mrp_region_find", MRP_ERR_NOT_FOUND,
        "the address lies in no region of the pool");
    return NULL;
}

/* The pool is read only once a live chunk says it is its own: no other check needed. */
struct mrp_region *mrp_region_find(struct mrp_pool *pool, const void *pointer)
{
    uintptr_t address = (uintptr_t)pointer;
    struct mrp_chunk *chunk = mrp_address_map_find_aligned(address);

    if (__builtin_expect(chunk != NULL, 1)) {
        const struct mrp_chunk_view *view = &chunk->view;
        uint32_t generation = mrp_load_acquire(&view->generation);
        size_t offset = address - mrp_load_acquire(&view->base);
        size_t granule = offset >> mrp_load_acquire(&view->granule_shift);

        /* n_granules is 0 for a chunk that is gone and for one that is a single region */
        if (granule < mrp_load_acquire(&view->n_granules) &&
            mrp_load_acquire(&view->pool) == pool) {
            uint64_t slab = mrp_load_acquire(&mrp_load_acquire(&view->granules)[granule]);

            if (mrp_slab_is_whole(slab) &&
                mrp_load_relaxed(&view->generation) == generation) {
                return region_in(pool, slab, offset);
            }
        }
    }
    return find_elsewhere(pool, address);
}

static bool has_rail(struct mrp_pool *pool, unsigned rail)
{
    bool is_used;

    pthread_mutex_lock(&pool->mutex);
    is_used = rail < MRP_RAILS_MAX && pool->rails[rail].provider != NULL;
    pthread_mutex_unlock(&pool->mutex);
    return is_used;
}

static __attribute__((noinline)) enum mrp_status explain_unresolved(
    struct mrp_pool *pool, uintptr_t address, size_t size, unsigned rail)
{
    struct sighting seen;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status != MRP_OK) {
        return status;
    }
    if (!has_rail(pool, rail)) {
        return mrp_rail_refuse("mrp_resolve", pool, rail);
    }
    if (find_chunk(pool, address, 1, &seen) && !holds(&seen, address, size)) {
        return mrp_fail_at("mrp_resolve", MRP_ERR_INVALID, 0,
            "%zu bytes at %#zx run past the registration, which ends after %zu", size,
            (size_t)address, seen.size - (address - seen.base));
    }
    return mrp_fail_literal(
        "mrp_resolve", MRP_ERR_NOT_FOUND, "the address lies in no chunk of the pool");
}

enum mrp_status mrp_resolve(struct mrp_pool *pool, const void *pointer, size_t size,
    unsigned rail, struct mrp_wire *wire)
{
    uintptr_t address = (uintptr_t)pointer;
    const struct mrp_key_line *line;
    struct mrp_wire found;
    struct sighting seen;
    uint32_t flags;

    do {
        if (!mrp_pool_is_live(pool) || rail >= MRP_RAILS_MAX ||
            !find_chunk(pool, address, size, &seen) || !holds(&seen, address, size)) {
            return explain_unresolved(pool, address, size, rail);
        }
        /* acquires pair with the releases of mrp_key_open: what a later chunk of that
         * number wrote, or a later rail, is not read without seeing this one's generation
         * moved, or the line shut in between */
        line = mrp_key_line(pool, rail, mrp_load_acquire(&seen.chunk->view.id));
        flags = mrp_load_acquire(&line->flags);
        found.local_desc = mrp_load_acquire(&line->local_desc);
        found.remote_key = mrp_load_acquire(&line->remote_key);
        found.remote_addr = address + mrp_load_acquire(&line->remote_delta);
        found.native = mrp_load_acquire(&line->native);
    } while (!still_true(&seen) || mrp_load_relaxed(&line->flags) != flags);
    if ((flags & MRP_KEY_REGISTERED) == 0) {
        return mrp_rail_refuse("mrp_resolve", pool, rail);
    }
    found.struct_size = sizeof found;
    found.has_remote_key = (flags & MRP_KEY_REMOTE) != 0;
    found.remote_key = found.has_remote_key ? found.remote_key : 0;
    found.offset = address - seen.base;
    found.bytes_left = seen.size - found.offset;
    if (wire == NULL || wire->struct_size != sizeof *wire) {
        return mrp_info_write(wire, &found, sizeof found, "mrp_wire");
    }
    /* member by member: the whole struct would be copied through memory, which stalls */
    wire->has_remote_key = found.has_remote_key;
    wire->local_desc = found.local_desc;
    wire->remote_key = found.remote_key;
    wire->remote_addr = found.remote_addr;
    wire->native = found.native;
    wire->offset = found.offset;
    wire->bytes_left = found.bytes_left;
    return MRP_OK;
}
