/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool's chunks: what they are called, how one is built and given back, and how much of
 * them stays idle. What they may cost: charge.c.
 */
#include "base/clock.h"
#include "base/error.h"
#include "pool/debug.h"
#include "pool/growth.h"
#include "pool/rails.h"
#include "pool/wait.h"

#define CACHE_LEAST (16 * MRP_MIB) /* may lie in all threads' caches in any case, */
#define CACHE_SHARE 16 /* or this part of the chunks */
#define EVICTION_LOOK \
    UINT64_C(1000000) /* ns: how often others' evictions are looked at */

/* -- idle memory -- */

void mrp_pool_count_idle(struct mrp_pool *pool, int n, size_t size, bool is_evicted)
{
    pthread_mutex_lock(&pool->mutex);
    pool->n_idle += (size_t)n;
    pool->idle_size += n < 0 ? (size_t)0 - size : n > 0 ? size : 0;
    pool->n_evictions += is_evicted;
    pool->idle_changes++;
    if (n >= 0) {
        mrp_line_room(pool);
    }
    mrp_wake_all(&pool->grown);
    pthread_mutex_unlock(&pool->mutex);
}

static struct mrp_charge worth(const struct mrp_retained *item)
{
    const struct mrp_chunk *chunk = mrp_idle_chunk(item);

    return (struct mrp_charge){mrp_chunk_charge(chunk),
        mrp_load_relaxed(&chunk->is_pinned) ? item->size : 0,
        mrp_load_relaxed(&chunk->n_registered)};
}

void mrp_pool_retain(struct mrp_pool *pool, struct mrp_chunk *chunk,
    bool (*evict)(struct mrp_retained *item))
{
    chunk->retained.size = chunk->mapping.size;
    chunk->retained.owner = pool;
    chunk->retained.place = mrp_chunk_place(chunk);
    chunk->retained.is_kept = pool->never_free;
    chunk->retained.evict = evict;
    chunk->retained.worth = worth;
    mrp_retention_add(&pool->context->retention, &chunk->retained);
    if (!pool->never_free) { /* room for those of other pools, who can have it evicted */
        mrp_context_owe(pool->context);
    }
}

/* -- granule tables -- */

/* A free table begins with the place of the next: lookups never read that word. */
static _Atomic uint64_t *table_at(struct mrp_pool *pool, size_t index)
{
    return (_Atomic uint64_t *)((uintptr_t)pool + MRP_GRANULES_OFFSET) +
        index; /* NOLINT */
}

static unsigned table_bucket(size_t n_granules)
{
    return 64 - (unsigned)__builtin_clzl(n_granules); /* of 2^n words: one more */
}

/* The table of a chunk's granules, all of them zero. Under the mutex. */
static enum mrp_status take_granules(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    uint32_t shift = mrp_granule_shift(chunk->mapping.size);
    size_t n_granules = chunk->mapping.size >> shift;
    unsigned bucket = table_bucket(n_granules);
    size_t index = pool->free_tables[bucket];
    enum mrp_status status = MRP_OK;

    if (index != 0) {
        pool->free_tables[bucket] = (uint32_t)mrp_load_relaxed(table_at(pool, index));
    } else {
        index = pool->n_granule_words + 1; /* 0 is no table */
        status = mrp_range_commit(pool, &pool->granule_area,
            MRP_GRANULES_OFFSET + (index + ((size_t)1 << bucket)) * sizeof(uint64_t),
            "granule tables");
        pool->n_granule_words += status == MRP_OK ? (size_t)1 << bucket : 0;
    }
    if (status == MRP_OK) {
        chunk->granules = table_at(pool, index + 1);
        chunk->granule_shift = shift;
        chunk->n_granules = (uint32_t)n_granules;
        chunk->n_granules_used = chunk->first_free = 0;
    }
    return status;
}

/* All entries are zero again: its slabs have been retired. */
static void return_granules(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    unsigned bucket = table_bucket(chunk->n_granules);

    pthread_mutex_lock(&pool->mutex);
    mrp_store_relaxed(&chunk->granules[-1], pool->free_tables[bucket]);
    pool->free_tables[bucket] = (uint32_t)(&chunk->granules[-1] - table_at(pool, 0));
    pthread_mutex_unlock(&pool->mutex);
    chunk->granules = NULL;
}

/* -- chunks -- */

