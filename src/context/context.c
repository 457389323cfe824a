/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/context.h"

#include "base/error.h"
#include "base/handle.h"
#include "base/settings.h"
#include "context/adopted.h"
#include "context/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic unsigned last_context;

/* -- names -- */

static struct mrp_named *find_name(struct mrp_named *list, const char *name)
{
    while (list != NULL && strcmp(list->name, name) != 0) {
        list = list->next;
    }
    return list;
}

/* Names nobody gave count per kind: the first pool is pool-1. */
static unsigned *number_of(
    struct mrp_context_state *context, struct mrp_named *const *list)
{
    return &context->last_numbers[list == &context->backends ? 0
            : list == &context->providers                    ? 1
                                                             : 2];
}

enum mrp_status mrp_context_link(struct mrp_context_state *context,
    struct mrp_named **list, struct mrp_named *object, const char *name,
    const char *prefix)
{
    enum mrp_status status = MRP_OK;

    if (name != NULL && (name[0] == '\0' || strlen(name) >= MRP_NAME_SIZE)) {
        return mrp_fail(MRP_ERR_INVALID, 0, "name \"%.64s\": names have 1 to %d bytes",
            name, MRP_NAME_SIZE - 1);
    }
    pthread_mutex_lock(&context->mutex);
    if (name != NULL) {
        snprintf(object->name, sizeof object->name, "%s", name);
    }
    while (name == NULL) {
        snprintf(object->name, sizeof object->name, "%.40s-%u", prefix,
            ++*number_of(context, list));
        if (find_name(*list, object->name) == NULL) {
            break;
        }
    }
    if (name != NULL && find_name(*list, name) != NULL) {
        status = mrp_fail(MRP_ERR_EXISTS, 0,
            "context %s has a \"%s\" already: choose another name", context->name, name);
    } else {
        object->next = *list;
        *list = object;
    }
    pthread_mutex_unlock(&context->mutex);
    return status;
}

void mrp_context_unlink(
    struct mrp_context_state *context, struct mrp_named **list, struct mrp_named *object)
{
    pthread_mutex_lock(&context->mutex);
    while (*list != object) {
        list = &(*list)->next;
    }
    *list = object->next;
    pthread_mutex_unlock(&context->mutex);
}

void *mrp_context_lookup(struct mrp_context_state *context, struct mrp_named *const *list,
    const char *name, const char *what)
{
    struct mrp_named *found;
    void *handle = NULL;

    if (name == NULL) {
        mrp_fail(MRP_ERR_INVALID, 0, "the name is NULL");
        return NULL;
    }
    pthread_mutex_lock(&context->mutex);
    found = find_name(*list, name);
    if (found != NULL) { /* the object itself may go as soon as the mutex does */
        handle = found->handle;
    }
    pthread_mutex_unlock(&context->mutex);
    if (handle == NULL) {
        mrp_fail(MRP_ERR_NOT_FOUND, 0, "context %s has no %s \"%.64s\"", context->name,
            what, name);
    }
    return handle;
}

/* -- create -- */

enum mrp_status mrp_context_get(
    struct mrp_context *handle, struct mrp_context_state **context)
{
    void *object;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_CONTEXT, handle, &object);

    if (status == MRP_OK) {
        *context = object;
    }
    return status;
}

static void destroy_parts(struct mrp_context_state *context)
{
    mrp_chunk_store_destroy(&context->chunks);
    mrp_budget_destroy(&context->budget);
    mrp_retention_destroy(&context->retention);
    mrp_address_map_destroy(&context->map);
    mrp_adopted_destroy(context->adopted_backend);
}

static enum mrp_status create_parts(
    struct mrp_context_state *context, const struct mrp_context_params *params)
{
    struct mrp_backend_params backend_params = MRP_BACKEND_PARAMS_INIT;
    uint64_t max_size, max_items;
    enum mrp_status status;

    status = mrp_setting_number(
        MRP_SET_RETAINED_SIZE, "retained_size", params->retained_size, &max_size);
    if (status == MRP_OK) {
        status = mrp_setting_number(
            MRP_SET_RETAINED_COUNT, "retained_count", params->retained_count, &max_items);
    }
    if (status != MRP_OK) {
        return status;
    }
    status = mrp_budget_create(&context->budget, params);
    if (status != MRP_OK) {
        return status;
    }
    mrp_address_map_create(&context->map);
    mrp_retention_create(&context->retention, max_items, max_size);
    mrp_chunk_store_create(&context->chunks);
    backend_params.name = "blocks";
    status = mrp_adopted_create(context, &context->adopted_backend);
    if (status == MRP_OK) {
        status = mrp_backend_state_create(
            context, "malloc", &backend_params, &context->block_backend);
    }
    if (status != MRP_OK) {
        destroy_parts(context);
        return status;
    }
    mrp_add_relaxed(&context->block_backend->n_users, 1); /* the context itself */
    return MRP_OK;
}

