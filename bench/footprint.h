/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What this process holds of the system: whatever grows in a loop of create and destroy
 * leaks.
 */
#ifndef BENCH_FOOTPRINT_H
#define BENCH_FOOTPRINT_H

struct bench_footprint {
    long heap_size; /* bytes the C library has given out and not got back */
    long mapped_size; /* bytes of address space (VmSize) */
    long resident_size; /* bytes of RAM (VmRSS): wobbles by a few pages on its own */
    long locked_size; /* bytes (VmLck) */
    long n_mappings;
    long n_files; /* open file descriptors */
};

void bench_footprint_take(struct bench_footprint *footprint);

#endif
