/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Running the workers of mrpool-bench rma, and reading what they tell.
 */
#include "rma.h"

#include "pool_workers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 32
#define CASES_MAX (RMA_SIZES_MAX * 2 * 2 * 9) /* six subjects, three ratios */

const char *const rma_subjects[RMA_SUBJECTS] = {"pool", "once", "register", "cache"};

/* How both processes are started, where a launcher has to. */
struct launcher {
    const char *module;
    const char *command[8];
};

static const struct launcher launchers[] = {
    {"mpi",
        {"env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
            "mpirun.openmpi", "--oversubscribe", "-n", "2", NULL}},
    {"mpich", {"env", "mpirun.mpich", "-n", "2", NULL}},
};

/* A worker's command line. */
struct command {
    char path[4096], sizes[256], repetitions[24], at_most[24], limit[24];
    const char *arguments[ARGUMENTS_MAX];
    size_t n;
};

static void add(struct command *command, const char *argument)
{
    if (command->n < ARGUMENTS_MAX - 1) {
        command->arguments[command->n++] = argument;
        command->arguments[command->n] = NULL;
    }
}

static void add_number(
    struct command *command, const char *option, char text[24], double number)
{
    snprintf(text, 24, "%g", number);
    add(command, option);
    add(command, text);
}

static void write_sizes(const struct rma_options *options, char *text, size_t size)
{
    size_t used = 0;

    for (size_t i = 0; i < options->n_sizes && used < size; i++) {
        used += (size_t)snprintf(
            text + used, size - used, "%s%zu", i > 0 ? "," : "", options->sizes[i]);
    }
}

static bool make_command(const struct rma_options *options,
    const struct bench_target *network, struct command *command)
{
    struct pool_subject program = {.program = NULL};
    const char *path_alone[POOL_ARGUMENTS_MAX];
    char name[32];
    bool found;

    snprintf(name, sizeof name, "rma-%.24s", network->module);
    program.program = name;
    found =
        pool_worker_command(&program, command->path, sizeof command->path, path_alone);
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        const char *const *word = launchers[i].command;

        for (; strcmp(launchers[i].module, network->module) == 0 && *word != NULL;
             word++) {
            add(command, *word);
        }
    }
    add(command, command->path);
    add(command, "--options");
    add(command, network->options);
    write_sizes(options, command->sizes, sizeof command->sizes);
    add(command, "--sizes");
    add(command, command->sizes);
    if (options->common.has_repetitions || options->common.quick) {
        add_number(command, "--repetitions", command->repetitions,
            (double)options->common.repetitions);
    } /* else as many as it takes */
    add_number(command, "--at-most", command->at_most, RMA_AT_MOST);
    add_number(command, "--limit", command->limit, (double)options->limit_s);
    if (options->common.quick) {
        add(command, "--quick");
    }
    if (options->is_server) {
        add(command, "--serve");
    }
    if (options->host != NULL) {
        add(command, "--connect");
        add(command, options->host);
    }
    if (options->address != NULL) {
        add(command, "--address");
        add(command, options->address);
    }
    if (options->port != NULL) {
        add(command, "--port");
        add(command, options->port);
    }
    return found;
}

static const char *program_of(const struct command *command)
{
    return strcmp(command->arguments[0], "env") == 0 ? "/usr/bin/env"
                                                     : command->arguments[0];
}

/* -- what is told -----------------------------------------------------------------------
 */

struct told {
    char name[48];
    size_t size;
    struct bench_samples samples;
};

struct telling {
    struct bench *bench;
    const struct bench_target *network;
    struct told *cases; /* CASES_MAX */
    size_t n_cases;
    char text[192], cache[64];
    bool is_complete, has_problem;
};

/* Values of a case come one after the other. */
static void add_value(
    struct telling *telling, const char *name, size_t size, double value)
{
    struct told *one =
        telling->n_cases > 0 ? &telling->cases[telling->n_cases - 1] : NULL;

    if (one == NULL || one->size != size || strcmp(one->name, name) != 0) {
        if (telling->n_cases == CASES_MAX) {
            return;
        }
        one = &telling->cases[telling->n_cases++];
        snprintf(one->name, sizeof one->name, "%s", name);
        one->size = size;
        one->samples.n = 0;
        bench_progress(
            telling->bench, "%s: %s, %zu bytes", telling->network->label, name, size);
    }
    if (one->samples.n < BENCH_REPETITIONS_MAX) {
        one->samples.values[one->samples.n++] = value;
    }
}