void mrp_pool_enter_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, chunk->id);

    pthread_mutex_lock(&pool->mutex); /* mrp_token_resolve reads any entry under it */
    for (uint64_t rails = chunk->registered; rails != 0; rails &= rails - 1) {
        unsigned rail = (unsigned)__builtin_ctzll(rails);

        if (pool->rails[rail].state == MRP_RAIL_ACTIVE) { /* still, or by now */
            mrp_key_open(pool, chunk, rail);
        }
    }
    entry->chunk = chunk;
    entry->generation++;
    mrp_passage_end(pool, chunk->passage);
    chunk->passage = 0;
    pthread_mutex_unlock(&pool->mutex);
}

void mrp_pool_leave_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    pthread_mutex_lock(&pool->mutex);
    while (chunk->is_held) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    mrp_chunk_entry(pool, chunk->id)->chunk = NULL;
    for (uint64_t rails = chunk->registered; rails != 0; rails &= rails - 1) {
        mrp_key_shut(pool, (unsigned)__builtin_ctzll(rails), chunk->id);
    }
    if (chunk->passage == 0) { /* else it is evicted, or has never been in the table */
        chunk->passage = (uint8_t)mrp_passage_begin(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* Doubling: the next power of two above what there is, which is less after a trim. */
size_t mrp_next_chunk_size(const struct mrp_pool *pool)
{
    size_t size =
        pool->chunk_size == 0 ? 0 : (size_t)1 << (64 - __builtin_clzl(pool->chunk_size));

    return mrp_min(mrp_max(size, pool->chunk_min), pool->chunk_max);
}

/* Bytes of a chunk that holds at least one block of the class, as large as doubling and
 * the budget allow. Under the mutex. */
static size_t plan_chunk(const struct mrp_pool *pool, size_t least)
{
    size_t size = mrp_max(mrp_next_chunk_size(pool), least);
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

/* Who has refused a chunk: idle memory of all pools helps but against its own budget. */
enum refuser {
    POOL, /* or a network that never registers so much at once */
    CONTEXT,
    SYSTEM /* the network, too */
};

/* Whether one of the networks never registers as much at once. In a passage. */
static bool is_too_large(const struct mrp_chunk_request *request)
{
    for (uint64_t rails = request->wanted & ~request->near; rails != 0;
         rails &= rails - 1) {
        const struct mrp_provider_state *provider =
            request->rails[__builtin_ctzll(rails)];

        if (mrp_provider_is_too_small(provider, request->size)) {
            return true;
        }
    }
    return false;
}

/* Charge the budgets, map and register. */
static enum mrp_status try_chunk(struct mrp_pool *pool, struct mrp_chunk_request *request,
    struct mrp_chunk **made, uint32_t *chunk_id, struct mrp_charge *charge,
    enum refuser *refuser)
{
    size_t size = request->backend == NULL ? 0 : request->size;
    /* before the charge: whoever is refused beside it counts */
    uint64_t n_refusals = mrp_load_relaxed(&pool->n_refusals);
    uint64_t n_refusals_of_all = mrp_load_relaxed(&pool->context->budget.n_refusals);
    enum mrp_status status = mrp_charge_pool(pool, request, chunk_id);

    *refuser = POOL;
    if (status != MRP_OK) {
        return status;
    }
    *charge = mrp_charge_of(pool, request->wanted, size, request->size);
    *refuser = CONTEXT;
    status = mrp_budget_charge(&pool->context->budget, charge);
    if (status == MRP_OK) {
        status = mrp_chunk_create(pool->context, request, made);
        *refuser = status == MRP_ERR_LIMIT && is_too_large(request) ? POOL : SYSTEM;
        if (status != MRP_OK) {
            mrp_charge_lift(pool, charge, n_refusals_of_all);
        }
    }
    if (status != MRP_OK) {
        mrp_discharge_pool(pool,
            &(struct mrp_chunk_bill){.charged = size,
                .rails = request->wanted,
                .is_over = request->is_over_budget,
                .chunk_id = *chunk_id,
                .passage = request->passage});
        mrp_charge_tell_refused(pool, n_refusals);
        return status;
    }
    mrp_charge_settle(pool, request, *made, n_refusals_of_all);
    if ((request->wanted & ~(*made)->registered) != 0) {
        mrp_charge_tell_refused(pool, n_refusals);
    }
    mrp_debug_chunk(pool, *made);
    return MRP_OK;
}

/* A moment, in which another thread's eviction may end; false when that has lasted long
 * enough: it may be waiting for this one, whose caller is a network's callback. */
static bool await_eviction(struct mrp_pool *pool, uint64_t deadline)
{
    uint64_t now = mrp_clock();

    if (now >= deadline) {
        return false;
    }
    pthread_mutex_lock(&pool->mutex);
    mrp_wait_until(&pool->grown, &pool->mutex, mrp_min(now + EVICTION_LOOK, deadline));
    pthread_mutex_unlock(&pool->mutex);
    return true;
}

bool mrp_pool_relieve_context(
    struct mrp_pool *pool, const struct mrp_charge *charge, uint64_t deadline)
{
    struct mrp_budget *budget = &pool->context->budget;
    struct mrp_charge lacking;
    bool is_coming;

    if (!mrp_budget_lacks(budget, charge, &lacking) ||
        mrp_retention_relieve(&pool->context->retention, &lacking, &is_coming) > 0) {
        return true;
    }
    return is_coming
        ? await_eviction(pool, deadline)
        : !mrp_budget_lacks(budget, charge, &lacking); /* gone between the two looks */
}

bool mrp_pool_await_eviction(struct mrp_pool *pool, uint64_t deadline)
{
    return mrp_retention_is_evicting(&pool->context->retention) &&
        await_eviction(pool, deadline);
}

/* The system has. */
static void relieve_system(struct mrp_pool *pool, size_t size, uint64_t deadline)
{
    struct mrp_retention *retention = &pool->context->retention;

    if (mrp_retention_evict(retention, NULL, size, NULL, NULL) > 0) {
        return;
    }
    while (mrp_pool_await_eviction(pool, deadline)) {
    }
}

enum mrp_status mrp_pool_make_chunk(struct mrp_pool *pool,
    struct mrp_chunk_request *request, size_t less, struct mrp_chunk **made,
    uint32_t *chunk_id)
{
    struct mrp_error before = *mrp_error_last();
    uint64_t deadline;
    struct mrp_charge charge;
    enum refuser refuser;
    enum mrp_status status = try_chunk(pool, request, made, chunk_id, &charge, &refuser);

    if (mrp_is_no_more(status) && mrp_quarantine_expire(pool) > 0) {
        status = try_chunk(pool, request, made, chunk_id, &charge, &refuser);
    }
    if (status != MRP_OK &&
        !(refuser == POOL ? less < request->size : mrp_is_no_more(status))) {
        return status;
    }
    deadline = request->is_told ? 0 : mrp_clock() + MRP_EVICTION_PATIENCE;
    for (bool is_first = true, is_relieved = false; status != MRP_OK; is_first = false) {
        if (refuser == SYSTEM && mrp_is_no_more(status) && !is_relieved) {
            relieve_system(pool, request->size, deadline);
            is_relieved = true;
        } else if (!is_first &&
            !(status == MRP_ERR_LIMIT && refuser == CONTEXT &&
                mrp_pool_relieve_context(pool, &charge, deadline))) {
            break;
        }
        request->size = less;
        status = try_chunk(pool, request, made, chunk_id, &charge, &refuser);
    }
    if (status == MRP_OK) {
        mrp_error_restore(&before);
    }
    return status;
}

static enum mrp_status end_chunk(struct mrp_chunk *chunk,
    enum mrp_status (*give_up)(struct mrp_chunk *chunk, uint64_t *refused))
{
    struct mrp_pool *pool = chunk->pool;
    struct mrp_charge charge;
    struct mrp_chunk_bill bill;
    bool is_released = chunk->backend != NULL && give_up == mrp_chunk_end;
    enum mrp_status status;

    mrp_pool_leave_chunk(pool, chunk);
    if (chunk->granules != NULL) {
        return_granules(pool, chunk);
    }
    bill = (struct mrp_chunk_bill){.charged = mrp_chunk_charge(chunk),
        .registered = chunk->mapping.size,
        .rails = chunk->registered,
        .is_over = chunk->is_over_budget,
        .chunk_id = chunk->id,
        .passage = chunk->passage};
    charge = mrp_charge_of(pool, bill.rails, bill.charged, bill.registered);
    charge.pinned = mrp_chunk_is_pinned(chunk) ? bill.registered : 0;
    status = give_up(chunk, &bill.refused);
    mrp_budget_lift(&pool->context->budget, &charge);
    mrp_discharge_pool(pool, &bill);
    is_released = is_released && status == MRP_OK; /* else it is parked */
    pthread_mutex_lock(&pool->mutex);
    pool->n_released += is_released;
    pool->released_size += is_released ? bill.charged : 0;
    mrp_line_room(
        pool); /* only here: a charge that is taken back after a refusal was none */
    pthread_mutex_unlock(&pool->mutex);
    mrp_context_owe(pool->context);
    return status;
}

enum mrp_status mrp_pool_dissolve_chunk(struct mrp_chunk *chunk)
{
    return end_chunk(chunk, mrp_chunk_end);
}

enum mrp_status mrp_pool_forget_chunk(struct mrp_chunk *chunk)
{
    return end_chunk(chunk, mrp_chunk_forget);
}

void mrp_pool_unmake_chunk(struct mrp_chunk *chunk)
{
    struct mrp_error cause = *mrp_error_last(); /* of what failed, not of undoing it */

    mrp_pool_dissolve_chunk(chunk);
    mrp_error_restore(&cause);
}

void mrp_pool_request_chunk(struct mrp_pool *pool, size_t size, size_t alignment,
    int node, struct mrp_chunk_request *request)
{
    *request = (struct mrp_chunk_request){
        .backend = pool->backend,
        .size = size,
        .alignment = mrp_max(alignment, MRP_LINE),
        .node = node,
        .go_on = mrp_rail_go_on,
        .access = pool->access,
        .native_flags = pool->native_flags,
        .pool = pool,
    };
}

/* Give the chunk its granule table and show it to lookups. No lock. */
static enum mrp_status publish_chunk(
    struct mrp_pool *pool, struct mrp_chunk *chunk, uint32_t id)
{
    enum mrp_status status;

    chunk->id = id;
    chunk->region = NULL;
    chunk->has_room = false;
    mrp_store_relaxed(&chunk->generation, 0);
    pthread_mutex_lock(&pool->mutex);
    status = take_granules(pool, chunk);
    pthread_mutex_unlock(&pool->mutex);
    if (status == MRP_OK) {
        mrp_pool_enter_chunk(pool, chunk);
        status = mrp_chunk_publish(chunk);
    }
    if (status != MRP_OK) {
        mrp_pool_unmake_chunk(chunk);
    }
    return status;
}

static bool is_empty(const struct mrp_retained *item, const void *node)
{
    const struct mrp_chunk *chunk = mrp_idle_chunk(item);

    return chunk->region == NULL && chunk->node == *(const int *)node;
}

/* Slabs may be taken from it. Under the mutex. */
static void begin_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    mrp_chunk_offer(pool, chunk);
    pool->n_chunks++;
    pool->chunk_size += chunk->mapping.size;
    pool->n_openings++;
    mrp_store_relaxed(
        &pool->cache_most, mrp_max(CACHE_LEAST, pool->chunk_size / CACHE_SHARE));
}

bool mrp_pool_take_up(struct mrp_pool *pool, size_t least, int node)
{
    struct mrp_retained *item;

    while (pool->n_coming > 0) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
    if (pool->n_idle == 0) {
        return false;
    }
    pool->n_coming++; /* until it has room, or is seen to be none */
    pthread_mutex_unlock(&pool->mutex);
    item = mrp_retention_take(
        &pool->context->retention, pool, least, SIZE_MAX, is_empty, &node);
    if (item != NULL) {
        mrp_pool_count_idle(pool, -1, item->size, false);
    }
    pthread_mutex_lock(&pool->mutex);
    pool->n_coming--;
    mrp_wake_all(&pool->grown);
    if (item != NULL) {
        pool->n_taken_up++;
        begin_chunk(pool, mrp_idle_chunk(item));
    }
    return item != NULL;
}

static enum mrp_status new_chunk(struct mrp_pool *pool, size_t size, size_t least,
    int node, bool is_told, struct mrp_chunk **made)
{
    struct mrp_chunk_request request;
    /* of fixed memory another pool may have a part: then any chunk will do */
    size_t less = pool->backend->max_size != 0 ? least : mrp_max(least, pool->chunk_min);
    enum mrp_status status;
    uint32_t id;

    mrp_pool_request_chunk(pool, size, pool->classes.alignment, node, &request);
    request.is_for_slabs = true;
    request.is_told = is_told;
    status = mrp_pool_make_chunk(pool, &request, mrp_min(less, request.size), made, &id);
    return status == MRP_OK ? publish_chunk(pool, *made, id) : status;
}

enum mrp_status mrp_pool_build_chunk(
    struct mrp_pool *pool, size_t least, int node, bool is_told)
{
    size_t size = plan_chunk(pool, least);
    struct mrp_chunk *chunk;
    enum mrp_status status;

    pthread_mutex_unlock(&pool->mutex);
    status = new_chunk(pool, size, least, node, is_told, &chunk);
    pthread_mutex_lock(&pool->mutex);
    if (status == MRP_OK) {
        chunk->serial = ++pool->last_serial;
        pool->n_growths++;
        begin_chunk(pool, chunk);
    }
    return status;
}
