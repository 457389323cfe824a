/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loops that are measured, as a template: a subject's source defines the functions
 * below as WORKER_INLINE and then includes worker.h, so that what can be inlined is. In
 * the words that C and C++ share.
 *
 *   void *subject_handle(void)            what a program would keep in a variable
 *   void *subject_alloc(handle, size)     NULL when there is none
 *   void subject_free(handle, item)
 *   size_t subject_alloc_many(handle, size, n, items), void subject_free_many(...)
 *   void *subject_data(item)              its memory
 *   void subject_begin(void), subject_end(void)       a thread comes, goes
 *   bool subject_start(argc, argv)        once
 *   bool subject_open(request, reply), void subject_close(void)
 *   double subject_stranded(void)         bytes in thread caches; negative: unknown
 *   void subject_describe(text, size)
 *   SUBJECT_TRAITS                        of the enum below
 *
 * The loops do not touch the regions' memory: that would cost the same everywhere, and
 * hide what is compared. loop_verify does.
 */
#ifndef BENCH_WORKERS_LOOPS_H
#define BENCH_WORKERS_LOOPS_H

#include "histogram.h"
#include "ring.h"
#include "support.h"

#include <string.h>

enum subject_trait {
    SUBJECT_ANY_SIZE = 1 << 0, /* one pool for all sizes */
    SUBJECT_CAPPED = 1 << 1, /* there is an end to what it gives */
    SUBJECT_GROWS = 1 << 2 /* growth.c: mrpool with provider host */
};

static bool loop_pair(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;

    /* What was taken and given back a moment ago is there: nothing is tested that the
     * instructions of a pair would have to carry. */
    for (; n > 0; n--) {
        void *item = subject_alloc(handle, size);

        WORKER_KEEP(item);
        subject_free(handle, item);
    }
    return true;
}

static bool loop_batch(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;
    void **items = thread->items;

    for (size_t i = 0; i < n; i += WORKER_BATCH) {
        for (size_t k = 0; k < WORKER_BATCH; k++) {
            items[k] = subject_alloc(handle, size);
            if (items[k] == NULL) {
                return false;
            }
        }
        WORKER_KEEP(items);
        for (size_t k = 0; k < WORKER_BATCH; k++) {
            subject_free(handle, items[k]);
        }
    }
    return true;
}

static bool loop_bulk(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;
    void **items = thread->items;

    for (size_t i = 0; i < n; i += WORKER_BATCH) {
        if (subject_alloc_many(handle, size, WORKER_BATCH, items) != WORKER_BATCH) {
            return false;
        }
        WORKER_KEEP(items);
        subject_free_many(handle, WORKER_BATCH, items);
    }
    return true;
}

/* A pool may be empty only for as long as the consumer has not given back what it has. */
static void *alloc_patiently(struct worker_ring *ring, void *handle, size_t size)
{
    for (size_t tries = 0; tries < RING_YIELDS_MAX; tries++) {
        void *item = subject_alloc(handle, size);

        if (item != NULL) {
            return item;
        }
        sched_yield();
    }
    __atomic_store_n(&ring->failed, true, __ATOMIC_RELAXED);
    return NULL;
}

static bool loop_handover(struct worker_thread *thread, size_t n)
{
    struct worker_ring *ring = thread->ring;
    void *handle = subject_handle();
    size_t size = thread->request->size;

    if (thread->index % 2 == 0) {
        for (size_t i = 0; i < n; i++) {
            void *item = subject_alloc(handle, size);

            if (item == NULL) {
                item = alloc_patiently(ring, handle, size);
            }
            if (item == NULL || !ring_push(ring, item)) {
                return false;
            }
        }
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        void *item = ring_pop(ring);

        if (item == NULL) {
            return false;
        }
        subject_free(handle, item);
    }
    return true;
}

