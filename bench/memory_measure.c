/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Running the workers of mrpool-bench memory, and reading what they tell.
 */
#include "memory.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIVE_MOST ((size_t)512 << 20)
#define LIVE_QUICK ((size_t)48 << 20)
#define LIVE_SHARE \
    16 /* of RAM: the peak is three times as much, and allocators hold more */
#define IDLE_MS 16000 /* things decay in 10 s by default, here and in jemalloc */
#define IDLE_MS_QUICK 200
#define ARGUMENTS_MAX 16
#define CASES_MAX 320

const char *const memory_section_names[SECTIONS] = {
    "load", "trim", "latency", "missed", "limit", "waiting", "counts"};

const struct memory_subject memory_subjects[MEMORY_SUBJECTS] = {
    {"mrpool", NULL, NULL, "#0b3c8c"},
    {"mrpool-no-rail", NULL, "--no-rail", "#2a9fd6"},
    {"glibc", "glibc", NULL, "#c44e00"},
    {"jemalloc", "jemalloc", NULL, "#e69f00"},
    {"mimalloc", "mimalloc", NULL, "#b3367a"},
};

/* -- what is told ----------------------------------------------------------------------
 */

/* A case under way: values of one name are its repetitions. */
struct told {
    char name[48];
    unsigned threads;
    const char *unit;
    struct bench_samples samples;
};

struct telling {
    struct memory_run *run;
    size_t subject;
    enum memory_section section;
    struct memory_series *series; /* NULL: not of the load */
    char phase[16], text[256];
    struct told cases[CASES_MAX];
    size_t n_cases;
    bool is_complete;
};

/* Results keep the pointer. */
static const char *unit_of(const char *text)
{
    static const char *const units[] = {"ns", "bytes", "count", "times", "chunks"};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(units[i], text) == 0) {
            return units[i];
        }
    }
    return "";
}

static void add_value(struct telling *telling, const char *name, unsigned threads,
    const char *unit, double number)
{
    struct told *one = NULL;

    for (size_t i = 0; i < telling->n_cases && one == NULL; i++) {
        if (telling->cases[i].threads == threads &&
            strcmp(telling->cases[i].name, name) == 0) {
            one = &telling->cases[i];
        }
    }
    if (one == NULL && telling->n_cases < CASES_MAX) {
        one = &telling->cases[telling->n_cases++];
        snprintf(one->name, sizeof one->name, "%s", name);
        one->threads = threads;
        one->unit = unit_of(unit);
        one->samples.n = 0;
    }
    if (one != NULL && one->samples.n < BENCH_REPETITIONS_MAX) {
        one->samples.values[one->samples.n++] = number;
    }
}

static void add_sample(struct telling *telling, const char *line)
{
    struct memory_series *series = telling->series;
    struct memory_sample sample;

    if (series == NULL || series->n == MEMORY_SAMPLES_MAX ||
        sscanf(line, "sample %lf %zu %zu %zu %zu", &sample.ms, &sample.live, &sample.held,
            &sample.resident, &sample.n_registrations) != 5) {
        return;
    }
    memcpy(sample.phase, telling->phase, sizeof sample.phase);
    series->samples[series->n++] = sample;
}

static void hear(struct telling *telling, const char *line)
{
    struct bench *bench = telling->run->bench;
    const char *who = memory_subjects[telling->subject].name;
    const char *what = memory_section_names[telling->section];
    char name[40], unit[16];
    unsigned threads;
    double number;

    if (sscanf(line, "value %39s %u %15s %lf", name, &threads, unit, &number) == 4) {
        add_value(telling, name, threads, unit, number);
    } else if (strncmp(line, "sample ", 7) == 0) {
        add_sample(telling, line);
    } else if (strncmp(line, "phase ", 6) == 0) {
        snprintf(telling->phase, sizeof telling->phase, "%.15s", line + 6);
        bench_progress(bench, "%s: %s, %s", what, who, telling->phase);
    } else if (strncmp(line, "text ", 5) == 0) {
        snprintf(telling->text, sizeof telling->text, "%.250s", line + 5);
    } else if (strncmp(line, "problem ", 8) == 0) {
        bench_note(bench, "%s in %s: %s", who, what, line + 8);
    } else if (strcmp(line, "end") == 0) {
        telling->is_complete = true;
    }
}

/* -- running ---------------------------------------------------------------------------
 */

static size_t live_of(const struct memory_run *run)
{
    size_t room = run->bench->machine.system.memory_size / LIVE_SHARE;

    if (run->options->live != 0) {
        return run->options->live;
    }
    return run->options->common.quick ? LIVE_QUICK : room < LIVE_MOST ? room : LIVE_MOST;
}

