/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The provider's own memory: MPI_Alloc_mem beside a dynamic window, which some networks
 * transfer faster from, and parts of a window that has its own.
 */
#include "provider.h"

#include <stdlib.h>
#include <unistd.h>

/* -- MPI_Alloc_mem -- */

static bool is_free(
    const struct mrp_mpi_provider *provider, const struct mrp_mpi_allocation *allocation)
{
    uintptr_t first = (uintptr_t)allocation->address;

    return allocation->is_owed &&
        !mrp_mpi_is_attached(provider->window, first, first + allocation->size);
}

void mrp_mpi_free_owed(struct mrp_mpi_provider *provider)
{
    struct mrp_mpi_allocation **place = &provider->allocations;

    while (provider->n_owed > 0 && *place != NULL) {
        struct mrp_mpi_allocation *allocation = *place;

        if (!is_free(provider, allocation)) {
            place = &allocation->next;
            continue;
        }
        *place = allocation->next;
        provider->n_owed--;
        mrp_mpi_free_mem(allocation->start);
        free(allocation);
    }
}

void mrp_mpi_free_all(struct mrp_mpi_provider *provider, bool may_call)
{
    while (provider->allocations != NULL) {
        struct mrp_mpi_allocation *allocation = provider->allocations;

        provider->allocations = allocation->next;
        if (may_call) {
            mrp_mpi_free_mem(allocation->start);
        }
        free(allocation);
    }
    provider->n_owed = 0;
}

/* MPI promises no alignment: it is asked for more. */
static enum mrp_status allocate(struct mrp_mpi_provider *provider,
    const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct mrp_mpi_allocation *allocation = malloc(sizeof(*allocation));
    size_t size = request->size + request->alignment;
    void *start = NULL;
    uintptr_t address;
    int code;

    if (allocation == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a mapping failed",
            sizeof(*allocation));
    }
    code = mrp_mpi_alloc_mem(size, &start);
    if (code != MPI_SUCCESS) {
        char words[160];

        free(allocation);
        mrp_mpi_error_text(code, words, sizeof(words));
        return mrp_fail(
            MRP_ERR_MEMORY, code, "MPI_Alloc_mem of %zu bytes: %s", size, words);
    }
    address =
        ((uintptr_t)start + request->alignment - 1) & -(uintptr_t)request->alignment;
    *allocation = (struct mrp_mpi_allocation){
        start, (void *)address, request->size, false, provider->allocations};
    provider->allocations = allocation;
    mapping->address = allocation->address;
    mapping->handle = allocation;
    return MRP_OK;
}

/* -- part of a window -- */

static enum mrp_status carve(struct mrp_mpi_window *window,
    const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct mrp_mpi_piece *piece;
    uintptr_t address;
    enum mrp_status status =
        mrp_mpi_carve(window, request->size, request->alignment, &piece);

    if (status == MRP_OK) {
        address = (uintptr_t)window->base + piece->offset;
        mapping->address = (void *)address;
        mapping->handle = piece;
    }
    return status;
}

/* -- slots of the backend's table -- */

static enum mrp_status map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct mrp_mpi_provider *provider = state;
    struct mrp_mpi_window *window = provider->window;
    enum mrp_status status;

    if (window->is_dynamic) {
        status = mrp_mpi_enter(provider, "allocating");
        if (status == MRP_OK) {
            status = allocate(provider, request, mapping);
            mrp_mpi_leave(provider, true);
        }
    } else {
        status = mrp_mpi_check_window(window, "allocating"); /* its memory goes with it */
        if (status == MRP_OK) {
            pthread_mutex_lock(&window->mutex);
            status = carve(window, request, mapping);
            pthread_mutex_unlock(&window->mutex);
        }
    }
    if (status == MRP_OK) {
        mapping->size = request->size;
        mapping->page_size = (size_t)sysconf(_SC_PAGESIZE);
        mapping->pages = mapping->pages_wanted = MRP_PAGES_4K;
    }
    return status;
}

/* What cannot go back to MPI now is owed: freed with the next call that can. */
static enum mrp_status unmap(void *state, const struct mrp_mapping *mapping)
{
    struct mrp_mpi_provider *provider = state;
    struct mrp_mpi_window *window = provider->window;
    bool may_call;

    if (!window->is_dynamic) {
        pthread_mutex_lock(&window->mutex);
        mrp_mpi_give_back(window, mapping->handle);
        pthread_mutex_unlock(&window->mutex);
        return MRP_OK;
    }
    mrp_mpi_enter_anyway(provider, &may_call);
    ((struct mrp_mpi_allocation *)mapping->handle)->is_owed = true;
    provider->n_owed++;
    if (may_call) {
        mrp_mpi_free_owed(provider);
    }
    mrp_mpi_leave(provider, may_call);
    return MRP_OK;
}

const struct mrp_backend_ops mrp_mpi_backend = {
    .struct_size = sizeof(struct mrp_backend_ops),
    .kind = MRP_MPI_MODULE,
    .purpose = "memory of MPI: MPI_Alloc_mem, or part of an allocated window",
    .memory_kind = MRP_MEMORY_HOST,
    .map = map,
    .unmap = unmap,
};
