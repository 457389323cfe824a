/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A backend of the caller's own that notes what a test provider is doing while it maps,
 * unmaps and goes: what was registered, and whether the provider was closed already.
 */
#ifndef RECORDING_BACKEND_H
#define RECORDING_BACKEND_H

#include "mrpool/backend.h"
#include "support/test_providers.h"

#include <sys/mman.h>

struct recording_backend {
    struct test_provider *network; /* or NULL */
    size_t n_mapped, n_unmapped, n_destroyed; /* calls that went well */
    size_t n_live_at_unmap; /* of the network, at the last unmap */
    size_t n_closed_at_unmap, n_closed_at_destroy;
    enum mrp_status map_status, unmap_status; /* not MRP_OK: what the calls return */
    bool is_silent; /* a failure leaves no record */
};

static inline enum mrp_status recording_fail(
    const struct recording_backend *backend, enum mrp_status status)
{
    return backend->is_silent ? status : mrp_fail(status, 7, "recorder: as told");
}

static inline enum mrp_status recording_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct recording_backend *backend = state;
    size_t size = (request->size + 4095) & ~(size_t)4095;
    size_t spare = request->alignment;
    uintptr_t start, aligned;
    void *all;

    if (backend->map_status != MRP_OK) {
        return recording_fail(backend, backend->map_status);
    }
    all = mmap(
        NULL, size + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "recorder: mmap of %zu bytes", size + spare);
    }
    start = (uintptr_t)all;
    aligned = (start + request->alignment - 1) & ~(request->alignment - 1);
    aligned = (aligned + 4095) & ~(uintptr_t)4095;
    if (aligned > start) {
        munmap(all, aligned - start);
    }
    if (start + spare > aligned) {
        munmap((void *)(aligned + size), start + spare - aligned);
    }
    mapping->address = (void *)aligned;
    mapping->size = size;
    mapping->page_size = 4096;
    mapping->pages = MRP_PAGES_4K;
    mapping->zeroed = true;
    backend->n_mapped++;
    return MRP_OK;
}

static inline enum mrp_status recording_unmap(
    void *state, const struct mrp_mapping *mapping)
{
    struct recording_backend *backend = state;

    if (backend->network != NULL) {
        backend->n_live_at_unmap = backend->network->n_live;
        backend->n_closed_at_unmap = backend->network->n_closed;
    }
    munmap(mapping->address, mapping->size);
    backend->n_unmapped++;
    return backend->unmap_status == MRP_OK
        ? MRP_OK
        : recording_fail(backend, backend->unmap_status);
}

static inline void recording_destroy(void *state)
{
    struct recording_backend *backend = state;

    backend->n_destroyed++;
    if (backend->network != NULL) {
        backend->n_closed_at_destroy = backend->network->n_closed;
    }
}

static inline const struct mrp_backend_ops *recording_ops(void)
{
    static const struct mrp_backend_ops ops = {
        .struct_size = sizeof ops,
        .kind = "recorder",
        .purpose = "notes the order of things",
        .map = recording_map,
        .unmap = recording_unmap,
        .destroy = recording_destroy,
    };

    return &ops;
}

#endif
