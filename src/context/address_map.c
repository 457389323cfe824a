/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/address_map.h"

#include "base/align.h"
#include "base/process.h"
#include "context/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

_Atomic(struct mrp_map_leaf *) mrp_map_root[MRP_MAP_ROOT_SIZE];

void mrp_address_map_create(struct mrp_address_map *map)
{
    *map = (struct mrp_address_map){.mutex = PTHREAD_MUTEX_INITIALIZER};
}

void mrp_address_map_destroy(struct mrp_address_map *map)
{
    for (size_t i = 0; i < 2; i++) {
        free(mrp_load_relaxed(&map->arrays[i].ranges));
    }
    for (size_t i = 0; i < map->n_retired; i++) {
        free(map->retired[i]);
    }
    free(map->retired);
    pthread_mutex_destroy(&map->mutex);
}

/* -- radix -- */

/* Under the process lock. */
static enum mrp_status provide_leaves(size_t first, size_t last)
{
    for (size_t i = first >> MRP_MAP_LEAF_SHIFT; i <= last >> MRP_MAP_LEAF_SHIFT; i++) {
        struct mrp_map_leaf *leaf;

        if (mrp_load_relaxed(&mrp_map_root[i]) != NULL) {
            continue;
        }
        leaf = mmap(NULL, sizeof *leaf, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (leaf == MAP_FAILED) {
            return mrp_fail(MRP_ERR_MEMORY, errno,
                "mmap of %zu bytes for the address map failed", sizeof *leaf);
        }
        mrp_store_release(&mrp_map_root[i], leaf);
    }
    return MRP_OK;
}

/* Each granule belongs to one chunk, so its slot has one writer at a time. */
static void fill_granules(size_t first, size_t last, struct mrp_chunk *chunk)
{
    for (size_t granule = first; granule <= last; granule++) {
        struct mrp_map_leaf *leaf =
            mrp_load_relaxed(&mrp_map_root[granule >> MRP_MAP_LEAF_SHIFT]);

        mrp_store_release(&leaf->chunks[granule & (MRP_MAP_LEAF_SIZE - 1)], chunk);
    }
}

static enum mrp_status insert_aligned(
    struct mrp_chunk *chunk, uintptr_t base, size_t size)
{
    size_t first = base >> MRP_MAP_GRANULE_SHIFT;
    size_t last = (base + size - 1) >> MRP_MAP_GRANULE_SHIFT;
    enum mrp_status status;

    if (last >> MRP_MAP_LEAF_SHIFT >= MRP_MAP_ROOT_SIZE) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "the backend gave memory at %#zx, above %d address bits", (size_t)base,
            MRP_MAP_ADDRESS_BITS);
    }
    mrp_process_lock();
    status = provide_leaves(first, last);
    mrp_process_unlock();
    if (status == MRP_OK) {
        fill_granules(first, last, chunk);
    }
    return status;
}

/* -- ranges -- */

/* Make room in the array that is not being read; the old memory may still have late
 * readers. */
static enum mrp_status reserve_ranges(
    struct mrp_address_map *map, struct mrp_range_array *array, size_t n_ranges)
{
    size_t capacity = array->capacity == 0 ? 16 : array->capacity * 2;
    struct mrp_range *ranges;
    void **retired;

    if (n_ranges <= array->capacity) {
        return MRP_OK;
    }
    while (capacity < n_ranges) {
        capacity *= 2;
    }
    ranges = calloc(capacity, sizeof *ranges);
    retired = realloc(map->retired, (map->n_retired + 1) * sizeof *retired);
    if (retired != NULL) {
        map->retired = retired;
    }
    if (ranges == NULL || retired == NULL) {
        free(ranges);
        return mrp_fail(MRP_ERR_MEMORY, 0,
            "malloc of %zu bytes for the address map failed", capacity * sizeof *ranges);
    }
    retired[map->n_retired++] = mrp_load_relaxed(&array->ranges);
    mrp_store_release(&array->ranges, ranges);
    array->capacity = capacity;
    return MRP_OK;
}

/* Stores are releases and loads in find_range acquires: whoever reads one of these values
 * also sees the `begun` that was stored before, and knows to start over. */
static void put_range(struct mrp_range_array *array, size_t index, uintptr_t start,
    uintptr_t end, struct mrp_chunk *chunk)
{
    struct mrp_range *range = &mrp_load_relaxed(&array->ranges)[index];
    uintptr_t max_end = index == 0 ? 0 : mrp_load_relaxed(&(range - 1)->max_end);

    mrp_store_release(&range->start, start);
    mrp_store_release(&range->end, end);
    mrp_store_release(&range->max_end, end > max_end ? end : max_end);
    mrp_store_release(&range->chunk, chunk);
}

