/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Inside the message layer: what its two files share.
 *
 * Every region of the pool is a packet. Its three parts were made with the pool
 * (mrp_pool_params), so that sending and receiving allocates one thing, the region:
 *
 *     headroom    the header: registered with the payload, right before it
 *     payload     what the region's address is: 64-byte aligned
 *     user data   struct packet: outside the registered memory, where nothing that
 *                 arrives can overwrite it; filled once per region, by packet_init
 *
 *     registered:   ... | header | payload ........................ | ...
 *                       ^ what is sent, and where receives are posted
 */
#ifndef EXAMPLES_PARCELPORT_PACKET_H
#define EXAMPLES_PARCELPORT_PACKET_H

#include "parcelport_line.h"
#include "parcelport_network.h"
#include "parcelport_port.h"

#include <pthread.h>

/* -- on the wire: between processes on machines of one kind -- */

#define MESSAGE_MAGIC 0x50435231u /* another byte order reads another number */

enum message_kind {
    MESSAGE_EAGER = 1, /* body: the entries */
    MESSAGE_RENDEZVOUS, /* body: a struct offer for each entry, then their keys */
    MESSAGE_ACK, /* "I have read what you offered": with the offer's own token */
    MESSAGE_NO_KEYS, /* "I do not hold the keys for it": likewise */
    MESSAGE_CREDIT /* nothing but `consumed` */
};

struct header {
    uint32_t magic;
    uint8_t kind; /* enum message_kind */
    uint8_t n_entries;
    uint16_t from; /* rank */
    uint64_t id; /* of the parcel: the sender's number */
    uint64_t size; /* of all entries, bytes */
    uint32_t body_size; /* bytes behind this header */
    uint32_t consumed; /* how many of the receiver's parcels the sender is through with */
    struct mrp_token token; /* of the region that a RENDEZVOUS was sent from */
};
_Static_assert(sizeof(struct header) == 64, "the pool's headroom, and no padding");

/* One entry of a rendezvous. */
struct offer {
    uint64_t size;
    struct mrp_token token; /* where it is */
    uint64_t keys_size; /* bytes of its chunk's keys, if this peer has not got them */
};

/* -- packets -- */

/* What a packet is being used for. */
enum packet_role {
    PACKET_IDLE,
    PACKET_RECEIVE, /* posted, or arrived */
    PACKET_EAGER, /* going out; the entries are given back once it is sent */
    PACKET_RENDEZVOUS, /* an offer: the entries are given back once it is acknowledged */
    PACKET_REPLY, /* one that arrived, going back as its own answer */
    PACKET_CREDIT
};

/* A one-sided read of one entry. */
struct packet_read {
    struct network_op op;
    struct packet *request; /* the offer that it is for */
    struct mrp_remote_region source;
    struct remote_keys *keys; /* in use until it is done */
    size_t size;
};

struct packet {
    struct network_op op; /* of the message; first, so that it finds the packet */
    struct link link;
    struct mrp_region *region;
    struct header *header; /* in front of the region */
    struct port *port;
    enum packet_role role;
    unsigned peer; /* who it goes to, or came from */

    /* going out */
    struct network_piece pieces[PIECES_MAX];
    size_t n_pieces;
    struct iovec entries[ENTRIES_MAX];
    size_t n_entries;
    struct mrp_region *slices[ENTRIES_MAX]; /* of entries that are a part of a region */
    unsigned n_awaited; /* of a rendezvous: its send, and its answer */
    enum message_kind answer; /* 0: none yet */
    bool carries_entry; /* its payload is the one entry: nobody else's to free */
    bool is_repeated; /* an acknowledgement that will be sent once more */
    size_t place; /* in port->posted */

    /* an offer that has arrived */
    struct packet *target; /* where its entries are read to */
    struct packet_read reads[ENTRIES_MAX];
    size_t n_started, n_done;
    struct mrp_waiter waiter; /* in line for the target */
};

static inline struct packet *packet_of_link(struct link *link)
{
    return (struct packet *)((char *)link - offsetof(struct packet, link));
}

static inline struct packet *packet_of(const struct mrp_region *region)
{
    return mrp_region_user(region);
}

static inline unsigned char *packet_body(struct packet *packet)
{
    return (unsigned char *)(packet->header + 1);
}

/* -- the port -- */

#define CHUNKS_MAX 64 /* more than a pool of this program ever has */

#define WINDOW_MAX 256
#define RECEIVES_MAX (2 * WINDOW_MAX * PROCESSES_MAX)

/* Keys of one chunk of a peer. */
struct remote_keys {
    struct mrp_remote *remote; /* NULL: a free place */
    uint32_t chunk;
    uint32_t n_reads; /* that use them now */
    uint64_t last_used;
};

