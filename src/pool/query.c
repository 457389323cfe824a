/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a region is, and what the network needs to know of it: the descriptor's line, and
 * one key line per rail.
 */
#include "base/error.h"
#include "pool/pool.h"
#include "pool/rails.h"

void *mrp_region_address(const struct mrp_region *region)
{
    return mrp_region_is_live(region) ? mrp_payload(region) : NULL;
}

size_t mrp_region_size(const struct mrp_region *region)
{
    return mrp_region_is_live(region) ? mrp_load_relaxed(&region->size) : 0;
}

size_t mrp_region_capacity(const struct mrp_region *region)
{
    return mrp_region_is_live(region) ? region->capacity : 0;
}

size_t mrp_region_length(const struct mrp_region *region)
{
    return mrp_region_is_live(region) ? mrp_load_relaxed(&region->length) : 0;
}

enum mrp_status mrp_region_set_length(struct mrp_region *region, size_t length)
{
    if (!mrp_region_is_live(region)) {
        return mrp_region_check_handle(region);
    }
    if (length > region->capacity) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "length is %zu, but the region holds %zu bytes", length, region->capacity);
    }
    mrp_store_relaxed(&region->length, length);
    return MRP_OK;
}

void *mrp_region_user(const struct mrp_region *region)
{
    const struct mrp_pool *pool;

    if (!mrp_region_is_live(region)) {
        return NULL;
    }
    pool = mrp_pool_of(region);
    return pool->user_base == NULL || mrp_kind_of(region) == MRP_REGION_SLICE
        ? NULL
        : pool->user_base + (size_t)mrp_region_index(region) * pool->user_stride;
}

struct mrp_pool *mrp_region_pool(const struct mrp_region *region)
{
    return mrp_region_is_live(region) ? mrp_pool_of(region) : NULL;
}

static int tier_of(const struct mrp_pool *pool, const struct mrp_region *region)
{
    return mrp_kind_of(region) == MRP_REGION_POOLED
        ? pool->classes.classes[mrp_depot_of(region)].tier
        : -1;
}

enum mrp_status mrp_region_query(
    const struct mrp_region *region, struct mrp_region_info *info)
{
    struct mrp_region_info found = MRP_REGION_INFO_INIT;
    const struct mrp_region *root = region;
    const struct mrp_chunk *chunk;
    enum mrp_status status = mrp_region_check_handle(region);

    if (status != MRP_OK) {
        return status;
    }
    found.pool = mrp_pool_of(region);
    if (mrp_kind_of(region) == MRP_REGION_SLICE) {
        root = found.parent = mrp_region_at(found.pool, region->parent);
    }
    chunk = mrp_chunk_entry(found.pool, region->chunk)->chunk;
    found.address = mrp_payload(region);
    found.size = mrp_load_relaxed(&region->size);
    found.capacity = region->capacity;
    found.length = mrp_load_relaxed(&region->length);
    found.kind = mrp_kind_of(region);
    found.tier = tier_of(found.pool, root);
    found.references = mrp_state_references(mrp_load_relaxed(&region->state));
    found.generation = mrp_load_relaxed(&region->generation);
    found.chunk_address = chunk->mapping.address;
    found.chunk_size = chunk->mapping.size;
    found.page_size = chunk->mapping.page_size;
    return mrp_info_write(info, &found, sizeof found, "mrp_region_info");
}

/* -- keys -- */

static enum mrp_status refuse_remote_key(
    struct mrp_pool *pool, unsigned rail, uint32_t chunk, uint32_t flags)
{
    uint32_t access = mrp_chunk_entry(pool, chunk)->chunk->access;
    const struct mrp_rail *slot = &pool->rails[rail];
    const char *name = slot->provider->named.name;

    if ((flags & MRP_KEY_BLOB) != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "rail %u (%s) has keys larger than 64 bits: send them with "
            "mrp_region_key_pack",
            rail, name);
    }
    if ((access & (MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC)) == 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "rail %u (%s): pool %s grants no remote access (access is %#x); create it "
            "with MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE",
            rail, name, pool->member.named.name, access);
    }
    return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
        "rail %u (%s) is of a network without remote keys", rail, name);
}

