/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_pool_check: every invariant of pool.h, verified by walking all of it.
 */
#include "pool/cache.h"
#include "pool/rails.h"

#include <stdlib.h>

struct check {
    struct mrp_pool *pool;
    uint8_t *seen; /* one byte per descriptor: found on a stack, or in quarantine */
};

#define CORRUPT(...) mrp_fail(MRP_ERR_CORRUPT, 0, __VA_ARGS__)

/* A free region was met on a stack of `class`. */
static enum mrp_status meet(struct check *check, unsigned class, uint32_t index)
{
    const struct mrp_region *region;

    if (index >= check->pool->n_descriptors) {
        return CORRUPT("class %u: a stack holds region %u of %u", class, index,
            check->pool->n_descriptors);
    }
    region = mrp_region_at(check->pool, index);
    if (check->seen[index]++ != 0) {
        return CORRUPT("region %u is free twice", index);
    }
    if (mrp_depot_of(region) != class ||
        mrp_load_relaxed(&region->state) !=
            (mrp_is_unchecked(check->pool, region) ? MRP_STATE_LIVE : MRP_STATE_FREE)) {
        return CORRUPT("region %u of class %u, state %#x, is on a free stack of class %u",
            index, mrp_depot_of(region), mrp_load_relaxed(&region->state), class);
    }
    return MRP_OK;
}

static uint32_t first_of(const struct mrp_stack *stack)
{
    return (uint32_t)mrp_load_acquire(&((struct mrp_stack *)(uintptr_t)stack)->head);
}

static enum mrp_status check_loose(struct check *check, unsigned class, size_t *n_free)
{
    struct mrp_links links = mrp_region_links(check->pool);
    uint32_t next = first_of(&check->pool->depots[class].loose);
    enum mrp_status status = MRP_OK;

    while (next != 0 && status == MRP_OK) {
        status = meet(check, class, next - 1);
        next = status == MRP_OK ? mrp_load_relaxed(mrp_link(links, next - 1)) : 0;
        (*n_free)++;
    }
    return status;
}

static enum mrp_status meet_all(struct check *check, unsigned class,
    struct mrp_region *const *regions, size_t count, size_t *n_free)
{
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; i < count && status == MRP_OK; i++) {
        if (mrp_pool_of(regions[i]) != check->pool) {
            return CORRUPT("class %u: a magazine holds %p, of no region of this pool",
                class, (void *)regions[i]);
        }
        status = meet(check, class, mrp_region_index(regions[i]));
        (*n_free)++;
    }
    return status;
}

static enum mrp_status check_magazine(
    struct check *check, unsigned class, uint32_t index, size_t *n_free)
{
    const struct mrp_magazine *magazine = mrp_magazine_at(check->pool, index);
    uint32_t capacity = check->pool->classes.classes[class].magazine_capacity;

    if ((size_t)index * 8 >= check->pool->magazines_used) {
        return CORRUPT("class %u: magazine %u lies beyond the last", class, index);
    }
    if (mrp_load_relaxed(&magazine->count) != capacity) {
        return CORRUPT("class %u: a full magazine holds %u of %u regions", class,
            mrp_load_relaxed(&magazine->count), capacity);
    }
    return meet_all(check, class, magazine->regions, capacity, n_free);
}

/* The bins of all threads: two magazines each. */
static enum mrp_status check_caches(
    struct check *check, unsigned class, size_t *n_free, size_t *n_magazines)
{
    size_t capacity = check->pool->classes.classes[class].magazine_capacity;
    unsigned bin = check->pool->classes.classes[class].bin;
    enum mrp_status status = MRP_OK;
    struct mrp_thread *cursor = NULL;
    struct mrp_cache_slot *slot;

    while (status == MRP_OK && (slot = mrp_thread_next(check->pool, &cursor)) != NULL) {
        const struct mrp_magazine *previous = mrp_load_relaxed(&slot->previous[bin]);
        struct mrp_region **bottom = mrp_load_relaxed(&slot->bottom[bin]);
        size_t n_loaded = (size_t)(mrp_load_relaxed(&slot->top[bin]) - bottom);

        if (bottom == NULL) {
            continue;
        }
        if (n_loaded > capacity ||
            (mrp_load_relaxed(&previous->count) != 0 &&
                mrp_load_relaxed(&previous->count) != capacity)) {
            return CORRUPT(
                "class %u: a thread's magazines hold %zu and %u of %zu regions", class,
                n_loaded, mrp_load_relaxed(&previous->count), capacity);
        }
        *n_magazines += 2;
        status = meet_all(check, class, bottom, n_loaded, n_free);
        if (status == MRP_OK) {
            status = meet_all(check, class, previous->regions,
                mrp_load_relaxed(&previous->count), n_free);
        }
    }
    return status;
}

