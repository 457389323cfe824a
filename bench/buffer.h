/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Buffers as a program maps them for itself, on pages of a chosen kind.
 */
#ifndef BENCH_BUFFER_H
#define BENCH_BUFFER_H

#include "mrpool/mrpool.h"

/** A kind of page, by the name that --pages and MRPOOL_PAGES know. */
struct bench_pages {
    const char *name; /* "4k", "thp", "2m" */
    enum mrp_pages pages;
    size_t page_size; /* smaller buffers are not measured on it */
};

extern const struct bench_pages bench_pages_all[];
#define BENCH_PAGES_ALL 3

struct bench_buffer {
    void *address;
    size_t size;
    void *mapping;
    size_t mapping_size;
};

/** Whether the system can give `size` bytes on such pages now. */
bool bench_pages_available(
    const struct bench_pages *pages, const struct mrp_system *system, size_t size);

/** Map, without touching. The size is a multiple of the page size. */
enum mrp_status bench_buffer_map(
    const struct bench_pages *pages, size_t size, struct bench_buffer *buffer);

/** Write one byte of every 4 KiB. */
void bench_buffer_touch(const struct bench_buffer *buffer);

void bench_buffer_unmap(const struct bench_buffer *buffer);

#endif
