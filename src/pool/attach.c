/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One chunk and one rail: registered, or deregistered, while both are in use.
 */
#include "base/clock.h"
#include "base/error.h"
#include "pool/growth.h"
#include "pool/rails.h"
#include "pool/wait.h"

/* -- holds -- */

struct mrp_chunk *mrp_chunk_hold(struct mrp_pool *pool, uint32_t id, unsigned rail,
    bool (*wants)(
        const struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail))
{
    const struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, id);

    for (;;) {
        struct mrp_chunk *chunk = entry->chunk;

        if (chunk != NULL && chunk->is_held) { /* what it wants is not settled yet */
            mrp_wait(&pool->grown, &pool->mutex);
            continue;
        }
        if (chunk == NULL || chunk->passage != 0 || /* it is leaving */
            (wants != NULL && !wants(pool, chunk, rail))) {
            return NULL;
        }
        chunk->is_held = true;
        return chunk;
    }
}

void mrp_chunk_unhold(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    bool is_evicted = chunk->is_evicted;

    chunk->is_held = chunk->is_evicted = false;
    mrp_wake_all(&pool->grown);
    if (is_evicted) {
        pthread_mutex_unlock(&pool->mutex);
        chunk->retained.evict(&chunk->retained);
        pthread_mutex_lock(&pool->mutex);
    }
}

