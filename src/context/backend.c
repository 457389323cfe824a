/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/align.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/settings.h"
#include "context/context.h"

#include <stdlib.h>
#include <string.h>

#define MRP_BUILTIN_PROVIDER(name)
#define MRP_KNOWN_MODULE(name)
#define MRP_BUILTIN_BACKEND(name) extern const struct mrp_backend_ops mrp_backend_##name;
#include "mrp_builtin.h"
#undef MRP_BUILTIN_BACKEND

static const struct mrp_backend_ops *const builtin[] = {
#define MRP_BUILTIN_BACKEND(name) &mrp_backend_##name,
#include "mrp_builtin.h"
#undef MRP_BUILTIN_BACKEND
};

#define N_BUILTIN (sizeof builtin / sizeof builtin[0])

void mrp_backend_kinds(mrp_backend_visitor *visit, void *user)
{
    for (size_t i = 0; visit != NULL && i < N_BUILTIN; i++) {
        visit(builtin[i]->kind, builtin[i]->purpose, user);
    }
}

static const struct mrp_backend_ops *find_builtin(const char *kind)
{
    char known[128] = "";

    for (size_t i = 0; i < N_BUILTIN; i++) {
        if (strcmp(builtin[i]->kind, kind) == 0) {
            return builtin[i];
        }
        strncat(known, i == 0 ? "" : ", ", sizeof known - strlen(known) - 1);
        strncat(known, builtin[i]->kind, sizeof known - strlen(known) - 1);
    }
    mrp_fail(
        MRP_ERR_NOT_FOUND, 0, "no backend of kind \"%.32s\"; there are: %s", kind, known);
    return NULL;
}

/* -- create and destroy -- */

static enum mrp_status check_ops(const struct mrp_backend_ops *ops)
{
    if (ops == NULL || ops->struct_size < offsetof(struct mrp_backend_ops, create) ||
        ops->kind == NULL || ops->map == NULL || ops->unmap == NULL ||
        (unsigned)ops->memory_kind > MRP_MEMORY_ROCM) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "a backend needs an ops table with struct_size, kind, memory_kind, map and "
            "unmap");
    }
    return MRP_OK;
}

static void query_limits(struct mrp_backend_state *backend)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    if (backend->ops.query != NULL) {
        backend->ops.query(backend->state, &info);
    }
    backend->granularity = mrp_max(info.granularity, 1);
    backend->max_size = info.max_size;
}

/* Of memory that a provider allocates, `provider` is whose, and its state the state. */
static enum mrp_status make_state(struct mrp_context_state *context,
    const struct mrp_backend_ops *ops, void *state, struct mrp_provider_state *provider,
    const char *name, struct mrp_backend_state **created)
{
    struct mrp_backend_state *backend = calloc(1, sizeof *backend);
    enum mrp_status status;

    if (backend == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a backend failed",
            sizeof *backend);
    }
    backend->context = context;
    memcpy(&backend->ops, ops, mrp_min(ops->struct_size, sizeof backend->ops));
    backend->state = state;
    if (provider != NULL) { /* before the handle is found */
        backend->state = provider->state;
        backend->provider = provider;
        mrp_add_relaxed(&provider->n_users, 1);
    }
    query_limits(backend);
    backend->handle = mrp_handle_create(MRP_HANDLE_BACKEND, backend);
    if (backend->handle == NULL) {
        status = mrp_error_last()->status;
        goto undo_allocate;
    }
    backend->named.handle = backend->handle;
    status =
        mrp_context_link(context, &context->backends, &backend->named, name, ops->kind);
    if (status != MRP_OK) {
        goto undo_handle;
    }
    *created = backend;
    return MRP_OK;

undo_handle:
    mrp_handle_destroy(MRP_HANDLE_BACKEND, backend->handle);
undo_allocate:
    if (provider != NULL) {
        mrp_sub_acq_rel(&provider->n_users, 1);
    }
    free(backend);
    return status;
}

/* Defaults come from the environment here, so that a backend never reads it. */
static enum mrp_status resolve_params(
    const struct mrp_backend_ops *ops, struct mrp_backend_params *params)
{
    enum mrp_status status;
    uint64_t value;

    if ((unsigned)params->pages > MRP_PAGES_1G) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "pages is %d: no enum mrp_pages", (int)params->pages);
    }
    if (!ops->chooses_pages) {
        return MRP_OK;
    }
    if (params->pages == MRP_PAGES_DEFAULT) {
        status = mrp_setting_number(MRP_SET_PAGES, "pages", 0, &value);
        if (status != MRP_OK) {
            return status;
        }
        params->pages = (enum mrp_pages)(MRP_PAGES_AUTO + (int)value);
    }
    if (params->prefault == 0) {
        status = mrp_setting_number(MRP_SET_PREFAULT, "prefault", 0, &value);
        if (status != MRP_OK) {
            return status;
        }
        params->prefault = value != 0 ? 1 : -1;
    }
    status = mrp_setting_number(
        MRP_SET_PREFAULT_THREADS, "prefault_threads", params->prefault_threads, &value);
    if (status == MRP_OK) {
        params->prefault_threads = (uint32_t)value;
    }
    return status;
}

