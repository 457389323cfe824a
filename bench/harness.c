/* SPDX-License-Identifier: BSD-3-Clause */
#include "harness.h"

#include "interval.h"
#include "report.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH_NS 2e6 /* a thousand times what reading the clock costs */
#define BATCH_NS_QUICK 1e5
#define BATCH_MAX ((size_t)1 << 24)

static bool pin_thread(int cpu)
{
    cpu_set_t set;

    if (cpu < 0) {
        cpu = sched_getcpu();
    }
    CPU_ZERO(&set);
    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        CPU_SET((unsigned)cpu, &set);
    }
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

double bench_cpu_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double clock_ns; /* between two readings with nothing between them; bench_begin */

double bench_elapsed_ns(double start)
{
    double elapsed = bench_cpu_ns() - start - clock_ns;

    return elapsed > 0 ? elapsed : 0;
}

static void measure_clock(void)
{
    double least = 1e9;

    for (int i = 0; i < 1000; i++) {
        double start = bench_cpu_ns();
        double elapsed = bench_cpu_ns() - start;

        least = elapsed < least ? elapsed : least;
    }
    clock_ns = least;
}

bool bench_begin(
    struct bench *bench, const char *name, const struct bench_options *options)
{
    *bench = (struct bench){.name = name, .options = options};
    bench_machine_describe(&bench->machine);
    if (!pin_thread(options->cpu)) {
        fprintf(stderr, "mrpool-bench: cannot pin the thread to processor %d: %s\n",
            options->cpu, strerror(errno));
        return false;
    }
    measure_clock();
    return true;
}

static enum mrp_status time_batch(struct bench_case *one, double *ns)
{
    double start = bench_cpu_ns();
    enum mrp_status status = one->run(one->state, one->batch);

    *ns = bench_elapsed_ns(start);
    return status;
}

/* The first operation warms up: pools grow, libraries fetch what they need. A batch is
 * long enough only if it is so twice, for the same reason. */
static enum mrp_status find_batch(struct bench_case *one, bool quick)
{
    double usual_ns = one->batch_ns > 0 ? one->batch_ns : BATCH_NS;
    double target_ns = quick ? BATCH_NS_QUICK : usual_ns;
    bool is_found = one->batch != 0;
    enum mrp_status status;
    double ns, again;

    one->batch = is_found ? one->batch : 1;
    status = time_batch(one, &ns);
    while (status == MRP_OK && !is_found) {
        status = time_batch(one, &ns);
        if (status == MRP_OK && ns >= target_ns) {
            status = time_batch(one, &again);
            is_found = again >= target_ns;
        }
        is_found = is_found || one->batch >= BATCH_MAX;
        one->batch *= is_found ? 1 : 2;
    }
    return status;
}

enum mrp_status bench_compare(
    const struct bench *bench, struct bench_case *cases, size_t n_cases)
{
    enum mrp_status status;
    double ns;

    for (size_t i = 0; i < n_cases; i++) {
        cases[i].samples.n = 0;
        status = find_batch(&cases[i], bench->options->quick);
        if (status != MRP_OK) {
            return status;
        }
    }
    for (size_t repetition = 0; repetition < bench->options->repetitions; repetition++) {
        for (size_t i = 0; i < n_cases; i++) {
            status = time_batch(&cases[i], &ns);
            if (status != MRP_OK) {
                return status;
            }
            cases[i].samples.values[repetition] = ns / (double)cases[i].batch;
            cases[i].samples.n++;
        }
    }
    return MRP_OK;
}

static void summarise(struct bench_result *result, const struct bench_samples *samples)
{
    struct bench_samples sorted = *samples;
    struct interval interval;

    result->low = result->high = NAN;
    if (sorted.n == 0) {
        return;
    }
    interval = interval_of(sorted.values, sorted.n);
    result->median = interval.median;
    result->low = interval.low;
    result->high = interval.high;
    result->min = sorted.values[0];
    result->max = sorted.values[sorted.n - 1];
}

/* A benchmark has nothing sensible to do without memory. */
static _Noreturn void out_of_memory(void)
{
    fputs("mrpool-bench: out of memory\n", stderr);
    exit(EXIT_FAILURE);
}

/* Room for one more pointer. */
static void *append(void *array, size_t n)
{
    void *larger = reallocarray(array, n + 1, sizeof(void *));

    if (larger == NULL) {
        out_of_memory();
    }
    return larger;
}

