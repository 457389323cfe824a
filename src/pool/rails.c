/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool's rails: which a chunk is registered with, what their keys are, and what becomes
 * of one that fails.
 */
#include "pool/rails.h"

#include "base/error.h"
#include "pool/wait.h"

#include <stdio.h>
#include <string.h>

#define LINES_PER_TURN 1024 /* shut before others get the mutex */

/* -- slots -- */

static bool can_revoke(const struct mrp_pool *pool, const struct mrp_rail *rail)
{
    uint32_t traits = rail->provider->info.traits;

    return (traits & MRP_PROVIDER_REVOKES) != 0 &&
        ((pool->access & MRP_ACCESS_LOCAL) == 0 ||
            (traits & MRP_PROVIDER_LOCAL_DESC) != 0);
}

static void recount(struct mrp_pool *pool)
{
    uint64_t used = mrp_rails_used(pool);

    pool->n_rails = used == 0 ? 0 : (size_t)(64 - __builtin_clzll(used));
    mrp_store_relaxed(&pool->can_revoke, used != 0 && !pool->has_lasting);
}

/* What a network is made for is the default where nobody asked for more. */
static size_t most_registrations(
    const struct mrp_pool *pool, const struct mrp_provider_state *provider)
{
    size_t advised = provider->info.max_registrations, most = pool->max_registrations;

    return pool->heeds_networks && advised != 0 ? mrp_min(advised, most) : most;
}

void mrp_rail_occupy(struct mrp_pool *pool, unsigned rail,
    struct mrp_provider_state *provider, enum mrp_rail_policy policy,
    enum mrp_rail_state state)
{
    /* memory that there was without rails may be known to networks of the caller's own */
    pool->has_lasting =
        pool->has_lasting || (mrp_rails_used(pool) == 0 && pool->n_chunk_ids > 0);
    pool->rails[rail] = (struct mrp_rail){
        .provider = provider,
        .state = state,
        .policy = policy,
        .max_registrations = most_registrations(pool, provider),
    };
    mrp_add_relaxed(&provider->n_users, 1);
    recount(pool);
}

void mrp_rail_vacate(struct mrp_pool *pool, unsigned rail)
{
    struct mrp_provider_state *provider = pool->rails[rail].provider;

    pool->rails[rail] = (struct mrp_rail){.provider = NULL};
    recount(pool);
    /* release: pairs with the acquire of mrp_provider_close */
    mrp_sub_acq_rel(&provider->n_users, 1);
}

void mrp_rail_activate(struct mrp_pool *pool, unsigned rail)
{
    struct mrp_rail *slot = &pool->rails[rail];

    slot->state = MRP_RAIL_ACTIVE;
    slot->max_registrations = most_registrations(pool, slot->provider);
    /* it may have been used for transfers when it is long gone: this never changes back */
    pool->has_lasting = pool->has_lasting || !can_revoke(pool, slot);
    recount(pool);
}

uint64_t mrp_rails_used(const struct mrp_pool *pool)
{
    uint64_t used = 0;

    for (unsigned rail = 0; rail < MRP_RAILS_MAX; rail++) {
        used |= pool->rails[rail].provider != NULL ? mrp_rail_bit(rail) : 0;
    }
    return used;
}

/* -- refusals -- */

static enum mrp_status refuse_unused(
    const char *function, const struct mrp_pool *pool, unsigned rail)
{
    return mrp_fail_at(function, MRP_ERR_UNSUPPORTED, 0,
        "rail %u: pool %s has %d rails%s", rail, pool->member.named.name,
        __builtin_popcountll(mrp_rails_used(pool)),
        rail < pool->n_rails ? ", and none of that number" : "");
}

enum mrp_status mrp_rail_refuse_locked(
    const char *function, const struct mrp_pool *pool, unsigned rail)
{
    const struct mrp_rail *slot;
    const char *name;

    if (rail >= MRP_RAILS_MAX || pool->rails[rail].provider == NULL) {
        return refuse_unused(function, pool, rail);
    }
    slot = &pool->rails[rail];
    name = slot->provider->named.name;
    switch (slot->state) {
    case MRP_RAIL_FAILED:
        return mrp_fail_at(function, MRP_ERR_UNAVAILABLE, 0,
            "rail %u (%s) has failed: %s; use another rail, or remove it "
            "(mrp_pool_rail_remove) and add it again",
            rail, name, slot->reason);
    case MRP_RAIL_JOINING:
    case MRP_RAIL_LEAVING:
        return mrp_fail_at(function, MRP_ERR_UNSUPPORTED, 0, "rail %u (%s) is %s pool %s",
            rail, name, slot->state == MRP_RAIL_JOINING ? "joining" : "leaving",
            pool->member.named.name);
    default:
        return mrp_fail_at(function, MRP_ERR_UNSUPPORTED, 0,
            "rail %u (%s): the region's chunk is not registered with it: call "
            "mrp_region_ensure first",
            rail, name);
    }
}

