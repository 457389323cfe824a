/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The progress thread: it drives the network, answers, and frees what has gone out. It
 * must never block, grow the pool or register memory: whoever waits for this thread waits
 * for all messages of the process. So
 *   - it takes only regions that are free already            port_take
 *   - what it cannot take, others give or make               port_deliver, rendezvous_begin
 *   - what must not fail it was given beforehand             port_tell_credit
 *   - it frees in completions: never waits, cannot fail      packet_sent, port_give_back
 *   - it keeps nothing back when it goes to sleep            progress_sleep
 */
#include "parcelport_packet.h"

#include <sched.h>
#include <string.h>

/* Without work for so long, it sleeps. */
#define IDLE_NS 200000u

/* -- memory -- */

/* Free regions only: nothing is cut, mapped or registered for it, and nobody is waited
 * for. What we free ourselves comes out of this thread's cache again; what the main thread
 * frees, when its magazines are full or it flushes them. */
struct packet *port_take(struct port *port, size_t size)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;

    request.flags = MRP_REQUEST_NOWAIT;
    port_count(&port->counts.n_nowait);
    region = mrp_region_alloc_with(port->pool, size, &request);
    if (region != NULL) {
        return packet_of(region);
    }
    port_count(&port->counts.n_nowait_failed);
    if (mrp_error_last()->status != MRP_ERR_AGAIN) {
        port_fail(port, "region of %zu bytes: %s", size, mrp_error_last()->text);
    }
    return NULL;
}

void port_hand_over(struct port *port, struct line *line, struct packet *packet)
{
    line_add(line, &packet->link);
    bell_ring(&port->main_bell);
}

/* The callback of a completion. The entries are copied first: freeing them may free the
 * packet, which is somebody else's from then on. */
void port_give_back(struct port *port, const struct packet *parcel)
{
    struct iovec entries[ENTRIES_MAX];
    size_t n_entries = parcel->n_entries;
    uint64_t size = parcel->header->size;

    memcpy(entries, parcel->entries, sizeof(entries));
    port->events.sent(port->events.user, entries, n_entries);
    atomic_fetch_sub(&port->unfinished_size, size);
    atomic_fetch_sub(&port->n_unfinished, 1);
    bell_ring(&port->main_bell);
}

/* -- receives -- */

static void packet_received(
    struct network_op *op, enum network_result result, size_t size);

static enum network_start port_try_post(struct port *port, struct packet *packet)
{
    struct network_piece piece = {
        packet->header, sizeof(struct header) + port->body_max, NULL};
    enum network_start start;

    if (!mrp_ok(port, "descriptor",
            mrp_region_local_desc(packet->region, 0, &piece.local_desc))) {
        return NETWORK_REFUSED;
    }
    packet->op.done = packet_received;
    start = port->ops->receive(port->network, &piece, &packet->op);
    if (start == NETWORK_STARTED) {
        packet->place = port->n_posted;
        port->posted[port->n_posted++] = packet;
    }
    return start;
}

void port_post(struct port *port, struct packet *packet)
{
    packet->role = PACKET_RECEIVE;
    packet->target = NULL;
    switch (port_try_post(port, packet)) {
    case NETWORK_STARTED:
        break;
    case NETWORK_BUSY:
        queue_add(&port->posts, &packet->link);
        break;
    case NETWORK_REFUSED:
        atomic_store(&port->has_failed, true);
    }
}

/* An eager message goes to the main thread as it is; another region takes its place.
 * When none is free, the main thread gives this one back when it is through with it: asked
 * for before it is handed over, so that it knows by then. */
static void port_deliver(struct port *port, struct packet *packet)
{
    struct packet *other = port_take(port, port->body_max);

    if (other != NULL) {
        port_post(port, other);
    } else {
        atomic_fetch_add(&port->n_receives_missing, 1);
    }
    port_hand_over(port, &port->arrived, packet);
}

/* Whether what has arrived can be what a peer sends. */
static bool header_is_good(
    const struct port *port, const struct packet *packet, size_t size)
{
    const struct header *header = packet->header;

    if (size < sizeof(*header) || header->magic != MESSAGE_MAGIC ||
        header->body_size != size - sizeof(*header) ||
        header->from >= port->options.n_processes || header->from == port->rank) {
        return false;
    }
    switch (header->kind) {
    case MESSAGE_EAGER:
        return header->body_size == header->size;
    case MESSAGE_RENDEZVOUS:
        return header->n_entries >= 1 && header->n_entries <= ENTRIES_MAX &&
            header->size <= MESSAGE_MAX &&
            header->body_size >= header->n_entries * sizeof(struct offer);
    default:
        return header->kind <= MESSAGE_CREDIT;
    }
}

