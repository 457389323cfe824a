/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker for mrpool, built several times: against the shared library, called with and
 * without the linkage table, against the static library, and with the inline forms
 * (SUBJECT_INLINE). `--checks none` opens its pools without checks.
 */
#include "support.h"

#include "mrpool/mrpool.h"

#ifdef SUBJECT_INLINE
#include "mrpool/inline.h"
#endif

#include <stdio.h>
#include <string.h>

#define SUBJECT_TRAITS (SUBJECT_ANY_SIZE | SUBJECT_CAPPED | SUBJECT_GROWS)
#define SUBJECT_GROWTH

#define BUDGET ((size_t)4 << 30) /* not mapped: what magazines and caches are sized by */

static struct mrp_context *context;
static struct mrp_pool *pool;
static bool without_checks;

static void subject_describe(char *text, size_t size)
{
    snprintf(text, size, "mrpool %s", mrp_version());
}

static bool subject_start(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++) {
        without_checks = without_checks ||
            (strcmp(argv[i], "--checks") == 0 && strcmp(argv[i + 1], "none") == 0);
    }
    return true;
}

/* No rail: what is measured never gets as far as a network. */
static bool subject_open(const struct worker_request *request, struct worker_reply *reply)
{
    struct mrp_backend_params memory = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    memory.prefault = -1; /* nobody touches the memory */
    params.max_bytes = request->cap != 0 ? (size_t)request->cap : BUDGET;
    params.checks = without_checks ? MRP_CHECKS_NONE : MRP_CHECKS_STATE;
    if (mrp_context_create(NULL, &context) != MRP_OK ||
        mrp_backend_create(context, "mmap", &memory, &params.backend) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK) {
        worker_fail(reply, "%s", mrp_error_last()->text);
        mrp_context_destroy(context);
        return false;
    }
    return true;
}

static void subject_close(void)
{
    mrp_context_destroy(context);
}

static void subject_begin(void)
{
}

static void subject_end(void)
{
}

static double subject_stranded(void)
{
    struct mrp_pool_stats stats = MRP_POOL_STATS_INIT;

    return mrp_pool_stats(pool, &stats) == MRP_OK ? (double)stats.cached_size : -1;
}

WORKER_INLINE void *subject_handle(void)
{
    return pool;
}

WORKER_INLINE void *subject_alloc(void *handle, size_t size)
{
#ifdef SUBJECT_INLINE
    return mrp_region_alloc_inline(handle, size);
#else
    return mrp_region_alloc(handle, size);
#endif
}

WORKER_INLINE void subject_free(void *handle, void *item)
{
    (void)handle;
#ifdef SUBJECT_INLINE
    mrp_region_free_inline(item);
#else
    mrp_region_free(item);
#endif
}

WORKER_INLINE size_t subject_alloc_many(void *handle, size_t size, size_t n, void **items)
{
    return mrp_region_alloc_many(handle, size, n, (struct mrp_region **)items);
}

WORKER_INLINE void subject_free_many(void *handle, size_t n, void **items)
{
    (void)handle;
    mrp_region_free_many((struct mrp_region *const *)items, n, NULL);
}

WORKER_INLINE void *subject_data(void *item)
{
    return mrp_region_address(item);
}

#include "worker.h"
