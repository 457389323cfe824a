/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What chunks may cost: the pool's budgets, then the context's. Charged before the system
 * is asked; an undone charge tells those who were refused beside it.
 */
#include "base/error.h"
#include "pool/growth.h"
#include "pool/wait.h"

static enum mrp_status over_budget(struct mrp_pool *pool, size_t size)
{
    mrp_add_relaxed(&pool->n_refusals, 1);
    if (pool->n_rails > 0 && pool->n_charged >= pool->max_registrations) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s holds %zu of %zu registrations per rail: use larger chunks "
            "(chunk_min), free registered buffers, or raise max_registrations "
            "(MRPOOL_MAX_REGISTRATIONS)",
            pool->member.named.name, pool->n_charged, pool->max_registrations);
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
static bool fits_budget(const struct mrp_pool *pool, size_t size)
{
    return (size == 0 ||
               (size <= pool->max_bytes &&
                   pool->mapped_size <= pool->max_bytes - size)) &&
        (pool->n_rails == 0 || pool->n_charged < pool->max_registrations);
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
static bool idle_could_help(const struct mrp_pool *pool, size_t size)
{
    size_t busy = pool->mapped_size - mrp_min(pool->idle_size, pool->mapped_size);

    return pool->n_idle > 0 && !pool->never_free && size <= pool->max_bytes &&
        busy <= pool->max_bytes - size &&
        (pool->n_rails == 0 || pool->n_charged - pool->n_idle < pool->max_registrations);
}

/* Evict idle chunks until the charge fits. What another thread is evicting, or just
 * putting aside, counts too: it is waited for. Under the mutex, released meanwhile. */
static void make_room(struct mrp_pool *pool, size_t size)
{
    while (!fits_budget(pool, size) && idle_could_help(pool, size)) {
        size_t wanted = pool->mapped_size + size, n_evicted;
        uint64_t changes = pool->idle_changes;

        wanted = wanted > pool->max_bytes ? wanted - pool->max_bytes : 1;
        pthread_mutex_unlock(&pool->mutex);
        n_evicted = mrp_retention_evict(&pool->context->retention, pool, wanted);
        pthread_mutex_lock(&pool->mutex);
        while (n_evicted == 0 && pool->idle_changes == changes && pool->n_idle > 0) {
            mrp_wait(&pool->grown, &pool->mutex);
        }
    }
}

bool mrp_pool_is_pinned(const struct mrp_pool *pool)
{
    for (size_t rail = 0; rail < pool->n_rails; rail++) {
        if ((pool->rails[rail]->info.traits & MRP_PROVIDER_PINS) != 0) {
            return true;
        }
    }
    return false;
}

/* What a chunk takes of the context's budgets. Pinned is what is registered, the caller's
 * own memory, too. */
struct mrp_charge mrp_charge_of(
    const struct mrp_pool *pool, size_t charged, size_t registered)
{
    return (struct mrp_charge){
        charged, mrp_pool_is_pinned(pool) ? registered : 0, pool->n_rails};
}

static void count_charge(
    struct mrp_pool *pool, const struct mrp_chunk_request *request, bool is_over)
{
    size_t size = request->backend == NULL ? 0 : request->size;

    if (is_over) {
        pool->n_temporary++;
        pool->temporary_size += size;
    } else {
        pool->mapped_size += size;
        pool->n_charged++;
    }
}

enum mrp_status mrp_charge_pool(
    struct mrp_pool *pool, const struct mrp_chunk_request *request, uint32_t *chunk_id)
{
    size_t size = request->backend == NULL ? 0 : request->size;
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&pool->mutex);
    if (!request->is_over_budget) {
        if (size > 0 &&
            !request->is_for_slabs) { /* for slabs it has been asked already */
            status = mrp_heed_reserves(pool, MRP_TIERS, size);
        }
        if (status == MRP_OK) {
            make_room(pool, size);
            status = fits_budget(pool, size) ? MRP_OK : over_budget(pool, size);
        }
    }
    if (status == MRP_OK) {
        status = take_chunk_id(pool, chunk_id);
    }
    if (status == MRP_OK) {
        count_charge(pool, request, request->is_over_budget);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

void mrp_discharge_pool(
    struct mrp_pool *pool, size_t size, bool is_over, uint32_t chunk_id)
{
    struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, chunk_id);

    pthread_mutex_lock(&pool->mutex);
    entry->chunk = NULL;
    entry->next_free = pool->free_chunk_id;
    pool->free_chunk_id = chunk_id + 1;
    if (is_over) {
        pool->n_temporary--;
        pool->temporary_size -= size;
    } else {
        pool->mapped_size -= size;
        pool->n_charged--;
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* Lift what a chunk was charged with. */
void mrp_discharge(
    struct mrp_pool *pool, size_t charged, size_t registered, bool is_over, uint32_t id)
{
    struct mrp_charge charge = mrp_charge_of(pool, charged, registered);

    mrp_budget_lift(&pool->context->budget, &charge);
    mrp_discharge_pool(pool, charged, is_over, id);
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

static bool fits(size_t used, size_t charge, size_t max)
{
    return used <= max && charge <= max - used;
}

/* Whether all idle memory of the context could make room for the request in its budgets:
 * else it is not given up for nothing. What the system would say nobody knows. */
bool mrp_idle_helps(const struct mrp_pool *pool, const struct mrp_chunk_request *request)
{
    size_t size = request->backend == NULL ? 0 : request->size, n_items, idle;
    struct mrp_charge charge = mrp_charge_of(pool, size, request->size), used, max;

    mrp_retention_count(&pool->context->retention, NULL, &n_items, &idle);
    mrp_budget_read(&pool->context->budget, &used, &max);
    return fits(used.bytes - mrp_min(idle, used.bytes), charge.bytes, max.bytes) &&
        fits(used.pinned - mrp_min(idle, used.pinned), charge.pinned, max.pinned);
}

bool mrp_pool_can_ever(struct mrp_pool *pool, size_t size)
{
    struct mrp_charge charge = mrp_charge_of(pool, size, size), used, max;

    mrp_budget_read(&pool->context->budget, &used, &max);
    return size <= pool->max_bytes && charge.bytes <= max.bytes &&
        charge.pinned <= max.pinned && charge.n_registrations <= max.n_registrations;
}
