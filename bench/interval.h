/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between which of some values the median lies of what they were drawn from, whatever its
 * distribution, if one does not depend on the other: the k-th smallest and the k-th largest
 * of n, where fewer than k of n tosses of a coin are heads with half of the risk (Conover,
 * Practical Nonparametric Statistics, 3rd ed., 3.2; Le Boudec, Performance Evaluation,
 * theorem 2.1). Workers use it too.
 */
#ifndef BENCH_INTERVAL_H
#define BENCH_INTERVAL_H

#include <math.h>
#include <stdlib.h>

#define INTERVAL_RISK 0.01 /* that the median lies outside */

struct interval {
    double median, low, high; /* low and high: NAN with fewer than 8 values */
};

/** k, which is 1 for the smallest and the largest; 0: too few. n is at most 1000. */
static inline size_t interval_rank(size_t n)
{
    double chance = pow(0.5, (double)n), total = chance; /* of 0 heads */
    size_t k = 0;

    while (total <= INTERVAL_RISK / 2) {
        k++;
        chance *= (double)(n - k + 1) / (double)k;
        total += chance;
    }
    return k;
}

static inline int interval_compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

/** Sorts the values, of which there is one at least. */
static inline struct interval interval_of(double *values, size_t n)
{
    size_t k = interval_rank(n);
    struct interval interval = {.low = NAN, .high = NAN};

    qsort(values, n, sizeof *values, interval_compare);
    interval.median = (values[(n - 1) / 2] + values[n / 2]) / 2;
    if (k > 0) {
        interval.low = values[k - 1];
        interval.high = values[n - k];
    }
    return interval;
}

#endif
