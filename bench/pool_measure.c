/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Asking the workers, in turn.
 */
#include "pool.h"

#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOP_NS 1.5e6 /* CPU time of one thread's loop: long for the clock */
#define LOOP_NS_SHARED 4e6 /* where threads share a processor: longer than a time slice */
#define LOOP_NS_QUICK 1e5
#define QUIET_MIN 3 /* undisturbed repetitions that make a median */
#define EXTRA_ROUNDS 5 /* for cases that have fewer */
#define VERIFY_OPS 2048
#define VERIFY_OPS_QUICK 256
#define LATENCY_OPS 150016 /* per thread and repetition: 15 of them above p99.99 */
#define LATENCY_OPS_QUICK 6400
#define LARSON_OPS 32768 /* four generations of threads */
#define LARSON_OPS_QUICK 8192
#define GROWTH_SIZE ((size_t)1 << 30)
#define GROWTH_SIZE_QUICK ((size_t)64 << 20)
#define LONG_REPETITIONS 5 /* of what takes a tenth of a second each time */
#define CAP_REGIONS 1024
#define CAP_MIN ((size_t)1 << 20)
#define CAP_MAX ((size_t)64 << 20)

const char *const pool_choice_names[CHOICES] = {"pair", "batch", "bulk",
    "producer-consumer", "random", "larson", "first-touch", "exhaustion", "latency",
    "growth", "instructions"};

/* How a pattern is measured. */
struct plan {
    enum pool_choice choice;
    enum worker_pattern pattern;
    const char *name;
    enum {
        THREADS_ALL,
        THREADS_EVEN, /* two work together */
        THREADS_ONE,
        THREADS_CORES /* as many as are chosen and have a processor each */
    } threads;
};

static const struct plan plans[] = {
    {CHOICE_PAIR, PATTERN_PAIR, CASE_PAIR, THREADS_ALL},
    {CHOICE_BATCH, PATTERN_BATCH, CASE_BATCH, THREADS_ALL},
    {CHOICE_BULK, PATTERN_BULK, CASE_BULK, THREADS_ALL},
    {CHOICE_HANDOVER, PATTERN_HANDOVER, CASE_HANDOVER, THREADS_EVEN},
    {CHOICE_RANDOM, PATTERN_RANDOM, CASE_RANDOM, THREADS_ALL},
    {CHOICE_LARSON, PATTERN_LARSON, CASE_LARSON, THREADS_ALL},
    {CHOICE_FIRST_TOUCH, PATTERN_FIRST_TOUCH, CASE_FIRST_TOUCH, THREADS_ONE},
    {CHOICE_EXHAUSTION, PATTERN_REFUSED, CASE_REFUSED, THREADS_ONE},
    {CHOICE_EXHAUSTION, PATTERN_RECOVER, CASE_RECOVER, THREADS_ONE},
    {CHOICE_LATENCY, PATTERN_LATENCY, CASE_P9999, THREADS_CORES},
    {CHOICE_GROWTH, PATTERN_GROWTH, CASE_GROWTH, THREADS_ONE},
};
#define N_PLANS (sizeof plans / sizeof plans[0])

/* One subject in one case. */
struct cell {
    bool is_measured;
    uint64_t n_ops;
    struct bench_samples cost, instructions, stranded;
    struct bench_samples quiet; /* cost where no thread lost its processor */
    struct bench_samples *extra; /* EXTRAS of them; LATENCY only */
};

struct pool_case {
    const struct plan *plan;
    size_t size;
    unsigned threads;
    struct cell cells[POOL_SUBJECTS];
};

/* -- results ---------------------------------------------------------------------------
 */

const char *pool_subject_of(const struct bench_result *result)
{
    const char *slash = strrchr(result->name, '/');

    return slash != NULL ? slash + 1 : "";
}

const struct bench_result *pool_find(const struct bench *bench, const char *name,
    const char *subject, size_t size, unsigned threads)
{
    const struct bench_subject about = {NULL, NULL, size, threads};
    char full[64];

    snprintf(full, sizeof full, "%s/%s", name, subject);
    return bench_find(bench, &about, full);
}

