/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool info: what there is on this machine for pinned, registered memory, and what it
 * lacks.
 */
#include "info.h"

#include "command.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    bool json, verbose;
    unsigned sections;
};

static const struct {
    const char *name;
    unsigned section;
} names[] = {
    {"limits", INFO_LIMITS},
    {"backends", INFO_BACKENDS},
    {"providers", INFO_PROVIDERS},
    {"settings", INFO_SETTINGS},
};

static void parse_section(
    struct options *options, const char *text, struct argp_state *state)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i].name, text) == 0) {
            options->sections |= names[i].section;
            return;
        }
    }
    argp_error(state, "no section '%s': limits, backends, providers, settings", text);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case 'j':
        options->json = true;
        return 0;
    case 'v':
        options->verbose = true;
        return 0;
    case ARGP_KEY_ARG:
        parse_section(options, text, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option rows[] = {
    {"json", 'j', NULL, 0, "Write JSON: the same data, with keys that stay", 0},
    {"verbose", 'v', NULL, 0, "Show the details of each device", 0},
    {0},
};

static const char doc[] =
    "Show what this machine has for pinned, registered memory: limits of the system, "
    "backends, providers with their devices, and every setting with its value and "
    "origin. Sections: limits, backends, providers, settings; all of them by default."
    "\vExamples:\n"
    "  mrpool info\n"
    "  mrpool info limits                    is there room for pinning?\n"
    "  mrpool info providers                 what to pass to mrp_provider_open\n"
    "  MRPOOL_PAGES=2m mrpool info settings  is this setting taken?\n"
    "  mrpool info --json | jq '.providers[] | select(.usable) | .name'\n\n"
    "Exit status: 0; 1 when a setting is invalid; 64 for wrong usage.";

static int run(int argc, char **argv)
{
    const struct argp argp = {rows, parse, "[SECTION...]", doc, NULL, NULL, NULL};
    struct options options = {false, false, 0};
    struct info info;
    bool written = true;
    size_t n_invalid;

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    info_collect(&info, options.sections != 0 ? options.sections : INFO_ALL);
    info.verbose = options.verbose;
    n_invalid = info_count_invalid(&info);
    if (options.json) {
        written = info_print_json(&info);
    } else {
        info_print_text(&info);
    }
    info_free(&info);
    if (!written || fflush(stdout) != 0 || ferror(stdout)) {
        perror("mrpool info");
        return EXIT_FAILURE;
    }
    return n_invalid == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct tool_command tool_command_info = {"info",
    "what this machine has for pinned, registered memory, and what it lacks", run};
