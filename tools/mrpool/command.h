/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The subcommands of mrpool.
 */
#ifndef TOOL_COMMAND_H
#define TOOL_COMMAND_H

#define TOOL_EXIT_USAGE 64 /* EX_USAGE of sysexits.h, which argp uses too */

struct tool_command {
    const char *name;
    const char *purpose;
    int (*run)(int argc, char **argv); /* returns the exit status */
};

extern const struct tool_command tool_command_info;

#endif
