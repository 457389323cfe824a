/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What chunks may cost: the pool's budgets, then the context's. Charged before the system
 * is asked; an undone charge tells those who were refused beside it.
 */
#include "base/error.h"
#include "pool/growth.h"
#include "pool/rails.h"
#include "pool/wait.h"

/* Those of the rails that may take no more registrations. Under the mutex. */
static uint64_t full_rails(const struct mrp_pool *pool, uint64_t rails)
{
    uint64_t full = 0;

    for (; rails != 0; rails &= rails - 1) {
        full |=
            mrp_rail_is_full(&pool->rails[__builtin_ctzll(rails)]) ? rails & -rails : 0;
    }
    return full;
}

static enum mrp_status over_budget(struct mrp_pool *pool, size_t size, uint64_t rails)
{
    uint64_t full = full_rails(pool, rails);

    mrp_add_relaxed(&pool->n_refusals, 1);
    if (full != 0) {
        return mrp_rail_refuse_full(pool, (unsigned)__builtin_ctzll(full));
    }
    if (size > pool->max_bytes) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "a chunk of %zu bytes can never fit in the %zu of pool %s%s", size,
            pool->max_bytes, pool->member.named.name, pool->budget_remedy);
    }
    return mrp_fail(MRP_ERR_LIMIT, 0,
        "pool %s has mapped %zu of at most %zu bytes and needs a chunk of %zu more%s",
        pool->member.named.name, pool->mapped_size, pool->max_bytes, size,
        pool->budget_remedy);
}

/* Under the mutex. */
static bool fits_budget(const struct mrp_pool *pool, size_t size, uint64_t rails)
{
    return (size == 0 ||
               (size <= pool->max_bytes &&
                   pool->mapped_size <= pool->max_bytes - size)) &&
        full_rails(pool, rails) == 0;
}

/* Under the mutex. */
static enum mrp_status take_chunk_id(struct mrp_pool *pool, uint32_t *chunk_id)
{
    uint32_t id = pool->n_chunk_ids;
    enum mrp_status status;

    if (pool->free_chunk_id != 0) {
        *chunk_id = pool->free_chunk_id - 1;
        pool->free_chunk_id = mrp_chunk_entry(pool, *chunk_id)->next_free;
        return MRP_OK;
    }
    if (id == MRP_CHUNKS_MAX) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s has %u chunks and registered buffers, the most a pool can have: "
            "free some, or use a second pool",
            pool->member.named.name, id);
    }
    status = mrp_range_commit(pool, &pool->chunk_area,
        MRP_CHUNK_TABLE_OFFSET + (id + 1) * sizeof(struct mrp_chunk_entry), "chunks");
    for (size_t rail = 0; status == MRP_OK && rail < pool->n_rails; rail++) {
        size_t end = (rail * MRP_CHUNKS_MAX + id + 1) * sizeof(struct mrp_key_line);

        status =
            mrp_range_commit(pool, &pool->key_areas[rail], MRP_KEYS_OFFSET + end, "keys");
    }
    if (status == MRP_OK) {
        *chunk_id = pool->n_chunk_ids++;
    }
    return status;
}

bool mrp_idle_has(const struct mrp_retained *item, const void *rails)
{
    /* relaxed: who holds the chunk may just be changing it */
    return (mrp_load_relaxed(&mrp_idle_chunk(item)->registered) &
               *(const uint64_t *)rails) != 0;
}

static bool lacks(const struct mrp_retained *item, const void *rails)
{
    return !mrp_idle_has(item, rails);
}

/* Evict idle chunks in place of which the size fits: registered ones, where a rail is full.
 * What another thread is evicting, or just putting aside, is waited for. False: nothing that
 * is idle helps. Under the mutex, released meanwhile. */
