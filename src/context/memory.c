/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tracked blocks: mrp_memory_alloc, free, query, visit.
 */
#include "base/align.h"
#include "base/error.h"
#include "context/context.h"
#include "context/origin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mrp_block {
    struct mrp_memory_info info; /* as asked for, with the real values filled in */
    struct mrp_backend_state *backend;
    struct mrp_mapping mapping;
    struct mrp_registration pin; /* of a pinned block */
    const void *caller;
};

/* -- alloc -- */

static enum mrp_status check_request(const struct mrp_memory_info *info)
{
    if (info->alignment != 0 &&
        (!mrp_is_power_of_two(info->alignment) || info->alignment > MRP_GIB)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "alignment is %zu: it must be a power of two, at most 1 GiB",
            info->alignment);
    }
    if ((info->flags & ~(uint32_t)(MRP_MEMORY_PINNED | MRP_MEMORY_UNZEROED)) != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "flags are %#x: unknown bits", info->flags);
    }
    if ((unsigned)info->kind > MRP_MEMORY_ROCM) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "kind is %d: no enum mrp_memory_kind", (int)info->kind);
    }
    if (info->kind == MRP_MEMORY_HOST && info->device != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "device is %d, but host memory has no device",
            info->device);
    }
    if (info->address != NULL || info->usable_size != 0 || info->page_size != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "address, usable_size and page_size are outputs: they must be zero going in");
    }
    return MRP_OK;
}

static enum mrp_status choose_backend(struct mrp_context_state *context,
    const struct mrp_memory_info *info, struct mrp_backend_state **chosen)
{
    struct mrp_backend_state *backend = context->block_backend;
    enum mrp_status status;

    if (info->backend != NULL) {
        status = mrp_backend_get(info->backend, &backend);
        if (status != MRP_OK) {
            return status;
        }
        if (backend->context != context) {
            return mrp_fail(MRP_ERR_INVALID, 0, "backend %s belongs to another context",
                backend->named.name);
        }
    }
    if (backend->ops.memory_kind != info->kind) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "backend %s gives memory of kind %d, not %d: choose a backend of that kind",
            backend->named.name, (int)backend->ops.memory_kind, (int)info->kind);
    }
    *chosen = backend;
    return MRP_OK;
}

static struct mrp_provider_state *find_pin_provider(struct mrp_context_state *context)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider_state *opened, *provider;

    pthread_mutex_lock(&context->mutex);
    provider = context->pin_provider;
    pthread_mutex_unlock(&context->mutex);
    if (provider != NULL ||
        mrp_provider_state_open(context, "host", &params, &opened) != MRP_OK) {
        return provider;
    }
    pthread_mutex_lock(&context->mutex);
    if (context->pin_provider == NULL) {
        mrp_add_relaxed(&opened->n_users, 1);
        context->pin_provider = opened;
        opened = NULL;
    }
    provider = context->pin_provider;
    pthread_mutex_unlock(&context->mutex);
    if (opened != NULL) { /* another thread was first */
        mrp_provider_state_close(opened);
    }
    return provider;
}

static enum mrp_status pin(struct mrp_context_state *context, struct mrp_block *block)
{
    struct mrp_provider_state *provider = find_pin_provider(context);
    struct mrp_register_request request = {
        .struct_size = sizeof request,
        .address = block->mapping.address,
        .size = block->mapping.size,
        .access = MRP_ACCESS_LOCAL,
    };

    return provider == NULL ? mrp_error_last()->status
                            : mrp_provider_register(provider, &request, &block->pin);
}

static enum mrp_status map_block(
    struct mrp_context_state *context, struct mrp_block *block)
{
    struct mrp_memory_info *info = &block->info;
    bool pinned = (info->flags & MRP_MEMORY_PINNED) != 0;
    struct mrp_map_request request = {.struct_size = sizeof request};
    struct mrp_system system = MRP_SYSTEM_INIT;
    enum mrp_status status;

