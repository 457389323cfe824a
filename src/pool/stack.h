/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A lock-free stack of indices (Treiber's) that knows nothing of pools. Links stand in an
 * array beside the objects, one 32-bit word every `stride` bytes; objects are never
 * touched.
 *
 *     head   63      32 31         0
 *            | tag     | index + 1 |     0: empty
 *
 * Every change of the head raises the tag, so that a head seen twice is the same stack,
 * not one that was changed and changed back (ABA). docs/CONCURRENCY.md has the argument,
 * and what a wrap of the tag would take.
 */
#ifndef MRP_POOL_STACK_H
#define MRP_POOL_STACK_H

#include "base/atomic.h"

#include <stddef.h>
#include <stdint.h>

struct mrp_stack {
    _Atomic uint64_t head;
};

struct mrp_links {
    char *base;
    size_t stride;
};

#define MRP_STACK_EMPTY UINT32_MAX

static inline _Atomic uint32_t *mrp_link(struct mrp_links links, uint32_t index)
{
    return (_Atomic uint32_t *)(void *)(links.base + index * links.stride);
}

static inline uint64_t mrp_stack_next_head(uint64_t head, uint32_t index_plus_1)
{
    return ((head >> 32) + 1) << 32 | index_plus_1;
}

/** Push a chain whose links, first to last, the caller has set; `last` is linked here. */
static inline void mrp_stack_push_chain(
    struct mrp_stack *stack, struct mrp_links links, uint32_t first, uint32_t last)
{
    uint64_t head = mrp_load_relaxed(&stack->head);

    do {
        mrp_store_relaxed(mrp_link(links, last), (uint32_t)head);
        /* release: pairs with the acquire in mrp_stack_pop; what was written to the
         * objects before is visible to who takes them. seq_cst: who pushes and then looks
         * for waiters, and who waits and then looks here, do not miss each other. */
    } while (!mrp_cas_seq_cst(&stack->head, &head, mrp_stack_next_head(head, first + 1)));
}

static inline void mrp_stack_push(
    struct mrp_stack *stack, struct mrp_links links, uint32_t index)
{
    mrp_stack_push_chain(stack, links, index, index);
}

/** @return the index, or MRP_STACK_EMPTY. */
static inline uint32_t mrp_stack_pop(struct mrp_stack *stack, struct mrp_links links)
{
    uint64_t head = mrp_load_acquire(&stack->head);
    uint32_t next;

    do {
        if ((uint32_t)head == 0) {
            return MRP_STACK_EMPTY;
        }
        /* May be the link of an object somebody else has just taken: then the head has
         * moved, and the value is thrown away. The word is always there to be read. */
        next = mrp_load_relaxed(mrp_link(links, (uint32_t)head - 1));
    } while (!mrp_cas_acq_rel(&stack->head, &head, mrp_stack_next_head(head, next)));
    return (uint32_t)head - 1;
}

#endif