static bool evict_for(struct mrp_pool *pool, size_t size, uint64_t full)
{
    size_t busy = pool->mapped_size - mrp_min(pool->idle_size, pool->mapped_size);
    size_t wanted = pool->mapped_size + size, n_evicted, n_useless = 0, useless_size;
    struct mrp_retention *retention = &pool->context->retention;
    uint64_t changes = pool->idle_changes;

    if (pool->n_idle == 0 || pool->never_free || size > pool->max_bytes ||
        busy > pool->max_bytes - size) {
        return false;
    }
    wanted = wanted > pool->max_bytes ? wanted - pool->max_bytes : 1;
    pthread_mutex_unlock(&pool->mutex);
    if (full != 0) {
        full &= -full; /* one by one */
        n_evicted = mrp_retention_evict(retention, pool, 1, mrp_idle_has, &full);
        mrp_retention_count(retention, pool, lacks, &full, &n_useless, &useless_size);
    } else {
        n_evicted = mrp_retention_evict(retention, pool, wanted, NULL, NULL);
    }
    pthread_mutex_lock(&pool->mutex);
    while (n_evicted == 0 && pool->idle_changes == changes && pool->n_idle > n_useless) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    return n_evicted > 0 || pool->idle_changes != changes;
}

/* Choose the rails that the charge is for, and evict idle chunks until it fits. Under the
 * mutex, released meanwhile. */
static void make_room(
    struct mrp_pool *pool, struct mrp_chunk_request *request, size_t size)
{
    do {
        mrp_rails_spare(pool);
        mrp_rails_choose(pool, request);
    } while (!request->is_over_budget && !fits_budget(pool, size, request->wanted) &&
        evict_for(pool, size, full_rails(pool, request->wanted)));
}

/* Pinned is what is registered, the caller's own memory, too. */
struct mrp_charge mrp_charge_of(
    const struct mrp_pool *pool, uint64_t rails, size_t charged, size_t registered)
{
    struct mrp_charge charge = {charged, 0, (size_t)__builtin_popcountll(rails)};

    for (; rails != 0; rails &= rails - 1) {
        const struct mrp_rail *rail = &pool->rails[__builtin_ctzll(rails)];

        if ((rail->provider->info.traits & MRP_PROVIDER_PINS) != 0) {
            charge.pinned = registered;
        }
    }
    return charge;
}

/* Under the mutex. */
static void count_charge(struct mrp_pool *pool, const struct mrp_chunk_request *request)
{
    size_t size = request->backend == NULL ? 0 : request->size;

    if (request->is_over_budget) {
        pool->n_temporary++;
        pool->temporary_size += size;
        return;
    }
    pool->mapped_size += size;
    for (uint64_t rails = request->wanted; rails != 0; rails &= rails - 1) {
        pool->rails[__builtin_ctzll(rails)].n_charged++;
    }
}

