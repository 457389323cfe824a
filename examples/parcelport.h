/* SPDX-License-Identifier: BSD-3-Clause
 *
 * parcelport: what its files share. The program is a message layer as the author of a
 * transport would write it, over libfabric and over UCX, in these rooms:
 *
 *     parcelport.c             options, and what one process does
 *     parcelport_load.c        the messages: made, verified, counted
 *     parcelport_port.c        the message layer: threads, receives, eager messages
 *     parcelport_rendezvous.c  large messages: tokens, keys, one-sided reads
 *     parcelport_ofi.c, _ucx.c what the layer needs of a network, twice
 *     parcelport_launch.c      starts the processes and carries their addresses
 *     parcelport_report.c      the table
 *
 * To learn how to use mrpool in a transport read parcelport_packet.h, then
 * parcelport_port.c and parcelport_rendezvous.c.
 */
#ifndef EXAMPLES_PARCELPORT_H
#define EXAMPLES_PARCELPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define PROCESSES_MAX 16

/* Payload of the largest message, bytes. */
#define MESSAGE_MAX ((size_t)1 << 20)

struct network_ops;

struct options {
    const struct network_ops *network;
    const char *provider; /* "tcp", "shm", ...: of that network */
    unsigned n_processes;
    uint64_t n_messages; /* of all processes together, after the warm-up */
    uint64_t n_warm_up;
    uint64_t seed;
    bool is_even; /* sizes: every power of two as often as the others, not mostly small */
    size_t pool_size; /* bytes of each process's pool; a power of two */
    size_t eager_max; /* payload of the largest eager message, bytes */
    unsigned window; /* messages to one peer that it has not consumed yet */
    unsigned max_keys; /* chunks of one peer whose keys are kept */
    unsigned timeout; /* seconds without any progress */
    bool json;
    bool quiet;

    /* of a process that has been started */
    int rank; /* -1: the launcher, which starts the others */
    unsigned port; /* where the launcher listens */
};

/* Say what went wrong. Always false: `return trouble("...")`. From any thread; the first
 * text of a process is also what the launcher is told. */
__attribute__((format(printf, 1, 2))) bool trouble(const char *format, ...);

static inline uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
