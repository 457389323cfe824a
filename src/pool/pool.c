/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making and unmaking pools.
 */
#include "pool/cache.h"
#include "pool/debug.h"
#include "pool/growth.h"
#include "pool/large.h"

#include "base/error.h"
#include "base/settings.h"
#include "pool/params.h"
#include "pool/place.h"
#include "pool/preset.h"
#include "pool/rails.h"
#include "pool/wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define COMMIT_STEP (64 * MRP_KIB)
#define DESCRIPTOR_STEP MRP_MIB

/* -- create -- */

static struct mrp_area make_area(size_t begin, size_t end, size_t step)
{
    return (struct mrp_area){begin, end, begin, step};
}

static void lay_out(struct mrp_pool *pool)
{
    pool->chunk_area = make_area(MRP_CHUNK_TABLE_OFFSET, MRP_GROUPS_OFFSET, COMMIT_STEP);
    pool->group_area = make_area(MRP_GROUPS_OFFSET, MRP_SLAB_NUMBERS_OFFSET, COMMIT_STEP);
    pool->group_area.begin = pool->group_area.committed =
        (size_t)((uintptr_t)mrp_group_bin(pool, 0) - (uintptr_t)pool);
    pool->number_area = make_area(MRP_SLAB_NUMBERS_OFFSET, MRP_SLABS_OFFSET, COMMIT_STEP);
    pool->slab_area = make_area(MRP_SLABS_OFFSET, MRP_GRANULES_OFFSET, COMMIT_STEP);
    pool->granule_area = make_area(MRP_GRANULES_OFFSET, MRP_KEYS_OFFSET, COMMIT_STEP);
    pool->link_area = make_area(MRP_LINKS_OFFSET, MRP_MAGAZINES_OFFSET, COMMIT_STEP);
    pool->magazine_area =
        make_area(MRP_MAGAZINES_OFFSET, MRP_DESCRIPTORS_OFFSET, COMMIT_STEP);
    pool->descriptor_area =
        make_area(MRP_DESCRIPTORS_OFFSET, MRP_RANGE_SIZE, DESCRIPTOR_STEP);
    for (size_t rail = 0; rail < MRP_RAILS_MAX; rail++) {
        size_t size = MRP_CHUNKS_MAX * sizeof(struct mrp_key_line);

        pool->key_areas[rail] = make_area(MRP_KEYS_OFFSET + rail * size,
            MRP_KEYS_OFFSET + (rail + 1) * size, COMMIT_STEP);
    }
}

static enum mrp_status attach_rails(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    if (params->n_rails > MRP_RAILS_MAX ||
        (params->rails == NULL && params->n_rails > 0)) {
        return mrp_fail(MRP_ERR_INVALID, 0, "n_rails is %zu: a pool has up to %d rails%s",
            params->n_rails, MRP_RAILS_MAX,
            params->rails == NULL ? ", and rails is NULL" : "");
    }
    for (size_t rail = 0; rail < params->n_rails; rail++) {
        struct mrp_provider_state *provider;
        enum mrp_status status = mrp_provider_get(params->rails[rail], &provider);

        if (status != MRP_OK) {
            return status;
        }
        if (provider->context != pool->context) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "rail %zu: provider %s belongs to another context", rail,
                provider->named.name);
        }
        mrp_rail_occupy(pool, (unsigned)rail, provider, MRP_RAIL_EAGER, MRP_RAIL_JOINING);
    }
    return MRP_OK;
}

/* Once access and budgets are known. */
static void activate_rails(struct mrp_pool *pool)
{
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        mrp_rail_activate(pool, rail);
    }
}

static void detach_rails(struct mrp_pool *pool)
{
    while (pool->n_rails > 0) {
        mrp_rail_vacate(pool, (unsigned)pool->n_rails - 1);
    }
}

static enum mrp_status attach_backend(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    const struct mrp_setting_spec *spec = mrp_setting_spec(MRP_SET_BACKEND);
    enum mrp_status status;
    uint64_t index;

    if (params->backend != NULL) {
        status = mrp_backend_get(params->backend, &pool->backend);
        if (status == MRP_OK && pool->backend->context != pool->context) {
            status = mrp_fail(MRP_ERR_INVALID, 0, "backend %s belongs to another context",
                pool->backend->named.name);
        }
    } else if (params->preset == MRP_PRESET_MALLOC) {
        status = mrp_backend_state_create(pool->context, "malloc", NULL, &pool->backend);
        pool->owns_backend = status == MRP_OK;
    } else {
        status = mrp_setting_number(MRP_SET_BACKEND, spec->variable, 0, &index);
        if (status == MRP_OK) {
            status = mrp_backend_state_create(
                pool->context, index == 0 ? "mmap" : "malloc", NULL, &pool->backend);
        }
        pool->owns_backend = status == MRP_OK;
    }
    if (status == MRP_OK) {
        mrp_add_relaxed(&pool->backend->n_users, 1);
    }
    return status;
}

