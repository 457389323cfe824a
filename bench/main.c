/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench: what registering memory costs, and what mrpool saves of it.
 */
#include "options.h"

#include "mrpool/mrpool.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bench_command *const commands[] = {
    &bench_command_reg,
    &bench_command_pool,
    &bench_command_memory,
    &bench_command_rma,
    &bench_command_keys,
    &bench_command_lookup,
    &bench_command_registry,
    &bench_command_create,
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *stream)
{
    fputs("Usage: mrpool-bench BENCHMARK [OPTION...]\n"
          "Measure mrpool against what a program would use without it.\n\n"
          "Benchmarks:\n",
        stream);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        fprintf(stream, "  %-10s %s\n", commands[i]->name, commands[i]->purpose);
    }
    fputs(
        "\nExamples:\n"
        "  mrpool-bench reg                    what registration costs on this machine\n"
        "  mrpool-bench reg --sizes 64K --providers host --json\n"
        "  mrpool-bench pool --sizes 64,64K    taking and freeing regions, against "
        "malloc\n"
        "                                      and what else the machine has\n"
        "  mrpool-bench lookup --help          the options of one benchmark\n\n"
        "Each figure is a median with a ratio to a baseline measured in the same run,\n"
        "in turn with it.\n"
        "Exit status: 0 measured, 1 nothing measured or a check failed, 64 wrong "
        "usage.\n",
        stream);
}

static int run_command(const struct bench_command *command, int argc, char **argv)
{
    char name[64];

    snprintf(name, sizeof name, "mrpool-bench %s", command->name);
    argv[0] = name;
    return command->run(argc, argv);
}

static void print_version(FILE *stream, struct argp_state *state)
{
    (void)state;
    fprintf(stream, "mrpool-bench %s\n", mrp_version());
}

int main(int argc, char **argv)
{
    static char help[] = "--help";
    const char *wanted = argc > 1 ? argv[1] : "";

    argp_program_version_hook = print_version;
    if (strcmp(wanted, "help") == 0 && argc == 3) { /* as `NAME --help` */
        argv[1] = argv[2];
        argv[2] = help;
        wanted = argv[1];
    }
    if (strcmp(wanted, "--help") == 0 || strcmp(wanted, "-h") == 0 ||
        strcmp(wanted, "help") == 0) {
        print_help(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(wanted, "--version") == 0) {
        print_version(stdout, NULL);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(wanted, commands[i]->name) == 0) {
            return run_command(commands[i], argc - 1, argv + 1);
        }
    }
    if (wanted[0] != '\0') {
        fprintf(stderr, "mrpool-bench: no %s '%s'\n",
            wanted[0] == '-' ? "option" : "benchmark", wanted);
    }
    print_help(stderr);
    return BENCH_EXIT_USAGE;
}
