/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Slots of the ops table. Local access needs nothing of MPI, so only memory with remote
 * rights is attached, or has to lie in the window.
 */
#include "provider.h"

#include <stdlib.h>

static const uint32_t remote_rights = MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC;

/* What mrp_registration.native points to. */
struct record {
    uintptr_t first, end; /* attached; 0 and 0: nothing */
};

/* -- enter and leave -- */

enum mrp_status mrp_mpi_check_window(
    const struct mrp_mpi_window *window, const char *what)
{
    enum mrp_status status = mrp_mpi_check_up();

    if (status != MRP_OK || !atomic_load(&window->is_freed)) {
        return status;
    }
    return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
        "%s: the window was freed (MPI_Win_free) before its provider was closed", what);
}

enum mrp_status mrp_mpi_enter(struct mrp_mpi_provider *provider, const char *what)
{
    struct mrp_mpi_window *window = provider->window;
    enum mrp_status status = mrp_mpi_check_window(window, what);

    if (status == MRP_OK) {
        status = mrp_mpi_check_thread(&provider->calls, what);
    }
    if (status != MRP_OK) {
        return status;
    }
    mrp_mpi_lock(&provider->calls);
    pthread_mutex_lock(&window->mutex);
    mrp_mpi_detach_owed(window);
    mrp_mpi_free_owed(provider);
    return MRP_OK;
}

void mrp_mpi_enter_anyway(struct mrp_mpi_provider *provider, bool *may_call)
{
    *may_call = mrp_mpi_is_up() && mrp_mpi_is_allowed(&provider->calls);
    if (*may_call) {
        mrp_mpi_lock(&provider->calls);
    }
    pthread_mutex_lock(&provider->window->mutex);
    if (*may_call) {
        mrp_mpi_detach_owed(provider->window);
    }
}

void mrp_mpi_leave(struct mrp_mpi_provider *provider, bool may_call)
{
    pthread_mutex_unlock(&provider->window->mutex);
    if (may_call) {
        mrp_mpi_unlock(&provider->calls);
    }
}

/* -- register -- */

static enum mrp_status check_request(const struct mrp_register_request *request)
{
    if (request->has_dmabuf) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "a dma-buf: MPI-3.1 windows take host memory by its address");
    }
    if (request->native_flags != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "native_flags %#llx: attaching to a window has no flags",
            (unsigned long long)request->native_flags);
    }
    return MRP_OK;
}

static enum mrp_status check_inside(
    const struct mrp_mpi_window *window, const struct mrp_register_request *request)
{
    uintptr_t base = (uintptr_t)window->base, first = (uintptr_t)request->address;

    if (window->base != NULL && first >= base && first - base < window->size &&
        request->size <= window->size - (first - base)) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
        "%zu bytes at %p are not in the window, which has %zu bytes at %p: take the "
        "memory from the provider (mrp_provider_backend), or open it with window=dynamic",
        request->size, request->address, window->size, (void *)window->base);
}

/* Expose the memory, and say how a peer addresses it. */
static enum mrp_status expose(struct mrp_mpi_provider *provider,
    const struct mrp_register_request *request, struct record *record,
    struct mrp_registration *registration)
{
    struct mrp_mpi_window *window = provider->window;
    uintptr_t first = (uintptr_t)request->address;
    enum mrp_status status = mrp_mpi_enter(provider, "registering");
    MPI_Aint address = 0;

    if (status != MRP_OK) {
        return status;
    }
    if (window->is_dynamic) {
        status = mrp_mpi_attach(window, first, first + request->size);
        MPI_Get_address(request->address, &address);
    } else {
        status = check_inside(window, request);
        address = (MPI_Aint)(first - (uintptr_t)window->base);
    }
    mrp_mpi_leave(provider, true);
    if (status != MRP_OK) {
        return status;
    }
    if (window->is_dynamic) {
        *record = (struct record){first, first + request->size};
    }
    registration->remote_key = (uint64_t)window->rank;
    registration->key_size = sizeof(registration->remote_key);
    registration->remote_base = (uint64_t)address;
    return MRP_OK;
}

enum mrp_status mrp_mpi_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    enum mrp_status status = check_request(request);
    struct mrp_registration made = {.struct_size = registration->struct_size};
    struct record *record;

    if (status != MRP_OK) {
        return status;
    }
    record = calloc(1, sizeof(*record));
    if (record == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0,
            "malloc of %zu bytes for a registration failed", sizeof(*record));
    }
    if ((request->access & remote_rights) != 0) {
        status = expose(state, request, record, &made);
    }
    if (status != MRP_OK) {
        free(record);
        return status;
    }
    made.native = record;
    *registration = made;
    return MRP_OK;
}

/* -- deregister -- */

/* Of a window that is gone nothing is left to detach: that is success. */
enum mrp_status mrp_mpi_deregister_memory(
    void *state, const struct mrp_registration *registration)
{
    struct mrp_mpi_provider *provider = state;
    struct record *record = registration->native;
    enum mrp_status status = MRP_OK;
    bool may_call;

    if (record->end > record->first) {
        mrp_mpi_enter_anyway(provider, &may_call);
        status = mrp_mpi_detach(provider->window, record->first, record->end,
            may_call || mrp_mpi_window_is_dead(provider->window));
        mrp_mpi_leave(provider, may_call);
    }
    free(record);
    return status == MRP_ERR_AGAIN
        ? mrp_mpi_check_thread(&provider->calls, "deregistering")
        : status;
}
