/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rails that come and go. Who uses providers of the pool without its mutex is in one of
 * two states that removing a rail waits for:
 *
 *   a passage    builds a chunk, from the choice of its rails until it is in the chunk
 *                table; or gives one up, from its leaving the table, or the decision to
 *                evict it, until its charges are lifted
 *   a hold       has marked a chunk of the table (is_held), and registers it or
 *                deregisters it; nobody gives the chunk up, or holds it, meanwhile
 *
 * docs/CONCURRENCY.md argues it.
 */
#ifndef MRP_POOL_RAILS_H
#define MRP_POOL_RAILS_H

#include "pool/pool.h"

static inline uint64_t mrp_rail_bit(unsigned rail)
{
    return (uint64_t)1 << rail;
}

/** It takes chunks. Under the mutex. */
static inline bool mrp_rail_takes(const struct mrp_rail *rail)
{
    return rail->state == MRP_RAIL_JOINING || rail->state == MRP_RAIL_ACTIVE;
}

/** It may take no more registrations. Under the mutex. */
static inline bool mrp_rail_is_full(const struct mrp_rail *rail)
{
    return rail->n_charged >= rail->max_registrations;
}

/* -- rails.c -- */

/** Make a provider a rail: its slot, and its use of the provider. Under the mutex, or
 *  before the pool is anybody's. */
void mrp_rail_occupy(struct mrp_pool *pool, unsigned rail,
    struct mrp_provider_state *provider, enum mrp_rail_policy policy,
    enum mrp_rail_state state);

/** Its end: the provider may be closed. */
void mrp_rail_vacate(struct mrp_pool *pool, unsigned rail);

/** It is in use: its keys are given out. */
void mrp_rail_activate(struct mrp_pool *pool, unsigned rail);

/** Why a rail gives no key of a chunk, as the record of `function`. */
enum mrp_status mrp_rail_refuse(
    const char *function, struct mrp_pool *pool, unsigned rail);
enum mrp_status mrp_rail_refuse_locked(
    const char *function, const struct mrp_pool *pool, unsigned rail);

/** MRP_ERR_LIMIT, of a rail that is full. Under the mutex. */
enum mrp_status mrp_rail_refuse_full(const struct mrp_pool *pool, unsigned rail);

/** Bits of the rails that are in use, failed ones included. Under the mutex. */
uint64_t mrp_rails_used(const struct mrp_pool *pool);

/** Choose the rails of a chunk that is to be made. Under the mutex. */
void mrp_rails_choose(const struct mrp_pool *pool, struct mrp_chunk_request *request);

/** Leave what a rail that is joining has no room for to who adds it: no request is refused
 *  for it. Under the mutex. */
void mrp_rails_spare(struct mrp_pool *pool);

/** request->go_on of all chunks of pools. */
bool mrp_rail_go_on(
    const struct mrp_chunk_request *request, unsigned rail, enum mrp_status status);

/** Mark a rail failed, and close its lines. In a passage, or holding a chunk. */
void mrp_rail_lose(struct mrp_pool *pool, unsigned rail, const char *reason);

/** Passages, under the mutex: what mrp_passage_begin gives is for mrp_passage_end. */
unsigned mrp_passage_begin(struct mrp_pool *pool);
void mrp_passage_end(struct mrp_pool *pool, unsigned passage);

/** Wait until all that have begun before have ended. Under the mutex, released meanwhile;
 *  one thread at a time. */
void mrp_passages_await(struct mrp_pool *pool);

/* Key lines, under the mutex. */
void mrp_key_open(struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail);
void mrp_key_shut(struct mrp_pool *pool, unsigned rail, uint32_t chunk_id);

/** Shut all lines of a rail that opens none any more. No lock. */
void mrp_keys_shut(struct mrp_pool *pool, unsigned rail);

/* -- attach.c -- */

/** The chunk of that number, held; NULL where there is none, or `wants` (may be NULL) says
 *  no. Under the mutex, released while others hold it. */
struct mrp_chunk *mrp_chunk_hold(struct mrp_pool *pool, uint32_t id, unsigned rail,
    bool (*wants)(
        const struct mrp_pool *pool, const struct mrp_chunk *chunk, unsigned rail));
/** Evicts it, if somebody would have meanwhile; the mutex is released for that. */
void mrp_chunk_unhold(struct mrp_pool *pool, struct mrp_chunk *chunk);

/** An idle chunk is evicted: from now on nobody holds it, and a passage has begun. False:
 *  somebody does, and evicts it when he lets go. No lock. */
bool mrp_chunk_begin_leave(struct mrp_chunk *chunk);

/** Charge and register, or nothing; its line stays shut. The chunk is held. Where a budget or
 *  the network refuses, idle memory is evicted, and it is tried once more; an idle chunk is
 *  itself given up instead, when the hold ends (is_evicted). No lock. */
enum mrp_status mrp_rail_attach(
    struct mrp_pool *pool, struct mrp_chunk *chunk, unsigned rail);

/** The way back, of what is not shown. MRP_ERR_REGISTER: deregistered as far as the pool is
 *  concerned. */
enum mrp_status mrp_rail_detach(
    struct mrp_pool *pool, struct mrp_chunk *chunk, unsigned rail);

#endif
