/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the steps of ofi_rma, ucx_rma and verbs_rma have in common. Both processes run the
 * same steps. In each one of them is active: it operates on a region of the other, which
 * stays passive. Then both verify their region, each byte of the payload and of the guards
 * around it.
 *
 * How a peer gets at a region is in here: region_offer sends a token of 32 bytes per region
 * and, when the peer asks for them, the keys of its chunk, once; remote_resolve makes of the
 * token what the network wants.
 */
#ifndef EXAMPLES_RMA_STEPS_H
#define EXAMPLES_RMA_STEPS_H

#include "pattern.h"
#include "peer.h"
#include "pool_checks.h"

#include "mrpool/mrpool.h"

/* Guard bytes before and after each payload. They are the pool's headroom and tailroom,
 * which a transport would use for its headers: registered with the payload, at no extra
 * cost. */
#define GUARD 256

/* Chunks of the peer whose keys we hold; more than a pool of these programs ever has. */
#define REMOTES_MAX 64

static const size_t sizes[] = {1, 2, 7, 64, 100, 1000, 4095, 4096, 4097, 16384, 65537,
    262144, 1048576, 1048577, 4194301, 16777216, 67108864};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct rma {
    struct peer peer;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    void *key_endpoint; /* what keys are unpacked for; NULL with most networks */
    struct mrp_remote *remotes[REMOTES_MAX];
    size_t n_remotes;
    uint64_t n_steps; /* numbered alike in both processes */
};

/* -- regions full of pattern, between guards -- */

static uint64_t guard_seed(uint64_t seed)
{
    return seed ^ 0x5555555555555555u;
}

/* Take a region and write its guards; its payload becomes the pattern, or all wrong. */
static struct mrp_region *region_prepare(
    struct rma *rma, size_t size, uint64_t seed, bool is_source)
{
    struct mrp_region *region = mrp_region_alloc(rma->pool, size);
    unsigned char *payload = mrp_region_address(region);

    if (region == NULL) {
        complain("region of %zu bytes: %s", size, mrp_error_last()->text);
        return NULL;
    }
    pattern_fill(payload - GUARD, GUARD, guard_seed(seed));
    pattern_fill(payload + size, GUARD, ~guard_seed(seed));
    pattern_fill(payload, size, seed);
    for (size_t i = 0; i < size && !is_source; i++) {
        payload[i] = (unsigned char)~payload[i];
    }
    return region;
}

static bool guards_verify(const struct mrp_region *region, uint64_t seed)
{
    const unsigned char *payload = mrp_region_address(region);
    size_t size = mrp_region_size(region);

    return (pattern_check(payload - GUARD, GUARD, guard_seed(seed)) == GUARD &&
               pattern_check(payload + size, GUARD, ~guard_seed(seed)) == GUARD) ||
        complain("bytes next to a payload of %zu have been written", size);
}

static bool region_verify(const struct mrp_region *region, uint64_t seed)
{
    const unsigned char *payload = mrp_region_address(region);
    size_t size = mrp_region_size(region);
    size_t wrong = pattern_check(payload, size, seed);

    if (wrong != size) {
        return complain("byte %zu of %zu is wrong: 0x%02x", wrong, size, payload[wrong]);
    }
    return guards_verify(region, seed);
}

/* -- the passive side -- */

/* Offer a region: its token, and the keys of its chunk when the peer asks for them. Serves
 * the peer's operations meanwhile. Ends when the peer is done. */
static bool region_offer(
    struct rma *rma, const struct mrp_region *region, uint64_t *nanoseconds)
{
    struct peer *peer = &rma->peer;
    unsigned char keys[PEER_MESSAGE_MAX];
    size_t keys_size = sizeof(keys);
    struct peer_message message;
    struct mrp_token token;
    enum peer_kind kind;

    if (!mrp_ok("token", mrp_region_token(region, &token)) ||
        !peer_send(peer, PEER_TOKEN, token.bytes, sizeof(token.bytes)) ||
        !peer_receive_any(peer, &kind, &message)) {
        return false;
    }
    if (kind == PEER_KEYS_WANTED) {
        if (!mrp_ok("keys", mrp_region_key_pack(region, 1, keys, &keys_size)) ||
            !peer_send(peer, PEER_KEYS, keys, keys_size) ||
            !peer_receive_any(peer, &kind, &message)) {
            return false;
        }
    }
    *nanoseconds = strtoull((char *)message.body, NULL, 10);
    return kind == PEER_DONE || complain("message kind %d from the peer", (int)kind);
}