static void detach_backend(struct mrp_pool *pool)
{
    /* parked memory keeps a backend that nobody else could then destroy: the context does
     */
    if (mrp_sub_acq_rel(&pool->backend->n_users, 1) == 1 && pool->owns_backend) {
        mrp_backend_state_destroy(pool->backend);
    }
}

/* For every descriptor there can be, since slices and large regions take some too; for
 * fewer where the system has not as many addresses. */
static enum mrp_status reserve_user_data(struct mrp_pool *pool)
{
    size_t n_regions = MRP_REGIONS_MAX;
    void *address = NULL;

    if (pool->user_size == 0) {
        return MRP_OK;
    }
    for (; address == NULL && n_regions >= MRP_CHUNKS_MAX; n_regions /= 2) {
        pool->user_reserved = n_regions * pool->user_stride;
        address = mrp_reserve_addresses(NULL, pool->user_reserved);
    }
    if (address == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, errno,
            "cannot reserve %zu MiB of addresses for user data: lower user_size, or "
            "raise the address space limit (ulimit -v)",
            pool->user_reserved / MRP_MIB);
    }
    pool->user_base = address;
    pool->user_area = make_area(0, pool->user_reserved, COMMIT_STEP);
    return MRP_OK;
}

static void destroy_range(struct mrp_pool *pool, bool is_leaked)
{
    if (pool->user_base != NULL) {
        munmap(pool->user_base, pool->user_reserved);
    }
    mrp_quarantine_destroy(&pool->quarantine);
    mrp_wait_destroy(&pool->grown);
    pthread_mutex_destroy(&pool->mutex);
    mrp_range_release(pool, is_leaked);
}

static enum mrp_status preallocate(
    struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    enum mrp_status status = MRP_OK;

    for (size_t tier = 0; status == MRP_OK && tier < MRP_TIERS; tier++) {
        if (params->tiers[tier].preallocate > 0) {
            status = mrp_pool_preallocate(pool,
                mrp_class_of(&pool->classes, pool->classes.tier_max[tier]),
                params->tiers[tier].preallocate);
        }
    }
    return status;
}

static void destroy_pool(struct mrp_pool *pool, struct mrp_leak_report *report);
static void unmake_pool(struct mrp_pool *pool, struct mrp_leak_report *report);

/* Everything that can be refused, before the pool has a name others can find. */
static enum mrp_status equip(struct mrp_pool *pool, const struct mrp_pool_params *params)
{
    enum mrp_status status = attach_rails(pool, params);

    if (status != MRP_OK) {
        goto undo_rails;
    }
    status = attach_backend(pool, params);
    if (status != MRP_OK) {
        goto undo_rails;
    }
    status = mrp_pool_params_resolve(pool, params);
    if (status == MRP_OK) {
        status = mrp_place_check(pool);
    }
    if (status == MRP_OK) {
        status = reserve_user_data(pool);
    }
    if (status != MRP_OK) {
        goto undo_backend;
    }
    activate_rails(pool);
    return MRP_OK;

undo_backend:
    detach_backend(pool);
undo_rails:
    detach_rails(pool);
    return status;
}