static enum mrp_status name_context(
    struct mrp_context_state *context, const struct mrp_context_params *params)
{
    if (params->name == NULL) {
        snprintf(context->name, sizeof context->name, "context-%u",
            mrp_add_relaxed(&last_context, 1) + 1);
    } else if (params->name[0] == '\0' ||
        snprintf(context->name, sizeof context->name, "%s", params->name) >=
            (int)sizeof context->name) {
        return mrp_fail(MRP_ERR_INVALID, 0, "name \"%.64s\": names have 1 to %d bytes",
            params->name, MRP_NAME_SIZE - 1);
    }
    return MRP_OK;
}

enum mrp_status mrp_context_create(
    const struct mrp_context_params *given, struct mrp_context **created)
{
    struct mrp_context_params params;
    struct mrp_context_state *context;
    enum mrp_status status;

    if (created == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "context is NULL: pass where to store the handle");
    }
    status = mrp_params_read(&params, sizeof params, given, "mrp_context_params");
    if (status == MRP_OK) {
        status = mrp_settings_check(mrp_module_owns_variable);
    }
    if (status != MRP_OK) {
        return status;
    }
    context = calloc(1, sizeof *context);
    if (context == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a context failed",
            sizeof *context);
    }
    pthread_mutex_init(&context->mutex, NULL);
    context->on_leak = params.on_leak;
    context->on_leak_user = params.on_leak_user;
    status = name_context(context, &params);
    if (status != MRP_OK) {
        goto undo_allocate;
    }
    status = create_parts(context, &params);
    if (status != MRP_OK) {
        goto undo_allocate;
    }
    context->handle = mrp_handle_create(MRP_HANDLE_CONTEXT, context);
    if (context->handle == NULL) {
        status = mrp_error_last()->status;
        goto undo_parts;
    }
    *created = context->handle;
    return MRP_OK;

undo_parts:
    mrp_backend_state_destroy(context->block_backend);
    destroy_parts(context);
undo_allocate:
    pthread_mutex_destroy(&context->mutex);
    free(context);
    return status;
}

/* -- destroy -- */

void mrp_leak_add(struct mrp_leak_report *report, const struct mrp_leak *leak)
{
    static const char *const kinds[] = {
        "block", "region", "abandoned region", "registration"};

    if (report->count++ == 0) {
        snprintf(report->first, sizeof report->first,
            "%s of %zu bytes at %p (%s) from %s", kinds[leak->kind], leak->size,
            leak->address, leak->owner, leak->origin);
    }
    report->size += leak->size;
    if (report->visit != NULL) {
        report->visit(leak, report->user);
    }
}

enum mrp_status mrp_context_destroy(struct mrp_context *handle)
{
    struct mrp_context_state *context;
    struct mrp_leak_report report = {.count = 0};
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status == MRP_OK) { /* of two racing calls one goes on */
        status = mrp_handle_destroy(MRP_HANDLE_CONTEXT, handle);
    }
    if (status != MRP_OK) {
        return status;
    }
    report.visit = context->on_leak;
    report.user = context->on_leak_user;
    while (context->pools != NULL) {
        struct mrp_pool_member *pool = (struct mrp_pool_member *)context->pools;

        pool->destroy(pool->handle, &report);
    }
    mrp_memory_free_all(context, &report);
    while (context->providers != NULL) {
        mrp_provider_state_close((struct mrp_provider_state *)context->providers);
    }
    while (context->backends != NULL) {
        mrp_backend_state_destroy((struct mrp_backend_state *)context->backends);
    }
    destroy_parts(context);
    pthread_mutex_destroy(&context->mutex);
    if (report.count > 0) {
        status = mrp_fail(MRP_ERR_LEAKED, 0,
            "context %s: %zu blocks or regions (%zu bytes) were still live and have been "
            "freed; the first: %s",
            context->name, report.count, report.size, report.first);
    }
    free(context);
    return status;
}

enum mrp_status mrp_context_check(struct mrp_context *handle)
{
    struct mrp_context_state *context;

    return mrp_context_get(handle, &context);
}

enum mrp_status mrp_context_default(struct mrp_context **found)
{
    static _Atomic(struct mrp_context *) chosen; /* no mutex: a fork could find it held */
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_context *context = mrp_load_acquire(&chosen), *made;
    struct mrp_error before = *mrp_error_last();

    if (found == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "context is NULL: pass where to store the handle");
    }
    params.name = "default";
    while (mrp_context_check(context) != MRP_OK) {
        enum mrp_status status = mrp_context_create(&params, &made);

        if (status != MRP_OK) {
            return status;
        }
        if (mrp_cas_acq_rel(&chosen, &context, made)) {
            context = made;
        } else { /* another thread was first */
            mrp_context_destroy(made);
        }
    }
    mrp_error_restore(&before);
    *found = context;
    return MRP_OK;
}

/* -- those who wait -- */

