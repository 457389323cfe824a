/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/parking.h"

#include <stdlib.h>

/* A provider's hold on memory that it would not deregister. */
struct mrp_parked {
    struct mrp_parking *parking;
    struct mrp_parked *next; /* in provider->parked */
};

/* n_holds: of providers, and one of who uses the memory still. */
struct mrp_parking {
    struct mrp_backend_state *backend;
    struct mrp_mapping mapping; /* once it is in use no more */
    struct mrp_charge charge;
    _Atomic size_t n_holds;
};

/* It is there, whatever its pool says. */
static const struct mrp_charge one_registration = {0, 0, 1};

struct mrp_parking *mrp_parking_create(struct mrp_backend_state *backend)
{
    struct mrp_parking *parking = calloc(1, sizeof *parking);

    if (parking != NULL) {
        parking->backend = backend;
        mrp_store_relaxed(&parking->n_holds, (size_t)1);
        mrp_add_relaxed(&backend->n_users, 1);
    }
    return parking;
}

bool mrp_parking_hold(
    struct mrp_parking *parking, struct mrp_provider_state *provider, size_t size)
{
    struct mrp_parked *hold = malloc(sizeof *hold);

    if (hold == NULL) {
        return false;
    }
    mrp_budget_force(&provider->context->budget, &one_registration);
    mrp_add_relaxed(&provider->n_parked, 1);
    mrp_add_relaxed(&provider->parked_size, size);
    mrp_add_relaxed(&parking->n_holds, 1);
    hold->parking = parking;
    pthread_mutex_lock(&provider->mutex);
    hold->next = provider->parked;
    provider->parked = hold;
    pthread_mutex_unlock(&provider->mutex);
    return true;
}

bool mrp_parking_is_held(const struct mrp_parking *parking)
{
    /* acquire: pairs with the release of a provider that has closed, see leave() */
    return mrp_load_acquire(&parking->n_holds) > 1;
}

static void forget(struct mrp_parking *parking)
{
    mrp_sub_acq_rel(&parking->backend->n_users, 1);
    free(parking);
}

/* Memory that the network may still reach becomes free to unmap only with the last hold. */
static void leave(struct mrp_parking *parking)
{
    struct mrp_context_state *context = parking->backend->context;
    struct mrp_chunk_store *store = &context->chunks;

    /* the last to leave sees what the others did before: acquire and release */
    if (mrp_sub_acq_rel(&parking->n_holds, 1) > 1) {
        return;
    }
    pthread_mutex_lock(&store->mutex);
    store->n_parked--;
    store->parked_size -= parking->mapping.size;
    pthread_mutex_unlock(&store->mutex);
    mrp_budget_lift(&context->budget, &parking->charge);
    mrp_backend_unmap(parking->backend, &parking->mapping);
    forget(parking);
}

static void count_parked(
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping)
{
    struct mrp_chunk_store *store = &backend->context->chunks;

    pthread_mutex_lock(&store->mutex);
    store->n_parked++;
    store->parked_size += mapping->size;
    pthread_mutex_unlock(&store->mutex);
}

void mrp_parking_enter(
    struct mrp_parking *parking, const struct mrp_mapping *mapping, bool is_pinned)
{
    parking->mapping = *mapping;
    parking->charge =
        (struct mrp_charge){mapping->size, is_pinned ? mapping->size : 0, 0};
    mrp_budget_force(&parking->backend->context->budget, &parking->charge);
    count_parked(parking->backend, mapping);
    leave(parking);
}

void mrp_parking_discard(struct mrp_parking *parking)
{
    forget(parking);
}

void mrp_parking_lose(
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping)
{
    mrp_add_relaxed(&backend->n_users, 1);
    count_parked(backend, mapping);
}

void mrp_parking_release(struct mrp_provider_state *provider)
{
    bool has_any = provider->parked != NULL;

    while (provider->parked != NULL) {
        struct mrp_parked *hold = provider->parked;

        provider->parked = hold->next;
        mrp_budget_lift(&provider->context->budget, &one_registration);
        leave(hold->parking);
        free(hold);
    }
    if (has_any) {
        mrp_context_owe(provider->context);
    }
}

void mrp_provider_park(struct mrp_provider_state *provider,
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping)
{
    struct mrp_parking *parking = mrp_parking_create(backend);

    if (parking == NULL || !mrp_parking_hold(parking, provider, mapping->size)) {
        if (parking != NULL) {
            mrp_parking_discard(parking);
        }
        mrp_parking_lose(backend, mapping);
        return;
    }
    mrp_parking_enter(parking, mapping, (provider->info.traits & MRP_PROVIDER_PINS) != 0);
}
