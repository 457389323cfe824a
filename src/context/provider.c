/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/align.h"
#include "base/error.h"
#include "base/handle.h"
#include "context/context.h"
#include "context/module.h"
#include "context/parking.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- open and close -- */

static void query_info(struct mrp_provider_state *provider)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    info.access = MRP_ACCESS_ALL;
    info.memory_kinds = 1u << MRP_MEMORY_HOST;
    if (provider->ops.query != NULL) {
        provider->ops.query(provider->state, &info);
    }
    snprintf(provider->device, sizeof provider->device, "%s",
        info.device == NULL ? "" : info.device);
    provider->info = info;
    provider->info.struct_size = sizeof info;
    provider->info.device = provider->device;
    provider->info.name = provider->named.name;
    provider->info.module = provider->ops.module == NULL ? "" : provider->ops.module;
}

static enum mrp_status make_state(struct mrp_context_state *context,
    const struct mrp_provider_ops *ops, void *state, const char *name,
    struct mrp_provider_state **created)
{
    struct mrp_provider_state *provider = calloc(1, sizeof *provider);
    const char *prefix = ops->module == NULL ? "provider" : ops->module;
    enum mrp_status status;

    if (provider == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a provider failed",
            sizeof *provider);
    }
    provider->context = context;
    memcpy(&provider->ops, ops, mrp_min(ops->struct_size, sizeof provider->ops));
    provider->state = state;
    query_info(provider); /* whole before others can find it */
    pthread_mutex_init(&provider->mutex, NULL);
    provider->handle = mrp_handle_create(MRP_HANDLE_PROVIDER, provider);
    if (provider->handle == NULL) {
        status = mrp_error_last()->status;
        goto undo_allocate;
    }
    provider->named.handle = provider->handle;
    status =
        mrp_context_link(context, &context->providers, &provider->named, name, prefix);
    if (status != MRP_OK) {
        goto undo_handle;
    }
    *created = provider;
    return MRP_OK;

undo_handle:
    mrp_handle_destroy(MRP_HANDLE_PROVIDER, provider->handle);
undo_allocate:
    pthread_mutex_destroy(&provider->mutex);
    free(provider);
    return status;
}

static enum mrp_status open_module(const struct mrp_provider_ops *ops, const char *module,
    const struct mrp_provider_params *params, void **state)
{
    struct mrp_provider_open_request request = {
        .struct_size = sizeof request,
        .native = params->native,
    };
    const char **values = calloc(ops->n_settings + 1, sizeof *values);
    uint64_t *numbers = calloc(ops->n_settings + 1, sizeof *numbers);
    struct mrp_error before = *mrp_error_last();
    char *storage = NULL;
    enum mrp_status status;

    status = values != NULL && numbers != NULL
        ? mrp_module_settings(ops, params->options, values, numbers, &storage)
        : mrp_fail(MRP_ERR_MEMORY, 0, "malloc for the settings of %s failed", module);
    if (status == MRP_OK) {
        request.values = values;
        request.numbers = numbers;
        mrp_error_clear();
        status = mrp_error_settle(
            &before, ops->open(&request, state), "provider module", module, "open");
        free(storage);
    }
    free(numbers);
    free(values);
    return status;
}

enum mrp_status mrp_provider_state_open(struct mrp_context_state *context,
    const char *module, const struct mrp_provider_params *given,
    struct mrp_provider_state **provider)
{
    const struct mrp_provider_ops *ops;
    struct mrp_provider_params params;
    enum mrp_status status;
    void *state = NULL;

    status = mrp_params_read(&params, sizeof params, given, "mrp_provider_params");
    if (status == MRP_OK) {
        status = mrp_module_load(module, &ops);
    }
    if (status == MRP_OK) {
        status = open_module(ops, module, &params, &state);
    }
    if (status != MRP_OK) {
        return status;
    }
    status = make_state(context, ops, state, params.name, provider);
    if (status != MRP_OK && MRP_PROVIDER_HAS(ops, close)) {
        ops->close(state);
    }
    return status;
}

void mrp_provider_state_close(struct mrp_provider_state *provider)
{
    mrp_handle_destroy(MRP_HANDLE_PROVIDER, provider->handle);
    mrp_context_unlink(
        provider->context, &provider->context->providers, &provider->named);
    mrp_remote_close_all(provider);
    if (provider->ops.close != NULL) {
        provider->ops.close(provider->state);
    }
    mrp_backend_orphan(provider);
    mrp_parking_release(provider);
    pthread_mutex_destroy(&provider->mutex);
    free(provider);
}

/* -- the only callers of register and deregister -- */

enum mrp_status mrp_provider_grants(
    const struct mrp_provider_state *provider, uint32_t access, enum mrp_memory_kind kind)
{
    if (access == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "access 0 of provider %s: one or more bits of enum mrp_access",
            provider->named.name);
    }
    if ((access & ~provider->info.access) != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "provider %s cannot grant access %#x, only %#x: ask for less, or open it "
            "with what that needs (remote access, atomics)",
            provider->named.name, access, provider->info.access);
    }
    if ((provider->info.memory_kinds >> kind & 1) == 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "provider %s cannot register memory of kind %d: open it for device memory, "
            "or take a backend of host memory",
            provider->named.name, (int)kind);
    }
    return MRP_OK;
}

