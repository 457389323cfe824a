/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The rest of the template: working sets, threads that come and go, answering requests.
 * A subject's source ends with #include "worker.h". See loops.h.
 */
#ifndef BENCH_WORKERS_WORKER_H
#define BENCH_WORKERS_WORKER_H

#include "loops.h"

#include <stdio.h>
#include <stdlib.h>

#define WORKING_SET_SIZE ((size_t)32 << 20) /* bytes a thread holds at most */
#define LARSON_OPS 8192 /* of a thread, before the next inherits its regions */
#define FIRST_TOUCH_THREADS 32
#define VERIFY_OPS 4096
#define FILL_MAX ((size_t)1 << 20) /* regions to fill a pool with */

/* -- working sets -- */

static size_t working_set(size_t size)
{
    size_t n = WORKING_SET_SIZE / size;

    return n < WORKER_BATCH ? WORKER_BATCH : n > WORKER_ITEMS_MAX ? WORKER_ITEMS_MAX : n;
}

static bool fill_items(struct worker_thread *thread)
{
    for (size_t i = 0; i < thread->n_items; i++) {
        thread->items[i] = subject_alloc(subject_handle(), thread->request->size);
        if (thread->items[i] == NULL) {
            return false;
        }
    }
    return true;
}

static void empty_items(struct worker_thread *thread)
{
    for (size_t i = 0; i < thread->n_items; i++) {
        if (thread->items[i] != NULL) {
            subject_free(subject_handle(), thread->items[i]);
            thread->items[i] = NULL;
        }
    }
}

/* -- producer to consumer -- */

static struct worker_ring rings[WORKER_THREADS_MAX / 2];

static bool prepare_handover(struct worker_thread *thread)
{
    thread->ring = &rings[thread->index / 2];
    if (thread->index % 2 == 0) {
        memset(thread->ring, 0, sizeof *thread->ring);
        thread->ring->n_slots = ring_slots(thread->request->size);
    }
    return true;
}

/* -- steady load -- */

static struct worker_histogram histograms[WORKER_THREADS_MAX];

static bool prepare_latency(struct worker_thread *thread)
{
    thread->histogram = &histograms[thread->index];
    memset(thread->histogram, 0, sizeof *thread->histogram);
    return fill_items(thread);
}

/* What two readings cost is in each sample: the median of them is taken off. */
static void time_clock(struct worker_histogram *histogram, size_t n)
{
    long switches = worker_switches(), now;

    memset(histogram, 0, sizeof *histogram);
    for (size_t i = 0; i < n; i += LATENCY_WINDOW) {
        uint64_t ticks[LATENCY_WINDOW];

        for (size_t k = 0; k < LATENCY_WINDOW; k++) {
            uint64_t start = worker_ticks();

            ticks[k] = worker_ticks() - start;
        }
        now = worker_switches();
        for (size_t k = 0; k < LATENCY_WINDOW && now == switches; k++) {
            histogram_add(histogram, ticks[k]);
        }
        switches = now;
    }
}

static double latency_ns(
    const struct worker_histogram *histogram, double share, double clock_ticks)
{
    double ticks = histogram_quantile(histogram, share) - clock_ticks;

    return ticks > 0 ? ticks * worker_tick_ns() : 0;
}