static void hear(struct telling *telling, const char *line)
{
    const char *label = telling->network->label;
    char name[40];
    size_t size;
    double value;

    if (sscanf(line, "value %39s %zu %lf", name, &size, &value) == 3) {
        add_value(telling, name, size, value);
    } else if (strncmp(line, "text ", 5) == 0) {
        snprintf(telling->text, sizeof telling->text, "%.190s", line + 5);
    } else if (strncmp(line, "cache ", 6) == 0) {
        snprintf(telling->cache, sizeof telling->cache, "%.60s", line + 6);
    } else if (strncmp(line, "problem ", 8) == 0 && !telling->has_problem) {
        telling->has_problem = true; /* the peer's is the same one */
        bench_note(telling->bench, "%s: %s", label, line + 8);
    } else if (strcmp(line, "end") == 0) {
        telling->is_complete = true;
    }
}

/* "put/latency/pool/cache" */
static bool is_ratio(const char *name)
{
    size_t n_slashes = 0;

    for (; *name != '\0'; name++) {
        n_slashes += *name == '/';
    }
    return n_slashes == 3;
}

/* Baseline of every subject: registering for each message. */
static void record_all(struct telling *telling)
{
    struct bench_subject subject = {.provider = telling->network->spec};

    for (unsigned pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < telling->n_cases; i++) {
            const struct told *one = &telling->cases[i];
            const char *slash = strrchr(one->name, '/');
            bool is_baseline = strcmp(slash, "/register") == 0 && !is_ratio(one->name);
            const struct bench_result *baseline = NULL;
            char other[64];

            if (is_baseline != (pass == 0)) {
                continue;
            }
            subject.size = one->size;
            if (!is_baseline && !is_ratio(one->name)) {
                snprintf(other, sizeof other, "%.*s/register", (int)(slash - one->name),
                    one->name);
                baseline = bench_find(telling->bench, &subject, other);
            }
            bench_record(telling->bench, &subject, one->name,
                is_ratio(one->name) ? "ratio" : "ns", &one->samples, baseline);
        }
    }
}

const struct bench_result *rma_find(const struct bench *bench, const char *network,
    size_t size, const char *operation, const char *figure, const char *subject)
{
    struct bench_subject about = {.provider = network, .size = size};
    char name[64];

    snprintf(name, sizeof name, "%s/%s/%s", operation, figure, subject);
    return bench_find(bench, &about, name);
}

/* -- running ----------------------------------------------------------------------------
 */

void rma_measure(struct bench *bench, const struct rma_options *options,
    const struct bench_target *network)
{
    static struct told cases[CASES_MAX];
    struct telling telling = {.bench = bench, .network = network, .cases = cases};
    struct command command = {.n = 0};
    struct pool_worker worker = {.pid = 0};
    struct worker_lines lines = {.n = 0};
    const char *line;

    bench_progress(bench, "starting %s", network->label);
    if (!make_command(options, network, &command)) {
        bench_note(bench, "%s: built without it", network->label);
        return;
    }
    if (!pool_worker_spawn(&worker, program_of(&command), command.arguments, NULL)) {
        bench_note(bench, "%s: its worker does not start", network->label);
        return;
    }
    lines.file = worker.from;
    while ((line = worker_next_line(&lines)) != NULL) {
        hear(&telling, line);
    }
    pool_worker_stop(&worker);
    if (!telling.is_complete && !telling.has_problem) {
        bench_note(bench, "%s: its worker died or hung", network->label);
    }
    record_all(&telling);
    if (telling.text[0] != '\0') {
        char compared[320];

        snprintf(compared, sizeof compared, "%s%s%s", telling.text,
            telling.cache[0] != '\0' ? "; buffers not registered: " : "", telling.cache);
        bench_compared(bench, network->spec, compared);
    }
}

int rma_serve(const struct rma_options *options, const struct bench_target *network)
{
    struct command command = {.n = 0};

    if (!make_command(options, network, &command)) {
        fprintf(stderr, "mrpool-bench: %s: built without it\n", network->label);
        return EXIT_FAILURE;
    }
    execv(program_of(&command), (char *const *)(uintptr_t)command.arguments);
    perror("mrpool-bench: starting the server");
    return EXIT_FAILURE;
}