    request.size = mrp_max(info->size, 1);
    request.alignment = mrp_max(info->alignment, MRP_LINE);
    request.node = info->node;
    request.pages = info->pages;
    if (pinned) { /* whole pages: locking must neither reach nor release a neighbour */
        mrp_system_query(&system);
        request.alignment = mrp_max(request.alignment, system.page_size);
        if (request.size > PTRDIFF_MAX) {
            return mrp_fail(MRP_ERR_INVALID, 0, "cannot allocate %zu bytes", info->size);
        }
        request.size = mrp_align_up(request.size, system.page_size);
    }
    status = mrp_backend_map(block->backend, &request, &block->mapping);
    if (status != MRP_OK) {
        return status;
    }
    status = pinned ? pin(context, block) : MRP_OK;
    if (status != MRP_OK) {
        struct mrp_error cause = *mrp_error_last();

        mrp_backend_unmap(block->backend, &block->mapping);
        return mrp_fail_at(cause.function, cause.status, cause.native, "%s", cause.text);
    }
    info->alignment = mrp_max(info->alignment, MRP_LINE);
    info->address = block->mapping.address;
    info->usable_size = info->size == 0 ? 0 : block->mapping.size;
    info->page_size = block->mapping.page_size;
    info->node = block->mapping.node;
    info->pages = block->mapping.pages;
    info->backend = block->backend->handle;
    return MRP_OK;
}

static enum mrp_status unmap_block(
    struct mrp_context_state *context, struct mrp_block *block)
{
    enum mrp_status status = MRP_OK;

    if ((block->info.flags & MRP_MEMORY_PINNED) != 0) {
        status = mrp_provider_deregister(
            context->pin_provider, &block->pin, block->mapping.size);
    }
    if (status == MRP_OK) {
        status = mrp_backend_unmap(block->backend, &block->mapping);
    } else {
        mrp_provider_park(context->pin_provider, block->backend, &block->mapping);
    }
    mrp_sub_acq_rel(&block->backend->n_users, 1);
    free(block);
    return status;
}

static enum mrp_status track(struct mrp_context_state *context, struct mrp_block *block)
{
    enum mrp_status status;

    pthread_mutex_lock(&context->mutex);
    status =
        mrp_block_table_insert(&context->blocks, (uintptr_t)block->info.address, block);
    if (status == MRP_OK) {
        context->block_size += block->info.size;
    }
    pthread_mutex_unlock(&context->mutex);
    return status;
}

enum mrp_status mrp_memory_track(struct mrp_context_state *context,
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping, void *address,
    size_t size, const void *caller)
{
    struct mrp_block *block = calloc(1, sizeof *block);
    enum mrp_status status;

    if (block == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0,
            "malloc of %zu bytes for a block record failed", sizeof *block);
    }
    block->info = (struct mrp_memory_info)MRP_MEMORY_INFO_INIT;
    block->info.size = block->info.usable_size = size;
    block->info.alignment = MRP_LINE;
    block->info.kind = backend->ops.memory_kind;
    block->info.device = mapping->device;
    block->info.node = mapping->node;
    block->info.pages = mapping->pages;
    block->info.page_size = mapping->page_size;
    block->info.backend = backend->handle;
    block->info.address = address;
    block->backend = backend;
    block->mapping = *mapping;
    block->caller = caller;
    status = track(context, block);
    if (status == MRP_OK) {
        mrp_add_relaxed(&backend->n_users, 1);
    } else {
        free(block);
    }
    return status;
}

void mrp_memory_untrack(struct mrp_context_state *context, void *address)
{
    struct mrp_block *block;

    pthread_mutex_lock(&context->mutex);
    block = mrp_block_table_remove(&context->blocks, (uintptr_t)address);
    context->block_size -= block->info.size;
    pthread_mutex_unlock(&context->mutex);
    mrp_sub_acq_rel(&block->backend->n_users, 1);
    free(block);
}

static void *alloc_block(struct mrp_context_state *context,
    const struct mrp_memory_info *info, struct mrp_backend_state *backend,
    const void *caller)
{
    struct mrp_block *block = malloc(sizeof *block);
    void *address;

    if (block == NULL) {
        mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a block record failed",
            sizeof *block);
        return NULL;
    }
    block->info = *info;
    block->backend = backend;
    block->caller = caller;
    if (map_block(context, block) != MRP_OK) {
        free(block);
        return NULL;
    }
    mrp_add_relaxed(&backend->n_users, 1);
    address = block->info.address;
    if (!block->mapping.zeroed && (info->flags & MRP_MEMORY_UNZEROED) == 0) {
        memset(address, 0, info->size);
    }
    if (track(context, block) != MRP_OK) {
        unmap_block(context, block);
        return NULL;
    }
    return address;
}

void *mrp_memory_alloc(struct mrp_context *handle, const struct mrp_memory_info *given)
{
    struct mrp_backend_state *backend = NULL;
    struct mrp_context_state *context;
    struct mrp_memory_info info;

    if (mrp_context_get(handle, &context) != MRP_OK ||
        mrp_params_read(&info, sizeof info, given, "mrp_memory_info") != MRP_OK ||
        check_request(&info) != MRP_OK ||
        choose_backend(context, &info, &backend) != MRP_OK) {
        return NULL;
    }
    return alloc_block(context, &info, backend, __builtin_return_address(0));
}