enum mrp_status mrp_rail_refuse(
    const char *function, struct mrp_pool *pool, unsigned rail)
{
    enum mrp_status status;

    pthread_mutex_lock(&pool->mutex);
    status = mrp_rail_refuse_locked(function, pool, rail);
    pthread_mutex_unlock(&pool->mutex);
    return status;
}

enum mrp_status mrp_rail_refuse_full(const struct mrp_pool *pool, unsigned rail)
{
    const struct mrp_rail *slot = &pool->rails[rail];

    return mrp_fail(MRP_ERR_LIMIT, 0,
        "pool %s holds %zu of %zu registrations on rail %u (%s): use larger chunks "
        "(chunk_min), free registered buffers, or raise max_registrations "
        "(MRPOOL_MAX_REGISTRATIONS)",
        pool->member.named.name, slot->n_charged, slot->max_registrations, rail,
        slot->provider->named.name);
}

/* -- which rails a chunk is made with -- */

static bool may_be_near(const struct mrp_rail *rail, int node)
{
    int device = rail->provider->info.node;

    return node == 0 || device == 0 || node == device;
}

static bool is_chosen(
    const struct mrp_rail *rail, unsigned index, const struct mrp_chunk_request *request)
{
    if (rail->provider == NULL || !mrp_rail_takes(rail) || rail->has_missed) {
        return false; /* the last: who adds it sees to what is made without it */
    }
    if (request->only != 0) {
        return (request->only & mrp_rail_bit(index)) != 0;
    }
    return rail->policy == MRP_RAIL_EAGER ||
        (rail->policy == MRP_RAIL_NEAR && may_be_near(rail, request->node));
}

void mrp_rails_choose(const struct mrp_pool *pool, struct mrp_chunk_request *request)
{
    request->wanted = request->near = 0;
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        const struct mrp_rail *slot = &pool->rails[rail];

        request->chosen[rail] = NULL;
        if (is_chosen(slot, rail, request)) {
            request->chosen[rail] = slot->provider;
            request->wanted |= mrp_rail_bit(rail);
            /* where the memory comes to lie is known when it is mapped */
            request->near |= slot->policy == MRP_RAIL_NEAR && request->only == 0
                ? mrp_rail_bit(rail)
                : 0;
        }
    }
    request->rails = request->chosen;
    request->n_rails = pool->n_rails;
}

/* -- rails that fail -- */

/* No request suffers from a rail that nobody uses yet: growth goes on without, and who adds
 * it comes once more. */
static void leave_to_joining(struct mrp_rail *slot)
{
    slot->has_missed = slot->has_missed || slot->state == MRP_RAIL_JOINING;
}

void mrp_rails_spare(struct mrp_pool *pool)
{
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        struct mrp_rail *slot = &pool->rails[rail];

        if (slot->policy != MRP_RAIL_LAZY && mrp_rail_is_full(slot)) {
            leave_to_joining(slot);
        }
    }
}

static bool mark_failed(struct mrp_pool *pool, struct mrp_rail *slot, const char *reason)
{
    if (!mrp_rail_takes(slot)) {
        return false;
    }
    slot->state = MRP_RAIL_FAILED;
    snprintf(slot->reason, sizeof slot->reason, "%.*s", MRP_RAIL_REASON_SIZE - 1, reason);
    mrp_line_room(pool); /* for those whom its limit has refused */
    return true;
}

void mrp_rail_lose(struct mrp_pool *pool, unsigned rail, const char *reason)
{
    bool is_news;

    pthread_mutex_lock(&pool->mutex);
    is_news = mark_failed(pool, &pool->rails[rail], reason);
    pthread_mutex_unlock(&pool->mutex);
    if (is_news) {
        mrp_keys_shut(pool, rail);
    }
}

bool mrp_rail_go_on(
    const struct mrp_chunk_request *request, unsigned rail, enum mrp_status status)
{
    struct mrp_pool *pool = request->pool;
    struct mrp_rail *slot = &pool->rails[rail];
    bool is_unused;

    if (status == MRP_ERR_UNAVAILABLE) {
        mrp_rail_lose(pool, rail, mrp_error_last()->text);
    }
    pthread_mutex_lock(&pool->mutex);
    slot->n_failures++;
    leave_to_joining(slot);
    is_unused = slot->state != MRP_RAIL_ACTIVE; /* not yet, or no more */
    pthread_mutex_unlock(&pool->mutex);
    return is_unused && (request->only & mrp_rail_bit(rail)) == 0;
}

/* -- passages -- */

