/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Durations in buckets of at most 3 % width, in ticks of the processor's own clock where
 * it has one that can be read without a call.
 */
#ifndef BENCH_WORKERS_HISTOGRAM_H
#define BENCH_WORKERS_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HISTOGRAM_STEPS 32 /* per doubling */
#define HISTOGRAM_BUCKETS (40 * HISTOGRAM_STEPS)

struct worker_histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t n, most;
    uint64_t n_excluded;
};

static inline size_t histogram_bucket(uint64_t ticks)
{
    unsigned shift;
    size_t bucket;

    if (ticks < HISTOGRAM_STEPS) {
        return (size_t)ticks;
    }
    shift = 63 - (unsigned)__builtin_clzll(ticks) - 5;
    bucket = (size_t)(shift + 1) * HISTOGRAM_STEPS + (size_t)(ticks >> shift) -
        HISTOGRAM_STEPS;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add(struct worker_histogram *histogram, uint64_t ticks)
{
    histogram->counts[histogram_bucket(ticks)]++;
    histogram->n++;
    histogram->most = ticks > histogram->most ? ticks : histogram->most;
}

#if defined(__x86_64__)
/* Fenced on both sides: nothing of what is timed may move out of the two readings. */
static inline uint64_t worker_ticks(void)
{
    uint32_t low, high;

    __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}
#else
uint64_t worker_ticks(void); /* nanoseconds */
#endif

/** Nanoseconds per tick; measured once, which takes 20 ms. */
double worker_tick_ns(void);

/** The value below which `share` of the durations lie, in ticks. */
double histogram_quantile(const struct worker_histogram *histogram, double share);

void histogram_merge(
    struct worker_histogram *into, const struct worker_histogram *histogram);

#ifdef __cplusplus
}
#endif
#endif
