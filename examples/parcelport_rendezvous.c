/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Large messages: the receiver reads the sender's regions.
 *
 *     sender                                         receiver
 *     rendezvous_offer   -- tokens, keys once -->    rendezvous_begin
 *                                                      keys kept per peer and chunk
 *                                                      a target, or a place in the line
 *     (passive)          <====== reads =========     rendezvous_read
 *     rendezvous_answered <-- the offer's token --   read_done
 *
 * What to look at:
 *   - a token for any run of bytes: its region's, or a slice's     offer_token
 *   - keys go once to each peer, and again when it has let go      offer_keys
 *   - bounded keys of peers; stale tokens are refused              keys_find, read_resolve
 *   - a thread that must not wait has another stand in line        rendezvous_find_target
 *   - an answer is a token: late and repeated ones find nothing    rendezvous_answered
 */
#include "parcelport_packet.h"

#include <string.h>

/* Every so many acknowledgements one is sent twice, as a network that retransmits would. */
#define REPEAT_EVERY 64

/* -- tokens -- */

/* Keys are found by the number of the chunk. One that is damaged has none: no keys are
 * found for it, and the library refuses it when it resolves it. */
static struct mrp_chunk_id token_chunk(const struct mrp_token *token)
{
    struct mrp_chunk_id id = {0, UINT32_MAX, 0};

    (void)mrp_token_chunk(token, &id);
    return id;
}

/* -- the sender, main thread -- */

/* The token of an entry. What is not a whole region is made a slice of one: a region of
 * its own, which also holds on to the whole. */
static bool offer_token(struct port *port, const struct iovec *entry,
    struct mrp_region **slice, struct mrp_token *token)
{
    struct mrp_region *region = mrp_region_find(port->pool, entry->iov_base);
    size_t offset;

    if (region == NULL) {
        return mrp_ok(port, "entry", MRP_ERR_NOT_FOUND);
    }
    offset = (size_t)((char *)entry->iov_base - (char *)mrp_region_address(region));
    *slice = NULL;
    if (offset != 0 || entry->iov_len != mrp_region_size(region)) {
        if (!mrp_ok(
                port, "slice", mrp_region_slice(region, offset, entry->iov_len, slice))) {
            return false;
        }
        region = *slice;
    }
    return mrp_ok(port, "token", mrp_region_token(region, token));
}

/* Whether this peer has been sent the keys of the token's chunk; from now on it has. A
 * chunk that was replaced has other keys, and another generation. */
static bool offer_has_keys(
    struct port *port, struct port_peer *peer, const struct mrp_token *token)
{
    struct mrp_chunk_id id = token_chunk(token);
    size_t i = 0;

    while (i < peer->n_sent_keys && peer->sent_keys[i].chunk != id.chunk) {
        i++;
    }
    if (i < peer->n_sent_keys && peer->sent_keys[i].generation == id.generation) {
        return true;
    }
    if (i == CHUNKS_MAX) {
        i = id.chunk % CHUNKS_MAX; /* forget another one: its keys are sent again */
    } else if (i == peer->n_sent_keys) {
        peer->n_sent_keys++;
    }
    peer->sent_keys[i] = (struct sent_keys){id.chunk, id.generation};
    port_count(&port->counts.n_keys_packed);
    return false;
}

/* Behind the offers, the keys that the peer does not have: once per chunk and peer. */
static bool offer_keys(struct port *port, struct packet *packet)
{
    struct port_peer *peer = &port->peers[packet->peer];
    struct offer *offers = (struct offer *)packet_body(packet);
    size_t used = packet->n_entries * sizeof(*offers);

    for (size_t i = 0; i < packet->n_entries; i++) {
        struct mrp_region *region =
            mrp_region_find(port->pool, packet->entries[i].iov_base);
        size_t size = port->body_max - used;

        offers[i].keys_size = 0;
        if (offer_has_keys(port, peer, &offers[i].token)) {
            continue;
        }
        if (!mrp_ok(port, "keys",
                mrp_region_key_pack(region, 1, packet_body(packet) + used, &size))) {
            return false;
        }
        offers[i].keys_size = size;
        used += size;
    }
    packet->header->body_size = (uint32_t)used;
    packet->n_awaited = 2;
    packet->answer = 0;
    return true;
}

static void offer_drop_slices(struct port *port, struct packet *packet)
{
    for (size_t i = 0; i < packet->n_entries; i++) {
        if (packet->slices[i] != NULL) {
            (void)mrp_ok(port, "slice", mrp_region_free(packet->slices[i]));
            packet->slices[i] = NULL;
        }
    }
}

