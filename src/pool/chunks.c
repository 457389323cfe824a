/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool's chunks: what they may cost, what they are called, how one is built.
 */
#include "base/error.h"
#include "pool/pool.h"

/* -- budgets and numbers -- */

static enum mrp_status over_budget(const struct mrp_pool *pool, size_t size)
{
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
        "pool %s has mapped %zu of at most %zu bytes and needs a chunk of %zu more%s; a "
        "free region serves its own size class only",
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

    return pool->n_idle > 0 && size <= pool->max_bytes &&
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

enum mrp_status mrp_pool_charge(struct mrp_pool *pool, size_t size, uint32_t *chunk_id)
{
    enum mrp_status status;

    pthread_mutex_lock(&pool->mutex);
    make_room(pool, size);
    status =
        fits_budget(pool, size) ? take_chunk_id(pool, chunk_id) : over_budget(pool, size);
    if (status == MRP_OK) {
        pool->mapped_size += size;
        pool->n_charged++;
    }
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

void mrp_pool_discharge(struct mrp_pool *pool, size_t size, uint32_t chunk_id)
{
    struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, chunk_id);

    pthread_mutex_lock(&pool->mutex);
    entry->chunk = NULL;
    entry->next_free = pool->free_chunk_id;
    pool->free_chunk_id = chunk_id + 1;
    pool->mapped_size -= size;
    pool->n_charged--;
    pthread_mutex_unlock(&pool->mutex);
}

/* -- chunks -- */

/* Without remote access no remote key is given out, even where the network made one. */
static uint32_t key_flags(uint32_t access, const struct mrp_registration *registration)
{
    uint32_t remote = MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC;

    if ((access & remote) == 0 || registration->key_size == 0) {
        return MRP_KEY_REGISTERED;
    }
    return MRP_KEY_REGISTERED |
        (registration->key_blob != NULL ? MRP_KEY_BLOB : MRP_KEY_REMOTE);
}

void mrp_pool_enter_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    uintptr_t base = (uintptr_t)chunk->mapping.address;
    struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, chunk->id);

    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        const struct mrp_registration *registration = &chunk->registrations[rail];
        struct mrp_key_line *line = mrp_key_line(pool, rail, chunk->id);

        /* releases, for mrp_resolve: the generation of the number's last chunk moved
         * before */
        mrp_store_release(&line->local_desc, registration->local_desc);
        mrp_store_release(&line->remote_key, registration->remote_key);
        mrp_store_release(&line->remote_delta, registration->remote_base - base);
        mrp_store_release(&line->native, registration->native);
        mrp_store_release(&line->base, base);
        mrp_store_release(&line->size, chunk->mapping.size);
        mrp_store_release(&line->flags, key_flags(chunk->access, registration));
    }
    pthread_mutex_lock(&pool->mutex); /* mrp_token_resolve reads any entry under it */
    entry->chunk = chunk;
    entry->generation++;
    pthread_mutex_unlock(&pool->mutex);
}

void mrp_pool_leave_chunk(struct mrp_pool *pool, uint32_t chunk_id)
{
    pthread_mutex_lock(&pool->mutex);
    mrp_chunk_entry(pool, chunk_id)->chunk = NULL;
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        mrp_store_release(&mrp_key_line(pool, rail, chunk_id)->flags, 0);
    }
}

/* Bytes of a chunk that holds at least one block of the class, as large as doubling and
 * budget allow. Under the mutex. */
static size_t plan_chunk(const struct mrp_pool *pool, size_t least)
{
    size_t size = mrp_max(pool->next_chunk_size, least);
    size_t left = pool->max_bytes - mrp_min(pool->mapped_size, pool->max_bytes);

    if (pool->backend->max_size != 0) {
        /* fixed memory: all of it at once, less the alignment */
        size = pool->backend->max_size - (pool->classes.alignment - MRP_LINE);
    }
    if (size > left) {
        size = mrp_align_down(left, MRP_GRANULE_SIZE);
    }
    return mrp_max(size, least);
}

/* Charge the budget, map and register. *asked: the system was asked, not just the
 * budget. */
