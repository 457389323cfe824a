/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Starting the processes, and what they have to tell each other before there is a network:
 * a star of sockets with the launcher in the middle, as mpirun has it. The launcher uses
 * no network library itself.
 */
#ifndef EXAMPLES_PARCELPORT_LAUNCH_H
#define EXAMPLES_PARCELPORT_LAUNCH_H

#include "parcelport.h"
#include "parcelport_report.h"

/* -- the launcher -- */

/* Start all processes with our own arguments, serve them until they have reported, and
 * wait for their end. */
bool launch_all(const struct options *options, char *const arguments[], int n_arguments,
    struct report *reports);

/* -- a process -- */

bool launch_join(const struct options *options);
/* The address of the interface that the launcher is reached by. */
bool launch_node(char *text, size_t size);

typedef bool launch_visitor(void *user, unsigned rank, const void *bytes, size_t size);
/* Tell all, and hear what all have told, in the order of ranks: also a barrier. visit may
 * be NULL. */
bool launch_share(const struct options *options, const void *bytes, size_t size,
    launch_visitor *visit, void *user);
/* While we wait for the others from now on, call this. */
void launch_meanwhile(void (*progress)(void *), void *progress_arg);
bool launch_progress(uint64_t n_done);
bool launch_report(const struct report *report);
/* False: the launcher has gone, or wants us to stop. */
bool launch_lives(void);
/* Good-bye; after a failure, with the reason. */
void launch_leave(bool good);

#endif