static void answer_latency(const struct worker_request *request,
    const struct worker_loop *loop, struct worker_reply *reply)
{
    static const double shares[] = {0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    static struct worker_histogram all, clock_readings;
    double clock_ticks;

    worker_run(request, loop, reply);
    time_clock(&clock_readings, request->n_ops < 100000 ? request->n_ops : 100000);
    clock_ticks = histogram_quantile(&clock_readings, 0.5);
    memset(&all, 0, sizeof all);
    for (uint32_t i = 0; i < request->n_threads; i++) {
        histogram_merge(&all, &histograms[i]);
    }
    for (int i = EXTRA_P50; i <= EXTRA_MAX; i++) {
        reply->extra[i] = latency_ns(&all, shares[i], clock_ticks);
    }
    reply->extra[EXTRA_CLOCK_P9999] = latency_ns(&clock_readings, 0.9999, clock_ticks);
    reply->extra[EXTRA_EXCLUDED] = (double)all.n_excluded;
    reply->cpu_ns = reply->extra[EXTRA_P50];
}

/* -- threads that come and go -- */

static void *first_pair(void *argument)
{
    struct worker_thread *thread = (struct worker_thread *)argument;
    double start;
    void *item;

    worker_pin(thread->request, 0);
    start = worker_cpu_ns();
    subject_begin();
    item = subject_alloc(subject_handle(), thread->request->size);
    if (item != NULL) {
        subject_free(subject_handle(), item);
    }
    thread->cpu_ns = worker_cpu_ns() - start;
    thread->failed = item == NULL;
    subject_end();
    return NULL;
}

static void answer_first_touch(
    const struct worker_request *request, struct worker_reply *reply)
{
    static struct worker_thread thread;
    double values[FIRST_TOUCH_THREADS];
    void *argument = &thread;

    for (size_t i = 0; i < FIRST_TOUCH_THREADS; i++) {
        memset(&thread, 0, sizeof thread);
        thread.request = request;
        worker_on_threads(1, first_pair, &argument);
        values[i] = thread.cpu_ns;
        if (thread.failed) {
            worker_fail(reply, "no region for a new thread");
            return;
        }
    }
    reply->cpu_ns = reply->wall_ns = worker_median(values, FIRST_TOUCH_THREADS);
    reply->n_ops = FIRST_TOUCH_THREADS;
}

/* A generation: it works on the regions that it found, and leaves its own behind. */
static void *live_and_die(void *argument)
{
    struct worker_thread *thread = (struct worker_thread *)argument;

    worker_pin(thread->request, thread->index);
    subject_begin();
    if (thread->items[0] == NULL) {
        thread->failed = !fill_items(thread);
    }
    thread->failed = thread->failed || !loop_replace(thread, LARSON_OPS);
    subject_end();
    return NULL;
}

static void *run_generations(void *argument)
{
    struct worker_thread *thread = (struct worker_thread *)argument;

    for (uint64_t done = 0; done < thread->n_ops && !thread->failed; done += LARSON_OPS) {
        worker_on_threads(1, live_and_die, &argument);
    }
    return NULL;
}

static void *bury(void *argument)
{
    struct worker_thread *thread = (struct worker_thread *)argument;

    subject_begin();
    empty_items(thread);
    subject_end();
    return NULL;
}

/* CPU time of the whole process here: a thread's beginning and its end count too. */
static void answer_larson(
    const struct worker_request *request, struct worker_reply *reply)
{
    static struct worker_thread threads[WORKER_THREADS_MAX];
    void *arguments[WORKER_THREADS_MAX];
    uint64_t n_ops = request->n_ops != 0 ? request->n_ops : 16 * LARSON_OPS;
    double cpu = worker_process_ns(), wall = worker_wall_ns();

    for (uint32_t i = 0; i < request->n_threads; i++) {
        memset(&threads[i], 0, sizeof threads[i]);
        threads[i].request = request;
        threads[i].index = i;
        threads[i].n_ops = n_ops;
        threads[i].n_items = working_set(request->size);
        worker_choices(&threads[i], threads[i].n_items, request->size);
        arguments[i] = &threads[i];
    }
    worker_on_threads(request->n_threads, run_generations, arguments);
    reply->cpu_ns =
        (worker_process_ns() - cpu) / ((double)n_ops * (double)request->n_threads);
    reply->wall_ns = (worker_wall_ns() - wall) / (double)n_ops;
    reply->n_ops = n_ops;
    for (uint32_t i = 0; i < request->n_threads; i++) {
        worker_on_threads(1, bury, &arguments[i]);
        if (threads[i].failed) {
            worker_fail(reply, "no region left for an heir");
        }
    }
}

/* -- a pool at its cap -- */

static struct {
    void **items;
    size_t n;
} taken;

static bool take_all(struct worker_thread *thread)
{
    void *item;

    taken.n = 0;
    if (taken.items == NULL) {
        taken.items = (void **)calloc(FILL_MAX, sizeof(void *));
    }
    while (taken.items != NULL && taken.n < FILL_MAX &&
        (item = subject_alloc(subject_handle(), thread->request->size)) != NULL) {
        taken.items[taken.n++] = item;
    }
    if (taken.n == 0 || taken.n == FILL_MAX) {
        return false;
    }
    thread->items[0] = taken.items[--taken.n];
    thread->n_items = 1;
    return true;
}

static void give_all(struct worker_thread *thread)
{
    empty_items(thread);
    while (taken.n > 0) {
        subject_free(subject_handle(), taken.items[--taken.n]);
    }
}

/* -- requests -- */

static bool prepare_random(struct worker_thread *thread)
{
    for (size_t i = 0; i < thread->n_items; i++) {
        thread->items[i] = subject_alloc(subject_handle(), thread->sizes[i]);
        if (thread->items[i] == NULL) {
            return false;
        }
    }
    return true;
}

static bool loop_of(const struct worker_request *request, struct worker_loop *loop)
{
    uint32_t pattern = request->pattern;

    memset(loop, 0, sizeof *loop);
    loop->begin = subject_begin;
    loop->end = subject_end;
    loop->stranded = subject_stranded;
    loop->threads_per_op = 1;
    switch (pattern) {
    case PATTERN_VERIFY:
        loop->run = loop_verify;
        return true;
    case PATTERN_PAIR:
        loop->run = loop_pair;
        return true;
    case PATTERN_BATCH:
        loop->run = loop_batch;
        return true;
    case PATTERN_BULK:
        loop->run = loop_bulk;
        return true;
    case PATTERN_HANDOVER:
        loop->run = loop_handover;
        loop->prepare = prepare_handover;
        loop->threads_per_op = 2;
        return true;
    case PATTERN_RANDOM:
        loop->run = loop_random;
        loop->prepare = prepare_random;
        loop->finish = empty_items;
        loop->n_items = WORKER_ITEMS_MAX;
        return true;
    case PATTERN_LATENCY:
        loop->run = loop_latency;
        loop->prepare = prepare_latency;
        loop->finish = empty_items;
        loop->n_items = working_set(request->size);
        return true;
    case PATTERN_REFUSED:
    case PATTERN_RECOVER:
        loop->run = pattern == PATTERN_REFUSED ? loop_refused : loop_recover;
        loop->prepare = take_all;
        loop->finish = give_all;
        return true;
    default:
        return false;
    }
}

static bool is_supported(const struct worker_request *request)
{
    switch (request->pattern) {
    case PATTERN_RANDOM:
        return (SUBJECT_TRAITS & SUBJECT_ANY_SIZE) != 0;
    case PATTERN_REFUSED:
    case PATTERN_RECOVER:
        return (SUBJECT_TRAITS & SUBJECT_CAPPED) != 0;
    case PATTERN_GROWTH:
    case PATTERN_GROWTH_BY_HAND:
        return (SUBJECT_TRAITS & SUBJECT_GROWS) != 0;
    case PATTERN_HANDOVER:
        return request->n_threads % 2 == 0;
    default:
        return request->pattern < PATTERNS;
    }
}

/* A pool for this size and cap; the one of the last request, where it will do. */
static bool open_for(const struct worker_request *request, struct worker_reply *reply)
{
    static uint64_t size, cap;
    static bool is_open;

    if (is_open && size == request->size && cap == request->cap) {
        return true;
    }
    if (is_open) {
        subject_close();
    }
    size = request->size;
    cap = request->cap;
    is_open = subject_open(request, reply);
    if (!is_open && reply->status == WORKER_OK) {
        worker_fail(reply, "it cannot be opened");
    }
    return is_open;
}

#ifdef SUBJECT_GROWTH
void subject_growth(const struct worker_request *request, struct worker_reply *reply);
#endif

static void answer(const struct worker_request *request, struct worker_reply *reply)
{
    struct worker_loop loop;

    if (request->pattern == PATTERN_HELLO) {
        subject_describe(reply->text, sizeof reply->text);
        return;
    }
    if (!is_supported(request)) {
        reply->status = WORKER_UNSUPPORTED;
        return;
    }
#ifdef SUBJECT_GROWTH
    if (request->pattern == PATTERN_GROWTH ||
        request->pattern == PATTERN_GROWTH_BY_HAND) {
        subject_growth(request, reply);
        return;
    }
#endif
    if (!open_for(request, reply)) {
        return;
    }
    if (request->pattern == PATTERN_FIRST_TOUCH) {
        answer_first_touch(request, reply);
    } else if (request->pattern == PATTERN_LARSON) {
        answer_larson(request, reply);
    } else if (loop_of(request, &loop) && request->pattern == PATTERN_LATENCY) {
        answer_latency(request, &loop, reply);
    } else {
        worker_run(request, &loop, reply);
    }
}

int main(int argc, char **argv)
{
    if (!subject_start(argc, argv)) {
        return EXIT_FAILURE;
    }
    return worker_serve(argc, argv, answer);
}

#endif
