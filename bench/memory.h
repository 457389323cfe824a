/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench memory: what is measured, and what came out.
 *
 * A section is one question, and one program run per subject, which tells what it found
 * line by line (workers/memory_load.h). A result is called "<case>/<subject>".
 */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include "harness.h"
#include "pool_workers.h"

#include <sched.h>

enum memory_section {
    SECTION_LOAD,
    SECTION_TRIM,
    SECTION_LATENCY,
    SECTION_MISSED,
    SECTION_LIMIT,
    SECTION_WAITING,
    SECTION_COUNTS,
    SECTIONS
};
extern const char *const memory_section_names[SECTIONS];

#define MEMORY_SUBJECTS 5
struct memory_subject {
    const char *name;
    const char *of_pool; /* of pool_subjects[]: its preload and sign; NULL: mrpool */
    const char *option; /* of the worker; NULL: none */
    const char *colour;
};
extern const struct memory_subject memory_subjects[MEMORY_SUBJECTS];
#define MEMORY_MRPOOL 0 /* the one that has all sections */
#define MEMORY_NO_RAIL 1

/* What a subject held at one time of the load. */
struct memory_sample {
    char phase[16];
    double ms;
    size_t live, held, resident, n_registrations;
};

#define MEMORY_SAMPLES_MAX 512
struct memory_series {
    size_t n;
    struct memory_sample samples[MEMORY_SAMPLES_MAX];
};

struct memory_options {
    struct bench_options common;
    bool subjects[MEMORY_SUBJECTS];
    bool sections[SECTIONS];
    size_t live; /* bytes in the steady load; 0: what the machine has room for */
    size_t idle_ms; /* length of the idle phase; 0: the default */
    const char *plot, *series; /* files; NULL: none */
};

struct memory_run {
    struct bench *bench;
    const struct memory_options *options;
    struct memory_series series[MEMORY_SUBJECTS];
    cpu_set_t cpus; /* before the harness pinned this thread; workers use them all */
};

/** Measure everything that is chosen; results go to the bench. */
void memory_measure(struct memory_run *run);

/** The result of that case and subject, on any number of threads if `threads` is 0; NULL
 *  when there is none. */
const struct bench_result *memory_find(
    const struct bench *bench, const char *name, const char *subject, unsigned threads);

/** What was to be reached. */
struct memory_bound {
    const char *name; /* of the case */
    const char *subject;
    double at_most;
    bool is_count; /* missing it fails the run: it does not depend on the machine */
    enum memory_section section; /* that prints it */
    const char *words;
};
extern const struct memory_bound memory_bounds[];
extern const size_t memory_n_bounds;

/** Hold every result to its bound. @return false when a count was missed */
bool memory_hold_all(struct bench *bench);

/** The tables. */
void memory_print(const struct bench *bench);

/** Draw what was held over time. False, with a message, when that failed. */
bool memory_plot(const struct memory_run *run, const char *path);

/** Write the samples as comma-separated values. False, with a message. */
bool memory_write_series(const struct memory_run *run, const char *path);

#endif