enum mrp_status mrp_backend_state_create(struct mrp_context_state *context,
    const char *kind, const struct mrp_backend_params *given,
    struct mrp_backend_state **backend)
{
    const struct mrp_backend_ops *ops = find_builtin(kind);
    struct mrp_backend_params params;
    void *state = NULL;
    enum mrp_status status;

    if (ops == NULL) {
        return MRP_ERR_NOT_FOUND;
    }
    status = mrp_params_read(&params, sizeof params, given, "mrp_backend_params");
    if (status == MRP_OK) {
        status = resolve_params(ops, &params);
    }
    if (status == MRP_OK && ops->create != NULL) {
        status = ops->create(&params, &state);
    }
    if (status != MRP_OK) {
        return status;
    }
    status = make_state(context, ops, state, NULL, params.name, backend);
    if (status != MRP_OK && ops->destroy != NULL) {
        ops->destroy(state);
    }
    return status;
}

void mrp_backend_state_destroy(struct mrp_backend_state *backend)
{
    mrp_handle_destroy(MRP_HANDLE_BACKEND, backend->handle);
    mrp_context_unlink(backend->context, &backend->context->backends, &backend->named);
    if (backend->ops.destroy != NULL) {
        backend->ops.destroy(backend->state);
    }
    if (backend->provider != NULL) {
        mrp_sub_acq_rel(&backend->provider->n_users, 1);
    }
    free(backend);
}

static enum mrp_status unmap_nothing(void *state, const struct mrp_mapping *mapping)
{
    (void)state;
    (void)mapping;
    return MRP_OK;
}

/* Only a context that goes closes providers before their backends. */
void mrp_backend_orphan(struct mrp_provider_state *provider)
{
    pthread_mutex_lock(&provider->context->mutex); /* others' come and go meanwhile */
    for (struct mrp_named *named = provider->context->backends; named != NULL;
         named = named->next) {
        struct mrp_backend_state *backend = (struct mrp_backend_state *)named;

        if (backend->provider == provider) {
            backend->provider = NULL;
            backend->ops.unmap = unmap_nothing;
        }
    }
    pthread_mutex_unlock(&provider->context->mutex);
}

/* -- the only callers of map and unmap -- */

/* What a backend gave, unmapped again if it is not what was asked for. */
static enum mrp_status check_mapping(struct mrp_backend_state *backend,
    const struct mrp_map_request *request, const struct mrp_mapping *got)
{
    bool is_broken = got->address == NULL || got->size < request->size ||
        ((uintptr_t)got->address & (request->alignment - 1)) != 0;

    if (!is_broken && (request->node == 0 || got->node == request->node)) {
        return MRP_OK;
    }
    if (got->address != NULL) {
        backend->ops.unmap(backend->state, got);
    }
    if (!is_broken) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "backend %s cannot bind to a NUMA node, %zu bytes of node %d were asked for: "
            "use backend mmap, or leave node zero",
            backend->named.name, request->size, request->node - 1);
    }
    return mrp_fail(MRP_ERR_CORRUPT, 0,
        "backend %s gave %zu bytes at %p for %zu bytes aligned to %zu: it breaks the "
        "contract of backend.h",
        backend->named.name, got->size, got->address, request->size, request->alignment);
}

enum mrp_status mrp_backend_map(struct mrp_backend_state *backend,
    const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct mrp_mapping got = {.struct_size = sizeof got};
    struct mrp_error before;
    enum mrp_status status;

    if (request->size == 0 || request->size > PTRDIFF_MAX - request->alignment) {
        return mrp_fail(MRP_ERR_INVALID, 0, "backend %s: cannot map %zu bytes",
            backend->named.name, request->size);
    }
    before = *mrp_error_last();
    mrp_error_clear();
    status = mrp_error_settle(&before, backend->ops.map(backend->state, request, &got),
        "backend", backend->named.name, "map");
    if (status != MRP_OK) {
        return status;
    }
    status = check_mapping(backend, request, &got);
    if (status != MRP_OK) {
        return status;
    }
    mrp_add_relaxed(&backend->n_mappings, 1);
    mrp_add_relaxed(&backend->mapped_size, got.size);
    *mapping = got;
    return MRP_OK;
}

enum mrp_status mrp_backend_unmap(
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping)
{
    struct mrp_error before = *mrp_error_last();

    mrp_sub_relaxed(&backend->n_mappings, 1);
    mrp_sub_relaxed(&backend->mapped_size, mapping->size);
    mrp_error_clear();
    return mrp_error_settle(&before, backend->ops.unmap(backend->state, mapping),
        "backend", backend->named.name, "unmap");
}

