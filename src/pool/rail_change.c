/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rails that join a pool in use, and leave it.
 *
 * A rail that joins is chosen for every chunk whose making begins from then on; those that
 * were being made before are waited for, and then all that are in the chunk table are
 * registered, one after the other. A rail that leaves is chosen no more; when those that
 * were being made have ended, what is in the table is deregistered, and what is leaving
 * it is waited for.
 */
#include "base/error.h"
#include "pool/growth.h"
#include "pool/rails.h"
#include "pool/wait.h"

/* -- one change at a time; under the mutex -- */

static void begin_change(struct mrp_pool *pool)
{
    while (pool->rails_changing) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    pool->rails_changing = true;
}

static void end_change(struct mrp_pool *pool)
{
    pool->rails_changing = false;
    mrp_wake_all(&pool->grown);
}

/* -- all chunks -- */

static bool is_missing(
    const struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail)
{
    const struct mrp_rail *slot = &pool->rails[rail];

    return (chunk->registered & mrp_rail_bit(rail)) == 0 && !chunk->is_restricted &&
        (slot->policy == MRP_RAIL_EAGER || mrp_chunk_is_near(chunk, slot->provider));
}

static bool is_registered(
    const struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail)
{
    (void)pool;
    return (chunk->registered & mrp_rail_bit(rail)) != 0;
}

/* Chunks that get a number while this walks have been made with the rails of now. One that
 * is given up meanwhile need not be registered. */