unsigned mrp_passage_begin(struct mrp_pool *pool)
{
    pool->n_passages[pool->phase]++;
    return pool->phase + 1;
}

void mrp_passage_end(struct mrp_pool *pool, unsigned passage)
{
    if (--pool->n_passages[passage - 1] == 0 && pool->rails_changing) {
        mrp_wake_all(&pool->grown);
    }
}

void mrp_passages_await(struct mrp_pool *pool)
{
    unsigned phase = pool->phase;

    pool->phase = 1 - phase;
    while (pool->n_passages[phase] > 0) {
        mrp_wait(&pool->grown, &pool->mutex);
    }
}

/* -- key lines -- */

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

void mrp_key_open(struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail)
{
    const struct mrp_registration *registration = &chunk->registrations[rail];
    struct mrp_key_line *line = mrp_key_line(pool, rail, chunk->id);
    uintptr_t base = (uintptr_t)chunk->mapping.address;
    uint32_t flags = mrp_load_relaxed(&line->flags) & ~MRP_KEY_FLAGS;

    /* releases, for mrp_resolve: who reads one of these has seen the line shut since it
     * was last open, and the generation of the number's last chunk moved */
    mrp_store_release(&line->local_desc, registration->local_desc);
    mrp_store_release(&line->remote_key, registration->remote_key);
    mrp_store_release(&line->remote_delta, registration->remote_base - base);
    mrp_store_release(&line->native, registration->native);
    mrp_store_release(&line->base, base);
    mrp_store_release(&line->size, chunk->mapping.size);
    /* pairs with the acquires of query.c: the line is whole */
    mrp_store_release(&line->flags, flags | key_flags(chunk->access, registration));
}

void mrp_key_shut(struct mrp_pool *pool, unsigned rail, uint32_t chunk_id)
{
    struct mrp_key_line *line = mrp_key_line(pool, rail, chunk_id);
    uint32_t flags = mrp_load_relaxed(&line->flags);

    if ((flags & MRP_KEY_FLAGS) != 0) {
        mrp_store_release(&line->flags, (flags + MRP_KEY_CLOSED) & MRP_KEY_WRAP);
    }
}

void mrp_keys_shut(struct mrp_pool *pool, unsigned rail)
{
    pthread_mutex_lock(&pool->mutex);
    for (uint32_t id = 0; id < pool->n_chunk_ids; id++) {
        mrp_key_shut(pool, rail, id);
        if (id % LINES_PER_TURN == LINES_PER_TURN - 1) {
            pthread_mutex_unlock(&pool->mutex);
            pthread_mutex_lock(&pool->mutex);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* -- public -- */

static enum mrp_status check_index(const struct mrp_pool *pool, unsigned rail)
{
    enum mrp_status status = mrp_pool_check_handle(pool);

    return status != MRP_OK || rail < MRP_RAILS_MAX
        ? status
        : mrp_fail(MRP_ERR_INVALID, 0, "rail %u: a pool has rails 0 to %d", rail,
              MRP_RAILS_MAX - 1);
}

enum mrp_status mrp_pool_rail_fail(
    struct mrp_pool *pool, unsigned rail, const char *reason)
{
    enum mrp_status status = check_index(pool, rail);
    unsigned passage;
    bool is_used;

    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    is_used = pool->rails[rail].provider != NULL;
    passage = is_used ? mrp_passage_begin(pool) : 0;
    pthread_mutex_unlock(&pool->mutex);
    if (!is_used) {
        return mrp_fail(MRP_ERR_NOT_FOUND, 0, "pool %s has no rail %u",
            pool->member.named.name, rail);
    }
    mrp_rail_lose(pool, rail, reason != NULL ? reason : "its user has said so");
    pthread_mutex_lock(&pool->mutex);
    mrp_passage_end(pool, passage);
    pthread_mutex_unlock(&pool->mutex);
    mrp_line_end(pool);
    return MRP_OK;
}

enum mrp_status mrp_pool_rail_query(
    struct mrp_pool *pool, unsigned rail, struct mrp_rail_info *info)
{
    struct mrp_rail_info found = MRP_RAIL_INFO_INIT;
    enum mrp_status status = check_index(pool, rail);
    const struct mrp_rail *slot;

    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    slot = &pool->rails[rail];
    found.provider = slot->provider == NULL ? NULL : slot->provider->handle;
    found.state = slot->state;
    found.policy = slot->policy;
    found.n_registrations = slot->n_registrations;
    found.registered_size = slot->registered_size;
    found.max_registrations = slot->max_registrations;
    found.n_failures = slot->n_failures;
    memcpy(found.reason, slot->reason, sizeof found.reason);
    pthread_mutex_unlock(&pool->mutex);
    return mrp_info_write(info, &found, sizeof found, "mrp_rail_info");
}
