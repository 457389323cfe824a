/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What chunks may cost: the pool's budgets, then the context's. Charged before the system
 * is asked; an undone charge tells those who were refused beside it.
 */
#include "base/error.h"
#include "pool/growth.h"
#include "pool/rails.h"
#include "pool/wait.h"

/* The first of the rails that may take no more registrations; NULL: all may, even when
 * `n_fewer` chunks have gone. Under the mutex. */
static const struct mrp_rail *find_full(
    const struct mrp_pool *pool, uint64_t rails, size_t n_fewer)
{
    for (; rails != 0; rails &= rails - 1) {
        const struct mrp_rail *rail = &pool->rails[__builtin_ctzll(rails)];

        if (rail->n_charged - mrp_min(n_fewer, rail->n_charged) >=
            rail->max_registrations) {
            return rail;
        }
    }
    return NULL;
}

static enum mrp_status over_budget(struct mrp_pool *pool, size_t size, uint64_t rails)
{
    const struct mrp_rail *full = find_full(pool, rails, 0);

    mrp_add_relaxed(&pool->n_refusals, 1);
    if (full != NULL) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s holds %zu of %zu registrations per rail: use larger chunks "
            "(chunk_min), free registered buffers, or raise max_registrations "
            "(MRPOOL_MAX_REGISTRATIONS)",
            pool->member.named.name, full->n_charged, full->max_registrations);
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
        find_full(pool, rails, 0) == NULL;
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

/* Whether giving up idle chunks could make room. Under the mutex. */
static bool idle_could_help(const struct mrp_pool *pool, size_t size, uint64_t rails)
{
    size_t busy = pool->mapped_size - mrp_min(pool->idle_size, pool->mapped_size);

    return pool->n_idle > 0 && !pool->never_free && size <= pool->max_bytes &&
        busy <= pool->max_bytes - size && find_full(pool, rails, pool->n_idle) == NULL;
}

/* Evict idle chunks until the charge fits, and choose the rails that it then is for. What
 * another thread is evicting, or just putting aside, counts too: it is waited for. Under
 * the mutex, released meanwhile. */
static void make_room(
    struct mrp_pool *pool, struct mrp_chunk_request *request, size_t size)
{
    mrp_rails_spare(pool);
    mrp_rails_choose(pool, request);
    while (!request->is_over_budget && !fits_budget(pool, size, request->wanted) &&
        idle_could_help(pool, size, request->wanted)) {
        size_t wanted = pool->mapped_size + size, n_evicted;
        uint64_t changes = pool->idle_changes;

        wanted = wanted > pool->max_bytes ? wanted - pool->max_bytes : 1;
        pthread_mutex_unlock(&pool->mutex);
        n_evicted = mrp_retention_evict(&pool->context->retention, pool, wanted);
        pthread_mutex_lock(&pool->mutex);
        while (n_evicted == 0 && pool->idle_changes == changes && pool->n_idle > 0) {
            mrp_wait(&pool->grown, &pool->mutex);
        }
        mrp_rails_spare(pool);
        mrp_rails_choose(pool, request);
    }
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