static enum mrp_status register_all(struct mrp_pool *pool, unsigned rail)
{
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&pool->mutex);
    for (uint32_t id = 0; status == MRP_OK && id < pool->n_chunk_ids; id++) {
        struct mrp_chunk *chunk = mrp_chunk_hold(pool, id, rail, is_missing);

        if (chunk != NULL) {
            pthread_mutex_unlock(&pool->mutex);
            status = mrp_rail_attach(pool, chunk, rail);
            pthread_mutex_lock(&pool->mutex);
            if (status == MRP_ERR_LIMIT && chunk->is_evicted) {
                mrp_error_restore(&before);
                status = MRP_OK;
            }
            mrp_chunk_unhold(pool, chunk);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* It is active. Others may fail it meanwhile, and nobody opens its lines any more then. */
static void open_all(struct mrp_pool *pool, unsigned rail)
{
    pthread_mutex_lock(&pool->mutex);
    for (uint32_t id = 0; id < pool->n_chunk_ids; id++) {
        struct mrp_chunk *chunk = mrp_chunk_hold(pool, id, rail, is_registered);

        if (chunk != NULL) {
            if (pool->rails[rail].state == MRP_RAIL_ACTIVE) {
                mrp_key_open(pool, chunk, rail);
            }
            mrp_chunk_unhold(pool, chunk);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* Each is tried once; the first refusal is told. */
static enum mrp_status deregister_all(struct mrp_pool *pool, unsigned rail)
{
    struct mrp_error first = {.status = MRP_OK};

    pthread_mutex_lock(&pool->mutex);
    for (uint32_t id = 0; id < pool->n_chunk_ids; id++) {
        struct mrp_chunk *chunk = mrp_chunk_hold(pool, id, rail, is_registered);

        if (chunk != NULL) {
            pthread_mutex_unlock(&pool->mutex);
            if (mrp_rail_detach(pool, chunk, rail) != MRP_OK && first.status == MRP_OK) {
                first = *mrp_error_last();
            }
            pthread_mutex_lock(&pool->mutex);
            mrp_chunk_unhold(pool, chunk);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    if (first.status != MRP_OK) {
        mrp_error_restore(&first);
    }
    return first.status;
}

/* -- leaving -- */

/* Nobody takes it up any more. No lock. */
static enum mrp_status leave(struct mrp_pool *pool, unsigned rail)
{
    enum mrp_status status;

    pthread_mutex_lock(&pool->mutex);
    pool->rails[rail].state = MRP_RAIL_LEAVING;
    pthread_mutex_unlock(&pool->mutex);
    mrp_keys_shut(pool, rail);
    pthread_mutex_lock(&pool->mutex);
    mrp_passages_await(pool); /* who builds a chunk with it */
    pthread_mutex_unlock(&pool->mutex);
    status = deregister_all(pool, rail);
    pthread_mutex_lock(&pool->mutex);
    mrp_passages_await(pool); /* who gives up a chunk that has it */
    mrp_rail_vacate(pool, rail);
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

enum mrp_status mrp_pool_rail_remove(struct mrp_pool *pool, unsigned rail)
{
    enum mrp_status status = mrp_pool_check_handle(pool);
    bool is_used;

    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    begin_change(pool);
    is_used = rail < MRP_RAILS_MAX && pool->rails[rail].provider != NULL;
    pthread_mutex_unlock(&pool->mutex);
    status = is_used ? leave(pool, rail)
                     : mrp_fail(MRP_ERR_NOT_FOUND, 0, "pool %s has no rail %u",
                           pool->member.named.name, rail);
    pthread_mutex_lock(&pool->mutex);
    end_change(pool);
    pthread_mutex_unlock(&pool->mutex);
    mrp_line_end(pool); /* what it took of the budgets is room for others */
    return status;
}

/* -- joining -- */

static enum mrp_status check_provider(struct mrp_pool *pool,
    const struct mrp_provider_state *provider, enum mrp_rail_policy policy)
{
    if (provider->context != pool->context) {
        return mrp_fail(MRP_ERR_INVALID, 0, "provider %s belongs to another context",
            provider->named.name);
    }
    if ((unsigned)policy > MRP_RAIL_NEAR) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "policy is %d: take MRP_RAIL_EAGER, _LAZY or _NEAR", (int)policy);
    }
    return mrp_provider_grants(provider, pool->access, pool->backend->ops.memory_kind);
}

/* The lowest index that is not in use, and room for its keys. Under the mutex. */
static enum mrp_status find_slot(
    struct mrp_pool *pool, const struct mrp_provider_state *provider, unsigned *rail)
{
    uint64_t used = mrp_rails_used(pool);
    size_t end;

    for (unsigned i = 0; i < pool->n_rails; i++) {
        if (pool->rails[i].provider == provider) {
            return mrp_fail(MRP_ERR_EXISTS, 0, "provider %s is rail %u of pool %s%s",
                provider->named.name, i, pool->member.named.name,
                pool->rails[i].state == MRP_RAIL_FAILED
                    ? ", and has failed: remove that first (mrp_pool_rail_remove)"
                    : "");
        }
    }
    if (used == UINT64_MAX) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s has %d rails, the most a pool can have: remove one, or use a second "
            "pool",
            pool->member.named.name, MRP_RAILS_MAX);
    }
    *rail = (unsigned)__builtin_ctzll(~used);
    end = ((size_t)*rail * MRP_CHUNKS_MAX + pool->n_chunk_ids) *
        sizeof(struct mrp_key_line);
    return mrp_range_commit(pool, &pool->key_areas[*rail], MRP_KEYS_OFFSET + end, "keys");
}

/* Register what is there. Growth may have gone on without the rail meanwhile, which was full
 * or refused: then once more, now that there may be room, or to say why not. */
static enum mrp_status register_what_is_there(struct mrp_pool *pool, unsigned rail)
{
    struct mrp_rail *slot = &pool->rails[rail];
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&pool->mutex);
    do {
        slot->has_missed = false;
        mrp_passages_await(pool); /* who builds a chunk without it */
        pthread_mutex_unlock(&pool->mutex);
        status = register_all(pool, rail);
        pthread_mutex_lock(&pool->mutex);
    } while (status == MRP_OK && slot->has_missed);
    if (slot->state == MRP_RAIL_FAILED) { /* growth has met it, or who uses it says so */
        status = mrp_fail_at("mrp_pool_rail_add", MRP_ERR_UNAVAILABLE, 0,
            "provider %s failed while it joined pool %s: %s", slot->provider->named.name,
            pool->member.named.name, slot->reason);
    }
    if (status == MRP_OK) {
        mrp_rail_activate(pool, rail);
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

/* Then let everybody see the rail; or undo it all. */
static enum mrp_status join(struct mrp_pool *pool, unsigned rail)
{
    enum mrp_status status = register_what_is_there(pool, rail);
    struct mrp_error cause;

    if (status == MRP_OK) {
        open_all(pool, rail);
    } else {
        cause = *mrp_error_last();
        leave(pool, rail);
        mrp_error_restore(&cause);
    }
    return status;
}

static enum mrp_status add(struct mrp_pool *pool, struct mrp_provider_state *provider,
    enum mrp_rail_policy policy, unsigned *added)
{
    enum mrp_status status;
    unsigned rail = 0;

    pthread_mutex_lock(&pool->mutex);
    begin_change(pool);
    status = find_slot(pool, provider, &rail);
    if (status == MRP_OK) {
        mrp_rail_occupy(pool, rail, provider, policy, MRP_RAIL_JOINING);
        if (policy == MRP_RAIL_LAZY) {
            mrp_rail_activate(pool, rail);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    if (status == MRP_OK && policy != MRP_RAIL_LAZY) {
        status = join(pool, rail);
    }
    pthread_mutex_lock(&pool->mutex);
    end_change(pool);
    pthread_mutex_unlock(&pool->mutex);
    if (status == MRP_OK) {
        *added = rail;
    }
    return status;
}

enum mrp_status mrp_pool_rail_add(struct mrp_pool *pool, struct mrp_provider *handle,
    enum mrp_rail_policy policy, unsigned *rail)
{
    struct mrp_provider_state *provider;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status == MRP_OK && rail == NULL) {
        status =
            mrp_fail(MRP_ERR_INVALID, 0, "rail is NULL: pass where to store the index");
    }
    if (status == MRP_OK) {
        status = mrp_provider_get(handle, &provider);
    }
    if (status == MRP_OK) {
        status = check_provider(pool, provider, policy);
    }
    if (status == MRP_OK) {
        status = add(pool, provider, policy, rail);
        mrp_line_end(pool); /* what it took in vain is room for others */
    }
    return status;
}