/* Say that our bytes are right. */
static bool passive_end(struct rma *rma, struct mrp_region *region)
{
    return peer_send(&rma->peer, PEER_VERIFIED, NULL, 0) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- the active side -- */

/* Ask for the keys of the chunk that the token is about. */
static bool remote_fetch(struct rma *rma, struct mrp_remote **remote)
{
    struct peer_message keys;

    return peer_send(&rma->peer, PEER_KEYS_WANTED, NULL, 0) &&
        peer_receive(&rma->peer, PEER_KEYS, &keys) &&
        mrp_ok("the peer's keys",
            mrp_remote_open(
                rma->provider, rma->key_endpoint, 0, keys.body, keys.size, remote));
}

/* From a token to what the network wants, with keys that we hold, or else fetch. */
static bool remote_resolve(
    struct rma *rma, const struct mrp_token *token, struct mrp_remote_region *found)
{
    for (size_t i = 0; i < rma->n_remotes; i++) {
        enum mrp_status status = mrp_remote_resolve(rma->remotes[i], token, found);

        if (status == MRP_OK) {
            return true;
        }
        if (status == MRP_ERR_STALE) { /* the peer has replaced that chunk */
            (void)mrp_remote_close(rma->remotes[i]);
            rma->remotes[i] = rma->remotes[--rma->n_remotes];
            break;
        }
    }
    if (rma->n_remotes == REMOTES_MAX) {
        return complain("keys of %d chunks are held: no room", REMOTES_MAX);
    }
    return remote_fetch(rma, &rma->remotes[rma->n_remotes]) &&
        mrp_ok("the peer's token",
            mrp_remote_resolve(rma->remotes[rma->n_remotes++], token, found));
}

/* Keys go before the endpoint that they were unpacked for. */
static bool remotes_close(struct rma *rma)
{
    bool closed = true;

    while (rma->n_remotes > 0) {
        closed &=
            mrp_ok("closing keys", mrp_remote_close(rma->remotes[--rma->n_remotes]));
    }
    return closed;
}

/* What the peer offers next, which has to have our size. */
static bool target_receive(struct rma *rma, size_t size, struct mrp_remote_region *target)
{
    struct peer_message message;
    struct mrp_token token;

    if (!peer_receive(&rma->peer, PEER_TOKEN, &message)) {
        return false;
    }
    if (message.size != sizeof(token.bytes)) {
        return complain("the peer sent a token of %zu bytes", message.size);
    }
    memcpy(token.bytes, message.body, sizeof(token.bytes));
    return remote_resolve(rma, &token, target) &&
        (target->size == size ||
            complain("the peer offers %zu bytes, not %zu", target->size, size));
}

/* Tell the peer that the operation is over, and hear that its bytes are right. */
static bool active_end(struct rma *rma, struct mrp_region *region, uint64_t nanoseconds)
{
    struct peer_message message;
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64, nanoseconds);
    return peer_send(&rma->peer, PEER_DONE, text, strlen(text)) &&
        peer_receive(&rma->peer, PEER_VERIFIED, &message) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- how long it took -- */

/* Transfers of one size and operation after the warm-up, in both directions. */
struct tally {
    size_t n_transfers;
    uint64_t nanoseconds;
};

static inline void tallies_print(
    const struct tally tallies[N_SIZES][2], const char *const names[2])
{
    printf(
        "%12s  %-9s %9s %12s %10s\n", "bytes", "operation", "transfers", "us", "MiB/s");
    for (size_t i = 0; i < N_SIZES && tallies[i][0].n_transfers > 0; i++) {
        for (unsigned operation = 0; operation < 2; operation++) {
            const struct tally *tally = &tallies[i][operation];
            double us = (double)tally->nanoseconds / 1e3 / (double)tally->n_transfers;

            printf("%12zu  %-9s %9zu %12.1f %10.1f  verified\n", sizes[i],
                names[operation], tally->n_transfers, us,
                (double)sizes[i] / us * 1e6 / 1048576.0);
        }
    }
}

#endif
