/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool: the command-line tool.
 */
#include "command.h"

#include "mrpool/mrpool.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct tool_command *const commands[] = {&tool_command_info};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *stream)
{
    fputs("Usage: mrpool COMMAND [OPTION...]\n"
          "Memory that is already pinned and registered with the network.\n\n"
          "Commands:\n",
        stream);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        fprintf(stream, "  %-8s %s\n", commands[i]->name, commands[i]->purpose);
    }
    fputs("\nExamples:\n"
          "  mrpool info             what there is on this machine, and what it lacks\n"
          "  mrpool info --help      the options of one command\n\n"
          "Exit status: 0 all is well, 1 something is wrong, 64 wrong usage.\n",
        stream);
}

static int run_command(const struct tool_command *command, int argc, char **argv)
{
    char name[64];

    snprintf(name, sizeof(name), "mrpool %s", command->name);
    argv[0] = name; /* so that argp names the subcommand too */
    return command->run(argc, argv);
}

static void print_version(FILE *stream, struct argp_state *state)
{
    (void)state;
    fprintf(stream, "mrpool %s\n", mrp_version());
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
        fprintf(stderr, "mrpool: no %s '%s'\n", wanted[0] == '-' ? "option" : "command",
            wanted);
    }
    print_help(stderr);
    return TOOL_EXIT_USAGE;
}