const struct bench_result *pool_fastest_malloc(
    const struct bench *bench, const char *name, size_t size, unsigned threads)
{
    const struct bench_result *fastest = NULL;

    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        const struct bench_result *result =
            pool_find(bench, name, pool_subjects[i].name, size, threads);

        if (result != NULL && pool_subjects[i].family == FAMILY_MALLOC &&
            (fastest == NULL || result->median < fastest->median)) {
            fastest = result;
        }
    }
    return fastest;
}

const struct bench_result *pool_record(struct bench *bench, const char *name,
    const char *subject, size_t size, unsigned threads, const char *unit,
    const struct bench_samples *samples)
{
    const struct bench_subject about = {NULL, NULL, size, threads};
    const struct bench_result *baseline = pool_find(bench, name, "dpdk", size, threads);
    char full[48];

    if (baseline == NULL) {
        baseline = pool_fastest_malloc(bench, name, size, threads);
    }
    snprintf(full, sizeof full, "%s/%s", name, subject);
    return bench_record(bench, &about, full, unit, samples, baseline);
}

/* -- asking ----------------------------------------------------------------------------
 */

static size_t capped(enum worker_pattern pattern, size_t size)
{
    size_t cap = CAP_REGIONS * size;

    if (pattern != PATTERN_REFUSED && pattern != PATTERN_RECOVER) {
        return 0;
    }
    return cap < CAP_MIN ? CAP_MIN : cap > CAP_MAX ? CAP_MAX : cap;
}

/* Operations per repetition, where not the time decides. */
static uint64_t fixed_ops(const struct pool_run *run, enum worker_pattern pattern)
{
    bool quick = run->options->common.quick;

    switch (pattern) {
    case PATTERN_VERIFY:
        return quick ? VERIFY_OPS_QUICK : VERIFY_OPS;
    case PATTERN_LATENCY:
        return quick ? LATENCY_OPS_QUICK : LATENCY_OPS;
    case PATTERN_LARSON:
        return quick ? LARSON_OPS_QUICK : LARSON_OPS;
    default:
        return 0;
    }
}

static struct worker_request request_of(
    const struct pool_run *run, enum worker_pattern pattern, size_t size, size_t threads)
{
    struct worker_request request = {.pattern = pattern,
        .n_threads = (uint32_t)threads,
        .size = size,
        .cap = capped(pattern, size),
        .n_ops = fixed_ops(run, pattern),
        .target_ns = run->options->common.quick ? LOOP_NS_QUICK
            : threads > run->n_cpus             ? LOOP_NS_SHARED
                                                : LOOP_NS,
        .n_cpus = (uint32_t)run->n_cpus};

    memcpy(request.cpus, run->cpus, sizeof request.cpus);
    return request;
}

static void add(struct bench_samples *samples, double value)
{
    if (samples->n < BENCH_REPETITIONS_MAX) {
        samples->values[samples->n++] = value;
    }
}

/* Ask one worker; a subject that fails is left out of the case, and named. */
static bool ask(struct pool_run *run, size_t subject, const char *name,
    const struct worker_request *request, struct worker_reply *reply)
{
    struct pool_worker *worker = &run->workers[subject];
    const char *what = worker->subject->name;
    const char *ending = request->n_threads == 1 ? "" : "s";
    struct bench_text size = bench_size_text(request->size);

    if (worker->pid == 0) { /* said already */
        return false;
    }
    if (!pool_worker_ask(worker, request, reply)) {
        bench_note(run->bench, "%s: its worker died or hung in %s, %s, %u thread%s", what,
            name, size.text, request->n_threads, ending);
        return false;
    }
    if (reply->status == WORKER_FAILED) {
        bench_note(run->bench, "%s in %s, %s, %u thread%s: %s", what, name, size.text,
            request->n_threads, ending, reply->text);
    }
    return reply->status == WORKER_OK;
}