enum port_result rendezvous_offer(struct port *port, struct packet *packet)
{
    struct offer *offers = (struct offer *)packet_body(packet);
    bool good =
        mrp_ok(port, "token", mrp_region_token(packet->region, &packet->header->token));

    memset(packet->slices, 0, sizeof(packet->slices));
    for (size_t i = 0; i < packet->n_entries && good; i++) {
        offers[i].size = packet->entries[i].iov_len;
        good =
            offer_token(port, &packet->entries[i], &packet->slices[i], &offers[i].token);
    }
    if (!good || !offer_keys(port, packet)) {
        offer_drop_slices(port, packet);
        return PORT_FAILED;
    }
    return PORT_OK;
}

bool rendezvous_offer_keys(struct port *port, struct packet *packet)
{
    struct port_peer *peer = &port->peers[packet->peer];
    const struct offer *offers = (const struct offer *)packet_body(packet);

    for (size_t i = 0; i < packet->n_entries; i++) {
        for (size_t j = 0; j < peer->n_sent_keys; j++) {
            if (peer->sent_keys[j].chunk == token_chunk(&offers[i].token).chunk) {
                peer->sent_keys[j] = peer->sent_keys[--peer->n_sent_keys];
            }
        }
    }
    return offer_keys(port, packet);
}

/* -- the sender, progress thread -- */

/* An offer has been sent and answered, in whichever order that was noticed. */
static void offer_settle(struct packet *packet)
{
    struct port *port = packet->port;

    if (--packet->n_awaited > 0) {
        return;
    }
    if (packet->answer == MESSAGE_NO_KEYS) {
        port_hand_over(port, &port->unanswered, packet);
        return;
    }
    offer_drop_slices(port, packet);
    port_give_back(port, packet);
    packet_free(packet);
}

void rendezvous_sent(struct packet *packet)
{
    offer_settle(packet);
}

/* The answer brings the offer's token back. When that has been answered already, its
 * region has been freed since, or is somebody else's by now: mrp_token_resolve tells. */
bool rendezvous_answered(struct port *port, const struct header *answer)
{
    struct mrp_region *region = NULL;
    enum mrp_status status = mrp_token_resolve(port->pool, &answer->token, &region);
    struct packet *packet = status == MRP_OK ? packet_of(region) : NULL;

    if (status == MRP_ERR_STALE || (packet != NULL && packet->answer != 0)) {
        port_count(&port->counts.n_acks_stale);
        return true;
    }
    if (status != MRP_OK) {
        return mrp_ok(port, "a token that came back", status);
    }
    if (packet->role != PACKET_RENDEZVOUS || packet->peer != answer->from) {
        return port_fail(port, "rank %u answers what it was not offered", answer->from);
    }
    packet->answer = answer->kind;
    offer_settle(packet);
    return true;
}

/* -- the receiver: keys of peers -- */

static void keys_close(struct port *port, struct remote_keys *keys)
{
    (void)mrp_ok(port, "closing keys", mrp_remote_close(keys->remote));
    keys->remote = NULL;
    port_count(&port->counts.n_keys_closed);
}

static struct remote_keys *keys_find(struct port_peer *peer, uint32_t chunk)
{
    for (size_t i = 0; i < CHUNKS_MAX; i++) {
        if (peer->keys[i].remote != NULL && peer->keys[i].chunk == chunk) {
            return &peer->keys[i];
        }
    }
    return NULL;
}

/* A free place, after letting go of the keys that have not been used for longest when
 * there are as many as may be kept. Those in use are never let go. */
static struct remote_keys *keys_place(struct port *port, struct port_peer *peer)
{
    struct remote_keys *place = NULL, *oldest = NULL;
    size_t n_kept = 0;

    for (struct remote_keys *keys = peer->keys; keys < peer->keys + CHUNKS_MAX; keys++) {
        if (keys->remote == NULL) {
            place = keys;
            continue;
        }
        n_kept++;
        if (keys->n_reads == 0 &&
            (oldest == NULL || keys->last_used < oldest->last_used)) {
            oldest = keys;
        }
    }
    if (oldest != NULL && (n_kept >= port->options.max_keys || place == NULL)) {
        keys_close(port, oldest);
        place = oldest;
    }
    return place;
}

