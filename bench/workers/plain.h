/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The parts of a subject that is nothing special there: no arguments, threads that need
 * no introduction, no caches, no bulk calls, items that are their own memory. Included
 * after subject_alloc and subject_free; SUBJECT_STRANDED is what caches hold, -1 where
 * nobody knows.
 */
#ifndef BENCH_WORKERS_PLAIN_H
#define BENCH_WORKERS_PLAIN_H

#include "support.h"

static bool subject_start(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return true;
}

static void subject_begin(void)
{
}

static void subject_end(void)
{
}

static double subject_stranded(void)
{
    return SUBJECT_STRANDED;
}

WORKER_INLINE size_t subject_alloc_many(void *handle, size_t size, size_t n, void **items)
{
    size_t got = 0;

    while (got < n && (items[got] = subject_alloc(handle, size)) != NULL) {
        got++;
    }
    return got;
}

WORKER_INLINE void subject_free_many(void *handle, size_t n, void **items)
{
    for (size_t i = 0; i < n; i++) {
        subject_free(handle, items[i]);
    }
}

WORKER_INLINE void *subject_data(void *item)
{
    return item;
}

#endif