static enum mrp_status check_magazines(
    struct check *check, unsigned class, size_t *n_free)
{
    struct mrp_depot *depot = &check->pool->depots[class];
    struct mrp_links links = mrp_magazine_links(check->pool);
    enum mrp_status status = MRP_OK;
    size_t n_magazines = 0;
    uint32_t next;

    for (next = first_of(&depot->full); next != 0 && status == MRP_OK;
         next = mrp_load_relaxed(mrp_link(links, next - 1))) {
        status = check_magazine(check, class, next - 1, n_free);
        n_magazines++;
    }
    for (next = first_of(&depot->empty); next != 0 && n_magazines <= depot->n_magazines;
         next = mrp_load_relaxed(mrp_link(links, next - 1))) {
        n_magazines++;
    }
    if (status == MRP_OK) {
        status = check_caches(check, class, n_free, &n_magazines);
    }
    if (status == MRP_OK && n_magazines != depot->n_magazines) {
        return CORRUPT("class %u: %zu of %zu magazines are on its stacks or loaded",
            class, n_magazines, depot->n_magazines);
    }
    return status;
}

static size_t count_live(const struct mrp_pool *pool, unsigned class)
{
    size_t n_live = 0;

    for (uint32_t i = 0; i < pool->n_descriptors; i++) {
        const struct mrp_region *region = mrp_region_at(pool, i);
        bool is_held = mrp_state_is_live(mrp_load_relaxed(&region->state)) ||
            mrp_load_relaxed(&region->state) == MRP_STATE_QUARANTINED ||
            (class == MRP_CLASS_BARE &&
                (mrp_kind_of(region) == MRP_REGION_LARGE ||
                    mrp_kind_of(region) == MRP_REGION_ADOPTED) &&
                mrp_chunk_entry(pool, region->chunk)->chunk != NULL &&
                mrp_chunk_entry(pool, region->chunk)->chunk->region == region);

        n_live += mrp_depot_of(region) == class && is_held &&
            mrp_load_relaxed(&region->state) != 0;
    }
    return n_live;
}

static enum mrp_status check_free(struct check *check, unsigned class, size_t *n_free)
{
    enum mrp_status status = check_loose(check, class, n_free);

    return status == MRP_OK && class != MRP_CLASS_BARE
        ? check_magazines(check, class, n_free)
        : status;
}

/* Every region cut is live, idle, in quarantine, loose or in a magazine. */
static enum mrp_status check_class(struct check *check, unsigned class)
{
    const struct mrp_depot *depot = &check->pool->depots[class];
    size_t n_free = 0, n_live;
    enum mrp_status status = check_free(check, class, &n_free);

    if (status != MRP_OK || depot->n_regions == 0) {
        return status;
    }
    if (check->pool->checks == MRP_CHECKS_NONE && class != MRP_CLASS_BARE) {
        return n_free <= depot->n_regions
            ? MRP_OK
            : CORRUPT("class %u: %zu regions are free, but %zu were cut", class, n_free,
                  depot->n_regions);
    }
    n_live = count_live(check->pool, class);
    if (n_live + n_free != depot->n_regions) {
        return CORRUPT("class %u: %zu live and %zu free regions, but %zu were cut", class,
            n_live, n_free, depot->n_regions);
    }
    return MRP_OK;
}

static enum mrp_status check_abandoned(
    struct check *check, unsigned list, size_t *n_regions, size_t *size)
{
    const struct mrp_pool *pool = check->pool;
    uint32_t next = pool->quarantine.lists[list];

    for (; next != 0;
         next = mrp_load_relaxed(mrp_link(mrp_region_links(pool), next - 1))) {
        const struct mrp_region *region = mrp_region_at(pool, next - 1);

        if (next > pool->n_descriptors || check->seen[next - 1]++ != 0) {
            return CORRUPT("quarantine: region %u is %s", next - 1,
                next > pool->n_descriptors ? "beyond the last" : "there twice, or free");
        }
        if (mrp_load_relaxed(&region->state) != MRP_STATE_QUARANTINED ||
            mrp_quarantine_list(mrp_load_relaxed(&region->length)) != list) {
            return CORRUPT("quarantine: region %u, state %#x, fence %zu, is on list %u",
                next - 1, mrp_load_relaxed(&region->state),
                mrp_load_relaxed(&region->length), list);
        }
        (*n_regions)++;
        *size += region->capacity;
    }
    return MRP_OK;
}

