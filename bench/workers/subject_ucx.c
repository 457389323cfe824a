/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker for UCX's ucs_mpool, which is not thread-safe: under a spinlock, as UCX uses it
 * where threads share a worker.
 */
#include "blocks.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <ucp/api/ucp.h>
#include <ucs/datastruct/mpool.h>

#define SUBJECT_TRAITS SUBJECT_CAPPED
#define SUBJECT_STRANDED 0

static ucs_mpool_t pool;
static pthread_spinlock_t lock;

static ucs_status_t map_chunk(ucs_mpool_t *of, size_t *size, void **chunk)
{
    void *memory = mmap(NULL, *size + sizeof(size_t) * 8, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    (void)of;
    if (memory == MAP_FAILED) {
        return UCS_ERR_NO_MEMORY;
    }
    *(size_t *)memory = *size + sizeof(size_t) * 8; /* what unmap_chunk needs */
    *chunk = (char *)memory + sizeof(size_t) * 8;
    return UCS_OK;
}

static void unmap_chunk(ucs_mpool_t *of, void *chunk)
{
    char *memory = (char *)chunk - sizeof(size_t) * 8;

    (void)of;
    munmap(memory, *(size_t *)(void *)memory);
}

static ucs_mpool_ops_t operations = {
    .chunk_alloc = map_chunk, .chunk_release = unmap_chunk};

static void subject_describe(char *text, size_t size)
{
    snprintf(text, size, "UCX %s, ucs_mpool under a spinlock", ucp_get_version_string());
}

static bool subject_open(const struct worker_request *request, struct worker_reply *reply)
{
    size_t n = blocks_count(request, (size_t)request->size);
    ucs_status_t status = ucs_mpool_init(&pool, 0, (size_t)request->size, 0, 64,
        n < 128 ? (unsigned)n : 128, (unsigned)n, &operations, "bench");

    if (status != UCS_OK) {
        worker_fail(reply, "ucs_mpool_init: %d", (int)status);
        return false;
    }
    return pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE) == 0;
}

static void subject_close(void)
{
    ucs_mpool_cleanup(&pool, 0);
}

WORKER_INLINE void *subject_handle(void)
{
    return &pool;
}

WORKER_INLINE void *subject_alloc(void *handle, size_t size)
{
    void *item;

    (void)size;
    pthread_spin_lock(&lock);
    item = ucs_mpool_get(handle);
    pthread_spin_unlock(&lock);
    return item;
}

WORKER_INLINE void subject_free(void *handle, void *item)
{
    (void)handle;
    pthread_spin_lock(&lock);
    ucs_mpool_put(item);
    pthread_spin_unlock(&lock);
}

#include "plain.h"
#include "worker.h"