static void keep(struct cell *cell, const struct worker_reply *reply)
{
    add(&cell->cost, reply->cpu_ns);
    if (reply->n_switches == 0) {
        add(&cell->quiet, reply->cpu_ns);
    }
    if (reply->instructions >= 0) {
        add(&cell->instructions, pool_round_count(reply->instructions));
    }
    if (reply->stranded >= 0) {
        add(&cell->stranded, reply->stranded);
    }
    for (size_t i = 0; i < EXTRAS && cell->extra != NULL; i++) {
        add(&cell->extra[i], reply->extra[i]);
    }
}

/* Every subject once, to find how many operations make a repetition. */
static void calibrate(struct pool_run *run, struct pool_case *one)
{
    struct worker_request request =
        request_of(run, one->plan->pattern, one->size, one->threads);
    struct worker_reply reply;

    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        struct cell *cell = &one->cells[i];

        cell->is_measured =
            run->is_verified[i] && ask(run, i, one->plan->name, &request, &reply);
        if (cell->is_measured) {
            cell->n_ops = request.n_ops != 0 ? request.n_ops : reply.n_ops;
        }
        if (cell->is_measured && one->plan->pattern == PATTERN_LATENCY) {
            cell->extra = calloc(EXTRAS, sizeof *cell->extra);
            cell->is_measured = cell->extra != NULL;
        }
    }
}

static bool lacks_quiet(const struct pool_run *run, const struct pool_case *one)
{
    if (one->threads > run->n_cpus || one->plan->pattern == PATTERN_LATENCY) {
        return false;
    }
    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        if (one->cells[i].is_measured && one->cells[i].quiet.n < QUIET_MIN) {
            return true;
        }
    }
    return false;
}

/* Every subject once, in turn. */
static void measure_once(struct pool_run *run, struct pool_case *one)
{
    struct worker_request request =
        request_of(run, one->plan->pattern, one->size, one->threads);
    struct worker_reply reply;

    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        struct cell *cell = &one->cells[i];

        request.n_ops = cell->n_ops;
        if (cell->is_measured && ask(run, i, one->plan->name, &request, &reply)) {
            keep(cell, &reply);
        }
    }
}

/* -- recording -------------------------------------------------------------------------
 */

/* DPDK first, then the mallocs: baselines before what is compared with them. */
size_t pool_in_order(size_t i)
{
    size_t dpdk = (size_t)pool_subject_find("dpdk");

    return i == 0 ? dpdk : i <= dpdk ? i - 1 : i;
}

static void record_latency(struct bench *bench, const char *subject,
    const struct cell *cell, size_t size, unsigned threads)
{
    static const struct {
        const char *name;
        enum worker_extra extra;
        const char *unit;
    } values[] = {{"latency-p50", EXTRA_P50, "ns"}, {"latency-p90", EXTRA_P90, "ns"},
        {"latency-p99", EXTRA_P99, "ns"}, {"latency-p99.9", EXTRA_P999, "ns"},
        {CASE_P9999, EXTRA_P9999, "ns"}, {"latency-max", EXTRA_MAX, "ns"},
        {"clock-p99.99", EXTRA_CLOCK_P9999, "ns"},
        {"latency-excluded", EXTRA_EXCLUDED, "samples"}};

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        pool_record(bench, values[i].name, subject, size, threads, values[i].unit,
            &cell->extra[values[i].extra]);
    }
}

/* Repetitions in which a thread lost its processor show the scheduler: another thread
 * spins meanwhile, caches go cold. Where threads share processors it is part of the case. */
static const struct bench_samples *choose_cost(
    struct pool_run *run, const struct pool_case *one, const struct cell *cell)
{
    size_t n_disturbed = cell->cost.n - cell->quiet.n;

    if (one->threads > run->n_cpus) {
        return &cell->cost;
    }
    run->n_repetitions += cell->cost.n;
    run->n_disturbed += n_disturbed;
    if (cell->quiet.n >= QUIET_MIN) {
        return &cell->quiet;
    }
    run->n_kept += n_disturbed;
    return &cell->cost;
}