/* Import the keys that have come with an offer. What is held of that chunk is of no use
 * any more: the sender only sends keys that are new, or were asked for. */
static bool keys_open(
    struct port *port, unsigned rank, const struct offer *offer, const void *packed)
{
    struct port_peer *peer = &port->peers[rank];
    struct remote_keys *keys = keys_find(peer, token_chunk(&offer->token).chunk);
    void *endpoint = port->ops->endpoint(port->network, rank);

    if (keys != NULL && keys->n_reads > 0) {
        return true; /* asked for twice, by two offers: the first answer is in use */
    }
    if (keys != NULL) {
        keys_close(port, keys);
    } else {
        keys = keys_place(port, peer);
    }
    if (keys == NULL) {
        return port_fail(
            port, "keys of %d chunks of rank %u are in use: no room", CHUNKS_MAX, rank);
    }
    if (!mrp_ok(port, "a peer's keys",
            mrp_remote_open(
                port->provider, endpoint, 0, packed, offer->keys_size, &keys->remote))) {
        return false;
    }
    keys->chunk = token_chunk(&offer->token).chunk;
    keys->n_reads = 0;
    keys->last_used = ++port->clock;
    port_count(&port->counts.n_keys_opened);
    return true;
}

void rendezvous_close(struct port *port)
{
    for (struct port_peer *peer = port->peers; peer < port->peers + PROCESSES_MAX;
         peer++) {
        for (size_t i = 0; i < CHUNKS_MAX; i++) {
            if (peer->keys[i].remote != NULL) {
                keys_close(port, &peer->keys[i]);
            }
        }
    }
}

/* -- the receiver: reading -- */

enum resolved {
    RESOLVED,
    KEYS_MISSING,
    RESOLVE_FAILED
};

/* From an entry's token to what the network wants. The keys stay until the read is done. */
static enum resolved read_resolve(
    struct port *port, unsigned rank, const struct offer *offer, struct packet_read *read)
{
    struct remote_keys *keys =
        keys_find(&port->peers[rank], token_chunk(&offer->token).chunk);
    enum mrp_status status;

    if (keys == NULL) {
        return KEYS_MISSING;
    }
    read->source = (struct mrp_remote_region)MRP_REMOTE_REGION_INIT;
    status = mrp_remote_resolve(keys->remote, &offer->token, &read->source);
    if (status == MRP_ERR_STALE) { /* the peer has replaced that chunk */
        return KEYS_MISSING;
    }
    if (!mrp_ok(port, "a peer's token", status)) {
        return RESOLVE_FAILED;
    }
    if (offer->size != read->source.size) {
        port_fail(port, "rank %u offers %llu bytes in a region of %zu", rank,
            (unsigned long long)offer->size, read->source.size);
        return RESOLVE_FAILED;
    }
    read->size = offer->size;
    read->keys = keys;
    keys->n_reads++;
    keys->last_used = ++port->clock;
    return RESOLVED;
}

static void reads_release(struct packet *request, size_t n_resolved)
{
    for (size_t i = 0; i < n_resolved; i++) {
        request->reads[i].keys->n_reads--;
    }
}

/* The request goes back as its own answer: a region that we have, so that answering never
 * needs memory. Afterwards it is posted again. */
static bool request_answer(
    struct port *port, struct packet *request, enum message_kind kind)
{
    struct mrp_token token = request->header->token;
    bool is_repeated = kind == MESSAGE_ACK &&
        port->peers[request->peer].n_rendezvous++ % REPEAT_EVERY == 0;

    packet_address(request, kind, request->peer, request->header->id);
    request->header->token = token;
    request->role = PACKET_REPLY;
    request->is_repeated = is_repeated;
    if (is_repeated) {
        port_count(&port->counts.n_acks_repeated);
        port_count(&port->peers[request->peer].n_repeated);
    }
    request->n_pieces = 1;
    request->pieces[0].address = request->header;
    request->pieces[0].size = sizeof(struct header);
    if (!mrp_ok(port, "descriptor",
            mrp_region_local_desc(request->region, 0, &request->pieces[0].local_desc))) {
        return false;
    }
    port_queue_send(port, request);
    return true;
}

static void target_notify(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status);

