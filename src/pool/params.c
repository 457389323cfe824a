/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/params.h"
#include "pool/growth.h"

#include "base/settings.h"
#include "pool/debug.h"

#define ROOM_MAX (64 * MRP_KIB) /* headroom, tailroom, user data */
#define FIRST_CHUNK_MAX (16 * MRP_MIB)
#define FIRST_CHUNK_MIN (256 * MRP_KIB)
#define FIRST_CHUNK_SHARE 8 /* of max_bytes */

#define MAGAZINE_SIZE_MAX (2 * MRP_MIB)
#define MAGAZINE_SIZE_MIN (16 * MRP_KIB)
#define MAGAZINE_SHARE 1024 /* of max_bytes */

enum mrp_status mrp_pool_params_caches(
    const struct mrp_pool_params *params, struct mrp_cache_params *caches)
{
    uint64_t value = params->checks;
    enum mrp_status status = MRP_OK;

    if (value > MRP_CHECKS_FULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "checks is %u: MRP_CHECKS_DEFAULT, _NONE, _STATE or _FULL", params->checks);
    }
    if (value == MRP_CHECKS_DEFAULT) {
        status = mrp_setting_number(MRP_SET_CHECKS, "checks", 0, &value);
        value += MRP_CHECKS_NONE;
    }
    if (status != MRP_OK) {
        return status;
    }
    caches->checks = (enum mrp_checks)value;
    status = mrp_debug_resolve(params, &caches->debug);
    if (status != MRP_OK) {
        return status;
    }
    if (caches->debug != 0 && caches->checks == MRP_CHECKS_NONE) {
        caches->checks = MRP_CHECKS_STATE; /* descriptors are touched anyway */
    }
    status = mrp_setting_number(MRP_SET_THREAD_CACHE_SIZE, "thread_cache_size",
        params->thread_cache_size, &value);
    caches->thread_cache_size = (size_t)value;
    caches->place = caches->checks == MRP_CHECKS_FULL || caches->debug != 0 ||
            caches->thread_cache_size == 1 || params->isolate
        ? MRP_RANGE_ELSEWHERE
        : caches->checks == MRP_CHECKS_NONE ? MRP_RANGE_UNCHECKED
                                            : MRP_RANGE_CHECKED;
    return status;
}

static enum mrp_status check_room(const struct mrp_pool_params *params)
{
    size_t alignment = params->alignment;

    if (params->headroom > ROOM_MAX || params->tailroom > ROOM_MAX ||
        params->user_size > ROOM_MAX) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "headroom %zu, tailroom %zu, user_size %zu: each is at most %zu bytes",
            params->headroom, params->tailroom, params->user_size, ROOM_MAX);
    }
    if (alignment != 0 &&
        (!mrp_is_power_of_two(alignment) || alignment < MRP_LINE ||
            alignment > MRP_GRANULE_SIZE)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "alignment is %zu: it must be a power of two from %zu to %zu", alignment,
            MRP_LINE, MRP_GRANULE_SIZE);
    }
    if (params->region_init != NULL && params->user_size == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "region_init is set but user_size is 0: there is nothing for it to fill");
    }
    return MRP_OK;
}

static enum mrp_status resolve_tiers(
    const struct mrp_pool_params *params, size_t tier_max[MRP_TIERS])
{
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        char where[32] = "tiers[0].max_size";
        uint64_t value;
        enum mrp_status status;

        where[6] = (char)('0' + tier);
        status = mrp_setting_number((enum mrp_setting_id)(MRP_SET_SMALL_MAX + tier),
            where, params->tiers[tier].max_size, &value);
        if (status != MRP_OK) {
            return status;
        }
        tier_max[tier] = (size_t)value;
        if (tier > 0 && tier_max[tier] <= tier_max[tier - 1]) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "the %s tier ends at %zu bytes, the %s one at %zu: limits must ascend "
                "(tiers[].max_size, MRPOOL_SMALL_MAX ... MRPOOL_HUGE_MAX)",
                mrp_tier_names[tier - 1], tier_max[tier - 1], mrp_tier_names[tier],
                tier_max[tier]);
        }
    }
    return MRP_OK;
}

