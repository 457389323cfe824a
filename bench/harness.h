/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Measuring: cases that take turns, their medians, and the results they make.
 *
 * A figure is CPU time of the measuring thread per operation, taken over batches long
 * enough that the clock's own cost does not show. Cases that are compared take turns (A B
 * A B ...), so that what disturbs one disturbs the other.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include "machine.h"
#include "options.h"

#include "mrpool/mrpool.h"

/** Values of one case, one per repetition. */
struct bench_samples {
    size_t n;
    double values[BENCH_REPETITIONS_MAX];
};

struct bench_case {
    const char *name;
    /** Do n operations. A failure is recorded with mrp_fail. */
    enum mrp_status (*run)(void *state, size_t n);
    void *state;
    double batch_ns; /* length of a repetition; 0: 2 ms */
    size_t batch; /* operations per repetition; 0: found by the harness */
    struct bench_samples samples; /* ns per operation; filled by the harness */
};

/** What a result is about; what does not apply is NULL or 0. */
struct bench_subject {
    const char *provider; /* as --providers takes it */
    const char *pages; /* "4k", "thp", "2m": named in the case, "register/2m" */
    size_t size;
    unsigned threads;
};

struct bench_result {
    char name[48], provider[128], pages[8];
    size_t size;
    unsigned threads;
    const char *unit; /* a literal: "ns" */
    double median, min, max;
    double low, high; /* the median's interval (interval.h); NAN: too few repetitions */
    const struct bench_result *baseline; /* NULL: none */
};

/** What a result was to reach: at most so many times the cost of another one, or at most
 *  so much of its unit. */
struct bench_goal {
    const struct bench_result *result;
    const struct bench_result *against; /* NULL: at_most is in the result's unit */
    double at_most;
    double is;
    double low, high; /* what it may be as well; the same where nothing is known */
};

struct bench {
    const char *name;
    const struct bench_options *options;
    struct bench_machine machine;
    struct bench_result **results;
    size_t n_results;
    char **notes;
    size_t n_notes;
    struct bench_goal *goals;
    size_t n_goals;
    char **compared; /* "dpdk: DPDK 22.11.11, cache 256" */
    size_t n_compared;
};

/** Describe the machine and pin the thread. False, with a message, when it cannot be
 * pinned. */
bool bench_begin(
    struct bench *bench, const char *name, const struct bench_options *options);

/** CPU time of the calling thread. */
double bench_cpu_ns(void);

/** CPU time since then, less what reading the clock costs. */
double bench_elapsed_ns(double start);

/** Measure the cases in turn. The first failure ends it. */
enum mrp_status bench_compare(
    const struct bench *bench, struct bench_case *cases, size_t n_cases);

/** Make a result of samples; it lives as long as the bench. */
const struct bench_result *bench_record(struct bench *bench,
    const struct bench_subject *subject, const char *name, const char *unit,
    const struct bench_samples *samples, const struct bench_result *baseline);

/** Baseline median / this median: over 1 means that this is cheaper; 0 without a
 * baseline. */
double bench_ratio(const struct bench_result *result);

/** The result of that case and subject; NULL when there is none. */
const struct bench_result *bench_find(
    const struct bench *bench, const struct bench_subject *subject, const char *name);

/** Hold a result to a goal; reported with the results. */
const struct bench_goal *bench_hold(struct bench *bench,
    const struct bench_result *result, const struct bench_result *against,
    double at_most);

/** The same for a result in its own unit, with its interval: until that lies on one side of
 *  at_most, the goal is neither reached nor missed, but open. */
const struct bench_goal *bench_hold_interval(
    struct bench *bench, const struct bench_result *result, double at_most);

bool bench_is_reached(const struct bench_goal *goal);

/** "reached", "missed" or "open". */
const char *bench_verdict(const struct bench_goal *goal);

/** What exactly was compared with: a name and its version, shown with the results. */
void bench_compared(struct bench *bench, const char *name, const char *version);

/** Something that was left out, and why: shown under the table. Said once. */
void bench_note(struct bench *bench, const char *format, ...) MRP_PRINTF(2, 3);

/** What is being measured, on one line of a terminal. */
void bench_progress(const struct bench *bench, const char *format, ...) MRP_PRINTF(2, 3);

/** Write everything in the format asked for; `print` makes the table. Frees the results.
 *  @return the exit status: failed if there are no results. */
int bench_end(struct bench *bench, void (*print)(const struct bench *bench));

#endif