const struct bench_result *bench_record(struct bench *bench,
    const struct bench_subject *subject, const char *name, const char *unit,
    const struct bench_samples *samples, const struct bench_result *baseline)
{
    struct bench_result *result = calloc(1, sizeof *result);

    if (result == NULL) {
        out_of_memory();
    }
    snprintf(result->name, sizeof result->name, "%s", name);
    snprintf(result->provider, sizeof result->provider, "%s",
        subject->provider != NULL ? subject->provider : "");
    snprintf(result->pages, sizeof result->pages, "%s",
        subject->pages != NULL ? subject->pages : "");
    result->size = subject->size;
    result->threads = subject->threads;
    result->unit = unit;
    result->baseline = baseline;
    summarise(result, samples);
    bench->results = append(bench->results, bench->n_results);
    bench->results[bench->n_results++] = result;
    return result;
}

double bench_ratio(const struct bench_result *result)
{
    if (result == NULL || result->baseline == NULL || result->median <= 0) {
        return 0;
    }
    return result->baseline->median / result->median;
}

static const struct bench_goal *append_goal(struct bench *bench, struct bench_goal goal)
{
    struct bench_goal *goals =
        reallocarray(bench->goals, bench->n_goals + 1, sizeof *goals);

    if (goals == NULL) {
        out_of_memory();
    }
    bench->goals = goals;
    goals[bench->n_goals] = goal;
    return &goals[bench->n_goals++];
}

const struct bench_goal *bench_hold(struct bench *bench,
    const struct bench_result *result, const struct bench_result *against, double at_most)
{
    double base = against != NULL ? against->median : 1;
    double is = base > 0 ? result->median / base : 0;

    return append_goal(
        bench, (struct bench_goal){result, against, at_most, is, .low = is, .high = is});
}

const struct bench_goal *bench_hold_interval(
    struct bench *bench, const struct bench_result *result, double at_most)
{
    return append_goal(bench,
        (struct bench_goal){.result = result,
            .at_most = at_most,
            .is = result->median,
            .low = result->low,
            .high = result->high});
}

bool bench_is_reached(const struct bench_goal *goal)
{
    return goal->high <= goal->at_most; /* not so with NAN */
}

const char *bench_verdict(const struct bench_goal *goal)
{
    return bench_is_reached(goal)   ? "reached"
        : goal->low > goal->at_most ? "missed"
                                    : "open";
}

static bool is_about(
    const struct bench_result *result, const struct bench_subject *subject)
{
    return result->size == subject->size && result->threads == subject->threads &&
        (subject->provider == NULL || strcmp(result->provider, subject->provider) == 0) &&
        (subject->pages == NULL || strcmp(result->pages, subject->pages) == 0);
}

const struct bench_result *bench_find(
    const struct bench *bench, const struct bench_subject *subject, const char *name)
{
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];

        if (is_about(result, subject) && strcmp(result->name, name) == 0) {
            return result;
        }
    }
    return NULL;
}

void bench_note(struct bench *bench, const char *format, ...)
{
    char *text;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) {
        out_of_memory();
    }
    va_end(arguments);
    for (size_t i = 0; i < bench->n_notes; i++) {
        if (strcmp(bench->notes[i], text) == 0) {
            free(text);
            return;
        }
    }
    bench->notes = append(bench->notes, bench->n_notes);
    bench->notes[bench->n_notes++] = text;
}

void bench_compared(struct bench *bench, const char *name, const char *version)
{
    char *text;

    if (asprintf(&text, "%s: %s", name, version) < 0) {
        out_of_memory();
    }
    bench->compared = append(bench->compared, bench->n_compared);
    bench->compared[bench->n_compared++] = text;
}

void bench_progress(const struct bench *bench, const char *format, ...)
{
    va_list arguments;

    if (!isatty(STDERR_FILENO)) {
        return;
    }
    fprintf(stderr, "\r\033[K%s: ", bench->name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fflush(stderr);
}

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO)) {
        fputs("\r\033[K", stderr);
    }
}

int bench_end(struct bench *bench, void (*print)(const struct bench *bench))
{
    int exit_status = bench->n_results == 0 ? EXIT_FAILURE : EXIT_SUCCESS;

    clear_progress();
    if (!bench_report(bench, print)) {
        fputs("mrpool-bench: cannot write the results\n", stderr);
        exit_status = EXIT_FAILURE;
    }
    for (size_t i = 0; i < bench->n_results; i++) {
        free(bench->results[i]);
    }
    for (size_t i = 0; i < bench->n_notes; i++) {
        free(bench->notes[i]);
    }
    for (size_t i = 0; i < bench->n_compared; i++) {
        free(bench->compared[i]);
    }
    free(bench->compared);
    free(bench->goals);
    free(bench->results);
    free(bench->notes);
    return exit_status;
}