static enum mrp_status make_pool(struct mrp_context_state *context,
    const struct mrp_pool_params *params, struct mrp_pool **made)
{
    struct mrp_leak_report none = {.count = 0};
    struct mrp_error cause;
    struct mrp_cache_params caches;
    struct mrp_pool *pool;
    enum mrp_status status = mrp_pool_params_caches(params, &caches);

    if (status != MRP_OK) {
        return status;
    }
    pool = mrp_range_acquire(caches.place);
    if (pool == NULL) {
        return mrp_error_last()->status;
    }
    pool->context = context;
    pool->checks = caches.checks;
    pool->debug = caches.debug;
    pool->thread_cache_size = caches.thread_cache_size;
    pool->cache_slot = mrp_range_slot(pool);
    pthread_mutex_init(&pool->mutex, NULL);
    mrp_wait_init(&pool->grown);
    mrp_quarantine_create(&pool->quarantine);
    lay_out(pool);
    if (getrandom(&pool->wire_id, sizeof pool->wire_id, GRND_NONBLOCK) !=
        (ssize_t)sizeof pool->wire_id) { /* told apart by address at least */
        pool->wire_id = (uint32_t)((uintptr_t)pool >> MRP_RANGE_SHIFT);
    }
    status = equip(pool, params);
    if (status != MRP_OK) {
        goto undo_range;
    }
    pool->member.handle = pool;
    pool->member.named.handle = pool;
    pool->member.destroy = destroy_pool;
    pool->member.serve = mrp_line_serve;
    pool->n_rooms = pool->n_rooms_seen = 1; /* a waiter that has never tried has 0 */
    pool->member.reporter = &mrp_pool_reporter;
    snprintf(pool->member.named.name, sizeof pool->member.named.name, "%s",
        params->name != NULL ? params->name : "(new)");
    pool->epoch =
        mrp_process_epoch; /* live for region_init, and before it can be found */
    status = preallocate(pool, params);
    if (status == MRP_OK) {
        status = mrp_context_link(
            context, &context->pools, &pool->member.named, params->name, "pool");
    }
    if (status != MRP_OK) {
        goto undo_equip;
    }
    *made = pool;
    return MRP_OK;

undo_equip:
    cause = *mrp_error_last();
    unmake_pool(pool, &none);
    mrp_error_restore(&cause);
    return status;
undo_range:
    destroy_range(pool, false);
    return status;
}

enum mrp_status mrp_pool_create(struct mrp_context *handle,
    const struct mrp_pool_params *given, struct mrp_pool **created)
{
    struct mrp_context_state *context;
    struct mrp_pool_params params;
    struct mrp_pool *pool = NULL;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status == MRP_OK && created == NULL) {
        status =
            mrp_fail(MRP_ERR_INVALID, 0, "pool is NULL: pass where to store the handle");
    }
    if (status == MRP_OK) {
        status = mrp_params_read(&params, sizeof params, given, "mrp_pool_params");
    }
    if (status == MRP_OK) {
        status = mrp_preset_apply(&params);
    }
    if (status == MRP_OK) {
        status = make_pool(context, &params, &pool);
        status = status == MRP_OK ? status : mrp_preset_explain(&params, status);
        mrp_context_serve(context); /* what was evicted, or undone, is room for others */
    }
    if (status == MRP_OK) {
        *created = pool;
    }
    return status;
}

/* -- destroy -- */

static void report_abandoned(const struct mrp_pool *pool, const struct mrp_region *region,
    struct mrp_leak_report *report)
{
    char origin[96];
    struct mrp_leak leak = {
        .kind = MRP_OBJECT_ABANDONED,
        .address = mrp_payload(region),
        .size = region->capacity,
        .owner = pool->member.named.name,
        .origin = origin,
    };

    mrp_quarantine_describe(region, origin, sizeof origin);
    mrp_leak_add(report, &leak);
}

static void report_region(const struct mrp_pool *pool, const struct mrp_region *region,
    struct mrp_leak_report *report)
{
    char origin[MRP_ORIGIN_TEXT];
    struct mrp_leak leak = {
        .kind = MRP_OBJECT_REGION,
        .address = mrp_payload(region),
        .size = mrp_load_relaxed(&region->size),
        .owner = pool->member.named.name,
        .origin = "mrp_region_alloc",
    };

    if (mrp_region_origin(pool, region, origin, sizeof origin)) {
        leak.origin = origin;
    } else if (mrp_kind_of(region) == MRP_REGION_USER) {
        leak.origin = "mrp_region_register";
    } else if (mrp_kind_of(region) == MRP_REGION_ADOPTED) {
        leak.origin = "mrp_region_adopt";
    } else if (mrp_kind_of(region) == MRP_REGION_SLICE) {
        leak.origin = "mrp_region_slice";
    }
    mrp_leak_add(report, &leak);
}

/* Descriptors that nobody checks do not tell; those on no free list are live then. True
 * when some are live, or there is no memory to find out. */
