/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The message layer: parcels of up to three entries, given as plain pointers into the
 * pool's memory, to the other processes and from them.
 *
 *     small: eager           header and payload in one region, one send
 *                            header region and entries, one send of a scatter list
 *     large: rendezvous      the entries' tokens are sent, the receiver reads the entries,
 *                            an acknowledgement gives them back
 *
 * Two threads work on it. The caller's (one, the "main" thread) allocates, fills, sends,
 * and takes in what has arrived; it may grow the pool. The port's own progress thread
 * drives the network and frees what has gone out. It never grows, registers or waits for
 * memory.
 */
#ifndef EXAMPLES_PARCELPORT_PORT_H
#define EXAMPLES_PARCELPORT_PORT_H

#include "parcelport.h"

#include "mrpool/mrpool.h"

#include <stdatomic.h>
#include <sys/uio.h>

#define ENTRIES_MAX 3

struct port;

struct port_events {
    /* The network is through with these entries of a parcel that was sent: whoever sent it
     * may free them. On the progress thread: must not block. */
    void (*sent)(void *user, const struct iovec *entries, size_t n_entries);
    /* A parcel, its entries one behind the other. Within port_poll; the bytes are valid
     * until it returns. False: something is wrong with it, stop. */
    bool (*arrived)(
        void *user, unsigned from, uint64_t id, const unsigned char *bytes, size_t size);
    void *user;
};

enum port_result {
    PORT_OK,
    PORT_LATER, /* the window, or the pool, is full: port_poll, try again */
    PORT_FAILED
};

/* Written by one thread each, read by any. */
typedef _Atomic uint64_t port_counter;

struct port_counts {
    /* by the main thread */
    port_counter n_eager, n_scattered, n_rendezvous; /* sent; scattered is of the eager */
    port_counter n_entries; /* addresses resolved */
    port_counter n_keys_packed; /* of one chunk, for one peer */
    port_counter n_handed; /* times that it allocated for the progress thread */
    port_counter n_later; /* sends that found the window or the pool full */
    /* by the progress thread */
    port_counter n_nowait, n_nowait_failed; /* MRP_REQUEST_NOWAIT: tried, in vain */
    port_counter n_keys_opened, n_keys_closed; /* of one chunk of one peer */
    port_counter n_keys_missing; /* tokens sent back, as their keys were not held */
    port_counter n_acks_repeated; /* acknowledgements sent twice, on purpose */
    port_counter n_acks_stale; /* tokens that came back after their region had gone */
    port_counter n_sleeps; /* each after a mrp_thread_flush */
};

/* Open the network, a context, and a pool registered with it. NULL: has been complained
 * of. Nothing has been allocated from the pool yet. */
struct port *port_open(
    const struct options *options, const char *node, const struct port_events *events);
/* Everything is given back. False: something was wrong with it, and has been said. */
bool port_close(struct port *port);

const char *port_describe(struct port *port);
bool port_address(struct port *port, void *address, size_t *size);
bool port_connect(struct port *port, unsigned rank, const void *address, size_t size);

/* Map all that the pool may have, post the receives, start the progress thread. The
 * other processes may send as soon as all have come back from it. */
bool port_start(struct port *port);
/* The end, in steps that all processes take together. No parcel is under way. First, say
 * what is to be said, and end the progress thread: from here on nothing is sent. */
bool port_stop(struct port *port);
/* Something else has failed: wait for nothing any more. */
void port_abort(struct port *port);
/* Messages of all kinds that have been sent to a peer; take in those that the peers have
 * sent to us. */
uint64_t port_messages_to(struct port *port, unsigned rank);
bool port_drain(struct port *port, const uint64_t *n_from);
/* Take back the receives, say good-bye; call port_progress until all have done so. */
bool port_disconnect(struct port *port);
void port_progress(void *port);

/* Memory for entries. NULL: none now, port_poll, try again. */
void *port_alloc(struct port *port, size_t size);
struct mrp_pool *port_pool(struct port *port);

/* Send a parcel: up to ENTRIES_MAX entries in the pool's memory, which belong to the port
 * until events.sent. Any address will do. A single one that is the first of its region
 * goes out as it is, with the header in front of it. */
enum port_result port_send(struct port *port, unsigned to, uint64_t id,
    const struct iovec *entries, size_t n_entries);

/* Take in what has arrived, allocate for the progress thread. `*busy` tells whether there
 * was anything to do. False: the port has failed, and has said why. */
bool port_poll(struct port *port, bool *busy);
/* Sleep until there is something for port_poll, a millisecond at most. */
void port_wait(struct port *port);
/* Parcels sent whose entries are still the port's. */
uint64_t port_unfinished(struct port *port);

const struct port_counts *port_counts(struct port *port);
/* Acknowledgements that this peer has been sent twice. */
uint64_t port_repeated(struct port *port, unsigned rank);

/* What the pool and the provider say. */
struct port_memory {
    uint64_t n_registrations, registered_size; /* the provider's, live */
    uint64_t n_registered, n_deregistered; /* ever */
    uint64_t n_chunks, mapped_size;
    uint64_t n_growths, n_taken_up, n_released; /* ever */
    uint64_t n_waits; /* requests that ever stood in line */
};
bool port_memory(struct port *port, struct port_memory *memory);

#endif