/* One region of the working set goes, another comes. */
static bool loop_random(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t shift = thread->index * 97; /* each thread begins elsewhere in the same list */

    for (size_t i = 0; i < n; i++) {
        size_t at = (i + shift) & (WORKER_CHOICES - 1);
        void **slot = &thread->items[thread->slots[at]];

        subject_free(handle, *slot);
        *slot = subject_alloc(handle, thread->sizes[at]);
        if (*slot == NULL) {
            return false;
        }
        WORKER_KEEP(slot);
    }
    return true;
}

/* The same with one size, as fixed-size pools can do it too. */
static bool loop_replace(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;
    size_t shift = thread->index * 97;

    for (size_t i = 0; i < n; i++) {
        void **slot = &thread->items[thread->slots[(i + shift) & (WORKER_CHOICES - 1)]];

        subject_free(handle, *slot);
        *slot = subject_alloc(handle, size);
        if (*slot == NULL) {
            return false;
        }
        WORKER_KEEP(slot);
    }
    return true;
}

#define LATENCY_WINDOW 64 /* samples between two looks at the context switches */

/* As loop_replace, each alloc timed. A window in which the thread lost its processor is
 * left out: what it shows is the scheduler. */
static bool loop_latency(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;
    uint64_t ticks[LATENCY_WINDOW];
    long switches = worker_switches();

    for (size_t i = 0; i < n; i += LATENCY_WINDOW) {
        long now;

        for (size_t k = 0; k < LATENCY_WINDOW; k++) {
            void **slot = &thread->items[thread->slots[(i + k) & (WORKER_CHOICES - 1)]];
            uint64_t start;

            subject_free(handle, *slot);
            start = worker_ticks();
            *slot = subject_alloc(handle, size);
            ticks[k] = worker_ticks() - start;
            if (*slot == NULL) {
                return false;
            }
        }
        now = worker_switches();
        for (size_t k = 0; k < LATENCY_WINDOW && now == switches; k++) {
            histogram_add(thread->histogram, ticks[k]);
        }
        thread->histogram->n_excluded += now == switches ? 0 : LATENCY_WINDOW;
        switches = now;
    }
    return true;
}

static bool loop_refused(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;

    for (size_t i = 0; i < n; i++) {
        void *item = subject_alloc(handle, size);

        if (item != NULL) { /* it was full a moment ago */
            subject_free(handle, item);
            return false;
        }
    }
    return true;
}

static bool loop_recover(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;

    for (size_t i = 0; i < n; i++) {
        if (subject_alloc(handle, size) != NULL) {
            return false;
        }
        subject_free(handle, thread->items[0]);
        thread->items[0] = subject_alloc(handle, size);
        if (thread->items[0] == NULL) {
            return false;
        }
        WORKER_KEEP(thread->items[0]);
    }
    return true;
}

/* Each region gets a tag at both ends that nobody else writes; a region that two threads
 * hold, or that overlaps another, loses it. */
static bool loop_verify(struct worker_thread *thread, size_t n)
{
    void *handle = subject_handle();
    size_t size = thread->request->size;
    uint64_t tag = (uint64_t)(thread->index + 1) << 40;

    for (size_t i = 0; i < n; i += WORKER_BATCH) {
        uint64_t first = tag;
        bool intact = true;

        for (size_t k = 0; k < WORKER_BATCH; k++, tag++) {
            char *data;

            thread->items[k] = subject_alloc(handle, size);
            if (thread->items[k] == NULL) {
                return false;
            }
            data = (char *)subject_data(thread->items[k]);
            memcpy(data + size - sizeof tag, &tag, sizeof tag);
            memcpy(data, &tag, sizeof tag);
        }
        sched_yield();
        for (size_t k = 0; k < WORKER_BATCH; k++) {
            const char *data = (const char *)subject_data(thread->items[k]);
            uint64_t wanted = first + k, found[2];

            memcpy(&found[0], data, sizeof wanted);
            memcpy(&found[1], data + size - sizeof wanted, sizeof wanted);
            intact = intact && found[0] == wanted && found[1] == wanted;
            subject_free(handle, thread->items[k]);
        }
        if (!intact) {
            thread->problem = "a region was written to by somebody else";
            return false;
        }
    }
    return true;
}

#endif