static enum mrp_status check_block_sizes(const struct mrp_pool_params *params)
{
    if (params->n_block_sizes > MRP_BLOCK_SIZES_MAX) {
        return mrp_fail(MRP_ERR_INVALID, 0, "n_block_sizes is %zu: at most %d",
            params->n_block_sizes, MRP_BLOCK_SIZES_MAX);
    }
    if ((params->block_sizes == NULL) != (params->n_block_sizes == 0)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "block_sizes and n_block_sizes go together: one of them is zero");
    }
    for (size_t i = 0; i < params->n_block_sizes; i++) {
        size_t size = params->block_sizes[i],
               before = i == 0 ? 0 : params->block_sizes[i - 1];

        if (size <= before || size > MRP_GIB) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "block_sizes[%zu] is %zu after %zu: they must ascend, from 1 to 1 GiB", i,
                size, before);
        }
    }
    for (size_t tier = 0; params->n_block_sizes > 0 && tier < MRP_TIERS; tier++) {
        if (params->tiers[tier].max_size != 0 || params->tiers[tier].preallocate != 0) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "tiers[%zu] is set, but block_sizes replaces the tiers: set one of the "
                "two",
                tier);
        }
    }
    return MRP_OK;
}

/* Nothing is cut where each region has a chunk of its own. */
static enum mrp_status check_isolation(const struct mrp_pool_params *params)
{
    if (params->isolate && params->n_block_sizes > 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "isolate gives each region a mapping of its own, of any size: leave "
            "block_sizes NULL, it has %zu",
            params->n_block_sizes);
    }
    for (size_t tier = 0; params->isolate && tier < MRP_TIERS; tier++) {
        const struct mrp_tier_params *given = &params->tiers[tier];

        if (given->max_size != 0 || given->preallocate != 0 || given->reserve != 0) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "isolate gives each region a mapping of its own, and tiers nothing to "
                "cut: leave tiers[%zu] zero (max_size is %zu, preallocate %zu, reserve "
                "%zu)",
                tier, given->max_size, given->preallocate, given->reserve);
        }
    }
    return MRP_OK;
}

/* Adjacent sizes may round to one block size: both keep their payload size. */
static enum mrp_status resolve_classes(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    size_t alignment = params->alignment != 0 ? params->alignment : MRP_LINE;
    size_t tier_max[MRP_TIERS];
    enum mrp_status status = resolve_tiers(params, tier_max);

    if (status == MRP_OK) {
        status = check_block_sizes(params);
    }
    if (status == MRP_OK) {
        status = check_isolation(params);
    }
    if (status == MRP_OK) {
        mrp_size_classes_build(&pool->classes, tier_max, params->block_sizes,
            params->n_block_sizes, mrp_align_up(params->headroom, alignment),
            params->tailroom, alignment);
    }
    return status;
}

/* -- budgets -- */

static bool is_pinned(const struct mrp_pool *pool)
{
    for (size_t rail = 0; rail < pool->n_rails; rail++) {
        if ((pool->rails[rail].provider->info.traits & MRP_PROVIDER_PINS) != 0) {
            return true;
        }
    }
    return false;
}

/* Half of what the machine (or the cgroup) has, and what memlock still allows. */
static size_t default_max_bytes(struct mrp_pool *pool)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    size_t bytes, left;

    mrp_system_query(&system);
    bytes = system.memory_size / 2;
    if (is_pinned(pool) && system.memlock_limit != MRP_UNLIMITED) {
        left = system.memlock_limit - mrp_min(system.locked_size, system.memlock_limit);
        if (left < bytes) {
            pool->budget_remedy = ", what memlock left when the pool was created: raise "
                                  "memlock (ulimit -l, LimitMEMLOCK=)";
            pool->max_bytes_source = "memlock";
            bytes = left;
        }
    }
    return mrp_align_down(mrp_max(bytes, FIRST_CHUNK_MIN), MRP_GRANULE_SIZE);
}