/* The rail may go meanwhile: then that is why. */
static enum mrp_status no_remote_key(
    struct mrp_pool *pool, unsigned rail, uint32_t chunk, uint32_t flags)
{
    enum mrp_status status;

    pthread_mutex_lock(&pool->mutex);
    status = pool->rails[rail].state == MRP_RAIL_ACTIVE
        ? refuse_remote_key(pool, rail, chunk, flags)
        : mrp_rail_refuse_locked(__func__, pool, rail);
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* The line of a live region's chunk on a rail it is registered with. */
static enum mrp_status find_line(const struct mrp_region *region, unsigned rail,
    const void *output, const struct mrp_key_line **line)
{
    const struct mrp_key_line *found;

    if (output == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "the output is NULL: pass where to store it");
    }
    if (!mrp_region_is_live(region)) {
        return mrp_region_check_handle(region);
    }
    if (rail >= MRP_RAILS_MAX) {
        return mrp_rail_refuse(__func__, mrp_pool_of(region), rail);
    }
    found = mrp_key_line(mrp_pool_of(region), rail, region->chunk);
    /* acquire: pairs with the release of mrp_key_open, when a rail has joined */
    if ((mrp_load_acquire(&found->flags) & MRP_KEY_REGISTERED) == 0) {
        return mrp_rail_refuse(__func__, mrp_pool_of(region), rail);
    }
    *line = found;
    return MRP_OK;
}

static enum mrp_status find_remote_line(const struct mrp_region *region, unsigned rail,
    const void *output, const struct mrp_key_line **line)
{
    enum mrp_status status = find_line(region, rail, output, line);
    uint32_t flags;

    if (status != MRP_OK) {
        return status;
    }
    flags = mrp_remote_flags(mrp_pool_of(region), region->chunk, rail);
    return flags != 0 ? MRP_OK
                      : no_remote_key(mrp_pool_of(region), rail, region->chunk, flags);
}

enum mrp_status mrp_region_local_desc(
    const struct mrp_region *region, unsigned rail, void **local_desc)
{
    const struct mrp_key_line *line;
    enum mrp_status status = find_line(region, rail, local_desc, &line);

    if (status == MRP_OK) {
        *local_desc = mrp_load_relaxed(&line->local_desc);
    }
    return status;
}

enum mrp_status mrp_region_remote_key(
    const struct mrp_region *region, unsigned rail, uint64_t *remote_key)
{
    const struct mrp_key_line *line;
    enum mrp_status status = find_remote_line(region, rail, remote_key, &line);

    if (status == MRP_OK && (mrp_load_relaxed(&line->flags) & MRP_KEY_REMOTE) == 0) {
        return no_remote_key(
            mrp_pool_of(region), rail, region->chunk, mrp_load_relaxed(&line->flags));
    }
    if (status == MRP_OK) {
        *remote_key = mrp_load_relaxed(&line->remote_key);
    }
    return status;
}

enum mrp_status mrp_region_remote_addr(
    const struct mrp_region *region, unsigned rail, uint64_t *remote_addr)
{
    const struct mrp_key_line *line;
    enum mrp_status status = find_remote_line(region, rail, remote_addr, &line);

    if (status == MRP_OK) {
        *remote_addr =
            (uintptr_t)mrp_payload(region) + mrp_load_relaxed(&line->remote_delta);
    }
    return status;
}

enum mrp_status mrp_region_registration(
    const struct mrp_region *region, unsigned rail, void **native, size_t *offset)
{
    const struct mrp_key_line *line;
    enum mrp_status status =
        find_line(region, rail, native != NULL ? (const void *)offset : NULL, &line);

    if (status == MRP_OK) {
        *native = mrp_load_relaxed(&line->native);
        *offset = (uintptr_t)mrp_payload(region) - mrp_load_relaxed(&line->base);
    }
    return status;
}
