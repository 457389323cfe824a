/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/adopted.h"

#include "context/context.h"

#include <stdio.h>
#include <stdlib.h>

static enum mrp_status refuse_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    (void)state;
    (void)mapping;
    return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
        "adopted memory cannot grow by %zu bytes: it is the caller's", request->size);
}

static enum mrp_status release(void *state, const struct mrp_mapping *mapping)
{
    struct mrp_adopted *adopted = mapping->handle;

    (void)state;
    if (adopted != NULL && adopted->release != NULL) {
        adopted->release(mapping->address, mapping->size, adopted->user);
    }
    free(adopted);
    return MRP_OK;
}

static const struct mrp_backend_ops ops = {
    .struct_size = sizeof ops,
    .kind = "adopted",
    .purpose = "memory handed over with mrp_region_adopt",
    .memory_kind = MRP_MEMORY_HOST,
    .map = refuse_map,
    .unmap = release,
};

enum mrp_status mrp_adopted_create(
    struct mrp_context_state *context, struct mrp_backend_state **created)
{
    struct mrp_backend_state *backend = calloc(1, sizeof *backend);

    if (backend == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a backend failed",
            sizeof *backend);
    }
    backend->context = context;
    backend->ops = ops;
    backend->granularity = 1;
    snprintf(backend->named.name, sizeof backend->named.name, "adopted");
    *created = backend;
    return MRP_OK;
}

void mrp_adopted_destroy(struct mrp_backend_state *backend)
{
    free(backend);
}

void mrp_adopted_map(struct mrp_backend_state *backend, void *address, size_t size,
    struct mrp_mapping *mapping)
{
    *mapping = (struct mrp_mapping){
        .struct_size = sizeof *mapping, .address = address, .size = size};
    mrp_add_relaxed(&backend->n_mappings, 1);
    mrp_add_relaxed(&backend->mapped_size, size);
}

void mrp_adopted_forget(
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping)
{
    mrp_sub_relaxed(&backend->n_mappings, 1);
    mrp_sub_relaxed(&backend->mapped_size, mapping->size);
    free(mapping->handle);
}
