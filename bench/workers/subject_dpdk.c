/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker for DPDK's rte_mempool with a cache of 256 objects per thread, on ordinary
 * pages. Threads are registered, so that they have a cache.
 */
#include "blocks.h"
#include "support.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <rte_version.h>
#include <stdio.h>

#define SUBJECT_TRAITS SUBJECT_CAPPED

#define CACHE_SIZE 256
#define OBJECT_OVERHEAD 192 /* header and trailer, at most */

static struct rte_mempool *pool;

static void subject_describe(char *text, size_t size)
{
    snprintf(text, size, "%s, cache %d", rte_version(), CACHE_SIZE);
}

static bool subject_start(int argc, char **argv)
{
    char *arguments[] = {argv[0], "--no-huge", "--no-pci", "-m", "512", "--no-telemetry",
        "--no-shconf", "--log-level=error", NULL};

    (void)argc;
    return rte_eal_init(sizeof arguments / sizeof arguments[0] - 1, arguments) >= 0;
}

/* A cache may hold one and a half times its size, which DPDK wants to see in the pool. */
static bool subject_open(const struct worker_request *request, struct worker_reply *reply)
{
    size_t n = blocks_count(request, (size_t)request->size + OBJECT_OVERHEAD);

    n = n < CACHE_SIZE * 3 / 2 ? CACHE_SIZE * 3 / 2 : n;
    pool = rte_mempool_create("bench", (unsigned)n, (unsigned)request->size, CACHE_SIZE,
        0, NULL, NULL, NULL, NULL, SOCKET_ID_ANY, 0);
    if (pool == NULL) {
        worker_fail(
            reply, "rte_mempool_create of %zu objects: %s", n, rte_strerror(rte_errno));
    }
    return pool != NULL;
}

static void subject_close(void)
{
    rte_mempool_free(pool);
}

static void subject_begin(void)
{
    rte_thread_register();
}

/* What the cache of a thread that goes holds would be lost until another thread gets its
 * number; a program gives it back. */
static void subject_end(void)
{
    struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id());

    if (cache != NULL) {
        rte_mempool_cache_flush(cache, pool);
    }
    rte_thread_unregister();
}

static double subject_stranded(void)
{
    double n = 0;

    for (unsigned i = 0; i < RTE_MAX_LCORE; i++) {
        n += pool->local_cache[i].len;
    }
    return n * pool->elt_size;
}

WORKER_INLINE void *subject_handle(void)
{
    return pool;
}

WORKER_INLINE void *subject_alloc(void *handle, size_t size)
{
    void *item;

    (void)size;
    return rte_mempool_get(handle, &item) == 0 ? item : NULL;
}

WORKER_INLINE void subject_free(void *handle, void *item)
{
    rte_mempool_put(handle, item);
}

WORKER_INLINE size_t subject_alloc_many(void *handle, size_t size, size_t n, void **items)
{
    (void)size;
    return rte_mempool_get_bulk(handle, items, (unsigned)n) == 0 ? n : 0;
}

WORKER_INLINE void subject_free_many(void *handle, size_t n, void **items)
{
    rte_mempool_put_bulk(handle, items, (unsigned)n);
}

WORKER_INLINE void *subject_data(void *item)
{
    return item;
}

#include "worker.h"
