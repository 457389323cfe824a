/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Instructions of a pair: of the machine's counter when the workers have one, else of
 * callgrind, which counts exactly what the loop executes, the loop included.
 */
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNTED_SIZE 64
#define N_OPS 10000

double pool_round_count(double count)
{
    return floor(count * 10 + 0.5) / 10;
}

static bool is_installed(void)
{
    return system("command -v valgrind >/dev/null 2>&1") == 0;
}

static bool run_valgrind(const struct pool_subject *subject, const char *report)
{
    const char *worker[POOL_ARGUMENTS_MAX];
    char path[4096], out[128], pattern[16], size[16], n_ops[16], library[64];
    const char *arguments[16] = {"valgrind", "--tool=callgrind", "--collect-atstart=no",
        "--toggle-collect=worker_measured", out};
    size_t n = 5;
    int status;
    pid_t pid;

    if (!pool_worker_command(subject, path, sizeof path, worker)) {
        return false;
    }
    snprintf(out, sizeof out, "--callgrind-out-file=%s", report);
    snprintf(pattern, sizeof pattern, "%d", PATTERN_PAIR);
    snprintf(size, sizeof size, "%d", COUNTED_SIZE);
    snprintf(n_ops, sizeof n_ops, "%d", N_OPS);
    for (size_t i = 0; worker[i] != NULL; i++) {
        arguments[n++] = worker[i];
    }
    arguments[n++] = "--once";
    arguments[n++] = pattern;
    arguments[n++] = size;
    arguments[n++] = n_ops;
    if (subject->preload != NULL) {
        snprintf(library, sizeof library, "%.*s", (int)strcspn(subject->preload, " "),
            subject->preload);
    }
    pid = fork();
    if (pid == 0) {
        int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);

        dup2(nothing, STDOUT_FILENO);
        dup2(nothing, STDERR_FILENO);
        if (subject->preload != NULL) {
            setenv("LD_PRELOAD", library, 1);
        }
        execvp(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    if (pid < 0) {
        return false;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The line "totals: N" of callgrind's report; 0 when there is none. */
static double read_total(const char *report)
{
    FILE *file = fopen(report, "re");
    char line[512];
    double total = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "totals: ", 8) == 0) {
            total = strtod(line + 8, NULL);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return total;
}

static void count(struct pool_run *run, const struct pool_subject *subject)
{
    char report[] = "/tmp/mrpool-bench-XXXXXX";
    struct bench_samples samples = {.n = 1};
    int file = mkstemp(report);

    if (file < 0) {
        return;
    }
    close(file);
    if (run_valgrind(subject, report)) {
        samples.values[0] = pool_round_count(read_total(report) / N_OPS);
    }
    unlink(report);
    if (samples.values[0] > 0) {
        pool_record(run->bench, CASE_INSTRUCTIONS, subject->name, COUNTED_SIZE, 1,
            "instructions", &samples);
    } else {
        bench_note(run->bench, "instructions of %s: it does not run under valgrind",
            subject->name);
    }
}

static bool has_counter(const struct bench *bench)
{
    for (size_t i = 0; i < bench->n_results; i++) {
        if (strcmp(bench->results[i]->unit, "instructions") == 0) {
            return true;
        }
    }
    return false;
}

void pool_count_instructions(struct pool_run *run)
{
    if (has_counter(run->bench)) {
        return;
    }
    if (!is_installed()) {
        bench_note(run->bench,
            "instructions: this machine does not count them (perf_event_open), and "
            "valgrind is not installed");
        return;
    }
    for (size_t k = 0; k < POOL_SUBJECTS; k++) {
        size_t i = pool_in_order(k);
        bool is_wanted = pool_subjects[i].family == FAMILY_MRPOOL ||
            !run->options->common.quick; /* valgrind takes a second each time */

        if (run->workers[i].pid != 0 && is_wanted) {
            bench_progress(
                run->bench, "instructions of a pair: %s", pool_subjects[i].name);
            count(run, &pool_subjects[i]);
        }
    }
}