static size_t repetitions_of(const struct memory_run *run, enum memory_section section)
{
    static const size_t usual[SECTIONS] = {1, 5, 3, 1, 3, 5, 1}; /* seconds each */
    size_t wanted = run->options->common.repetitions;

    return run->options->common.quick ? 1
        : wanted < usual[section]     ? wanted
                                      : usual[section];
}

/* As pool_worker_start, for programs that tell instead of answering. */
static bool start(struct telling *telling, struct pool_worker *worker)
{
    const struct memory_subject *subject = &memory_subjects[telling->subject];
    const struct memory_run *run = telling->run;
    bool is_quick = run->options->common.quick;
    struct pool_subject program = {.program = "memory-mrpool"};
    const char *path_and_no_more[POOL_ARGUMENTS_MAX];
    const char *arguments[ARGUMENTS_MAX], *preload;
    char path[4096], live[24], idle[24], repetitions[24], library[64];
    size_t n = 0;

    if (subject->of_pool != NULL) {
        program = pool_subjects[pool_subject_find(subject->of_pool)];
        program.program = "memory-malloc";
    }
    if (!pool_worker_command(&program, path, sizeof path, path_and_no_more)) {
        bench_note(run->bench, "%s: its worker is not built", subject->name);
        return false;
    }
    snprintf(live, sizeof live, "%zu", live_of(run));
    snprintf(idle, sizeof idle, "%zu",
        run->options->idle_ms != 0 ? run->options->idle_ms
            : is_quick             ? (size_t)IDLE_MS_QUICK
                                   : (size_t)IDLE_MS);
    snprintf(
        repetitions, sizeof repetitions, "%zu", repetitions_of(run, telling->section));
    arguments[n++] = path;
    arguments[n++] = memory_section_names[telling->section];
    arguments[n++] = "--live";
    arguments[n++] = live;
    arguments[n++] = "--idle-ms";
    arguments[n++] = idle;
    arguments[n++] = "--repetitions";
    arguments[n++] = repetitions;
    if (is_quick) {
        arguments[n++] = "--quick";
    }
    if (subject->option != NULL) {
        arguments[n++] = subject->option;
    }
    arguments[n] = NULL;
    preload = program.preload;
    snprintf(library, sizeof library, "%.*s",
        preload != NULL ? (int)strcspn(preload, " ") : 0, preload != NULL ? preload : "");
    return pool_worker_spawn(worker, path, arguments, preload != NULL ? library : NULL);
}

static bool is_itself(const struct telling *telling)
{
    const struct memory_subject *subject = &memory_subjects[telling->subject];
    const struct pool_subject *of_pool = subject->of_pool != NULL
        ? &pool_subjects[pool_subject_find(subject->of_pool)]
        : NULL;

    return of_pool == NULL || strstr(telling->text, of_pool->sign) != NULL;
}

static void record_all(struct telling *telling)
{
    struct bench *bench = telling->run->bench;
    const char *who = memory_subjects[telling->subject].name;

    for (size_t i = 0; i < telling->n_cases; i++) {
        const struct told *one = &telling->cases[i];
        const struct bench_subject about = {NULL, NULL, 0, one->threads};
        char full[96];

        snprintf(full, sizeof full, "%s/%s", one->name, who);
        bench_record(bench, &about, full, one->unit, &one->samples,
            strcmp(who, "glibc") == 0
                ? NULL
                : memory_find(bench, one->name, "glibc", one->threads));
    }
}

/* Ask until the first library of the subject that is itself; the others leave glibc. */
static void run_section(
    struct memory_run *run, size_t subject, enum memory_section section)
{
    static struct telling telling;
    struct pool_worker worker = {.pid = 0};
    struct worker_lines lines = {.n = 0};
    const char *line;

    memset(&telling, 0, sizeof telling);
    telling.run = run;
    telling.subject = subject;
    telling.section = section;
    telling.series = section == SECTION_LOAD ? &run->series[subject] : NULL;
    bench_progress(run->bench, "%s: %s", memory_section_names[section],
        memory_subjects[subject].name);
    if (!start(&telling, &worker)) {
        return;
    }
    lines.file = worker.from;
    while ((line = worker_next_line(&lines)) != NULL) {
        hear(&telling, line);
        if (strncmp(line, "text ", 5) == 0 && !is_itself(&telling)) {
            break;
        }
    }
    pool_worker_stop(&worker);
    if (!is_itself(&telling)) {
        bench_note(run->bench, "%s: not installed (package %s)",
            memory_subjects[subject].name,
            pool_subjects[pool_subject_find(memory_subjects[subject].of_pool)].package);
        return;
    }
    if (!telling.is_complete) {
        bench_note(run->bench, "%s: its worker died or hung in %s",
            memory_subjects[subject].name, memory_section_names[section]);
    }
    record_all(&telling);
    if (memory_subjects[subject].of_pool != NULL && section == SECTION_LOAD) {
        bench_compared(run->bench, memory_subjects[subject].name, telling.text);
    }
}