bool rendezvous_begin(struct port *port, struct packet *request)
{
    const struct header *header = request->header;
    const struct offer *offers = (const struct offer *)packet_body(request);
    size_t used = header->n_entries * sizeof(*offers);
    uint64_t size = 0;

    /* zero once, not at each try: a waiter that tries again keeps its place */
    request->waiter = (struct mrp_waiter)MRP_WAITER_INIT(target_notify, request);
    request->n_started = request->n_done = 0;
    request->n_entries = header->n_entries;
    for (size_t i = 0; i < header->n_entries; i++) {
        enum resolved resolved;

        if (offers[i].keys_size > header->body_size - used ||
            offers[i].size > header->size - size) {
            return port_fail(port, "rank %u offers more than it has", header->from);
        }
        if (offers[i].keys_size > 0 &&
            !keys_open(port, header->from, &offers[i], packet_body(request) + used)) {
            return false;
        }
        used += offers[i].keys_size;
        size += offers[i].size;
        resolved = read_resolve(port, header->from, &offers[i], &request->reads[i]);
        if (resolved != RESOLVED) {
            reads_release(request, i);
            port_count(&port->counts.n_keys_missing);
            return resolved == KEYS_MISSING &&
                request_answer(port, request, MESSAGE_NO_KEYS);
        }
    }
    if (size != header->size) {
        return port_fail(port, "rank %u offers less than it says", header->from);
    }
    request->target = port_take(port, size);
    if (request->target == NULL) { /* the main thread can make or await one */
        port_hand_over(port, &port->wanted, request);
    } else if (port->reads.first != NULL || !rendezvous_read(port, request)) {
        queue_add(&port->reads, &request->link);
    }
    return true;
}

/* All has been read: the sender may have its regions back, and the main thread gets what
 * looks like an eager message. */
static void request_done(struct port *port, struct packet *request)
{
    struct packet *target = request->target;

    reads_release(request, request->n_entries);
    *target->header = *request->header;
    target->peer = request->peer;
    target->role = PACKET_IDLE;
    request->target = NULL;
    (void)request_answer(port, request, MESSAGE_ACK);
    port_hand_over(port, &port->arrived, target);
}

static void read_done(struct network_op *op, enum network_result result, size_t size)
{
    struct packet_read *read = (struct packet_read *)op;
    struct packet *request = read->request;
    struct port *port = request->port;

    (void)size;
    if (result != NETWORK_DONE) {
        atomic_store(&port->has_failed, true);
    } else if (++request->n_done == request->n_entries) {
        request_done(port, request);
    }
}

bool rendezvous_read(struct port *port, struct packet *request)
{
    struct network_piece piece = {NULL, 0, NULL};
    size_t offset = 0;

    if (!mrp_ok(port, "descriptor",
            mrp_region_local_desc(request->target->region, 0, &piece.local_desc))) {
        return true;
    }
    for (size_t i = 0; i < request->n_entries; i++) {
        struct packet_read *read = &request->reads[i];
        enum network_start start;

        piece.address = (char *)mrp_region_address(request->target->region) + offset;
        piece.size = read->size;
        offset += read->size;
        if (i < request->n_started) {
            continue;
        }
        read->request = request;
        read->op.done = read_done;
        start = port->ops->read(
            port->network, request->peer, &piece, &read->source, &read->op);
        if (start == NETWORK_BUSY) {
            return false;
        }
        if (start == NETWORK_REFUSED) {
            atomic_store(&port->has_failed, true);
            return true;
        }
        request->n_started++;
    }
    return true;
}

/* -- the receiver, main thread: memory for what the progress thread found none for -- */

/* A place in the line has come up: in the thread whose free made room, so nothing is done
 * here but to pass it on. */
static void target_notify(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    struct packet *request = waiter->user;
    struct port *port = request->port;

    if (region != NULL) {
        request->target = packet_of(region);
        line_add(&port->granted, &request->link);
        bell_ring(&port->progress_bell);
    } else if (status == MRP_ERR_AGAIN) { /* there is room, and to use it is to grow */
        port_hand_over(port, &port->wanted, request);
    } else {
        port_fail(port, "waiting for a region: %s", mrp_status_text(status));
    }
}

bool rendezvous_find_target(struct port *port, struct packet *request)
{
    size_t size = request->header->size;
    struct mrp_region *region;
    enum mrp_status status;

    status = mrp_region_alloc_async(port->pool, size, &request->waiter, &region);
    if (status == MRP_OK) {
        port_count(&port->counts.n_handed);
        request->target = packet_of(region);
        line_add(&port->granted, &request->link);
        bell_ring(&port->progress_bell);
        return true;
    }
    return status == MRP_ERR_AGAIN || mrp_ok(port, "region for a peer's message", status);
}