enum mrp_status mrp_charge_pool(
    struct mrp_pool *pool, struct mrp_chunk_request *request, uint32_t *chunk_id)
{
    size_t size = request->backend == NULL ? 0 : request->size;
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&pool->mutex);
    if (!request->is_over_budget && size > 0 &&
        !request->is_for_slabs) { /* for slabs it has been asked already */
        status = mrp_heed_reserves(pool, MRP_TIERS, size);
    }
    if (status == MRP_OK) {
        make_room(pool, request, size);
        if (!request->is_over_budget && !fits_budget(pool, size, request->wanted)) {
            status = over_budget(pool, size, request->wanted);
        }
    }
    if (status == MRP_OK && (request->only & ~request->wanted) != 0) {
        status = mrp_rail_refuse_locked("mrp_region_register", pool,
            (unsigned)__builtin_ctzll(request->only & ~request->wanted));
    }
    if (status == MRP_OK) {
        status = take_chunk_id(pool, chunk_id);
    }
    if (status == MRP_OK) {
        count_charge(pool, request);
        request->passage = mrp_passage_begin(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* What was counted beyond the registrations that there are. Under the mutex. */
static void drop_charges(struct mrp_pool *pool, uint64_t rails, bool is_over)
{
    for (; rails != 0 && !is_over; rails &= rails - 1) {
        pool->rails[__builtin_ctzll(rails)].n_charged--;
    }
}

void mrp_discharge_pool(struct mrp_pool *pool, const struct mrp_chunk_bill *bill)
{
    struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, bill->chunk_id);

    pthread_mutex_lock(&pool->mutex);
    entry->chunk = NULL;
    entry->next_free = pool->free_chunk_id;
    pool->free_chunk_id = bill->chunk_id + 1;
    if (bill->is_over) {
        pool->n_temporary--;
        pool->temporary_size -= bill->charged;
    } else {
        pool->mapped_size -= bill->charged;
    }
    drop_charges(pool, bill->rails, bill->is_over);
    for (uint64_t rails = bill->registered > 0 ? bill->rails : 0; rails != 0;
         rails &= rails - 1) {
        struct mrp_rail *rail = &pool->rails[__builtin_ctzll(rails)];

        rail->n_registrations--;
        rail->registered_size -= bill->registered;
    }
    for (uint64_t rails = bill->refused; rails != 0; rails &= rails - 1) {
        pool->rails[__builtin_ctzll(rails)].n_failures++;
    }
    mrp_passage_end(pool, bill->passage);
    pthread_mutex_unlock(&pool->mutex);
}

void mrp_charge_settle(struct mrp_pool *pool, const struct mrp_chunk_request *request,
    struct mrp_chunk *chunk, uint64_t n_refusals)
{
    uint64_t rails = chunk->registered, left_out = request->wanted & ~rails;
    struct mrp_charge charge = mrp_charge_of(pool, request->wanted, 0, request->size);
    struct mrp_charge rest = mrp_charge_of(pool, rails, 0, request->size);
    struct mrp_charge more = mrp_charge_of(pool, rails,
        mrp_chunk_charge(chunk) - (request->backend == NULL ? 0 : request->size),
        chunk->mapping.size - request->size);

    more.n_registrations = 0; /* rounded up to its pages */
    mrp_budget_force(&pool->context->budget, &more);
    if (left_out != 0) { /* rails that are far, or were lost */
        charge.pinned -= rest.pinned;
        charge.n_registrations -= rest.n_registrations;
        mrp_charge_lift(pool, &charge, n_refusals);
    }
    chunk->is_over_budget = request->is_over_budget;
    chunk->passage = (uint8_t)request->passage;
    pthread_mutex_lock(&pool->mutex);
    *(request->is_over_budget ? &pool->temporary_size : &pool->mapped_size) += more.bytes;
    drop_charges(pool, left_out, request->is_over_budget);
    for (; rails != 0; rails &= rails - 1) {
        struct mrp_rail *rail = &pool->rails[__builtin_ctzll(rails)];

        rail->n_registrations++;
        rail->registered_size += chunk->mapping.size;
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* A charge is taken back: no room for who made it, but for those who have been refused
 * beside it. */
void mrp_charge_tell_refused(struct mrp_pool *pool, uint64_t n_refusals)
{
    if (mrp_load_relaxed(&pool->n_refusals) != n_refusals) {
        pthread_mutex_lock(&pool->mutex);
        mrp_line_room(pool);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* The same in the context's budget. */
void mrp_charge_lift(
    struct mrp_pool *pool, const struct mrp_charge *charge, uint64_t n_refusals)
{
    struct mrp_budget *budget = &pool->context->budget;

    mrp_budget_lift(budget, charge);
    if (mrp_load_relaxed(&budget->n_refusals) != n_refusals) {
        mrp_context_owe(pool->context);
    }
}

bool mrp_pool_can_ever(struct mrp_pool *pool, size_t size)
{
    struct mrp_chunk_request request = {.node = pool->node};
    struct mrp_charge charge, used, max;

    mrp_rails_choose(pool, &request);
    charge = mrp_charge_of(pool, request.wanted, size, size);
    mrp_budget_read(&pool->context->budget, &used, &max);
    return size <= pool->max_bytes && charge.bytes <= max.bytes &&
        charge.pinned <= max.pinned && charge.n_registrations <= max.n_registrations;
}