static void record_case(struct pool_run *run, const struct pool_case *one)
{
    struct bench *bench = run->bench;
    const struct plan *plan = one->plan;
    size_t size = one->size;
    unsigned threads = one->threads;

    for (size_t k = 0; k < POOL_SUBJECTS; k++) {
        const struct cell *cell = &one->cells[pool_in_order(k)];
        const char *subject = pool_subjects[pool_in_order(k)].name;

        if (!cell->is_measured || cell->cost.n == 0) {
            continue;
        }
        if (cell->extra != NULL) {
            record_latency(bench, subject, cell, size, threads);
            continue;
        }
        pool_record(
            bench, plan->name, subject, size, threads, "ns", choose_cost(run, one, cell));
        if (plan->pattern == PATTERN_PAIR && cell->instructions.n > 0) {
            pool_record(bench, CASE_INSTRUCTIONS, subject, size, threads, "instructions",
                &cell->instructions);
        }
        if (plan->pattern == PATTERN_BATCH && cell->stranded.n > 0) {
            pool_record(
                bench, CASE_STRANDED, subject, size, threads, "bytes", &cell->stranded);
        }
    }
}

/* -- growth ----------------------------------------------------------------------------
 */

/* By mrpool and by hand in turn, in one process; by hand repeats what mrpool did. */
static void measure_growth(struct pool_run *run)
{
    size_t subject = (size_t)pool_subject_find("mrpool");
    bool quick = run->options->common.quick;
    size_t size = quick ? GROWTH_SIZE_QUICK : GROWTH_SIZE;
    size_t repetitions = run->options->common.repetitions;
    struct worker_request request = request_of(run, PATTERN_GROWTH, size, 1);
    struct bench_samples *samples = calloc(2, sizeof *samples);
    const struct bench_subject about = {NULL, NULL, size, 1};
    struct worker_reply reply;

    if (run->workers[subject].pid == 0 || samples == NULL) {
        free(samples);
        return;
    }
    repetitions = repetitions > LONG_REPETITIONS ? LONG_REPETITIONS : repetitions;
    for (size_t i = 0; i < 2 * (repetitions + 1); i++) {
        bench_progress(run->bench, "growth to %s (%zu of %zu)",
            bench_size_text(size).text, i / 2 + 1, repetitions + 1);
        request.pattern = i % 2 == 0 ? PATTERN_GROWTH : PATTERN_GROWTH_BY_HAND;
        if (!ask(run, subject, i % 2 == 0 ? CASE_GROWTH : CASE_BY_HAND, &request,
                &reply)) {
            free(samples);
            return;
        }
        if (i > 1) {
            add(&samples[i % 2], reply.cpu_ns);
        }
    }
    bench_record(run->bench, &about, CASE_GROWTH "/mrpool", "ns", &samples[0],
        bench_record(
            run->bench, &about, CASE_BY_HAND "/mrpool", "ns", &samples[1], NULL));
    free(samples);
}

/* -- all -------------------------------------------------------------------------------
 */

/* Whether the plan runs on so many threads. */
static bool runs_on(const struct pool_run *run, const struct plan *plan, size_t threads)
{
    const struct pool_options *options = run->options;
    size_t most = 1;

    switch (plan->threads) {
    case THREADS_EVEN:
        return threads % 2 == 0;
    case THREADS_ONE:
        return threads == options->threads[0];
    case THREADS_CORES:
        for (size_t i = 0; i < options->n_threads; i++) {
            size_t n = options->threads[i];

            most = n > most && n <= run->n_cpus ? n : most;
        }
        return threads == most || (most == 1 && threads == options->threads[0]);
    default:
        return true;
    }
}

static void verify(struct pool_run *run, size_t size)
{
    size_t most = 1;
    struct worker_request request;
    struct worker_reply reply;

    for (size_t i = 0; i < run->options->n_threads; i++) {
        most = run->options->threads[i] > most ? run->options->threads[i] : most;
    }
    request = request_of(run, PATTERN_VERIFY, size, most);
    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        run->is_verified[i] =
            run->workers[i].pid != 0 && ask(run, i, "verification", &request, &reply);
    }
}

