/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Workers of mrpool-bench rma: two processes, one of which puts to and gets from a region
 * of the other. rma_client.h measures; one file for each network library (rma_ofi.c, ...)
 * moves the bytes, as its users do: with its own endpoint, round which mrpool's provider is
 * wrapped.
 *
 * The client tells what it found line by line:
 *   text <library and version>
 *   cache <what the library does with buffers that nobody has registered>
 *   value <put|get>/<latency|message>/<subject> <bytes> <ns>    of one round
 *   value <put|get>/<latency|message>/<subject>/<subject> <bytes> <ratio>   of one round
 *   working                                                      a case takes its time
 *   problem <why something was left out>
 *   end
 * latency: one message at a time, until it has arrived. message: time per message with
 * many under way, which is the bandwidth. Both include what the subject does for a buffer.
 * Values of a case come in the order of the rounds.
 */
#ifndef BENCH_WORKERS_RMA_H
#define BENCH_WORKERS_RMA_H

/* a worker uses a part of what the examples use all of */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../examples/peer.h"
#pragma GCC diagnostic pop

#include "mrpool/mrpool.h"

#include "support.h"

/** Messages under way at once. */
#define RMA_WINDOW 16

struct rma {
    struct peer peer;
    bool is_server;
    const char *options; /* of the network: "provider=tcp,domain=lo" */
    size_t max_size;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct mrp_remote *remote; /* the client's: the server's chunk */
    struct mrp_remote_region target; /* and region */
};

/** Memory to send from or receive into, and what the network wants for it. */
struct rma_buffer {
    void *address;
    void *local_desc;
    struct mrp_region *region; /* of the pool */
    void *registration; /* the network's own, of register_buffer */
};

struct rma_network {
    /** What the library does with a buffer that nobody has registered, in words; NULL: it
     *  refuses, and there is no such subject. Asked after open. */
    const char *(*unregistered)(void);
    /** Open the endpoint and connect it to the peer's (over rma->peer), make the provider.
     *  rma->peer.progress drives the network when it returns. */
    bool (*open)(struct rma *rma);
    /** What mrp_remote_open needs; NULL: nothing. */
    void *(*endpoint)(struct rma *rma);
    /** Start to move `size` bytes to or from the first bytes of the target. */
    bool (*post)(
        struct rma *rma, bool is_get, const struct rma_buffer *buffer, size_t size);
    /** Wait until all that was posted has arrived. */
    bool (*finish)(struct rma *rma, size_t n_posted, bool is_get);
    /** Register and deregister as a program does it without mrpool; fills local_desc. */
    bool (*register_buffer)(struct rma *rma, struct rma_buffer *buffer, size_t size);
    bool (*deregister_buffer)(struct rma *rma, struct rma_buffer *buffer);
    /** End the transfers; then, when the context has gone, all the rest. */
    void (*quiet)(struct rma *rma);
    void (*close)(struct rma *rma);
    /** Before anything else, where a launcher has started both processes: which one this
     *  is, and the server's port, made known to the client. NULL: not launched. */
    bool (*begin)(struct rma *rma, int *argc, char ***argv);
    bool (*share_port)(struct rma *rma, unsigned *port);
    /** Name and version of the library. */
    void (*describe)(char *text, size_t size);
};

/** Defined by the file that includes this one first and rma_main.h last. */
static const struct rma_network rma_network;

#endif
