/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker for what everybody writes first: a free list under a mutex.
 */
#include "blocks.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>

#define SUBJECT_TRAITS SUBJECT_CAPPED
#define SUBJECT_STRANDED 0

struct link {
    struct link *next;
};

static struct {
    pthread_mutex_t mutex;
    struct link *first;
    struct blocks blocks;
} list = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void subject_describe(char *text, size_t size)
{
    snprintf(text, size, "a free list under a mutex");
}

static bool subject_open(const struct worker_request *request, struct worker_reply *reply)
{
    if (!blocks_map(&list.blocks, request)) {
        worker_fail(reply, "no memory for %zu blocks", list.blocks.n);
        return false;
    }
    list.first = NULL;
    for (size_t i = 0; i < list.blocks.n; i++) {
        struct link *link = (struct link *)(list.blocks.memory + i * list.blocks.size);

        link->next = list.first;
        list.first = link;
    }
    return true;
}

static void subject_close(void)
{
    blocks_unmap(&list.blocks);
}

WORKER_INLINE void *subject_handle(void)
{
    return &list;
}

WORKER_INLINE void *subject_alloc(void *handle, size_t size)
{
    struct link *link;

    (void)handle;
    (void)size;
    pthread_mutex_lock(&list.mutex);
    link = list.first;
    if (link != NULL) {
        list.first = link->next;
    }
    pthread_mutex_unlock(&list.mutex);
    return link;
}

WORKER_INLINE void subject_free(void *handle, void *item)
{
    struct link *link = item;

    (void)handle;
    pthread_mutex_lock(&list.mutex);
    link->next = list.first;
    list.first = link;
    pthread_mutex_unlock(&list.mutex);
}

#include "plain.h"
#include "worker.h"