/* Every region whose state says so is on its fence's list: check_region() looks for the
 * others. */
static enum mrp_status check_quarantine(struct check *check)
{
    struct mrp_quarantine *quarantine = &check->pool->quarantine;
    size_t n_regions = 0, size = 0;
    enum mrp_status status = MRP_OK;

    for (unsigned list = 0; list < MRP_QUARANTINE_LISTS && status == MRP_OK; list++) {
        status = check_abandoned(check, list, &n_regions, &size);
    }
    if (status == MRP_OK &&
        (n_regions != mrp_load_relaxed(&quarantine->n_regions) ||
            size != quarantine->size)) {
        return CORRUPT("quarantine: %zu regions of %zu bytes, but %zu of %zu are counted",
            n_regions, size, mrp_load_relaxed(&quarantine->n_regions), quarantine->size);
    }
    return status;
}

/* A pooled region's address leads back to it, and lies where its slab says. */
static enum mrp_status check_region(const struct check *check, uint32_t index)
{
    struct mrp_region *region = mrp_region_at(check->pool, index);
    uint32_t state = mrp_load_relaxed(&region->state);

    if (state == 0 || state == MRP_STATE_FREE) {
        return MRP_OK;
    }
    if (state == MRP_STATE_QUARANTINED && check->seen[index] == 0) {
        return CORRUPT(
            "region %u: its state says quarantine, which does not hold it", index);
    }
    if (!mrp_state_is_live(state) && state != MRP_STATE_QUARANTINED) {
        return CORRUPT("region %u: its state %#x is none", index, state);
    }
    if (mrp_kind_of(region) == MRP_REGION_POOLED ||
        mrp_kind_of(region) == MRP_REGION_LARGE) {
        const struct mrp_region *found =
            mrp_region_find(check->pool, mrp_payload(region));

        if (found != region) {
            return CORRUPT("region %u: its address %p leads to %p", index,
                mrp_payload(region), (const void *)found);
        }
    }
    return MRP_OK;
}

/* A key line is open exactly where there is a registration with a rail that works. */
static enum mrp_status check_line(const struct mrp_pool *pool,
    const struct mrp_chunk *chunk, uint32_t id, unsigned rail)
{
    const struct mrp_key_line *line = mrp_key_line(pool, rail, id);
    bool is_open = (mrp_load_relaxed(&line->flags) & MRP_KEY_REGISTERED) != 0;
    const struct mrp_rail *slot = &pool->rails[rail];
    bool is_registered = chunk != NULL && (chunk->registered & mrp_rail_bit(rail)) != 0;

    if (is_open && !is_registered) {
        return CORRUPT("chunk %u is %s, but rail %u has a key for it", id,
            chunk == NULL ? "gone" : "not registered", rail);
    }
    if (!is_registered) {
        return MRP_OK;
    }
    if (slot->provider == NULL || chunk->rails[rail] != slot->provider) {
        return CORRUPT("chunk %u is registered with what is not rail %u", id, rail);
    }
    if (is_open != (slot->state == MRP_RAIL_ACTIVE) ||
        (is_open &&
            (mrp_load_relaxed(&line->native) != chunk->registrations[rail].native ||
                mrp_load_relaxed(&line->size) != chunk->mapping.size))) {
        return CORRUPT(
            "chunk %u: the key line of rail %u is not its registration", id, rail);
    }
    return MRP_OK;
}

/* It has what the rail's policy says. */
static bool is_wanted(const struct mrp_rail *slot, const struct mrp_chunk *chunk)
{
    return slot->state == MRP_RAIL_ACTIVE && !chunk->is_restricted &&
        (slot->policy == MRP_RAIL_EAGER ||
            (slot->policy == MRP_RAIL_NEAR && mrp_chunk_is_near(chunk, slot->provider)));
}

static enum mrp_status check_chunk(const struct mrp_pool *pool, uint32_t id)
{
    const struct mrp_chunk *chunk = mrp_chunk_entry(pool, id)->chunk;
    enum mrp_status status = MRP_OK;

