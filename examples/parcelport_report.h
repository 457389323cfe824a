/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What each process tells the launcher at its end, and what is printed of it.
 */
#ifndef EXAMPLES_PARCELPORT_REPORT_H
#define EXAMPLES_PARCELPORT_REPORT_H

#include "parcelport.h"
#include "parcelport_port.h"

/* Plain copies of struct port_counts. */
struct report_counts {
    uint64_t eager, scattered, rendezvous, entries;
    uint64_t keys_packed, handed, later;
    uint64_t nowait, nowait_failed;
    uint64_t keys_opened, keys_closed, keys_missing;
    uint64_t acks_repeated, acks_stale, sleeps;
};

struct report {
    uint64_t pid;
    uint64_t sent, received; /* messages after the warm-up, all verified */
    uint64_t bytes; /* of those sent */
    uint64_t nanoseconds;
    struct port_memory warm, end; /* after the warm-up; at the end */
    struct report_counts warm_counts, counts; /* likewise; both from the beginning */
    char network[256]; /* what was opened */
};

void report_take(struct port *port, struct report_counts *counts);

/* Print the table or the JSON; then whether all is as it should be. False: no, and why. */
bool report_print(const struct options *options, const struct report *reports);

/* On a terminal: how far they have come. n_done of options->n_messages. */
void report_progress(const struct options *options, uint64_t n_done, uint64_t since);

#endif