enum mrp_status mrp_provider_register(struct mrp_provider_state *provider,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct mrp_registration got = {.struct_size = sizeof got};
    const struct mrp_provider_info *info = &provider->info;
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status =
        mrp_provider_grants(provider, request->access, request->kind);

    if (status != MRP_OK) {
        return status;
    }
    if (request->address == NULL || request->size == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "provider %s: %zu bytes at %p: nothing to register", provider->named.name,
            request->size, request->address);
    }
    if (mrp_provider_is_too_small(provider, request->size)) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "provider %s registers at most %zu bytes at once, not %zu: use smaller "
            "chunks (chunk_max, MRPOOL_CHUNK_MAX)",
            provider->named.name, info->max_size, request->size);
    }
    mrp_error_clear();
    status = mrp_error_settle(&before,
        provider->ops.register_memory(provider->state, request, &got), "provider",
        provider->named.name, "registration");
    if (status != MRP_OK) {
        return status;
    }
    mrp_add_relaxed(&provider->n_registrations, 1);
    mrp_add_relaxed(&provider->n_registered, 1);
    mrp_add_relaxed(&provider->registered_size, request->size);
    *registration = got;
    return MRP_OK;
}

enum mrp_status mrp_provider_deregister(struct mrp_provider_state *provider,
    const struct mrp_registration *registration, size_t size)
{
    struct mrp_error before = *mrp_error_last();

    mrp_sub_relaxed(&provider->n_registrations, 1);
    mrp_add_relaxed(&provider->n_deregistered, 1);
    mrp_sub_relaxed(&provider->registered_size, size);
    mrp_error_clear();
    return mrp_error_settle(&before,
        provider->ops.deregister_memory(provider->state, registration), "provider",
        provider->named.name, "deregistration");
}

/* -- public -- */

enum mrp_status mrp_provider_get(
    struct mrp_provider *handle, struct mrp_provider_state **provider)
{
    void *object;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_PROVIDER, handle, &object);

    if (status == MRP_OK) {
        *provider = object;
    }
    return status;
}

enum mrp_status mrp_provider_open(struct mrp_context *handle, const char *module,
    const struct mrp_provider_params *params, struct mrp_provider **opened)
{
    struct mrp_context_state *context;
    struct mrp_provider_state *provider;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (module == NULL || opened == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "%s is NULL", module == NULL ? "module" : "provider");
    }
    status = mrp_provider_state_open(context, module, params, &provider);
    if (status == MRP_OK) {
        *opened = provider->handle;
    }
    return status;
}

enum mrp_status mrp_provider_create(struct mrp_context *handle, const char *name,
    const struct mrp_provider_ops *ops, void *state, struct mrp_provider **created)
{
    struct mrp_context_state *context;
    struct mrp_provider_state *provider;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status == MRP_OK) {
        status = created == NULL
            ? mrp_fail(MRP_ERR_INVALID, 0, "provider is NULL")
            : mrp_provider_ops_check(ops, name == NULL ? "(unnamed)" : name, false);
    }
    if (status == MRP_OK) {
        status = make_state(context, ops, state, name, &provider);
    }
    if (status == MRP_OK) {
        *created = provider->handle;
    }
    return status;
}

enum mrp_status mrp_provider_close(struct mrp_provider *handle)
{
    struct mrp_provider_state *provider;
    struct mrp_context_state *context;
    enum mrp_status status = mrp_provider_get(handle, &provider);

    if (status != MRP_OK) {
        return status;
    }
    /* pairs with the releases of who stops using it: nothing of theirs is under way */
    if (mrp_load_acquire(&provider->n_users) > 0 ||
        mrp_load_acquire(&provider->n_registrations) > 0) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "provider %s serves %zu pools, imports or backends and holds %zu "
            "registrations: destroy those first",
            provider->named.name, mrp_load_relaxed(&provider->n_users),
            mrp_load_relaxed(&provider->n_registrations));
    }
    context = provider->context;
    mrp_provider_state_close(provider);
    mrp_context_serve(context); /* memory that it kept is room for others */
    return MRP_OK;
}

enum mrp_status mrp_provider_find(
    struct mrp_context *handle, const char *name, struct mrp_provider **found)
{
    struct mrp_context_state *context;
    void *named;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (found == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "provider is NULL");
    }
    named = mrp_context_lookup(context, &context->providers, name, "provider");
    if (named == NULL) {
        return mrp_error_last()->status;
    }
    *found = named;
    return MRP_OK;
}

enum mrp_status mrp_provider_query(
    struct mrp_provider *handle, struct mrp_provider_info *info)
{
    struct mrp_provider_state *provider;
    struct mrp_provider_info found;
    enum mrp_status status = mrp_provider_get(handle, &provider);

    if (status != MRP_OK) {
        return status;
    }
    found = provider->info;
    found.n_registrations = mrp_load_relaxed(&provider->n_registrations);
    found.registered_size = mrp_load_relaxed(&provider->registered_size);
    found.n_registered = mrp_load_relaxed(&provider->n_registered);
    found.n_deregistered = mrp_load_relaxed(&provider->n_deregistered);
    return mrp_info_write(info, &found, sizeof found, "mrp_provider_info");
}

enum mrp_status mrp_provider_native(struct mrp_provider *handle, const void **native)
{
    struct mrp_provider_state *provider;
    enum mrp_status status = mrp_provider_get(handle, &provider);

    if (status != MRP_OK) {
        return status;
    }
    if (native == NULL || provider->ops.native == NULL) {
        return native == NULL
            ? mrp_fail(MRP_ERR_INVALID, 0, "native is NULL")
            : mrp_fail(MRP_ERR_UNSUPPORTED, 0, "provider %s shows no native handle",
                  provider->named.name);
    }
    *native = provider->ops.native(provider->state);
    return MRP_OK;
}
