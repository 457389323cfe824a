/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A chunk's registrations: with the rails there are when it is built, and with those that
 * come and go later.
 */
#include "base/error.h"
#include "context/context.h"
#include "context/parking.h"

#include <stdlib.h>
#include <string.h>

static uint64_t bit(size_t rail)
{
    return (uint64_t)1 << rail;
}

bool mrp_chunk_is_near(
    const struct mrp_chunk *chunk, const struct mrp_provider_state *provider)
{
    int node = chunk->mapping.node != 0 ? chunk->mapping.node : chunk->node;

    return node == 0 || provider->info.node == 0 || node == provider->info.node;
}

static bool pins(const struct mrp_provider_state *provider)
{
    return (provider->info.traits & MRP_PROVIDER_PINS) != 0;
}

bool mrp_chunk_is_pinned(const struct mrp_chunk *chunk)
{
    for (size_t rail = 0; rail < chunk->n_rails; rail++) {
        if (chunk->rails[rail] != NULL && pins(chunk->rails[rail])) {
            return true;
        }
    }
    return chunk->keeps_pinned;
}

/* After each change. */
static void count(struct mrp_chunk *chunk)
{
    mrp_store_relaxed(
        &chunk->n_registered, (uint32_t)__builtin_popcountll(chunk->registered));
    mrp_store_relaxed(&chunk->is_pinned, mrp_chunk_is_pinned(chunk));
}

/* -- in -- */

/* Room for the rails below `n_rails`. Readers have the mutex while they look. */
static enum mrp_status reserve(struct mrp_chunk *chunk, size_t n_rails)
{
    struct mrp_provider_state **rails, **old_rails = chunk->rails;
    struct mrp_registration *registrations, *old = chunk->registrations;

    if (n_rails <= chunk->n_rails) {
        return MRP_OK;
    }
    rails = calloc(n_rails, sizeof *rails);
    registrations = calloc(n_rails, sizeof *registrations);
    if (rails == NULL || registrations == NULL) {
        free(rails);
        free(registrations);
        return mrp_fail(MRP_ERR_MEMORY, 0,
            "malloc for the registrations of %zu rails failed", n_rails);
    }
    pthread_mutex_lock(&chunk->context->chunks.mutex);
    if (chunk->n_rails > 0) {
        memcpy(rails, old_rails, chunk->n_rails * sizeof *rails);
        memcpy(registrations, old, chunk->n_rails * sizeof *registrations);
    }
    chunk->rails = rails;
    chunk->registrations = registrations;
    chunk->n_rails = n_rails;
    pthread_mutex_unlock(&chunk->context->chunks.mutex);
    free(old_rails);
    free(old);
    return MRP_OK;
}

enum mrp_status mrp_chunk_attach(
    struct mrp_chunk *chunk, unsigned rail, struct mrp_provider_state *provider)
{
    struct mrp_register_request request = {
        .struct_size = sizeof request,
        .address = chunk->mapping.address,
        .size = chunk->mapping.size,
        .access = chunk->access,
        .native_flags = chunk->native_flags,
        .kind =
            chunk->backend == NULL ? MRP_MEMORY_HOST : chunk->backend->ops.memory_kind,
    };
    struct mrp_registration registration;
    enum mrp_status status = reserve(chunk, rail + 1);

    if (status == MRP_OK) {
        status = mrp_provider_register(provider, &request, &registration);
    }
    if (status == MRP_OK) {
        pthread_mutex_lock(&chunk->context->chunks.mutex);
        chunk->rails[rail] = provider;
        chunk->registrations[rail] = registration;
        mrp_store_relaxed(&chunk->registered, chunk->registered | bit(rail));
        count(chunk);
        pthread_mutex_unlock(&chunk->context->chunks.mutex);
    }
    return status;
}

enum mrp_status mrp_chunk_register(
    struct mrp_chunk *chunk, const struct mrp_chunk_request *request)
{
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status;

