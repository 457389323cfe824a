/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The machine a figure was measured on: no figure without it.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "mrpool/mrpool.h"

struct bench_machine {
    char cpu[96];
    long cores;
    char kernel[96];
    char governor[32]; /* "none" where the kernel does not scale frequencies */
    char date[32]; /* local time, ISO 8601 */
    struct mrp_system system;
};

void bench_machine_describe(struct bench_machine *machine);

/** One line of prose, at most 100 columns. */
void bench_machine_line(const struct bench_machine *machine, char *line, size_t size);

#endif
