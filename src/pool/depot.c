/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The glue between size classes and lock-free stacks.
 *
 * Singles move by one compare-and-swap on `loose`, so a region is at every moment with a
 * user or on a stack, and an empty `loose` plus an empty `full` mean that there is none:
 * nobody carries free regions about. Only the holder of the pool's mutex turns a magazine
 * into loose regions.
 */
#include "pool/pool.h"

struct mrp_region *mrp_depot_take(struct mrp_pool *pool, unsigned class)
{
    uint32_t index = mrp_stack_pop(&pool->depots[class].loose, mrp_region_links(pool));

    return index == MRP_STACK_EMPTY ? NULL : mrp_region_at(pool, index);
}

void mrp_depot_put(struct mrp_pool *pool, struct mrp_region *region)
{
    mrp_stack_push(&pool->depots[mrp_depot_of(region)].loose, mrp_region_links(pool),
        mrp_region_index(region));
}

static struct mrp_magazine *take_magazine(
    struct mrp_pool *pool, struct mrp_stack *stack, uint32_t *index)
{
    *index = mrp_stack_pop(stack, mrp_magazine_links(pool));
    return *index == MRP_STACK_EMPTY ? NULL : mrp_magazine_at(pool, *index);
}

/* Link regions[0..count) and push them by one compare-and-swap. */
static void push_loose(
    struct mrp_pool *pool, unsigned class, const uint32_t *regions, uint32_t count)
{
    struct mrp_links links = mrp_region_links(pool);

    for (uint32_t i = 0; i + 1 < count; i++) {
        mrp_store_relaxed(mrp_link(links, regions[i]), regions[i + 1] + 1);
    }
    mrp_stack_push_chain(
        &pool->depots[class].loose, links, regions[0], regions[count - 1]);
}

struct mrp_region *mrp_depot_take_locked(struct mrp_pool *pool, unsigned class)
{
    struct mrp_depot *depot = &pool->depots[class];
    struct mrp_region *region = mrp_depot_take(pool, class);
    struct mrp_magazine *magazine;
    uint32_t index;

    if (region != NULL) {
        return region;
    }
    magazine = take_magazine(pool, &depot->full, &index);
    if (magazine == NULL) {
        return NULL;
    }
    region = mrp_region_at(pool, magazine->regions[0]);
    push_loose(pool, class, magazine->regions + 1, magazine->count - 1);
    mrp_stack_push(&depot->empty, mrp_magazine_links(pool), index);
    return region;
}

size_t mrp_depot_take_many(
    struct mrp_pool *pool, unsigned class, size_t count, struct mrp_region **regions)
{
    struct mrp_depot *depot = &pool->depots[class];
    size_t capacity = pool->classes.classes[class].magazine_capacity, taken = 0;
    struct mrp_magazine *magazine;
    struct mrp_region *region;
    uint32_t index;

    /* Only magazines that are wanted whole: a rest put back would be invisible meanwhile.
     */
    while (capacity > 1 && count - taken >= capacity &&
        (magazine = take_magazine(pool, &depot->full, &index)) != NULL) {
        for (uint32_t i = 0; i < magazine->count; i++) {
            regions[taken++] = mrp_region_at(pool, magazine->regions[i]);
        }
        mrp_stack_push(&depot->empty, mrp_magazine_links(pool), index);
    }
    while (taken < count && (region = mrp_depot_take(pool, class)) != NULL) {
        regions[taken++] = region;
    }
    return taken;
}

void mrp_depot_put_many(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count)
{
    struct mrp_depot *depot = &pool->depots[class];
    size_t capacity = pool->classes.classes[class].magazine_capacity;
    uint32_t index, indices[64];

    while (capacity > 1 && count >= capacity) {
        struct mrp_magazine *magazine = take_magazine(pool, &depot->empty, &index);

        if (magazine ==
            NULL) { /* all in other threads' hands for a moment: loose will do */
            break;
        }
        for (uint32_t i = 0; i < capacity; i++) {
            magazine->regions[i] = mrp_region_index(*regions++);
        }
        magazine->count = (uint32_t)capacity;
        count -= capacity;
        mrp_stack_push(&depot->full, mrp_magazine_links(pool), index);
    }
    while (count > 0) {
        uint32_t n = (uint32_t)mrp_min(count, sizeof indices / sizeof indices[0]);

        for (uint32_t i = 0; i < n; i++) {
            indices[i] = mrp_region_index(*regions++);
        }
        count -= n;
        push_loose(pool, class, indices, n);
    }
}

enum mrp_status mrp_depot_provision(
    struct mrp_pool *pool, unsigned class, size_t n_regions)
{
    struct mrp_depot *depot = &pool->depots[class];
    size_t capacity = pool->classes.classes[class].magazine_capacity;
    size_t bytes =
        mrp_align_up(sizeof(struct mrp_magazine) + capacity * sizeof(uint32_t), 8);
    size_t wanted = (depot->n_regions + n_regions) / capacity + 1;

    if (capacity == 1) {
        return MRP_OK;
    }
    for (; depot->n_magazines < wanted; depot->n_magazines++) {
        size_t offset = MRP_MAGAZINES_OFFSET + pool->magazines_used;
        enum mrp_status status =
            mrp_range_commit(pool, &pool->magazine_area, offset + bytes, "magazines");

        if (status != MRP_OK) {
            return status;
        }
        mrp_stack_push(&depot->empty, mrp_magazine_links(pool),
            (uint32_t)(pool->magazines_used / 8));
        pool->magazines_used += bytes;
    }
    return MRP_OK;
}
