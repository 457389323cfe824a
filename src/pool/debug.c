/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/debug.h"

#include "base/error.h"
#include "base/memcheck.h"
#include "base/settings.h"

#include <string.h>
#include <unistd.h>

#define ALL_FLAGS \
    (MRP_DEBUG_OFF | MRP_DEBUG_POISON | MRP_DEBUG_GUARD | MRP_DEBUG_ORIGINS | \
        MRP_DEBUG_MEMCHECK)

/* -- settings -- */

enum mrp_status mrp_debug_resolve(const struct mrp_pool_params *params, uint32_t *debug)
{
    uint64_t value = params->debug;
    enum mrp_status status;

    *debug = 0;
    if ((value & ~(uint64_t)ALL_FLAGS) != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "debug is %#x: unknown bits", params->debug);
    }
    if ((value & MRP_DEBUG_OFF) != 0 && value != MRP_DEBUG_OFF) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "debug is %#x: MRP_DEBUG_OFF means none of the others, it stands alone",
            params->debug);
    }
    if (value == 0) {
        status = mrp_setting_number(MRP_SET_DEBUG, "debug", 0, &value);
        if (status != MRP_OK) {
            return status;
        }
    }
    if (value == 0) {
        value = MRP_DEBUG_MEMCHECK;
    }
    if (!mrp_memcheck_is_present()) { /* nobody to tell: thread caches are worth more */
        value &= ~(uint64_t)MRP_DEBUG_MEMCHECK;
    }
    *debug = (uint32_t)value & ~(uint32_t)MRP_DEBUG_OFF;
    return MRP_OK;
}

enum mrp_status mrp_debug_check(struct mrp_pool *pool)
{
    const struct mrp_backend_state *backend = pool->backend;
    bool is_host = backend->ops.memory_kind == MRP_MEMORY_HOST;

    if (!is_host) { /* nothing that a processor could touch, and be told off for */
        pool->debug &= ~(uint32_t)MRP_DEBUG_MEMCHECK;
    }
    if ((pool->debug & MRP_DEBUG_POISON) != 0 && !is_host) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "debugging with poison writes to free memory, and that of backend %s is not "
            "the host's: leave MRP_DEBUG_POISON (MRPOOL_DEBUG=poison) out",
            backend->named.name);
    }
    if ((pool->debug & MRP_DEBUG_GUARD) != 0 && strcmp(backend->ops.kind, "mmap") != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "guard pages need memory of backend mmap, and %s is of kind %s: leave "
            "MRP_DEBUG_GUARD (MRPOOL_DEBUG=guard) out",
            backend->named.name, backend->ops.kind);
    }
    return MRP_OK;
}

/* -- memory checkers -- */

/* Regions that hold memory of the pool's. */
static bool has_block(const struct mrp_region *region)
{
    switch (mrp_kind_of(region)) {
    case MRP_REGION_POOLED:
    case MRP_REGION_LARGE:
    case MRP_REGION_ADOPTED:
    case MRP_REGION_TEMPORARY:
        return true;
    case MRP_REGION_USER:
    case MRP_REGION_SLICE:
        break;
    }
    return false;
}

/* All of a live block may be used: headroom, what it holds beyond the size asked for,
 * tailroom. */
static void show(const struct mrp_pool *pool, const struct mrp_region *region)
{
    if ((pool->debug & MRP_DEBUG_MEMCHECK) != 0) {
        mrp_memcheck_show((const char *)mrp_payload(region) - pool->classes.lead,
            pool->classes.lead + region->capacity + pool->classes.tailroom);
    }
}

static void hide(const struct mrp_pool *pool, const struct mrp_region *region)
{
    if ((pool->debug & MRP_DEBUG_MEMCHECK) != 0) {
        mrp_memcheck_hide((const char *)mrp_payload(region) - pool->classes.lead,
            pool->classes.lead + region->capacity + pool->classes.tailroom);
    }
}

/* -- poison -- */

/* The payload begins on a line, so that words of it are where they should be. */
static void fill(const struct mrp_region *region)
{
    const uint32_t poison = MRP_POISON;
    char *payload = mrp_payload(region);
    size_t size = region->capacity, i;

    for (i = 0; i + sizeof poison <= size; i += sizeof poison) {
        memcpy(payload + i, &poison, sizeof poison);
    }
    memcpy(payload + i, &poison, size - i);
}

