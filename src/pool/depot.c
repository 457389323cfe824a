/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The glue between size classes and lock-free stacks.
 *
 * Singles move by one compare-and-swap on `loose`, so a region is at every moment with a
 * user, in a thread's cache or on a stack, and an empty `loose` plus an empty `full` mean
 * that there is none: nobody carries free regions about. Only the holder of the pool's
 * mutex turns a magazine into loose regions.
 */
#include "pool/depot.h"
#include "pool/growth.h"
#include "pool/pool.h"

/* -- single regions -- */

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

void mrp_depot_put_loose(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count)
{
    struct mrp_links links = mrp_region_links(pool);

    for (size_t i = 0; i + 1 < count; i++) {
        mrp_store_relaxed(mrp_link(links, mrp_region_index(regions[i])),
            mrp_region_index(regions[i + 1]) + 1);
    }
    mrp_stack_push_chain(&pool->depots[class].loose, links, mrp_region_index(regions[0]),
        mrp_region_index(regions[count - 1]));
}

/* -- magazines -- */

static struct mrp_magazine *take_magazine(struct mrp_pool *pool, struct mrp_stack *stack)
{
    uint32_t index = mrp_stack_pop(stack, mrp_magazine_links(pool));

    return index == MRP_STACK_EMPTY ? NULL : mrp_magazine_at(pool, index);
}

static void put_magazine(struct mrp_pool *pool, struct mrp_stack *stack,
    struct mrp_magazine *magazine, size_t count)
{
    mrp_store_relaxed(&magazine->count, (uint32_t)count);
    mrp_stack_push(stack, mrp_magazine_links(pool), mrp_magazine_index(pool, magazine));
}

struct mrp_magazine *mrp_depot_take_full(struct mrp_pool *pool, unsigned class)
{
    return take_magazine(pool, &pool->depots[class].full);
}

struct mrp_magazine *mrp_depot_take_empty(struct mrp_pool *pool, unsigned class)
{
    return take_magazine(pool, &pool->depots[class].empty);
}

void mrp_depot_put_full(
    struct mrp_pool *pool, unsigned class, struct mrp_magazine *magazine)
{
    put_magazine(pool, &pool->depots[class].full, magazine,
        pool->classes.classes[class].magazine_capacity);
}

void mrp_depot_put_empty(
    struct mrp_pool *pool, unsigned class, struct mrp_magazine *magazine)
{
    put_magazine(pool, &pool->depots[class].empty, magazine, 0);
}

struct mrp_region *mrp_depot_take_locked(struct mrp_pool *pool, unsigned class)
{
    struct mrp_region *region = mrp_depot_take(pool, class);
    struct mrp_magazine *magazine;

    if (region != NULL || class == MRP_CLASS_BARE) {
        return region;
    }
    magazine = mrp_depot_take_full(pool, class);
    if (magazine == NULL) {
        return mrp_sift_take(pool, class);
    }
    region = magazine->regions[0];
    mrp_depot_put_loose(pool, class, magazine->regions + 1,
        pool->classes.classes[class].magazine_capacity - 1);
    mrp_depot_put_empty(pool, class, magazine);
    return region;
}

/* -- many -- */

size_t mrp_depot_take_many(
    struct mrp_pool *pool, unsigned class, size_t count, struct mrp_region **regions)
{
    size_t capacity = pool->classes.classes[class].magazine_capacity, taken = 0;
    struct mrp_magazine *magazine;
    struct mrp_region *region;

    /* Only magazines that are wanted whole: a rest put back would be invisible meanwhile.
     */
    while (capacity > 1 && count - taken >= capacity &&
        (magazine = mrp_depot_take_full(pool, class)) != NULL) {
        for (size_t i = 0; i < capacity; i++) {
            regions[taken++] = magazine->regions[i];
        }
        mrp_depot_put_empty(pool, class, magazine);
    }
    while (taken < count && (region = mrp_depot_take(pool, class)) != NULL) {
        regions[taken++] = region;
    }
    return taken;
}

void mrp_depot_put_many(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count)
{
    size_t capacity = pool->classes.classes[class].magazine_capacity;

    while (capacity > 1 && count >= capacity) {
        struct mrp_magazine *magazine = mrp_depot_take_empty(pool, class);

        if (magazine == NULL) { /* all in other hands for a moment: loose will do */
            break;
        }
        for (size_t i = 0; i < capacity; i++) {
            magazine->regions[i] = *regions++;
        }
        count -= capacity;
        mrp_depot_put_full(pool, class, magazine);
    }
    if (count > 0) {
        mrp_depot_put_loose(pool, class, regions, count);
    }
}

enum mrp_status mrp_depot_provision(
    struct mrp_pool *pool, unsigned class, size_t n_regions)
{
    struct mrp_depot *depot = &pool->depots[class];
    size_t capacity = pool->classes.classes[class].magazine_capacity;
    /* Whole lines: threads that have neighbours loaded do not share one. An odd number of
     * them: magazines of many classes do not meet in few sets of a processor's cache. */
    size_t bytes =
        mrp_align_up(sizeof(struct mrp_magazine) + capacity * sizeof(struct mrp_region *),
            MRP_LINE) |
        MRP_LINE;
    size_t wanted = (depot->n_regions + n_regions) / capacity + 1 +
        3 * mrp_load_relaxed(&depot->n_caches);

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
        mrp_depot_put_empty(
            pool, class, mrp_magazine_at(pool, (uint32_t)(pool->magazines_used / 8)));
        pool->magazines_used += bytes;
    }
    return MRP_OK;
}

/* -- lists -- */

void mrp_list_push(
    struct mrp_pool *pool, struct mrp_region_list *list, struct mrp_region *region)
{
    uint32_t index = mrp_region_index(region);

    mrp_store_relaxed(mrp_link(mrp_region_links(pool), index), list->first);
    list->first = index + 1;
}

struct mrp_region *mrp_list_pop(struct mrp_pool *pool, struct mrp_region_list *list)
{
    uint32_t index = list->first - 1;

    if (list->first == 0) {
        return NULL;
    }
    list->first = mrp_load_relaxed(mrp_link(mrp_region_links(pool), index));
    return mrp_region_at(pool, index);
}
