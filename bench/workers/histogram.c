/* SPDX-License-Identifier: BSD-3-Clause */
#include "histogram.h"

#include "support.h"

#if !defined(__x86_64__)
uint64_t worker_ticks(void)
{
    return (uint64_t)worker_wall_ns();
}
#endif

double worker_tick_ns(void)
{
    static double tick_ns;

    if (tick_ns <= 0) {
        double wall_ns = worker_wall_ns(), now_ns;
        uint64_t ticks = worker_ticks();

        do {
            now_ns = worker_wall_ns();
        } while (now_ns - wall_ns < 2e7);
        tick_ns = (now_ns - wall_ns) / (double)(worker_ticks() - ticks);
    }
    return tick_ns;
}

/* The upper end of a bucket: a quantile is never shown lower than it was. */
static double bucket_end(size_t bucket)
{
    size_t shift = bucket / HISTOGRAM_STEPS;

    if (shift == 0) {
        return (double)bucket;
    }
    return (double)((uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS + 1)
        << (shift - 1));
}

double histogram_quantile(const struct worker_histogram *histogram, double share)
{
    double wanted = share * (double)histogram->n;
    uint64_t n = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        n += histogram->counts[i];
        if ((double)n >= wanted && n > 0) {
            double end = bucket_end(i);

            return end < (double)histogram->most ? end : (double)histogram->most;
        }
    }
    return (double)histogram->most;
}

void histogram_merge(
    struct worker_histogram *into, const struct worker_histogram *histogram)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        into->counts[i] += histogram->counts[i];
    }
    into->n += histogram->n;
    into->n_excluded += histogram->n_excluded;
    into->most = histogram->most > into->most ? histogram->most : into->most;
}