static bool report_leaks(struct mrp_pool *pool, struct mrp_leak_report *report)
{
    bool is_unchecked = pool->checks == MRP_CHECKS_NONE;
    uint8_t *is_free = is_unchecked ? calloc(pool->n_descriptors + 1u, 1) : NULL;
    bool is_known = !is_unchecked || is_free != NULL;
    size_t n_before = report->count;

    if (is_free != NULL) {
        mrp_pool_mark_free(pool, is_free);
    }
    for (uint32_t i = 0; i < pool->n_descriptors; i++) {
        const struct mrp_region *region = mrp_region_at(pool, i);

        if (mrp_load_relaxed(&region->state) == MRP_STATE_QUARANTINED) {
            report_abandoned(pool, region, report);
        } else if (mrp_state_is_live(mrp_load_relaxed(&region->state)) &&
            (!mrp_is_unchecked(pool, region) || (is_free != NULL && is_free[i] == 0))) {
            report_region(pool, region, report);
        }
    }
    free(is_free);
    return !is_known || report->count > n_before;
}

void mrp_pool_end_visit(struct mrp_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    mrp_sub_relaxed(&pool->member.n_visitors, 1);
    mrp_wake_all(&pool->grown);
    pthread_mutex_unlock(&pool->mutex);
}

/* The pool is off its context's list: no more come from there. */
static void await_visitors(struct mrp_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    while (mrp_load_relaxed(&pool->member.n_visitors) > 0) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* Idle chunks go through the retention list; another pool's growth may be evicting one
 * now. */
static void give_up_idle(struct mrp_pool *pool)
{
    mrp_retention_evict(&pool->context->retention, pool, SIZE_MAX, NULL, NULL);
    pthread_mutex_lock(&pool->mutex);
    while (pool->n_idle > 0) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* Memory that the network would not give back stays mapped until its provider closes. */
static void report_parked(const struct mrp_pool *pool, const void *address, size_t size,
    struct mrp_leak_report *report)
{
    struct mrp_leak leak = {
        .kind = MRP_OBJECT_REGISTRATION,
        .address = address,
        .size = size,
        .owner = pool->member.named.name,
        .origin = mrp_error_last()->text,
    };

    mrp_leak_add(report, &leak);
}

/* Everything but the name in the context. */
static void unmake_pool(struct mrp_pool *pool, struct mrp_leak_report *report)
{
    bool is_leaked;

    await_visitors(pool);
    mrp_line_close(pool);
    await_visitors(
        pool); /* none will call back any more, and so open a thread's caches */
    mrp_thread_forget(pool);
    await_visitors(pool); /* threads that have ended meanwhile */
    is_leaked = report_leaks(pool, report);
    give_up_idle(pool);
    pool->epoch = 0;
    for (uint32_t id = 0; id < pool->n_chunk_ids; id++) {
        struct mrp_chunk *chunk = mrp_chunk_entry(pool, id)->chunk;

        if (chunk != NULL) {
            const void *address = chunk->mapping.address;
            size_t size = chunk->mapping.size;

            mrp_chunk_withdraw(chunk);
            if (mrp_pool_dissolve_chunk(chunk) != MRP_OK) {
                report_parked(pool, address, size, report);
            }
        }
    }
    detach_backend(pool);
    detach_rails(pool);
    destroy_range(pool, is_leaked);
}

static void destroy_pool(struct mrp_pool *pool, struct mrp_leak_report *report)
{
    mrp_context_unlink(pool->context, &pool->context->pools, &pool->member.named);
    unmake_pool(pool, report);
}

enum mrp_status mrp_pool_destroy(struct mrp_pool *pool)
{
    struct mrp_leak_report report = {.count = 0};
    struct mrp_context_state *context;
    char name[MRP_NAME_SIZE];
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status != MRP_OK) {
        return status;
    }
    context = pool->context;
    report.visit = context->on_leak;
    report.user = context->on_leak_user;
    memcpy(name, pool->member.named.name, sizeof name);
    destroy_pool(pool, &report);
    mrp_context_serve(context); /* its memory is room for others */
    return report.count == 0
        ? MRP_OK
        : mrp_fail(MRP_ERR_LEAKED, 0,
              "pool %s: %zu regions or registrations (%zu bytes) were still live; the "
              "first: %s",
              name, report.count, report.size, report.first);
}

enum mrp_status mrp_pool_find(
    struct mrp_context *handle, const char *name, struct mrp_pool **found)
{
    struct mrp_context_state *context;
    void *named;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status == MRP_OK && found == NULL) {
        status =
            mrp_fail(MRP_ERR_INVALID, 0, "pool is NULL: pass where to store the handle");
    }
    if (status != MRP_OK) {
        return status;
    }
    named = mrp_context_lookup(context, &context->pools, name, "pool");
    if (named == NULL) {
        return mrp_error_last()->status;
    }
    *found = named;
    return MRP_OK;
}