static enum mrp_status try_chunk(struct mrp_pool *pool,
    const struct mrp_chunk_request *request, struct mrp_chunk **made, uint32_t *chunk_id,
    bool *asked)
{
    size_t charge = request->backend == NULL ? 0 : request->size;
    enum mrp_status status = mrp_pool_charge(pool, charge, chunk_id);

    *asked = status == MRP_OK;
    if (status != MRP_OK) {
        return status;
    }
    status = mrp_chunk_create(pool->context, request, made);
    if (status != MRP_OK) {
        mrp_pool_discharge(pool, charge, *chunk_id);
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->mapped_size += mrp_chunk_charge(*made) - charge; /* rounded up to its pages */
    pthread_mutex_unlock(&pool->mutex);
    return MRP_OK;
}

enum mrp_status mrp_pool_make_chunk(struct mrp_pool *pool,
    struct mrp_chunk_request *request, size_t less, struct mrp_chunk **made,
    uint32_t *chunk_id)
{
    struct mrp_error before = *mrp_error_last();
    bool asked, again;
    enum mrp_status status = try_chunk(pool, request, made, chunk_id, &asked);

    again = asked ? status == MRP_ERR_MEMORY || status == MRP_ERR_LIMIT ||
            status == MRP_ERR_REGISTER
                  : less < request->size;
    if (status == MRP_OK || !again) {
        return status;
    }
    if (asked) {
        mrp_retention_evict(&pool->context->retention, NULL, request->size);
    }
    request->size = less;
    status = try_chunk(pool, request, made, chunk_id, &asked);
    if (status == MRP_OK) {
        mrp_error_restore(&before);
    }
    return status;
}

void mrp_pool_unmake_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    struct mrp_error cause = *mrp_error_last(); /* of what failed, not of undoing it */
    size_t charge = mrp_chunk_charge(chunk);
    uint32_t id = chunk->id;

    mrp_pool_leave_chunk(pool, id);
    mrp_chunk_destroy(chunk);
    mrp_pool_discharge(pool, charge, id);
    mrp_error_restore(&cause);
}

void mrp_pool_request_chunk(struct mrp_pool *pool, size_t size, size_t alignment,
    struct mrp_chunk_request *request)
{
    *request = (struct mrp_chunk_request){
        .backend = pool->backend,
        .size = size,
        .alignment = mrp_max(alignment, MRP_LINE),
        .rails = pool->rails,
        .n_rails = pool->n_rails,
        .access = pool->access,
        .native_flags = pool->native_flags,
        .pool = pool,
    };
}

/* The table of a chunk's granules, from the granule area. Under the mutex. */
static enum mrp_status take_granules(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    uint32_t shift = mrp_granule_shift(chunk->mapping.size);
    size_t n_granules = chunk->mapping.size >> shift;
    size_t begin = MRP_GRANULES_OFFSET + pool->granules_used;
    size_t end = begin + n_granules * sizeof *chunk->granules;
    enum mrp_status status =
        mrp_range_commit(pool, &pool->granule_area, end, "granule tables");

    if (status == MRP_OK) {
        pool->granules_used += n_granules * sizeof *chunk->granules;
        chunk->granules = (_Atomic uint64_t *)((uintptr_t)pool + begin); /* NOLINT */
        chunk->granule_shift = shift;
        chunk->n_granules = (uint32_t)n_granules;
        chunk->n_granules_used = 0;
    }
    return status;
}

/* Give the chunk its granule table and show it to lookups. No lock. */
static enum mrp_status publish_chunk(
    struct mrp_pool *pool, struct mrp_chunk *chunk, uint32_t id)
{
    enum mrp_status status;

    chunk->id = id;
    chunk->region = NULL;
    pthread_mutex_lock(&pool->mutex);
    status = take_granules(pool, chunk);
    pthread_mutex_unlock(&pool->mutex);
    if (status == MRP_OK) {
        mrp_pool_enter_chunk(pool, chunk);
        status = mrp_chunk_publish(chunk);
    }
    if (status != MRP_OK) {
        mrp_pool_unmake_chunk(pool, chunk);
    }
    return status;
}

enum mrp_status mrp_pool_build_chunk(struct mrp_pool *pool, size_t least)
{
    struct mrp_chunk_request request;
    /* of fixed memory another pool may have a part: then any chunk will do */
    size_t less = pool->backend->max_size != 0 ? least : mrp_max(least, pool->chunk_min);
    struct mrp_chunk *chunk;
    enum mrp_status status;
    uint32_t id;

    mrp_pool_request_chunk(
        pool, plan_chunk(pool, least), pool->classes.alignment, &request);
    pthread_mutex_unlock(&pool->mutex);
    status =
        mrp_pool_make_chunk(pool, &request, mrp_min(less, request.size), &chunk, &id);
    if (status == MRP_OK) {
        status = publish_chunk(pool, chunk, id);
    }
    pthread_mutex_lock(&pool->mutex);
    if (status != MRP_OK) {
        return status;
    }
    chunk->next_with_room = pool->with_room;
    pool->with_room = chunk;
    pool->n_chunks++;
    pool->chunk_size += chunk->mapping.size;
    pool->n_growths++;
    pool->next_chunk_size =
        mrp_min(mrp_max(pool->next_chunk_size, chunk->mapping.size) * 2, pool->chunk_max);
    return MRP_OK;
}