static enum mrp_status resolve_chunk_sizes(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    size_t share = pool->max_bytes / FIRST_CHUNK_SHARE;
    uint64_t chunk_min, chunk_max;
    enum mrp_status status =
        mrp_setting_number(MRP_SET_CHUNK_MIN, "chunk_min", params->chunk_min, &chunk_min);

    if (status == MRP_OK) {
        status = mrp_setting_number(
            MRP_SET_CHUNK_MAX, "chunk_max", params->chunk_max, &chunk_max);
    }
    if (status != MRP_OK) {
        return status;
    }
    if (chunk_min == 0) {
        share = (size_t)1 << (63 - __builtin_clzl(mrp_max(share, FIRST_CHUNK_MIN)));
        chunk_min = mrp_min(mrp_min(share, FIRST_CHUNK_MAX), chunk_max);
    }
    if (!mrp_is_power_of_two(chunk_min) || !mrp_is_power_of_two(chunk_max)) {
        bool is_min = !mrp_is_power_of_two(chunk_min);

        return mrp_fail(MRP_ERR_INVALID, 0, "%s is %zu: it must be a power of two",
            is_min ? "chunk_min (MRPOOL_CHUNK_MIN)" : "chunk_max (MRPOOL_CHUNK_MAX)",
            (size_t)(is_min ? chunk_min : chunk_max));
    }
    if (chunk_min > chunk_max || chunk_min > pool->max_bytes) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "chunk_min %zu, chunk_max %zu, max_bytes %zu: chunk_min is the smallest of "
            "the three",
            (size_t)chunk_min, (size_t)chunk_max, pool->max_bytes);
    }
    pool->chunk_min = (size_t)chunk_min;
    pool->chunk_max = (size_t)chunk_max;
    return MRP_OK;
}

static enum mrp_status resolve_budgets(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    uint64_t value;
    enum mrp_status status =
        mrp_setting_number(MRP_SET_MAX_BYTES, "max_bytes", params->max_bytes, &value);

    if (status != MRP_OK) {
        return status;
    }
    pool->budget_remedy = ": raise max_bytes (MRPOOL_MAX_BYTES)";
    pool->max_bytes_source = params->max_bytes != 0 ? "max_bytes"
        : value != 0                                ? "MRPOOL_MAX_BYTES"
                                                    : "half of the memory there is";
    pool->max_bytes = value != 0 ? (size_t)value : default_max_bytes(pool);
    if (pool->backend->max_size != 0 &&
        (params->chunk_min != 0 || params->chunk_max != 0)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "chunk_min %zu, chunk_max %zu: backend %s has one chunk for all its %zu "
            "bytes; leave both 0",
            params->chunk_min, params->chunk_max, pool->backend->named.name,
            pool->backend->max_size);
    }
    if (pool->backend->max_size != 0) { /* a small array is a small pool, not a mistake */
        pool->budget_remedy = ", all that its backend has: give it more";
        pool->max_bytes_source = "its backend";
        pool->max_bytes = mrp_min(pool->max_bytes, pool->backend->max_size);
        pool->chunk_min = pool->chunk_max = pool->max_bytes;
    } else {
        status = resolve_chunk_sizes(pool, params);
    }
    if (status == MRP_OK) {
        status = mrp_setting_number(MRP_SET_MAX_REGISTRATIONS, "max_registrations",
            params->max_registrations, &value);
    }
    if (status == MRP_OK) {
        pool->max_registrations = (size_t)value;
        pool->max_registrations_source = params->max_registrations != 0
            ? "max_registrations"
            : "MRPOOL_MAX_REGISTRATIONS";
        pool->heeds_networks = params->max_registrations == 0;
    }
    return status;
}

/* A setting of the table into a member of 32 bits. */
static enum mrp_status resolve_number(
    enum mrp_setting_id id, const char *where, uint32_t given, uint32_t *resolved)
{
    uint64_t value = 0;
    enum mrp_status status = mrp_setting_number(id, where, given, &value);

    *resolved = (uint32_t)value;
    return status;
}