    for (unsigned rail = 0; rail < MRP_RAILS_MAX && status == MRP_OK; rail++) {
        status = check_line(pool, chunk, id, rail);
        if (status == MRP_OK && chunk != NULL && is_wanted(&pool->rails[rail], chunk) &&
            (chunk->registered & mrp_rail_bit(rail)) == 0) {
            status = CORRUPT("chunk %u is not registered with rail %u", id, rail);
        }
    }
    if (status == MRP_OK && chunk != NULL && (chunk->is_held || chunk->passage != 0)) {
        status = CORRUPT("chunk %u is held by nobody who is there", id);
    }
    return status;
}

static enum mrp_status check_rail(const struct mrp_pool *pool, unsigned rail)
{
    const struct mrp_rail *slot = &pool->rails[rail];
    size_t n = 0, size = 0, n_charged = 0;

    for (uint32_t id = 0; id < pool->n_chunk_ids; id++) {
        const struct mrp_chunk *chunk = mrp_chunk_entry(pool, id)->chunk;

        if (chunk != NULL && (chunk->registered & mrp_rail_bit(rail)) != 0) {
            n++;
            size += chunk->mapping.size;
            n_charged += !chunk->is_over_budget;
        }
    }
    if (n != slot->n_registrations || size != slot->registered_size ||
        n_charged != slot->n_charged) {
        return CORRUPT(
            "rail %u: %zu registrations of %zu bytes, %zu of them charged, but "
            "%zu of %zu, and %zu, are counted",
            rail, n, size, n_charged, slot->n_registrations, slot->registered_size,
            slot->n_charged);
    }
    return MRP_OK;
}

static enum mrp_status check_rails(const struct mrp_pool *pool)
{
    enum mrp_status status = MRP_OK;

    for (unsigned rail = 0; rail < MRP_RAILS_MAX && status == MRP_OK; rail++) {
        status = check_rail(pool, rail);
    }
    if (status == MRP_OK &&
        (pool->rails_changing || pool->n_passages[0] + pool->n_passages[1] != 0)) {
        status = CORRUPT(
            "%zu passages have not ended", pool->n_passages[0] + pool->n_passages[1]);
    }
    return status;
}

static size_t sum_mapped(const struct mrp_pool *pool)
{
    size_t mapped = 0;

    for (uint32_t id = 0; id < pool->n_chunk_ids; id++) {
        const struct mrp_chunk *chunk = mrp_chunk_entry(pool, id)->chunk;

        if (chunk != NULL && chunk->backend != NULL && !chunk->is_over_budget) {
            mapped += chunk->mapping.size;
        }
    }
    return mapped;
}

enum mrp_status mrp_pool_mark_free(struct mrp_pool *pool, uint8_t *is_free)
{
    struct check check = {pool, is_free};
    enum mrp_status status = MRP_OK;
    size_t n_free = 0;

    for (unsigned class = 0; class < mrp_n_classes(&pool->classes); class ++) {
        enum mrp_status found = check_free(&check, class, &n_free);

        status = status == MRP_OK ? found : status;
    }
    return status;
}

static enum mrp_status check_all(struct check *check)
{
    struct mrp_pool *pool = check->pool;
    enum mrp_status status = MRP_OK;

    for (uint32_t id = 0; id < pool->n_chunk_ids && status == MRP_OK; id++) {
        status = check_chunk(pool, id);
    }
    if (status == MRP_OK) {
        status = check_rails(pool);
    }
    for (unsigned class = 0; class < mrp_n_classes(&pool->classes) && status == MRP_OK;
         class ++) {
        status = check_class(check, class);
    }
    if (status == MRP_OK) {
        status = check_class(check, MRP_CLASS_BARE);
    }
    if (status == MRP_OK) {
        status = check_quarantine(check);
    }
    for (uint32_t i = 0; i < pool->n_descriptors && status == MRP_OK; i++) {
        status = check_region(check, i);
    }
    if (status == MRP_OK && sum_mapped(pool) != pool->mapped_size) {
        status = CORRUPT("chunks of %zu bytes are mapped, but %zu are charged",
            sum_mapped(pool), pool->mapped_size);
    }
    return status;
}

enum mrp_status mrp_pool_check(struct mrp_pool *pool)
{
    struct check check = {.pool = pool};
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status != MRP_OK) {
        return status;
    }
    check.seen = calloc(pool->n_descriptors + 1u, 1);
    if (check.seen == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %u bytes for the check failed",
            pool->n_descriptors + 1u);
    }
    status = check_all(&check);
    free(check.seen);
    return status;
}