/* Every message tells how far its sender has come; one that was overtaken tells less. */
static void port_take_credit(struct port *port, const struct header *header)
{
    struct port_peer *peer = &port->peers[header->from];
    uint32_t known = atomic_load_explicit(&peer->consumed_there, memory_order_relaxed);

    if ((int32_t)(header->consumed - known) > 0) {
        atomic_store(&peer->consumed_there, header->consumed);
        bell_ring(&port->main_bell);
    }
}

static void packet_received(
    struct network_op *op, enum network_result result, size_t size)
{
    struct packet *packet = (struct packet *)op;
    struct port *port = packet->port;
    const struct header *header = packet->header;
    bool good = true;

    port->posted[packet->place] = port->posted[--port->n_posted];
    port->posted[packet->place]->place = packet->place;
    if (result != NETWORK_DONE || !header_is_good(port, packet, size)) {
        if (result == NETWORK_DONE) {
            port_fail(port, "a message of %zu bytes is none of ours", size);
        } else if (result == NETWORK_FAILED) {
            atomic_store(&port->has_failed, true);
        }
        packet_free(packet);
        return;
    }
    packet->peer = header->from;
    port->peers[header->from].n_messages_from++;
    port_take_credit(port, header);
    switch (header->kind) {
    case MESSAGE_EAGER:
        port_deliver(port, packet);
        return;
    case MESSAGE_RENDEZVOUS:
        good = rendezvous_begin(port, packet);
        break;
    case MESSAGE_ACK:
    case MESSAGE_NO_KEYS:
        good = rendezvous_answered(port, header);
        port_post(port, packet);
        break;
    default:
        port_post(port, packet);
    }
    if (!good) {
        atomic_store(&port->has_failed, true);
    }
}

/* -- sends -- */

static void packet_sent(struct network_op *op, enum network_result result, size_t size)
{
    struct packet *packet = (struct packet *)op;
    struct port *port = packet->port;

    (void)size;
    port->n_sending--;
    if (result != NETWORK_DONE) {
        atomic_store(&port->has_failed, true);
        return; /* the region goes with the pool */
    }
    switch (packet->role) {
    case PACKET_EAGER: {
        bool carries_entry = packet->carries_entry;

        port_give_back(port, packet);
        if (!carries_entry) {
            packet_free(packet);
        }
        break;
    }
    case PACKET_RENDEZVOUS:
        rendezvous_sent(packet);
        break;
    case PACKET_REPLY:
        if (packet->is_repeated) {
            packet->is_repeated = false;
            port_queue_send(port, packet);
        } else {
            port_post(port, packet);
        }
        break;
    default: /* PACKET_CREDIT */
        packet->role = PACKET_IDLE;
    }
}

void port_queue_send(struct port *port, struct packet *packet)
{
    packet->op.done = packet_sent;
    queue_add(&port->peers[packet->peer].sends, &packet->link);
}

/* Whatever goes to a peer tells it how many of its parcels are done with. When nothing
 * goes, and it is about to run out of window, a message of its own does. */
static void port_tell_credit(struct port *port, unsigned rank)
{
    struct port_peer *peer = &port->peers[rank];
    uint32_t untold = atomic_load(&peer->consumed_here) - peer->consumed_told;

    if (untold >= (port->options.window + 1) / 2 && peer->credit->role == PACKET_IDLE &&
        !atomic_load(&port->is_stopping)) {
        packet_address(peer->credit, MESSAGE_CREDIT, rank, 0);
        peer->credit->role = PACKET_CREDIT;
        port_queue_send(port, peer->credit);
    }
}

static void port_pump(struct port *port, unsigned rank)
{
    struct port_peer *peer = &port->peers[rank];
    enum network_start start = NETWORK_STARTED;

    if (peer->sends.first == NULL) {
        port_tell_credit(port, rank);
    }
    while (start == NETWORK_STARTED && peer->sends.first != NULL) {
        struct packet *packet = packet_of_link(peer->sends.first);
        uint32_t consumed = atomic_load(&peer->consumed_here);

        packet->header->consumed = consumed;
        start = port->ops->send(
            port->network, rank, packet->pieces, packet->n_pieces, &packet->op);
        if (start == NETWORK_STARTED) {
            (void)queue_take(&peer->sends);
            peer->consumed_told = consumed;
            peer->n_messages_to++;
            port->n_sending++;
            port->was_busy = true;
        } else if (start == NETWORK_REFUSED) {
            atomic_store(&port->has_failed, true);
        }
    }
}