/* How much stays, for how long, and what comes when there is no more. */
static enum mrp_status resolve_limits(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    size_t left = pool->max_bytes;
    uint64_t value = params->at_limit;
    enum mrp_status status = MRP_OK;

    if (value > MRP_AT_LIMIT_TEMPORARY) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "at_limit is %u: MRP_AT_LIMIT_DEFAULT, _FAIL, _WAIT or _TEMPORARY",
            params->at_limit);
    }
    if (value == MRP_AT_LIMIT_DEFAULT) {
        status = mrp_setting_number(MRP_SET_AT_LIMIT, "at_limit", 0, &value);
        value += MRP_AT_LIMIT_FAIL;
    }
    pool->at_limit = (enum mrp_at_limit)value;
    if (status == MRP_OK) {
        status =
            resolve_number(MRP_SET_WAIT_MS, "wait_ms", params->wait_ms, &pool->wait_ms);
    }
    if (status == MRP_OK) {
        status = resolve_number(
            MRP_SET_DECAY_MS, "decay_ms", params->decay_ms, &pool->decay_ms);
    }
    if (status == MRP_OK) {
        status = resolve_number(MRP_SET_QUARANTINE_MS, "quarantine_ms",
            params->quarantine_ms, &pool->quarantine_ms);
    }
    if (status == MRP_OK) {
        status = mrp_setting_number(MRP_SET_RESERVE, "reserve", params->reserve, &value);
        pool->reserve = (size_t)value;
    }
    if (pool->backend->max_size != 0) { /* a small array is a small pool, not a mistake */
        pool->reserve = mrp_min(pool->reserve, pool->max_bytes);
    }
    if (status == MRP_OK && pool->reserve > pool->max_bytes) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "reserve is %zu, but max_bytes %zu: what is kept idle is a part of what may "
            "be mapped",
            pool->reserve, pool->max_bytes);
    }
    for (size_t tier = 0; status == MRP_OK && tier < MRP_TIERS; tier++) {
        pool->tier_reserve[tier] = params->tiers[tier].reserve;
        if (pool->tier_reserve[tier] > left) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "tiers[%zu].reserve is %zu: the reserves together exceed max_bytes, %zu",
                tier, pool->tier_reserve[tier], pool->max_bytes);
        }
        left -= pool->tier_reserve[tier];
    }
    return status;
}

static enum mrp_status check_rails(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    for (size_t i = 0; params->rail_policies != NULL && i < pool->n_rails; i++) {
        if (params->rail_policies[i] > MRP_RAIL_NEAR) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "rail_policies[%zu] is %u: take MRP_RAIL_EAGER, _LAZY or _NEAR", i,
                params->rail_policies[i]);
        }
        pool->rails[i].policy = (enum mrp_rail_policy)params->rail_policies[i];
    }
    for (size_t i = 0; i < pool->n_rails; i++) {
        enum mrp_status status = mrp_provider_grants(
            pool->rails[i].provider, pool->access, pool->backend->ops.memory_kind);

        for (size_t j = 0; j < i && status == MRP_OK; j++) {
            if (pool->rails[i].provider == pool->rails[j].provider) {
                status = mrp_fail(MRP_ERR_INVALID, 0,
                    "rails %zu and %zu are both provider %s: a rail is a provider of its "
                    "own",
                    j, i, pool->rails[i].provider->named.name);
            }
        }
        if (status != MRP_OK) {
            return status;
        }
    }
    return MRP_OK;
}

enum mrp_status mrp_pool_params_resolve(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    enum mrp_status status = check_room(params);

    if (status == MRP_OK && (params->access & ~(uint32_t)MRP_ACCESS_ALL) != 0) {
        status =
            mrp_fail(MRP_ERR_INVALID, 0, "access is %#x: unknown bits", params->access);
    }
    if (status != MRP_OK) {
        return status;
    }
    pool->access = params->access != 0 ? params->access : MRP_ACCESS_LOCAL;
    pool->native_flags = params->native_flags;
    pool->never_free = params->never_free;
    pool->is_isolated = params->isolate;
    pool->keeps_nothing = params->preset == MRP_PRESET_MALLOC;
    pool->node = params->node;
    pool->user_size = params->user_size;
    pool->user_stride = mrp_align_up(params->user_size, MRP_LINE);
    pool->region_init = params->region_init;
    pool->region_init_user = params->region_init_user;
    status = check_rails(pool, params);
    if (status == MRP_OK) {
        status = mrp_debug_check(pool);
    }
    if (status == MRP_OK) {
        status = resolve_classes(pool, params);
    }
    if (status == MRP_OK) {
        status = resolve_budgets(pool, params);
    }
    if (status == MRP_OK) {
        status = resolve_limits(pool, params);
    }
    if (status == MRP_OK) {
        mrp_size_classes_settle(&pool->classes, pool->node);
        mrp_size_classes_divide(&pool->classes,
            mrp_max(mrp_min(pool->max_bytes / MAGAZINE_SHARE, MAGAZINE_SIZE_MAX),
                MAGAZINE_SIZE_MIN));
    }
    return status;
}
