/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker for boost::lockfree::stack: a lock-free list of single blocks.
 */
#include "blocks.h"
#include "support.h"

#include <boost/lockfree/stack.hpp>
#include <boost/version.hpp>

#include <cstdio>

#define SUBJECT_TRAITS SUBJECT_CAPPED
#define SUBJECT_STRANDED 0

typedef boost::lockfree::stack<void *, boost::lockfree::fixed_sized<true>> free_stack;

static free_stack *stack;
static struct blocks blocks;

static void subject_describe(char *text, size_t size)
{
    snprintf(text, size, "boost::lockfree::stack %s", BOOST_LIB_VERSION);
}

static bool subject_open(const struct worker_request *request, struct worker_reply *reply)
{
    if (!blocks_map(&blocks, request)) {
        worker_fail(reply, "no memory for %zu blocks", blocks.n);
        return false;
    }
    stack = new free_stack(blocks.n);
    for (size_t i = 0; i < blocks.n; i++) {
        stack->push(blocks.memory + i * blocks.size);
    }
    return true;
}

static void subject_close(void)
{
    delete stack;
    blocks_unmap(&blocks);
}

WORKER_INLINE void *subject_handle(void)
{
    return stack;
}

WORKER_INLINE void *subject_alloc(void *handle, size_t size)
{
    void *item = NULL;

    (void)size;
    return static_cast<free_stack *>(handle)->pop(item) ? item : NULL;
}

WORKER_INLINE void subject_free(void *handle, void *item)
{
    static_cast<free_stack *>(handle)->push(item);
}

#include "plain.h"
#include "worker.h"
