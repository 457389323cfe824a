/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From an address to its region: radix table -> chunk -> granule -> block, or the range
 * map for adopted memory. No lock, no write; every word read stays readable whatever
 * happens meanwhile, and the chunk's generation tells whether what was read belongs
 * together.
 */
#include "base/error.h"
#include "pool/pool.h"

/* What was read of one chunk, in one generation. */
struct sighting {
    struct mrp_chunk *chunk;
    uint32_t generation;
    uint32_t id;
    uintptr_t base;
    size_t size;
};

static bool still_true(const struct sighting *seen)
{
    return mrp_load_relaxed(&seen->chunk->view.generation) == seen->generation;
}

/* Read the chunk if it is live, the pool's, and holds the address. The acquires pair with
 * the releases of mrp_chunk_publish. */
static inline bool sight(const struct mrp_pool *pool, struct mrp_chunk *chunk,
    uintptr_t address, struct sighting *seen)
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

static inline bool find_chunk(
    const struct mrp_pool *pool, uintptr_t address, struct sighting *seen)
{
    struct mrp_address_map *map = &pool->context->map;

    return sight(pool, mrp_address_map_find_aligned(map, address), address, seen) ||
           sight(pool, mrp_address_map_find_range(map, address), address, seen);
}

/* The region whose block an address in a chunk belongs to; NULL outside every slab. */
static inline struct mrp_region *region_in(
    const struct mrp_pool *pool, const struct sighting *seen, uintptr_t address)
{
    const struct mrp_chunk_view *view = &seen->chunk->view;
    _Atomic uint64_t *granules = mrp_load_acquire(&view->granules);
    size_t offset = address - seen->base, block;
    const struct mrp_size_class *class;
    uint64_t slab;

    if (granules == NULL) {
        return mrp_load_acquire(&view->region);
    }
    if (offset >> MRP_GRANULE_SHIFT >= seen->size >> MRP_GRANULE_SHIFT) {
        return NULL; /* the part of an array chunk behind its last whole granule */
    }
    slab = mrp_load_acquire(&granules[offset >> MRP_GRANULE_SHIFT]);
    if (slab == 0) {
        return NULL;
    }
    class = &pool->classes.classes[mrp_slab_class(slab)];
    block = mrp_block_of(class, offset - (mrp_slab_granule(slab) << MRP_GRANULE_SHIFT));
    return mrp_region_at(pool, mrp_slab_descriptor(slab) + (uint32_t)block);
}

struct mrp_region *mrp_region_find(struct mrp_pool *pool, const void *address)
{
    struct mrp_region *region = NULL;
    struct sighting seen;

    if (!mrp_pool_is_live(pool)) {
        mrp_pool_check_handle(pool);
        return NULL;
    }
    if (find_chunk(pool, (uintptr_t)address, &seen)) {
        region = region_in(pool, &seen, (uintptr_t)address);
        if (region != NULL && mrp_load_acquire(&region->state) == MRP_STATE_LIVE &&
            still_true(&seen)) {
            return region;
        }
    }
    mrp_fail_literal(
        __func__, MRP_ERR_NOT_FOUND, "the address lies in no live region of the pool");
    return NULL;
}

static void fill_wire(const struct mrp_key_line *line, uintptr_t address,
    const struct sighting *seen, struct mrp_wire *wire)
{
    uint32_t flags = mrp_load_relaxed(&line->flags);

    wire->local_desc = mrp_load_relaxed(&line->local_desc);
    wire->has_remote_key = (flags & MRP_KEY_REMOTE) != 0;
    wire->remote_key = wire->has_remote_key ? mrp_load_relaxed(&line->remote_key) : 0;
    wire->remote_addr = address + mrp_load_relaxed(&line->remote_delta);
    wire->native = mrp_load_relaxed(&line->native);
    wire->offset = address - seen->base;
    wire->bytes_left = seen->size - wire->offset;
}

enum mrp_status mrp_resolve(struct mrp_pool *pool, const void *address, size_t size,
    unsigned rail, struct mrp_wire *wire)
{
    struct mrp_wire found = MRP_WIRE_INIT;
    const struct mrp_key_line *line;
    struct sighting seen;

    if (!mrp_pool_is_live(pool)) {
        return mrp_pool_check_handle(pool);
    }
    if (rail >= pool->n_rails) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0, "rail %u: pool %s has %zu rails", rail,
            pool->member.named.name, pool->n_rails);
    }
    if (!find_chunk(pool, (uintptr_t)address, &seen)) {
        return mrp_fail_literal(
            __func__, MRP_ERR_NOT_FOUND, "the address lies in no chunk of the pool");
    }
    line = mrp_key_line(pool, rail, mrp_load_acquire(&seen.chunk->view.id));
    fill_wire(line, (uintptr_t)address, &seen, &found);
    if (mrp_load_relaxed(&line->flags) == 0 || !still_true(&seen)) {
        return mrp_fail_literal(__func__, MRP_ERR_NOT_FOUND,
            "the address lies in a chunk that is just going");
    }
    if (size > found.bytes_left) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%zu bytes at %p run past the registration, which ends after %zu", size,
            address, found.bytes_left);
    }
    return mrp_info_write(wire, &found, sizeof found, "mrp_wire");
}