/* -- what follows from the samples -----------------------------------------------------
 */

static void record_one(struct bench *bench, const char *name, size_t subject,
    const char *unit, const struct bench_samples *samples)
{
    const struct bench_subject about = {NULL, NULL, 0, 2};
    const char *who = memory_subjects[subject].name;
    char full[96];

    if (samples->n > 0) {
        snprintf(full, sizeof full, "%s/%s", name, who);
        bench_record(bench, &about, full, unit, samples,
            strcmp(who, "glibc") == 0 ? NULL : memory_find(bench, name, "glibc", 2));
    }
}

/* Held for each live byte in a phase, its first part left out; `last` only: as it ends. */
static void record_share(struct memory_run *run, size_t subject, const char *phase,
    const char *name, bool last)
{
    const struct memory_series *series = &run->series[subject];
    struct bench_samples shares = {.n = 0}, most = {.n = 1};
    size_t first = series->n, end = 0;
    char full[48];

    for (size_t i = 0; i < series->n; i++) {
        if (strcmp(series->samples[i].phase, phase) == 0) {
            first = i < first ? i : first;
            end = i + 1;
        }
    }
    if (end == 0) {
        return;
    }
    first = last ? end - 1 : first + (end - first) / 4;
    for (size_t i = first; i < end; i++) {
        const struct memory_sample *sample = &series->samples[i];
        double share = sample->live > 0 ? (double)sample->held / (double)sample->live : 0;

        shares.values[shares.n++] = share;
        most.values[0] = share > most.values[0] ? share : most.values[0];
    }
    record_one(run->bench, name, subject, "times", &shares);
    if (!last) {
        snprintf(full, sizeof full, "%s-most", name);
        record_one(run->bench, full, subject, "times", &most);
    }
}

/* At the end of each phase. */
static void record_registrations(struct memory_run *run, size_t subject)
{
    const struct memory_series *series = &run->series[subject];
    struct bench_samples one = {.n = 1};
    char name[48];

    for (size_t i = 0; i < series->n; i++) {
        const struct memory_sample *sample = &series->samples[i];

        if (i + 1 == series->n || strcmp(sample->phase, sample[1].phase) != 0) {
            snprintf(name, sizeof name, "registrations-%.15s", sample->phase);
            one.values[0] = (double)sample->n_registrations;
            record_one(run->bench, name, subject, "count", &one);
        }
    }
}

static void record_load(struct memory_run *run, size_t subject)
{
    const struct memory_series *series = &run->series[subject];
    struct bench_samples left = {.n = 1};

    record_share(run, subject, "steady", "held-steady", false);
    record_share(run, subject, "trim", "held-after-peak", true);
    record_share(run, subject, "small", "held-small", false);
    record_share(run, subject, "less", "held-less", true);
    record_share(run, subject, "idle", "held-idle", true);
    if (subject == MEMORY_MRPOOL) {
        record_registrations(run, subject);
    }
    if (series->n > 0) {
        left.values[0] = (double)series->samples[series->n - 1].held;
        record_one(run->bench, "held-at-end", subject, "bytes", &left);
    }
}

/* -- */

static bool has_section(size_t subject, enum memory_section section)
{
    return section == SECTION_LOAD || section == SECTION_TRIM || subject == MEMORY_MRPOOL;
}

/* The mallocs first: they are baselines. */
void memory_measure(struct memory_run *run)
{
    static const size_t order[MEMORY_SUBJECTS] = {2, 3, 4, 0, 1};

    for (size_t section = 0; section < SECTIONS; section++) {
        for (size_t i = 0; i < MEMORY_SUBJECTS && run->options->sections[section]; i++) {
            size_t subject = order[i];

            if (!run->options->subjects[subject] ||
                !has_section(subject, (enum memory_section)section)) {
                continue;
            }
            run_section(run, subject, (enum memory_section)section);
            if (section == SECTION_LOAD) {
                record_load(run, subject);
            }
        }
    }
}

const struct bench_result *memory_find(
    const struct bench *bench, const char *name, const char *subject, unsigned threads)
{
    char full[96];

    snprintf(full, sizeof full, "%s/%s", name, subject);
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];

        if ((threads == 0 || result->threads == threads) &&
            strcmp(result->name, full) == 0) {
            return result;
        }
    }
    return NULL;
}
