/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the message layer needs of a network: messages, one-sided reads, and a provider
 * round what was opened. parcelport_ofi.c and parcelport_ucx.c are the two there are; each
 * is one table at the end of its file.
 *
 * Threads: the data path (send, receive, read, cancel, progress) belongs to the progress
 * thread alone, the rest to the thread that sets up and takes down. Registrations may come
 * from any thread at any time, as the pool makes them when it grows: what a network opens
 * has to allow for that.
 */
#ifndef EXAMPLES_PARCELPORT_NETWORK_H
#define EXAMPLES_PARCELPORT_NETWORK_H

#include "parcelport.h"

#include "mrpool/mrpool.h"

/* Parts of one message: a header, and entries behind it. */
#define PIECES_MAX 4

struct network;

enum network_result {
    NETWORK_DONE,
    NETWORK_CANCELLED,
    NETWORK_FAILED
};

/* An operation in flight. Stays where it is until `done` has been called. */
struct network_op {
    void *native[8]; /* the network's own; first, as libfabric wants a fi_context2 */
    struct network *network; /* for the network's own use, too */
    /* Called once, by progress and by nothing else. size: bytes received. */
    void (*done)(struct network_op *op, enum network_result result, size_t size);
};

/* A run of bytes in the pool, with what the network wants for local access. */
struct network_piece {
    void *address;
    size_t size;
    void *local_desc;
};

enum network_start {
    NETWORK_STARTED,
    NETWORK_BUSY, /* no room: call progress, try again */
    NETWORK_REFUSED /* has been complained of */
};

struct network_ops {
    const char *name; /* --network */
    const char *default_provider; /* --provider */

    /* node: the interface to use, an IP address. NULL: has been complained of. */
    struct network *(*open)(const char *provider, const char *node);
    const char *(*describe)(struct network *network);
    /* A provider of the context round what was opened, for the pool's only rail. */
    enum mrp_status (*wrap)(struct network *network, struct mrp_context *context,
        struct mrp_provider **provider);
    /* Whether peers reach only memory that the network has made itself. NULL: no. */
    bool (*makes_memory)(struct network *network);
    bool (*address)(struct network *network, void *address, size_t *size);
    bool (*connect)(
        struct network *network, unsigned rank, const void *address, size_t size);
    /* What the network ties a peer's keys to; may be NULL. */
    void *(*endpoint)(struct network *network, unsigned rank);

    enum network_start (*send)(struct network *network, unsigned to,
        const struct network_piece *pieces, size_t n_pieces, struct network_op *op);
    enum network_start (*receive)(struct network *network,
        const struct network_piece *piece, struct network_op *op);
    /* Of the peer's region, as much as the piece is long. */
    enum network_start (*read)(struct network *network, unsigned from,
        const struct network_piece *piece, const struct mrp_remote_region *source,
        struct network_op *op);
    void (*cancel)(struct network *network, struct network_op *op); /* of a receive */
    bool (*progress)(struct network *network); /* whether anything happened */

    /* Say good-bye to the peers. The progress thread has ended, nothing is in flight, and
     * their keys have been given back; memory is still registered. Progress is called
     * afterwards, until all have done so. Twice is no harm. */
    void (*disconnect)(struct network *network);
    /* The provider has been closed. */
    void (*close)(struct network *network);
};

extern const struct network_ops network_ofi, network_ucx;

#endif