/* A chunk of ours whose keys have been sent to a peer. */
struct sent_keys {
    uint32_t chunk, generation;
};

struct port_peer {
    /* the main thread's */
    uint32_t n_sent;
    struct sent_keys sent_keys[CHUNKS_MAX];
    size_t n_sent_keys;

    /* between the threads: parcels that one side has sent and the other is through with */
    _Atomic uint32_t consumed_there; /* progress writes, main reads */
    _Atomic uint32_t consumed_here; /* main writes, progress reads */

    /* the progress thread's */
    uint32_t consumed_told;
    struct queue sends;
    struct packet *credit; /* taken beforehand: must not fail */
    struct remote_keys keys[CHUNKS_MAX];
    uint64_t n_rendezvous; /* received */
    port_counter n_repeated; /* of its acknowledgements */
    uint64_t n_messages_to, n_messages_from; /* of all kinds */
};

struct port {
    struct options options;
    unsigned rank;
    size_t body_max; /* of one message: eager entries, or offers with keys */
    struct port_events events;
    const struct network_ops *ops;
    struct network *network;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct port_counts counts;
    struct port_peer peers[PROCESSES_MAX];

    /* from the main thread to the progress thread */
    struct line submitted; /* to be sent */
    struct line granted; /* to be posted; or requests that have got their target */
    struct bell progress_bell;
    /* from the progress thread to the main thread */
    struct line arrived;
    struct line wanted; /* requests that need a target, and memory has to be made */
    struct line unanswered; /* offers that came back for want of keys */
    struct bell main_bell;

    _Atomic uint64_t n_unfinished;
    _Atomic uint64_t unfinished_size; /* bytes of their entries */
    atomic_int
        n_receives_missing; /* to be made up by packets that main is through with */
    atomic_bool has_failed;
    atomic_bool is_stopping;
    bool is_running;
    pthread_t thread;

    /* the progress thread's */
    struct queue reads; /* requests whose reads the network had no room for */
    struct queue posts; /* receives, likewise */
    struct packet *posted[RECEIVES_MAX];
    size_t n_posted;
    size_t n_sending; /* messages that the network has and has not reported yet */
    bool was_busy;
    uint64_t clock; /* of the keys' last use */
};

static inline void port_count(port_counter *counter)
{
    uint64_t count = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, count + 1, memory_order_relaxed);
}

/* Say why, then stop the port: whoever sees that finds the reason said. Always false. */
#define port_fail(port, ...) port_has_failed((port), trouble(__VA_ARGS__))

static inline bool port_has_failed(struct port *port, bool said)
{
    atomic_store(&port->has_failed, true);
    return said;
}

static inline bool mrp_ok(struct port *port, const char *what, enum mrp_status status)
{
    return status == MRP_OK || port_fail(port, "%s: %s", what, mrp_error_last()->text);
}

/* Longest sleep of a thread that has nothing to do. */
#define SLEEP_MS 1

/* parcelport_port.c */

/* Begin a message. */
void packet_address(
    struct packet *packet, enum message_kind kind, unsigned to, uint64_t id);
/* Give back a packet that is a message of ours and nothing else. */
void packet_free(struct packet *packet);

/* parcelport_progress.c: all on the progress thread */

void *progress_run(void *port);
/* Once it has ended, by the main thread. */
bool progress_drain(struct port *port, const uint64_t *n_from);
bool progress_cancel(struct port *port);
/* A region that is free already, or NULL. */
struct packet *port_take(struct port *port, size_t size);
/* Post the region for the next message. */
void port_post(struct port *port, struct packet *packet);
/* Send it as soon as the network takes it. */
void port_queue_send(struct port *port, struct packet *packet);
/* The network is through with a parcel's entries. */
void port_give_back(struct port *port, const struct packet *parcel);
/* Let the main thread have it. */
void port_hand_over(struct port *port, struct line *line, struct packet *packet);

/* parcelport_rendezvous.c */

/* The main thread: make the packet an offer of its entries. */
enum port_result rendezvous_offer(struct port *port, struct packet *packet);
/* The main thread: the peer wants the keys; make it one with all of them. */
bool rendezvous_offer_keys(struct port *port, struct packet *packet);
/* The main thread: find memory for a request, or leave it in line. */
bool rendezvous_find_target(struct port *port, struct packet *request);
/* The progress thread: an offer has arrived. */
bool rendezvous_begin(struct port *port, struct packet *request);
/* The progress thread: it has a target. False: the network has no room now. */
bool rendezvous_read(struct port *port, struct packet *request);
/* The progress thread: one of our offers has been sent. */
void rendezvous_sent(struct packet *packet);
/* The progress thread: and answered. */
bool rendezvous_answered(struct port *port, const struct header *answer);
/* When the progress thread has ended: let go of the peers' keys. */
void rendezvous_close(struct port *port);

#endif