/* -- its life -- */

static void progress_take_orders(struct port *port)
{
    struct link *next;

    for (struct link *link = line_take(&port->submitted); link != NULL; link = next) {
        next = link->next;
        port_queue_send(port, packet_of_link(link));
    }
    for (struct link *link = line_take(&port->granted); link != NULL; link = next) {
        struct packet *packet = packet_of_link(link);

        next = link->next;
        if (packet->target != NULL) {
            queue_add(&port->reads, link);
        } else {
            port_post(port, packet);
        }
    }
}

static void progress_try_again(struct port *port)
{
    while (port->posts.first != NULL &&
        port_try_post(port, packet_of_link(port->posts.first)) == NETWORK_STARTED) {
        (void)queue_take(&port->posts);
    }
    while (port->reads.first != NULL &&
        rendezvous_read(port, packet_of_link(port->reads.first))) {
        (void)queue_take(&port->reads);
    }
    for (unsigned i = 0; i < port->options.n_processes; i++) {
        if (i != port->rank) {
            port_pump(port, i);
        }
    }
}

/* This thread is about to block, so it keeps nothing back: what is in its magazines could
 * be what the main thread is waiting for. */
static void progress_sleep(struct port *port)
{
    (void)mrp_ok(port, "flush", mrp_thread_flush(port->pool));
    atomic_store(&port->progress_bell.is_awaited, true);
    if (line_is_empty(&port->submitted) && line_is_empty(&port->granted) &&
        !atomic_load(&port->is_stopping)) {
        port_count(&port->counts.n_sleeps);
        bell_wait(&port->progress_bell, SLEEP_MS);
    }
    atomic_store(&port->progress_bell.is_awaited, false);
}

static uint64_t progress_deadline(const struct port *port)
{
    return clock_ns() + (uint64_t)port->options.timeout * 1000000000u;
}

static bool progress_has_sent_all(const struct port *port)
{
    bool has_sent = port->n_sending == 0;

    for (unsigned i = 0; i < port->options.n_processes; i++) {
        has_sent = has_sent && port->peers[i].sends.first == NULL;
    }
    return has_sent;
}

/* Whatever is still to be said. */
static void progress_end(struct port *port)
{
    uint64_t deadline = progress_deadline(port);

    while (!progress_has_sent_all(port) && !atomic_load(&port->has_failed)) {
        progress_try_again(port);
        if (!port->ops->progress(port->network) && clock_ns() > deadline) {
            port_fail(port, "%zu messages could not be sent", port->n_sending);
        }
    }
}

bool progress_drain(struct port *port, const uint64_t *n_from)
{
    uint64_t deadline = progress_deadline(port);

    for (unsigned i = 0; i < port->options.n_processes; i++) {
        while (port->peers[i].n_messages_from < n_from[i] &&
            !atomic_load(&port->has_failed)) {
            if (!port->ops->progress(port->network) && clock_ns() > deadline) {
                port_fail(port, "rank %u sent %llu messages, %llu have come", i,
                    (unsigned long long)n_from[i],
                    (unsigned long long)port->peers[i].n_messages_from);
            }
        }
    }
    return !atomic_load(&port->has_failed);
}

bool progress_cancel(struct port *port)
{
    uint64_t deadline = progress_deadline(port);

    for (size_t i = port->n_posted; i-- > 0;) {
        port->ops->cancel(port->network, &port->posted[i]->op);
    }
    while (port->n_posted > 0 && !atomic_load(&port->has_failed)) {
        if (!port->ops->progress(port->network) && clock_ns() > deadline) {
            port_fail(port, "%zu receives could not be cancelled", port->n_posted);
        }
    }
    return !atomic_load(&port->has_failed);
}

void *progress_run(void *port_arg)
{
    struct port *port = port_arg;
    uint64_t idle_since = 0;

    while (!atomic_load(&port->is_stopping)) {
        port->was_busy = false;
        progress_take_orders(port);
        progress_try_again(port);
        port->was_busy |= port->ops->progress(port->network);
        if (port->was_busy) {
            idle_since = 0;
        } else if (idle_since == 0) {
            idle_since = clock_ns();
        } else if (clock_ns() - idle_since < IDLE_NS) {
            sched_yield();
        } else {
            progress_sleep(port);
        }
    }
    progress_end(port);
    return NULL;
}
