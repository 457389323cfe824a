/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Blocks of one size for the subjects that bring no memory of their own, and what such
 * subjects have in common.
 */
#ifndef BENCH_WORKERS_BLOCKS_H
#define BENCH_WORKERS_BLOCKS_H

#include "support.h"

#include <sys/mman.h>

#define BLOCKS_SIZE ((size_t)400 << 20) /* as much as DPDK's -m 512 leaves */
#define BLOCKS_MAX \
    ((size_t)16383) /* one less than a power of two: what DPDK likes best */

struct blocks {
    char *memory;
    size_t size; /* of one, rounded to 64 bytes */
    size_t n;
};

/* How many blocks of that size a subject gets. */
static inline size_t blocks_count(const struct worker_request *request, size_t block_size)
{
    size_t n = (request->cap != 0 ? (size_t)request->cap : BLOCKS_SIZE) / block_size;

    return n > BLOCKS_MAX ? BLOCKS_MAX : n;
}

static inline bool blocks_map(struct blocks *blocks, const struct worker_request *request)
{
    void *memory;

    blocks->size = ((size_t)request->size + 63) & ~(size_t)63;
    blocks->n = blocks_count(request, blocks->size);
    memory = mmap(NULL, blocks->n * blocks->size, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    blocks->memory = memory == MAP_FAILED ? NULL : (char *)memory;
    return blocks->memory != NULL;
}

static inline void blocks_unmap(struct blocks *blocks)
{
    munmap(blocks->memory, blocks->n * blocks->size);
    blocks->memory = NULL;
}

#endif
