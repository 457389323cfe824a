/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The messages. Who sends what to whom follows from the seed, so that a receiver knows
 * what has to arrive, and how each byte has to look.
 */
#ifndef EXAMPLES_PARCELPORT_LOAD_H
#define EXAMPLES_PARCELPORT_LOAD_H

#include "parcelport_port.h"

struct load {
    const struct options *options;
    struct port *port;
    unsigned rank;

    /* the present phase: messages [first, first + n_from[rank]) of each process */
    uint64_t first;
    uint64_t n_from[PROCESSES_MAX];
    uint64_t n_expected;
    uint8_t *seen[PROCESSES_MAX]; /* a bit for each of them */

    uint64_t n_sent, n_received, bytes_sent;
    uint64_t nanoseconds;
    uint64_t n_done_before; /* in earlier phases, for the display */
};

extern const struct port_events load_events; /* .user is the load */

/* n_messages of all processes together, from number `first` of each on: send ours, take in
 * what is for us, until all of it is through. */
bool load_run(struct load *load, uint64_t first, uint64_t n_messages);

#endif
