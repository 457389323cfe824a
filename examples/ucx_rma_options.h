/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of ucx_rma.
 */
#ifndef EXAMPLES_UCX_RMA_OPTIONS_H
#define EXAMPLES_UCX_RMA_OPTIONS_H

#include "rma_options.h"
#include "ucx_endpoint.h"

struct options {
    struct rma_options rma; /* stands first, as rma_options_parse wants it */
    struct ucx_options ucx;
    bool ucx_memory; /* regions in memory that UCX allocates */
};

static const struct argp_option options_table[] = {
    {NULL, 0, NULL, 0, "What to use", 1},
    {"tls", 'x', "LIST", 0, "UCX's transports, as UCX_TLS: tcp, posix,sysv, rc, ...", 0},
    {"devices", 'd', "LIST", 0, "network devices, as UCX_NET_DEVICES", 0},
    {"memory", 'm', "mmap|ucx", 0,
        "regions in mrpool's own memory (default), or in what UCX allocates, which its "
        "shared memory transports reach without copying twice",
        0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char options_doc[] =
    "One-sided puts, gets and atomics between two processes, from and to pool memory, "
    "over UCX: sizes from 1 byte to 16 MiB in both directions, every byte verified, and "
    "nothing registered after the warm-up."
    "\vWithout --server or --client it starts its peer itself, on this machine.\n\n"
    "Examples:\n"
    "  ucx_rma\n"
    "  ucx_rma --tls tcp --rounds 10\n"
    "  ucx_rma --tls posix,sysv --memory ucx\n"
    "  ucx_rma --server --tls rc                     on one machine, and\n"
    "  ucx_rma --client 192.0.2.1 --tls rc           on the other\n\n"
    "The exit status is 0 only when every byte was right and nothing was registered "
    "after the warm-up.";

static error_t options_take(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->rma;
        break;
    case 'x':
        options->ucx.tls = argument;
        break;
    case 'd':
        options->ucx.devices = argument;
        break;
    case 'm':
        if (strcmp(argument, "mmap") != 0 && strcmp(argument, "ucx") != 0) {
            argp_error(state, "--memory is mmap or ucx, not '%s'", argument);
        }
        options->ucx_memory = argument[0] == 'u';
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void options_parse(struct options *options, int argc, char **argv)
{
    static const struct argp argp = {.options = options_table,
        .parser = options_take,
        .doc = options_doc,
        .children = rma_options_child};

    rma_options_parse(&argp, &options->rma, argc, argv);
}

#endif