void mrp_context_owe(struct mrp_context_state *context)
{
    if (mrp_load_seq_cst(&context->n_waiting) == 0) {
        return;
    }
    pthread_mutex_lock(&context->mutex);
    for (struct mrp_named *named = context->pools; named != NULL; named = named->next) {
        struct mrp_pool_member *pool = (struct mrp_pool_member *)named;

        mrp_store_relaxed(&pool->has_lift, true);
        mrp_store_relaxed(&pool->is_owed, true);
    }
    pthread_mutex_unlock(&context->mutex);
}

/* A pool that is to be served, visited: it does not go before the visit has ended. */
static struct mrp_pool_member *visit_owed(struct mrp_context_state *context)
{
    struct mrp_named *named;
    struct mrp_pool_member *pool = NULL;

    pthread_mutex_lock(&context->mutex);
    for (named = context->pools; named != NULL && pool == NULL; named = named->next) {
        pool = (struct mrp_pool_member *)named;
        if (mrp_load_relaxed(&pool->is_owed)) {
            mrp_store_relaxed(&pool->is_owed, false);
            mrp_add_relaxed(&pool->n_visitors, 1);
        } else {
            pool = NULL;
        }
    }
    pthread_mutex_unlock(&context->mutex);
    return pool;
}

void mrp_context_serve(struct mrp_context_state *context)
{
    struct mrp_pool_member *pool;

    while (mrp_load_seq_cst(&context->n_waiting) > 0 &&
        (pool = visit_owed(context)) != NULL) {
        pool->serve(pool->handle);
    }
}

/* -- numbers -- */

static size_t count_list(const struct mrp_named *list)
{
    size_t count = 0;

    for (; list != NULL; list = list->next) {
        count++;
    }
    return count;
}

enum mrp_status mrp_context_stats(
    struct mrp_context *handle, struct mrp_context_stats *stats)
{
    struct mrp_context_stats found = MRP_CONTEXT_STATS_INIT;
    struct mrp_charge used, max;
    struct mrp_context_state *context;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->mutex);
    found.n_backends = count_list(context->backends);
    found.n_providers = count_list(context->providers);
    found.n_pools = count_list(context->pools);
    found.n_blocks = context->blocks.n_blocks;
    found.block_size = context->block_size;
    for (struct mrp_named *named = context->providers; named != NULL;
         named = named->next) {
        struct mrp_provider_state *provider = (struct mrp_provider_state *)named;

        found.n_registrations += mrp_load_relaxed(&provider->n_registrations);
        found.registered_size += mrp_load_relaxed(&provider->registered_size);
    }
    pthread_mutex_unlock(&context->mutex);
    pthread_mutex_lock(&context->chunks.mutex);
    found.n_chunks = context->chunks.n_live;
    found.chunk_size = context->chunks.live_size;
    found.n_parked = context->chunks.n_parked;
    found.parked_size = context->chunks.parked_size;
    pthread_mutex_unlock(&context->chunks.mutex);
    mrp_retention_count(
        &context->retention, NULL, NULL, NULL, &found.n_retained, &found.retained_size);
    mrp_budget_read(&context->budget, &used, &max);
    found.charged_size = used.bytes;
    found.max_bytes = max.bytes;
    found.pinned_size = used.pinned;
    found.max_pinned = max.pinned;
    found.n_charged = used.n_registrations;
    found.max_registrations = max.n_registrations;
    return mrp_info_write(stats, &found, sizeof found, "mrp_context_stats");
}

enum mrp_status mrp_context_trim(struct mrp_context *handle, size_t keep)
{
    struct mrp_context_state *context;
    size_t n_items, size;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    mrp_retention_count(&context->retention, NULL, NULL, NULL, &n_items, &size);
    if (size > keep) {
        mrp_retention_evict(&context->retention, NULL, size - keep, NULL, NULL);
    }
    mrp_context_serve(context);
    return MRP_OK;
}

enum mrp_status mrp_context_retain(
    struct mrp_context *handle, const struct mrp_retention_params *given)
{
    struct mrp_retention_params params;
    struct mrp_context_state *context;
    struct mrp_place place;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status == MRP_OK) {
        status = mrp_params_read(&params, sizeof params, given, "mrp_retention_params");
    }
    if (status != MRP_OK) {
        return status;
    }
    if ((unsigned)params.kind > MRP_MEMORY_ROCM) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "kind is %d: no enum mrp_memory_kind", (int)params.kind);
    }
    if (params.device < 0 || (params.kind == MRP_MEMORY_HOST && params.device != 0)) {
        return mrp_fail(MRP_ERR_INVALID, 0, "device is %d: %s", params.device,
            params.device < 0 ? "devices count from 0" : "host memory has no device");
    }
    if (params.node < 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "node is %d: it must be MRP_NODE(n), or 0 for memory bound to no node",
            params.node);
    }
    place = (struct mrp_place){params.kind, params.device, params.node};
    status = mrp_retention_limit(
        &context->retention, &place, params.max_size, params.max_count);
    mrp_context_serve(context);
    return status;
}