    chunk->registered = 0;
    chunk->kept = NULL;
    chunk->is_lost = chunk->keeps_pinned = false;
    count(chunk);
    status = reserve(chunk, request->n_rails);
    for (unsigned rail = 0; status == MRP_OK && rail < request->n_rails; rail++) {
        struct mrp_provider_state *provider = request->rails[rail];

        if (provider == NULL ||
            ((request->near & bit(rail)) != 0 && !mrp_chunk_is_near(chunk, provider))) {
            continue;
        }
        status = mrp_chunk_attach(chunk, rail, provider);
        if (status != MRP_OK && request->go_on != NULL &&
            request->go_on(request, rail, status)) {
            mrp_error_restore(&before);
            status = MRP_OK;
        }
    }
    return status;
}

/* -- out -- */

/* The provider would not deregister it. Of its own memory it needs no hold until it closes:
 * unmap is its call. False: the memory is the caller's, or the provider's. */
static bool keep(struct mrp_chunk *chunk, struct mrp_provider_state *provider)
{
    if (chunk->backend == NULL || chunk->backend->provider == provider) {
        return false;
    }
    if (chunk->kept == NULL) {
        chunk->kept = mrp_parking_create(chunk->backend);
    }
    if (chunk->kept == NULL ||
        !mrp_parking_hold(
            chunk->kept, provider, chunk->mapping.size + 2 * chunk->guard)) {
        chunk->is_lost = true;
    }
    chunk->keeps_pinned = chunk->keeps_pinned || pins(provider);
    return true;
}

/* Whatever the provider's status, callers tell one thing: it has kept the registration. */
static enum mrp_status as_refusal(enum mrp_status status)
{
    struct mrp_error cause = *mrp_error_last();

    return status == MRP_ERR_REGISTER
        ? status
        : mrp_fail_at(cause.function, MRP_ERR_REGISTER, cause.native, "%s", cause.text);
}

enum mrp_status mrp_chunk_detach(struct mrp_chunk *chunk, unsigned rail)
{
    struct mrp_provider_state *provider;
    struct mrp_registration registration;
    enum mrp_status status;

    pthread_mutex_lock(&chunk->context->chunks.mutex);
    provider = chunk->rails[rail];
    registration = chunk->registrations[rail];
    chunk->rails[rail] = NULL;
    mrp_store_relaxed(&chunk->registered, chunk->registered & ~bit(rail));
    pthread_mutex_unlock(&chunk->context->chunks.mutex);
    status = mrp_provider_deregister(provider, &registration, chunk->mapping.size);
    if (status != MRP_OK) {
        keep(chunk, provider);
        status = as_refusal(status);
    }
    count(chunk);
    return status;
}

/* Whoever would not deregister it may hold the memory still: true when it is parked. */
static bool park(struct mrp_chunk *chunk, const struct mrp_mapping *whole)
{
    bool is_held = chunk->kept != NULL && mrp_parking_is_held(chunk->kept);

    if (chunk->kept != NULL && !is_held) {
        mrp_parking_discard(chunk->kept);
    }
    if (chunk->is_lost) { /* the chunk's own hold on it, if there is any, stays */
        mrp_parking_lose(chunk->backend, whole);
    } else if (is_held) {
        mrp_parking_enter(chunk->kept, whole, chunk->keeps_pinned);
    }
    return chunk->is_lost || is_held;
}

enum mrp_status mrp_chunk_deregister(struct mrp_chunk *chunk,
    const struct mrp_mapping *whole, uint64_t *refused, bool *parked)
{
    enum mrp_status status = MRP_OK;
    uint64_t refusing = 0;

    for (size_t rail = chunk->n_rails; rail-- > 0;) {
        struct mrp_provider_state *provider = chunk->rails[rail];
        enum mrp_status rail_status;

        if (provider == NULL) {
            continue;
        }
        rail_status = mrp_provider_deregister(
            provider, &chunk->registrations[rail], chunk->mapping.size);
        if (rail_status != MRP_OK) {
            status = as_refusal(rail_status);
            refusing |= bit(rail);
            keep(chunk, provider);
        }
    }
    *parked = park(chunk, whole);
    if (*parked && status == MRP_OK) {
        status = mrp_fail(MRP_ERR_REGISTER, 0,
            "%zu bytes at %p stay mapped: a rail that has been removed would not "
            "deregister them; close its provider",
            whole->size, whole->address);
    }
    if (refused != NULL) {
        *refused = refusing;
    }
    return status;
}