enum mrp_status mrp_backend_check_node(struct mrp_backend_state *backend, int node)
{
    struct mrp_map_request request = {
        .struct_size = sizeof request, .size = 1, .alignment = 1, .node = node};
    struct mrp_mapping mapping;
    enum mrp_status status = mrp_backend_map(backend, &request, &mapping);

    return status == MRP_OK ? mrp_backend_unmap(backend, &mapping) : status;
}

/* -- public -- */

enum mrp_status mrp_backend_get(
    struct mrp_backend *handle, struct mrp_backend_state **backend)
{
    void *object;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_BACKEND, handle, &object);

    if (status == MRP_OK) {
        *backend = object;
    }
    return status;
}

enum mrp_status mrp_backend_create(struct mrp_context *handle, const char *kind,
    const struct mrp_backend_params *params, struct mrp_backend **created)
{
    struct mrp_context_state *context;
    struct mrp_backend_state *backend;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (kind == NULL || created == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "%s is NULL", kind == NULL ? "kind" : "backend");
    }
    status = mrp_backend_state_create(context, kind, params, &backend);
    if (status == MRP_OK) {
        *created = backend->handle;
    }
    return status;
}

enum mrp_status mrp_backend_create_custom(struct mrp_context *handle, const char *name,
    const struct mrp_backend_ops *ops, void *state, struct mrp_backend **created)
{
    struct mrp_context_state *context;
    struct mrp_backend_state *backend;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status == MRP_OK) {
        status = created == NULL ? mrp_fail(MRP_ERR_INVALID, 0, "backend is NULL")
                                 : check_ops(ops);
    }
    if (status == MRP_OK) {
        status = make_state(context, ops, state, NULL, name, &backend);
    }
    if (status == MRP_OK) {
        *created = backend->handle;
    }
    return status;
}

static bool has_own_state(const struct mrp_backend_ops *ops)
{
    return ops->struct_size > offsetof(struct mrp_backend_ops, query) &&
        (ops->create != NULL || ops->destroy != NULL);
}

enum mrp_status mrp_provider_backend(
    struct mrp_provider *handle, const char *name, struct mrp_backend **created)
{
    struct mrp_provider_state *provider;
    struct mrp_backend_state *backend;
    enum mrp_status status = mrp_provider_get(handle, &provider);

    if (status != MRP_OK) {
        return status;
    }
    if (created == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "backend is NULL");
    }
    if (provider->ops.backend == NULL) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "provider %s (module %s) allocates no memory: use a backend of "
            "mrp_backend_create",
            provider->named.name, provider->info.module);
    }
    status = check_ops(provider->ops.backend);
    if (status == MRP_OK && has_own_state(provider->ops.backend)) {
        status = mrp_fail(MRP_ERR_INVALID, 0,
            "provider %s: its backend's create and destroy must be NULL: its state is "
            "the provider's",
            provider->named.name);
    }
    if (status == MRP_OK) {
        status = make_state(
            provider->context, provider->ops.backend, NULL, provider, name, &backend);
    }
    if (status == MRP_OK) {
        *created = backend->handle;
    }
    return status;
}

enum mrp_status mrp_backend_destroy(struct mrp_backend *handle)
{
    struct mrp_backend_state *backend;
    enum mrp_status status = mrp_backend_get(handle, &backend);

    if (status != MRP_OK) {
        return status;
    }
    /* pairs with the releases of who stops using it: nothing of theirs is under way */
    if (mrp_load_acquire(&backend->n_users) > 0) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "backend %s is used by %zu pools or blocks (%zu bytes mapped): destroy them "
            "first",
            backend->named.name, mrp_load_relaxed(&backend->n_users),
            mrp_load_relaxed(&backend->mapped_size));
    }
    mrp_backend_state_destroy(backend);
    return MRP_OK;
}

enum mrp_status mrp_backend_find(
    struct mrp_context *handle, const char *name, struct mrp_backend **found)
{
    struct mrp_context_state *context;
    void *named;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (found == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "backend is NULL");
    }
    named = mrp_context_lookup(context, &context->backends, name, "backend");
    if (named == NULL) {
        return mrp_error_last()->status;
    }
    *found = named;
    return MRP_OK;
}

enum mrp_status mrp_backend_query(
    struct mrp_backend *handle, struct mrp_backend_info *info)
{
    struct mrp_backend_state *backend;
    struct mrp_backend_info found = MRP_BACKEND_INFO_INIT;
    enum mrp_status status = mrp_backend_get(handle, &backend);

    if (status != MRP_OK) {
        return status;
    }
    found.name = backend->named.name;
    found.kind = backend->ops.kind;
    found.memory_kind = backend->ops.memory_kind;
    found.granularity = backend->granularity;
    found.max_size = backend->max_size;
    found.n_mappings = mrp_load_relaxed(&backend->n_mappings);
    found.mapped_size = mrp_load_relaxed(&backend->mapped_size);
    return mrp_info_write(info, &found, sizeof found, "mrp_backend_info");
}
