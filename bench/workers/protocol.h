/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What mrpool-bench pool and its workers say to each other, over a pair of pipes.
 *
 * A worker is a process that knows one allocator, the subject. It reads a request, does it
 * and writes a reply, until the pipe is closed. Subjects that are compared are asked in
 * turn, so no worker runs while another one measures.
 */
#ifndef BENCH_WORKERS_PROTOCOL_H
#define BENCH_WORKERS_PROTOCOL_H

#include <stdint.h>

#define WORKER_THREADS_MAX 64
#define WORKER_CPUS_MAX 64
#define WORKER_BATCH 32 /* regions of a batch and of a bulk call */

enum worker_pattern {
    PATTERN_HELLO, /* who are you? answers in text */
    PATTERN_VERIFY, /* regions are memory, and belong to one thread at a time */
    PATTERN_PAIR, /* alloc, free */
    PATTERN_BATCH, /* 32 single allocs, then 32 frees */
    PATTERN_BULK, /* one call takes 32, one gives 32 back */
    PATTERN_HANDOVER, /* one thread allocates, another frees */
    PATTERN_RANDOM, /* a working set of random sizes up to `size` */
    PATTERN_LARSON, /* a working set outlives the threads that work on it */
    PATTERN_FIRST_TOUCH, /* the first pair of a new thread */
    PATTERN_REFUSED, /* a request to a pool at its cap */
    PATTERN_RECOVER, /* refused, free, alloc: the way out of it */
    PATTERN_LATENCY, /* each alloc timed apart, at steady load */
    PATTERN_GROWTH, /* from empty to `size` bytes, registered with provider host */
    PATTERN_GROWTH_BY_HAND, /* the same mappings, prefaulted and pinned without mrpool */
    PATTERNS
};

struct worker_request {
    uint32_t pattern; /* enum worker_pattern */
    uint32_t n_threads;
    uint64_t size; /* bytes per region; GROWTH: bytes in all */
    uint64_t cap; /* bytes the pool may have; 0: enough */
    uint64_t n_ops; /* per thread; 0: find how many take target_ns */
    double target_ns; /* CPU time of one thread's loop */
    uint32_t n_cpus; /* thread i is pinned to cpus[i % n_cpus] */
    int32_t cpus[WORKER_CPUS_MAX];
};

enum worker_status {
    WORKER_OK,
    WORKER_UNSUPPORTED, /* this subject does not do that */
    WORKER_FAILED /* text says why */
};

/* Values that some patterns have besides the cost. */
enum worker_extra {
    EXTRA_P50, /* LATENCY, ns; so are the next */
    EXTRA_P90,
    EXTRA_P99,
    EXTRA_P999,
    EXTRA_P9999,
    EXTRA_MAX,
    EXTRA_CLOCK_P9999, /* the same of two clock readings with nothing between them */
    EXTRA_EXCLUDED, /* samples left out, because the thread lost its processor */
    EXTRAS
};

struct worker_reply {
    uint32_t status; /* enum worker_status */
    uint64_t n_ops; /* per thread, as measured */
    double cpu_ns; /* CPU time of all threads / operations of all threads */
    double wall_ns; /* of the slowest thread / its operations */
    double instructions; /* per operation; negative: the machine does not count them */
    uint64_t n_switches; /* times a thread lost its processor meanwhile */
    double stranded; /* bytes in the threads' caches afterwards; negative: unknown */
    double extra[EXTRAS];
    char text[512];
};

#endif