/* Offset of the first byte that is not the poison's; the capacity when all are. */
static size_t first_wrong(const struct mrp_region *region)
{
    const uint32_t poison = MRP_POISON;
    const char *payload = mrp_payload(region);
    size_t size = region->capacity, i = 0;

    if (size >= sizeof poison && memcmp(payload, &poison, sizeof poison) == 0 &&
        memcmp(payload, payload + sizeof poison, size - sizeof poison) == 0) {
        return size; /* each word is like the next one */
    }
    while (i < size && payload[i] == ((const char *)&poison)[i % sizeof poison]) {
        i++;
    }
    return i;
}

static enum mrp_status verify(struct mrp_pool *pool, const struct mrp_region *region)
{
    size_t offset = first_wrong(region), word = mrp_align_down(offset, 4);
    uint32_t found = 0, expected = 0;
    const uint32_t poison = MRP_POISON;
    char origin[MRP_ORIGIN_TEXT];
    bool is_known;

    if (offset == region->capacity) {
        return MRP_OK;
    }
    memcpy(&found, (const char *)mrp_payload(region) + word,
        mrp_min(sizeof found, region->capacity - word));
    memcpy(&expected, &poison, mrp_min(sizeof expected, region->capacity - word));
    is_known = mrp_region_origin(pool, region, origin, sizeof origin);
    return mrp_fail(MRP_ERR_CORRUPT, 0,
        "region %p of pool %s was written to while it was free: at byte %zu of its %zu "
        "(%p) stands %#010x, not %#010x: by a late transfer, or through a pointer kept "
        "past the free; the region is not used again%s%s",
        (const void *)region, pool->member.named.name, offset, region->capacity,
        (const void *)((const char *)mrp_payload(region) + offset), found, expected,
        is_known ? "; its last owner: " : "", is_known ? origin : "");
}

/* -- hooks -- */

void mrp_debug_chunk_made(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    if ((pool->debug & MRP_DEBUG_MEMCHECK) == 0 || chunk->backend == NULL) {
        return;
    }
    if (chunk->backend != pool->context->adopted_backend) { /* that is in use */
        mrp_memcheck_hide(chunk->mapping.address, chunk->mapping.size);
    }
    chunk->hidden = true;
}

void mrp_debug_block_cut(struct mrp_pool *pool, struct mrp_region *region)
{
    if (has_block(region)) {
        show(pool, region);
    }
}

void mrp_debug_block_end(struct mrp_pool *pool, struct mrp_region *region)
{
    if (!has_block(region)) {
        return;
    }
    if ((pool->debug & MRP_DEBUG_POISON) != 0) {
        fill(region);
    }
    hide(pool, region);
}

enum mrp_status mrp_debug_block_begin(struct mrp_pool *pool, struct mrp_region *region)
{
    enum mrp_status status = MRP_OK;

    show(pool, region);
    if ((pool->debug & MRP_DEBUG_POISON) != 0) {
        status = verify(pool, region);
    }
    if (status != MRP_OK) {
        hide(pool, region);
    }
    return status;
}

/* -- guard pages -- */

void mrp_debug_guard(
    struct mrp_pool *pool, size_t size, struct mrp_chunk_request *request)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t payload_size = mrp_max(size, 1),
           behind = payload_size + pool->classes.tailroom;

    /* The payload begins on its alignment, counted back from the end of a page. No sum
     * overflows: round_large() of large.c has refused what could. */
    behind = request->alignment <= page ? mrp_align_up(behind, request->alignment)
                                        : behind + request->alignment - 1;
    request->payload_size = payload_size;
    request->size = mrp_align_up(pool->classes.lead + behind, page);
    request->guarded = true;
}

void mrp_debug_guarded(const struct mrp_chunk_request *request, struct mrp_region *region)
{
    uintptr_t end = (uintptr_t)mrp_payload(region) + region->capacity;
    uintptr_t payload = mrp_align_down(end - request->payload_size, request->alignment);

    region->offset = (int64_t)(payload - (uintptr_t)region);
    region->capacity = end - payload;
}
