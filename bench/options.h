/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the subcommands of mrpool-bench share: their options and how they are called.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>

#define BENCH_EXIT_USAGE 64 /* EX_USAGE of sysexits.h, which argp uses too */
#define BENCH_REPETITIONS_MAX 1000

enum bench_format {
    BENCH_TABLE,
    BENCH_JSON,
    BENCH_CSV
};

struct bench_options {
    enum bench_format format;
    size_t repetitions;
    bool has_repetitions; /* asked for, not the default */
    bool quick; /* a smoke run: short batches, few of them */
    int cpu; /* pinned to it; -1: where the thread happens to be */
};
#define BENCH_OPTIONS_INIT \
    { \
        BENCH_TABLE, 0, false, false, -1 \
    }

/** Children of a subcommand's argp; child 0 takes a struct bench_options as its input. */
extern const struct argp_child bench_options_child[];

/** Copy the first item of a list separated by commas. @return what follows; NULL at the
 * end. */
const char *bench_next_item(const char *list, char *item, size_t size);

/** Set chosen[i] for each item of such a list that is the i-th of `n` names, which lie `stride`
 *  bytes apart; another is an error that says option and kind of thing. */
void bench_choose(const char *list, const char *option, const char *kind,
    const char *const *names, size_t stride, size_t n, bool *chosen,
    struct argp_state *state);

/** Read such a list of at most n_max numbers, sizes as people write them, each from `least`
 *  to `most` and a multiple of `step`; else it is an error that says option. @return how many. */
size_t bench_numbers(const char *list, const char *option, size_t least, size_t most,
    size_t step, size_t *numbers, size_t n_max, struct argp_state *state);

struct bench_command {
    const char *name;
    const char *purpose;
    int (*run)(int argc, char **argv); /* returns the exit status */
};

extern const struct bench_command bench_command_reg;
extern const struct bench_command bench_command_pool;
extern const struct bench_command bench_command_memory;
extern const struct bench_command bench_command_rma;
extern const struct bench_command bench_command_keys;
extern const struct bench_command bench_command_lookup;
extern const struct bench_command bench_command_registry;
extern const struct bench_command bench_command_create;

#endif