/* The cases that are chosen, by size. @return how many; *cases NULL without memory */
static size_t list_cases(const struct pool_run *run, struct pool_case **cases)
{
    const struct pool_options *options = run->options;
    size_t n = 0;

    *cases =
        calloc(options->n_sizes * N_PLANS * options->n_threads, sizeof(struct pool_case));
    for (size_t s = 0; s < options->n_sizes && *cases != NULL; s++) {
        for (size_t p = 0; p < N_PLANS; p++) {
            const struct plan *plan = &plans[p];

            for (size_t t = 0; t < options->n_threads; t++) {
                size_t threads = options->threads[t];

                if (options->choices[plan->choice] && plan->pattern != PATTERN_GROWTH &&
                    runs_on(run, plan, threads)) {
                    struct pool_case *one = &(*cases)[n++];

                    one->plan = plan;
                    one->size = options->sizes[s];
                    one->threads = plan->threads == THREADS_ONE ? 1 : (unsigned)threads;
                }
            }
        }
    }
    return n;
}

static void show_progress(const struct pool_run *run, const struct pool_case *one,
    size_t round, size_t n_rounds)
{
    char before[80] = "preparing";

    if (round > 0) {
        snprintf(before, sizeof before, "round %zu of %zu%s", round, n_rounds,
            round > n_rounds ? ", for what was disturbed" : "");
    }
    bench_progress(run->bench, "%s: %s, %s, %u thread%s", before, one->plan->name,
        bench_size_text(one->size).text, one->threads, one->threads == 1 ? "" : "s");
}

/* A repetition of all cases, then the next of all: what disturbs the machine for some
 * seconds spoils few repetitions of any case. */
static void measure_cases(struct pool_run *run, struct pool_case *cases, size_t n_cases)
{
    size_t n_rounds = run->options->common.repetitions;

    for (size_t i = 0; i < n_cases; i++) {
        show_progress(run, &cases[i], 0, n_rounds);
        if (i == 0 || cases[i].size != cases[i - 1].size) {
            verify(run, cases[i].size);
        }
        calibrate(run, &cases[i]);
    }
    for (size_t round = 1; round <= n_rounds + EXTRA_ROUNDS; round++) {
        for (size_t i = 0; i < n_cases; i++) {
            bool is_latency = cases[i].plan->pattern == PATTERN_LATENCY;
            bool is_wanted = round <= n_rounds
                ? !is_latency || round <= LONG_REPETITIONS
                : !run->options->common.quick && lacks_quiet(run, &cases[i]);

            if (is_wanted) {
                show_progress(run, &cases[i], round, n_rounds);
                measure_once(run, &cases[i]);
            }
        }
    }
    for (size_t i = 0; i < n_cases; i++) {
        record_case(run, &cases[i]);
        for (size_t k = 0; k < POOL_SUBJECTS; k++) {
            free(cases[i].cells[k].extra);
        }
    }
}

static void note_disturbance(const struct pool_run *run)
{
    if (run->n_disturbed > 0) {
        bench_note(run->bench,
            "%zu of %zu repetitions, in which a thread lost its processor to other work; "
            "%zu more, of cases with fewer than %d others, count",
            run->n_disturbed - run->n_kept, run->n_repetitions, run->n_kept, QUIET_MIN);
    }
}

void pool_measure(struct pool_run *run)
{
    struct pool_case *cases;
    size_t n_cases;

    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        if (run->options->subjects[i]) {
            bench_progress(run->bench, "starting %s", pool_subjects[i].name);
            pool_worker_start(run->bench, &run->workers[i], &pool_subjects[i]);
        }
    }
    n_cases = list_cases(run, &cases);
    measure_cases(run, cases, n_cases);
    free(cases);
    note_disturbance(run);
    if (run->options->choices[CHOICE_GROWTH]) {
        measure_growth(run);
    }
    if (run->options->choices[CHOICE_INSTRUCTIONS]) {
        pool_count_instructions(run);
    }
    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        pool_worker_stop(&run->workers[i]);
    }
}