bool mrp_chunk_begin_leave(struct mrp_chunk *chunk)
{
    struct mrp_pool *pool = chunk->pool;
    bool is_held;

    pthread_mutex_lock(&pool->mutex);
    is_held = chunk->is_evicted = chunk->is_held;
    if (!is_held) {
        chunk->passage = (uint8_t)mrp_passage_begin(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return !is_held;
}

/* -- attach and detach -- */

/* What one more registration of the chunk takes of the context's budgets, or one that is
 * not there any more. */
static struct mrp_charge charge_of(const struct mrp_chunk *chunk, bool is_first_to_pin)
{
    return (struct mrp_charge){0, is_first_to_pin ? chunk->mapping.size : 0, 1};
}

/* Under the mutex. */
static bool is_full(
    const struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail)
{
    return !chunk->is_over_budget && mrp_rail_is_full(&pool->rails[rail]);
}

/* Under the mutex. */
static enum mrp_status book(struct mrp_pool *pool, const struct mrp_chunk *chunk,
    unsigned rail, struct mrp_provider_state **provider)
{
    struct mrp_rail *slot = &pool->rails[rail];

    if (slot->provider == NULL || !mrp_rail_takes(slot)) {
        return mrp_rail_refuse_locked("mrp_region_ensure", pool, rail);
    }
    if (is_full(pool, chunk, rail)) {
        return mrp_rail_refuse_full(pool, rail);
    }
    slot->n_charged += !chunk->is_over_budget;
    *provider = slot->provider;
    return MRP_OK;
}

/* The registration is there, or has failed. Under the mutex. */
static void settle(struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail,
    bool is_registered)
{
    struct mrp_rail *slot = &pool->rails[rail];

    if (!is_registered) {
        slot->n_charged -= !chunk->is_over_budget;
        return;
    }
    slot->n_registrations++;
    slot->registered_size += chunk->mapping.size;
}

static bool is_first_to_pin(
    const struct mrp_chunk *chunk, const struct mrp_provider_state *provider)
{
    return (provider->info.traits & MRP_PROVIDER_PINS) != 0 &&
        !mrp_chunk_is_pinned(chunk);
}

/* Register within the context's budgets. *asked: the network was. No lock. */
static enum mrp_status register_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk,
    unsigned rail, struct mrp_provider_state *provider, bool *asked)
{
    struct mrp_charge charge = charge_of(chunk, is_first_to_pin(chunk, provider));
    uint64_t n_refusals = mrp_load_relaxed(&pool->context->budget.n_refusals);
    enum mrp_status status = mrp_budget_charge(&pool->context->budget, &charge);

    if (status != MRP_OK) {
        return status;
    }
    *asked = true;
    status = mrp_chunk_attach(chunk, rail, provider);
    if (status != MRP_OK) {
        mrp_charge_lift(pool, &charge, n_refusals);
        pthread_mutex_lock(&pool->mutex);
        pool->rails[rail].n_failures++;
        pthread_mutex_unlock(&pool->mutex);
        if (status == MRP_ERR_UNAVAILABLE) {
            mrp_rail_lose(pool, rail, mrp_error_last()->text);
        }
    }
    return status;
}

static enum mrp_status attach(
    struct mrp_pool *pool, struct mrp_chunk *chunk, unsigned rail, bool *asked)
{
    struct mrp_provider_state *provider = NULL;
    enum mrp_status status;
    uint64_t n_refusals;

    pthread_mutex_lock(&pool->mutex);
    status = book(pool, chunk, rail, &provider);
    pthread_mutex_unlock(&pool->mutex);
    if (status != MRP_OK) {
        return status;
    }
    n_refusals = mrp_load_relaxed(&pool->n_refusals);
    status = register_chunk(pool, chunk, rail, provider, asked);
    pthread_mutex_lock(&pool->mutex);
    settle(pool, chunk, rail, status == MRP_OK);
    if (status != MRP_OK && mrp_load_relaxed(&pool->n_refusals) != n_refusals) {
        mrp_line_room(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

static bool is_same(const struct mrp_retained *item, const void *chunk)
{
    return mrp_idle_chunk(item) == chunk;
}

static bool is_other(const struct mrp_retained *item, const void *chunk)
{
    uint64_t any = UINT64_MAX;

    return !is_same(item, chunk) && mrp_idle_has(item, &any);
}

/* It is idle itself: who lets go of it gives it up. */
static bool gives_up(struct mrp_pool *pool, const struct mrp_chunk *chunk)
{
    bool is_evicted;

    if (!pool->never_free) {
        mrp_retention_evict(&pool->context->retention, pool, 1, is_same, chunk);
    }
    pthread_mutex_lock(&pool->mutex);
    is_evicted = chunk->is_evicted;
    pthread_mutex_unlock(&pool->mutex);
    return is_evicted;
}

/* A budget has refused: evict idle memory in whose place the chunk may be registered. True
 * when it is time to try again. No lock. */
static bool make_room(struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail,
    uint64_t deadline)
{
    const struct mrp_rail *slot = &pool->rails[rail];
    uint64_t bit = mrp_rail_bit(rail);
    struct mrp_charge charge;
    bool was_full, has_idle;

    pthread_mutex_lock(&pool->mutex);
    has_idle = pool->n_idle > 0;
    was_full = is_full(pool, chunk, rail);
    charge = charge_of(chunk, is_first_to_pin(chunk, slot->provider));
    pthread_mutex_unlock(&pool->mutex);
    if (!was_full) {
        return mrp_pool_relieve_context(pool, &charge, deadline);
    }
    if (!has_idle || pool->never_free) {
        return false;
    }
    if (mrp_retention_evict(&pool->context->retention, pool, 1, mrp_idle_has, &bit) > 0 ||
        mrp_pool_await_eviction(pool, deadline)) {
        return true;
    }
    pthread_mutex_lock(&pool->mutex);
    was_full = is_full(pool, chunk, rail); /* or what filled it went between the looks */
    pthread_mutex_unlock(&pool->mutex);
    return !was_full;
}

enum mrp_status mrp_rail_attach(
    struct mrp_pool *pool, struct mrp_chunk *chunk, unsigned rail)
{
    uint64_t deadline = mrp_clock() + MRP_EVICTION_PATIENCE;
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status;
    bool asked = false;

    do {
        status = attach(pool, chunk, rail, &asked);
    } while (status == MRP_ERR_LIMIT && !asked && !gives_up(pool, chunk) &&
        make_room(pool, chunk, rail, deadline));
    if (asked && mrp_is_no_more(status) &&
        !(status == MRP_ERR_LIMIT && gives_up(pool, chunk)) &&
        !mrp_provider_is_too_small(pool->rails[rail].provider, chunk->mapping.size) &&
        mrp_retention_evict(
            &pool->context->retention, NULL, chunk->mapping.size, is_other, chunk) > 0) {
        status = attach(pool, chunk, rail, &asked);
    }
    if (status == MRP_OK) {
        mrp_error_restore(&before);
    }
    return status;
}

enum mrp_status mrp_rail_detach(
    struct mrp_pool *pool, struct mrp_chunk *chunk, unsigned rail)
{
    struct mrp_rail *slot = &pool->rails[rail];
    bool was_pinned = mrp_chunk_is_pinned(chunk);
    struct mrp_charge charge;
    enum mrp_status status;

    status = mrp_chunk_detach(chunk, rail);
    charge = charge_of(chunk, was_pinned && !mrp_chunk_is_pinned(chunk));
    mrp_budget_lift(&pool->context->budget, &charge);
    pthread_mutex_lock(&pool->mutex);
    slot->n_registrations--;
    slot->registered_size -= chunk->mapping.size;
    slot->n_charged -= !chunk->is_over_budget;
    slot->n_failures += status != MRP_OK;
    mrp_line_room(pool);
    pthread_mutex_unlock(&pool->mutex);
    mrp_context_owe(pool->context);
    return status;
}

/* -- ensure -- */

/* Whether all lines of the chunk are open: the way of most calls, without the mutex. */
static bool is_shown(const struct mrp_pool *pool, uint32_t chunk, uint64_t rails)
{
    for (; rails != 0; rails &= rails - 1) {
        unsigned rail = (unsigned)__builtin_ctzll(rails);

        /* acquire: pairs with the release of mrp_key_open; the keys are there */
        if ((mrp_load_acquire(&mrp_key_line(pool, rail, chunk)->flags) &
                MRP_KEY_REGISTERED) == 0) {
            return false;
        }
    }
    return true;
}

/* Under the mutex. */
static enum mrp_status check_active(const struct mrp_pool *pool, uint64_t rails)
{
    for (; rails != 0; rails &= rails - 1) {
        unsigned rail = (unsigned)__builtin_ctzll(rails);

        if (pool->rails[rail].state != MRP_RAIL_ACTIVE) {
            return mrp_rail_refuse_locked("mrp_region_ensure", pool, rail);
        }
    }
    return MRP_OK;
}

/* Open the lines of all, if none has failed meanwhile, or leaves. */
static enum mrp_status show(
    struct mrp_pool *pool, const struct mrp_chunk *chunk, uint64_t rails)
{
    enum mrp_status status;

    pthread_mutex_lock(&pool->mutex);
    status = check_active(pool, rails);
    for (; status == MRP_OK && rails != 0; rails &= rails - 1) {
        mrp_key_open(pool, chunk, (unsigned)__builtin_ctzll(rails));
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* All, or none of them; nobody sees a key before the last is there, as none that has been
 * seen may be taken back. What a rail has registered while it was joining, and has not
 * shown yet, is shown, too. The chunk is held. */
static enum mrp_status attach_all(
    struct mrp_pool *pool, struct mrp_chunk *chunk, uint64_t rails)
{
    uint64_t missing = rails & ~chunk->registered, attached = 0;
    enum mrp_status status = MRP_OK;
    struct mrp_error cause;

    for (; status == MRP_OK && missing != 0; missing &= missing - 1) {
        unsigned rail = (unsigned)__builtin_ctzll(missing);

        status = mrp_rail_attach(pool, chunk, rail);
        attached |= status == MRP_OK ? mrp_rail_bit(rail) : 0;
    }
    if (status == MRP_OK) {
        status = show(pool, chunk, rails);
    }
    if (status != MRP_OK) {
        cause = *mrp_error_last();
        for (; attached != 0; attached &= attached - 1) {
            mrp_rail_detach(pool, chunk, (unsigned)__builtin_ctzll(attached));
        }
        mrp_error_restore(&cause);
    }
    return status;
}

enum mrp_status mrp_region_ensure(const struct mrp_region *region, uint64_t rail_mask)
{
    enum mrp_status status = mrp_region_check_handle(region);
    struct mrp_chunk *chunk;
    struct mrp_pool *pool;

    if (status == MRP_OK && rail_mask == 0) {
        status = mrp_fail(
            MRP_ERR_INVALID, 0, "rail_mask is 0: bit i asks for rail i of the pool");
    }
    if (status != MRP_OK) {
        return status;
    }
    pool = mrp_pool_of(region);
    if (is_shown(pool, region->chunk, rail_mask)) {
        return MRP_OK;
    }
    pthread_mutex_lock(&pool->mutex);
    chunk = mrp_chunk_hold(pool, region->chunk, 0, NULL); /* the region keeps it there */
    status = chunk == NULL ? mrp_fail(MRP_ERR_STALE, 0,
                                 "region %p is being given back by "
                                 "another thread",
                                 (const void *)region)
                           : check_active(pool, rail_mask);
    pthread_mutex_unlock(&pool->mutex);
    if (chunk == NULL) {
        return status;
    }
    if (status == MRP_OK) {
        status = attach_all(pool, chunk, rail_mask);
    }
    pthread_mutex_lock(&pool->mutex);
    mrp_chunk_unhold(pool, chunk);
    pthread_mutex_unlock(&pool->mutex);
    mrp_line_end(pool); /* what it has evicted, or took in vain, is room for others */
    return status;
}
