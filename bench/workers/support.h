/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What all workers share: threads that run a loop and are measured, clocks, the pipe.
 *
 * Nothing here allocates while a loop is measured. The C++ worker includes this too.
 */
#ifndef BENCH_WORKERS_SUPPORT_H
#define BENCH_WORKERS_SUPPORT_H

#include "protocol.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WORKER_ITEMS_MAX 256 /* regions a thread holds at most in a loop */
#define WORKER_CHOICES 4096 /* a power of two */

/** Of what is called in ten loops, the compiler would inline nothing by itself. */
#define WORKER_INLINE static inline __attribute__((always_inline))

/** The compiler must believe that the item is used, and that memory has changed. */
#define WORKER_KEEP(item) __asm__ volatile("" : "+r"(item) : : "memory")

struct worker_ring;
struct worker_histogram;

struct worker_thread {
    const struct worker_request *request;
    const struct worker_loop *loop;
    unsigned index;
    void *items[WORKER_ITEMS_MAX];
    size_t n_items; /* how many of them the loop uses */
    const uint32_t *slots, *sizes; /* WORKER_CHOICES each, the same for every subject */
    struct worker_ring *ring; /* HANDOVER */
    struct worker_histogram *histogram; /* LATENCY */
    uint64_t n_ops;
    double cpu_ns, wall_ns, instructions;
    long n_switches;
    bool failed;
    const char *problem; /* NULL: the subject had no region to give */
};

/** What a thread does. Threads are pinned and wait for each other before they are
 *  measured; a short run of the loop comes before, so that caches are warm. */
struct worker_loop {
    void (*begin)(void); /* a new thread introduces itself to the subject */
    void (*end)(void);
    bool (*prepare)(struct worker_thread *thread); /* NULL: nothing */
    bool (*run)(struct worker_thread *thread, size_t n);
    void (*finish)(struct worker_thread *thread); /* NULL: nothing */
    double (*stranded)(void); /* asked while the threads still live; NULL: unknown */
    unsigned threads_per_op; /* 2: two threads work on one operation */
    size_t n_items; /* of each thread's working set */
};

/** Run the loop on request->n_threads threads; with n_ops 0, find how many operations
 *  take target_ns first. */
void worker_run(const struct worker_request *request, const struct worker_loop *loop,
    struct worker_reply *reply);

/** Call `body` on n new threads and wait for them. A thread that cannot be made ends the
 *  process: others may be waiting for it. */
void worker_on_threads(size_t n, void *(*body)(void *argument), void *const *arguments);

/** Pin the calling thread as the request says. */
void worker_pin(const struct worker_request *request, size_t index);

double worker_cpu_ns(void); /**< CPU time of the calling thread */
double worker_process_ns(void); /**< CPU time of all threads, the ended ones too */
double worker_wall_ns(void);

/** Involuntary context switches of the calling thread so far. */
long worker_switches(void);

/** Slots below `n_items` and sizes from 16 bytes to `size`, even on a logarithmic scale:
 *  the same numbers in each run. */
void worker_choices(struct worker_thread *thread, size_t n_items, size_t size);

/** Fill in a failure; returns the reply's status. */
uint32_t worker_fail(struct worker_reply *reply, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Middle of n values; sorts them. */
double worker_median(double *values, size_t n);

/** Answer requests until the pipe is closed, or the one of the command line:
 *  `worker --once PATTERN SIZE N_OPS`, for tools that count instructions.
 *  @return the exit status */
int worker_serve(int argc, char **argv,
    void (*answer)(const struct worker_request *request, struct worker_reply *reply));

/** The value of `key` in a network's options, "provider=tcp,domain=lo"; `otherwise` when it
 *  is not there. */
const char *worker_option(const char *options, const char *key, const char *otherwise,
    char *value, size_t size);

/** The same of a list, which "tcp+self" is in options and "tcp,self" in a library; NULL
 *  when it is not there. */
const char *worker_option_list(
    const char *options, const char *key, char *value, size_t size);

/* -- instructions: the machine's counter, where there is one -- */

int worker_counter_open(void); /**< of the calling thread; -1: none */
double worker_counter_read(int counter);
void worker_counter_close(int counter);

#ifdef __cplusplus
}
#endif
#endif
