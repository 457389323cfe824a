/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench pool: what is measured, and what came out.
 *
 * A case is a pattern at a size on a number of threads. A round measures every case once
 * for every subject, in turn; the rounds are the repetitions. Within a round sizes are the
 * outer loop, because fixed-size pools are made for one.
 */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#include "harness.h"
#include "pool_workers.h"

#define POOL_SIZES_MAX 16
#define POOL_THREADS_MAX 8 /* different numbers of threads */
#define POOL_LARGE ((size_t)1 << 20) /* regions of which a cache can keep but a few */

/* What a person chooses with --patterns. */
enum pool_choice {
    CHOICE_PAIR,
    CHOICE_BATCH,
    CHOICE_BULK,
    CHOICE_HANDOVER,
    CHOICE_RANDOM,
    CHOICE_LARSON,
    CHOICE_FIRST_TOUCH,
    CHOICE_EXHAUSTION,
    CHOICE_LATENCY,
    CHOICE_GROWTH,
    CHOICE_INSTRUCTIONS,
    CHOICES
};
extern const char *const pool_choice_names[CHOICES];

struct pool_options {
    struct bench_options common;
    bool subjects[POOL_SUBJECTS];
    bool choices[CHOICES];
    size_t sizes[POOL_SIZES_MAX];
    size_t n_sizes;
    size_t threads[POOL_THREADS_MAX];
    size_t n_threads;
    const char *plot; /* NULL: none */
    bool all; /* every subject's figures too */
};

/* Names of cases; a result is called "<case>/<subject>". */
#define CASE_PAIR "pair"
#define CASE_BATCH "batch"
#define CASE_BULK "bulk"
#define CASE_HANDOVER "producer-consumer"
#define CASE_RANDOM "random"
#define CASE_LARSON "larson"
#define CASE_FIRST_TOUCH "first-touch"
#define CASE_REFUSED "refused"
#define CASE_RECOVER "recover"
#define CASE_P9999 "latency-p99.99"
#define CASE_GROWTH "growth"
#define CASE_BY_HAND "growth-by-hand"
#define CASE_INSTRUCTIONS "instructions"
#define CASE_STRANDED "stranded"

struct pool_run {
    struct bench *bench;
    const struct pool_options *options;
    int cpus[WORKER_CPUS_MAX];
    size_t n_cpus;
    struct pool_worker workers[POOL_SUBJECTS];
    bool is_verified[POOL_SUBJECTS]; /* at the present size */
    /* repetitions that had a processor for each thread; of them, those that lost one, and
     * how many of these count all the same */
    size_t n_repetitions, n_disturbed, n_kept;
};

/** Measure everything that is chosen; results go to the bench. */
void pool_measure(struct pool_run *run);

/** Instructions of a pair, by valgrind, where the machine does not count them. */
void pool_count_instructions(struct pool_run *run);

/** Instructions per operation to a tenth: what a loop needs to begin and to end is less. */
double pool_round_count(double count);

/** The result of a case and a subject; NULL when there is none. */
const struct bench_result *pool_find(const struct bench *bench, const char *name,
    const char *subject, size_t size, unsigned threads);

/** The cheapest malloc of a case; NULL when there is none. */
const struct bench_result *pool_fastest_malloc(
    const struct bench *bench, const char *name, size_t size, unsigned threads);

/** The order in which subjects are recorded: baselines first. */
size_t pool_in_order(size_t i);

/** "tcmalloc" of the result "pair/tcmalloc". */
const char *pool_subject_of(const struct bench_result *result);

/** Record a result "<case>/<subject>"; its baseline is dpdk's, else the fastest malloc's,
 *  of the same case. */
const struct bench_result *pool_record(struct bench *bench, const char *name,
    const char *subject, size_t size, unsigned threads, const char *unit,
    const struct bench_samples *samples);

/* -- the targets -- */

/** What one form of mrpool is to reach in one case; 0: no such bound. */
struct pool_target {
    const char *name; /* of the case */
    const char *subject;
    unsigned threads; /* 0: whatever was measured */
    enum pool_sizes {
        SIZES_SMALL, /* below 1 MiB */
        SIZES_LARGE, /* 1 MiB and more */
        SIZES_ALL
    } sizes;
    double of_dpdk, of_malloc; /* at most so many times their cost */
    double of_other; /* the same of `other`: a subject or, if NULL, of one thread */
    const char *other;
    double at_most; /* in the result's own unit */
};

extern const struct pool_target pool_targets[];
extern const size_t pool_n_targets;

/** Whether the target speaks about this result. */
bool pool_target_applies(
    const struct pool_target *target, const struct bench_result *result);

/** Hold every result to its targets. */
void pool_hold_all(struct bench *bench);

/* -- showing it -- */

void pool_print(const struct bench *bench);
void pool_print_all(const struct bench *bench);

/** As reg_plot: cost by size, and by threads. */
bool pool_plot(const struct bench *bench, const char *path);

#endif