/* -- free and query -- */

/* Why an address is none of ours. O(blocks), but only on a caller's mistake. Under the
 * mutex. */
static enum mrp_status explain_unknown(
    struct mrp_context_state *context, const void *address)
{
    uintptr_t wanted = (uintptr_t)address;

    for (size_t i = 0; i < MRP_RECENTLY_FREED; i++) {
        if (context->freed[i] == wanted) {
            return mrp_fail(MRP_ERR_STALE, 0,
                "address %p: the block there was freed already", address);
        }
    }
    for (size_t i = 0; i < context->blocks.capacity; i++) {
        uintptr_t start = context->blocks.slots[i].address;
        const struct mrp_block *block = context->blocks.slots[i].block;

        if (start != 0 && wanted > start && wanted - start < block->mapping.size) {
            return mrp_fail(MRP_ERR_STALE, 0,
                "address %p lies %zu bytes inside the block of %zu bytes at %p: pass "
                "the block's first byte",
                address, (size_t)(wanted - start), block->info.size, (void *)start);
        }
    }
    return mrp_fail(MRP_ERR_STALE, 0,
        "address %p: no block of context %s begins there (%zu are live)", address,
        context->name, context->blocks.n_blocks);
}

enum mrp_status mrp_memory_free(struct mrp_context *handle, void *address)
{
    struct mrp_context_state *context;
    struct mrp_block *block;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (address == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "address is NULL");
    }
    pthread_mutex_lock(&context->mutex);
    block = mrp_block_table_remove(&context->blocks, (uintptr_t)address);
    if (block != NULL) {
        context->block_size -= block->info.size;
        context->freed[context->next_freed++ % MRP_RECENTLY_FREED] = (uintptr_t)address;
    } else {
        status = explain_unknown(context, address);
    }
    pthread_mutex_unlock(&context->mutex);
    return block == NULL ? status : unmap_block(context, block);
}

enum mrp_status mrp_memory_query(
    struct mrp_context *handle, const void *address, struct mrp_memory_info *info)
{
    struct mrp_context_state *context;
    struct mrp_memory_info found = MRP_MEMORY_INFO_INIT;
    const struct mrp_block *block;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (address == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "address is NULL");
    }
    pthread_mutex_lock(&context->mutex);
    block = mrp_block_table_find(&context->blocks, (uintptr_t)address);
    if (block != NULL) {
        found = block->info;
    } else {
        status = explain_unknown(context, address);
    }
    pthread_mutex_unlock(&context->mutex);
    return block == NULL ? status
                         : mrp_info_write(info, &found, sizeof found, "mrp_memory_info");
}

enum mrp_status mrp_memory_visit(
    struct mrp_context *handle, mrp_memory_visitor *visit, void *user)
{
    struct mrp_context_state *context;
    struct mrp_memory_info *infos;
    size_t n_infos = 0;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (visit == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "visit is NULL");
    }
    pthread_mutex_lock(&context->mutex);
    infos = malloc((context->blocks.n_blocks + 1) * sizeof *infos);
    for (size_t i = 0; infos != NULL && i < context->blocks.capacity; i++) {
        if (context->blocks.slots[i].address != 0) {
            infos[n_infos++] = context->blocks.slots[i].block->info;
        }
    }
    pthread_mutex_unlock(&context->mutex);
    if (infos == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc for a snapshot of the blocks failed");
    }
    for (size_t i = 0; i < n_infos; i++) {
        visit(&infos[i], user);
    }
    free(infos);
    return MRP_OK;
}

/* -- at the context's end -- */

static void describe_origin(const struct mrp_block *block, char *text, size_t size)
{
    if (block->info.tag != NULL) {
        snprintf(text, size, "%s", block->info.tag);
    } else {
        mrp_caller_describe(block->caller, text, size);
    }
}

void mrp_memory_free_all(
    struct mrp_context_state *context, struct mrp_leak_report *report)
{
    struct mrp_block_table *table = &context->blocks;

    for (size_t i = 0; i < table->capacity; i++) {
        struct mrp_block *block = table->slots[i].block;
        char origin[160];
        struct mrp_leak leak = {.kind = MRP_OBJECT_BLOCK, .origin = origin};

        if (table->slots[i].address == 0) {
            continue;
        }
        describe_origin(block, origin, sizeof origin);
        leak.address = block->info.address;
        leak.size = block->info.size;
        leak.owner = block->backend->named.name;
        mrp_leak_add(report, &leak);
        unmap_block(context, block);
    }
    mrp_block_table_destroy(table);
}
