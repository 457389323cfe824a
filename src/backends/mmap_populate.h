/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend mmap's prefaulting: every page of a new mapping is there before its first use.
 */
#ifndef MRP_BACKENDS_MMAP_POPULATE_H
#define MRP_BACKENDS_MMAP_POPULATE_H

#include <stdbool.h>
#include <stddef.h>

/** Less than this each is not worth a thread: about 5 ms of a kernel that zeroes. */
#define MRP_POPULATE_PIECE ((size_t)32 << 20)

struct mrp_populate {
    char *address;
    size_t size; /* a multiple of page_size */
    size_t page_size;
    bool is_hugetlb;
    bool is_bound; /* to a node, so that it does not matter who touches it */
    unsigned n_threads; /* at most; 0: the processors the caller may use, at most 8 */
};

/** Populate it all, in parallel where it is large. The threads made for this have ended
 *  when the call returns. 0, or the errno of the first piece that could not be. */
int mrp_populate(const struct mrp_populate *populate);

#endif