/* Rewrite the array nobody reads as the current one with `added` put in or `removed` left
 * out, then make it the current one. */
static enum mrp_status rewrite_ranges(struct mrp_address_map *map,
    struct mrp_chunk *added, uintptr_t base, size_t size, const struct mrp_chunk *removed)
{
    uint64_t version = mrp_load_relaxed(&map->published);
    struct mrp_range_array *from = &map->arrays[version & 1];
    struct mrp_range_array *to = &map->arrays[(version + 1) & 1];
    size_t n_from = mrp_load_relaxed(&from->n_ranges), n_to = 0;
    struct mrp_range *ranges = mrp_load_relaxed(&from->ranges);
    enum mrp_status status;

    mrp_store_relaxed(&map->begun, version + 1);
    /* a removal cannot fail: `to` held the version before, at most one range shorter */
    status = reserve_ranges(map, to, added != NULL ? n_from + 1 : n_from - 1);
    if (status != MRP_OK) {
        mrp_store_relaxed(&map->begun, version);
        return status;
    }
    for (size_t i = 0; i < n_from; i++) {
        struct mrp_chunk *chunk = mrp_load_relaxed(&ranges[i].chunk);
        uintptr_t start = mrp_load_relaxed(&ranges[i].start);

        if (added != NULL && base < start) {
            put_range(to, n_to++, base, base + size, added);
            added = NULL;
        }
        if (chunk != removed) {
            put_range(to, n_to++, start, mrp_load_relaxed(&ranges[i].end), chunk);
        }
    }
    if (added != NULL) {
        put_range(to, n_to++, base, base + size, added);
    }
    mrp_store_release(&to->n_ranges, n_to);
    /* pairs with the acquire in find_range */
    mrp_store_release(&map->published, version + 1);
    return MRP_OK;
}

/* Number of ranges that start at or below the address. */
static size_t count_starts(
    const struct mrp_range *ranges, size_t n_ranges, uintptr_t address)
{
    size_t low = 0, high = n_ranges;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (mrp_load_acquire(&ranges[middle].start) <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct mrp_chunk *search_ranges(struct mrp_range_array *array,
    const struct mrp_pool *pool, uintptr_t address, size_t size)
{
    size_t n_ranges = mrp_load_acquire(&array->n_ranges);
    struct mrp_range *ranges = mrp_load_acquire(&array->ranges);

    for (size_t i = count_starts(ranges, n_ranges, address); i > 0; i--) {
        uintptr_t end = mrp_load_acquire(&ranges[i - 1].end);

        if (mrp_load_acquire(&ranges[i - 1].max_end) <= address) {
            break;
        }
        if (end > address && end - address >= size) {
            struct mrp_chunk *chunk = mrp_load_acquire(&ranges[i - 1].chunk);

            /* NULL in an array that is being rewritten, which our caller will notice */
            if (chunk != NULL && mrp_load_acquire(&chunk->view.pool) == pool) {
                return chunk;
            }
        }
    }
    return NULL;
}

struct mrp_chunk *mrp_address_map_find_range(struct mrp_address_map *map,
    const struct mrp_pool *pool, uintptr_t address, size_t size)
{
    for (;;) {
        uint64_t version = mrp_load_acquire(&map->published);
        struct mrp_chunk *chunk =
            search_ranges(&map->arrays[version & 1], pool, address, size);

        /* our array is rewritten only by the update after the next */
        if (mrp_load_relaxed(&map->begun) - version < 2) {
            return chunk;
        }
    }
}

/* -- both -- */

enum mrp_status mrp_address_map_insert(struct mrp_address_map *map,
    struct mrp_chunk *chunk, uintptr_t base, size_t size, bool aligned)
{
    enum mrp_status status;

    if (aligned) {
        return insert_aligned(chunk, base, size);
    }
    pthread_mutex_lock(&map->mutex);
    status = rewrite_ranges(map, chunk, base, size, NULL);
    pthread_mutex_unlock(&map->mutex);
    return status;
}

void mrp_address_map_remove(struct mrp_address_map *map, struct mrp_chunk *chunk,
    uintptr_t base, size_t size, bool aligned)
{
    if (aligned) {
        fill_granules(base >> MRP_MAP_GRANULE_SHIFT,
            (base + size - 1) >> MRP_MAP_GRANULE_SHIFT, NULL);
        return;
    }
    pthread_mutex_lock(&map->mutex);
    rewrite_ranges(map, NULL, 0, 0, chunk);
    pthread_mutex_unlock(&map->mutex);
}
