/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of verbs_rma.
 */
#ifndef EXAMPLES_VERBS_RMA_OPTIONS_H
#define EXAMPLES_VERBS_RMA_OPTIONS_H

#include "rma_options.h"

#define GID_INDEX_MAX 255 /* a queue pair takes no larger one */

struct options {
    struct rma_options rma; /* stands first, as rma_options_parse wants it */
    const char *device; /* NULL: the first with an active port */
    unsigned device_port; /* 0: the first active one */
    int gid_index; /* -1: the best of the port */
};

enum option_key {
    OPTION_DEVICE_PORT = OPTION_OWN,
    OPTION_SIZE
};

static const struct argp_option options_table[] = {
    {NULL, 0, NULL, 0, "What to use", 1},
    {"device", 'd', "NAME", 0, "verbs device (the first with an active port)", 0},
    {"device-port", OPTION_DEVICE_PORT, "N", 0, "its port (the first active one)", 0},
    {"gid-index", 'g', "N", 0,
        "index of the port's address (a RoCE v2 one of IPv4, where there is one)", 0},
    {"size", OPTION_SIZE, "BYTES", 0, "transfers of this size only", 2},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char options_doc[] =
    "RDMA writes, reads and compare-and-swaps between two processes, from and to pool "
    "memory, over one verbs queue pair: sizes from 1 byte to 16 MiB in both directions, "
    "every byte verified, and nothing registered after the warm-up."
    "\vWithout --server or --client it starts its peer itself, on this machine.\n\n"
    "Examples:\n"
    "  verbs_rma --device mlx5_0\n"
    "  verbs_rma --device rxe0 --gid-index 1 --size 64K\n"
    "  verbs_rma --server                 on one machine, and\n"
    "  verbs_rma --client 192.0.2.1       on the other\n\n"
    "The exit status is 0 only when every byte was right and nothing was registered "
    "after the warm-up.";

static error_t options_take(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->rma;
        break;
    case 'd':
        /* it becomes one of the provider's options, which a comma ends */
        if (strlen(argument) >= 64 || strchr(argument, ',') != NULL) {
            argp_error(
                state, "'%s' is no name of a device: `ibv_devices` lists them", argument);
        }
        options->device = argument;
        break;
    case 'g':
        options->gid_index = (int)option_number(state, argument, 0, GID_INDEX_MAX);
        break;
    case OPTION_DEVICE_PORT:
        options->device_port = (unsigned)option_number(state, argument, 1, 255);
        break;
    case OPTION_SIZE:
        options->rma.plan.only_size = option_number(state, argument, 1, SIZE_LARGEST);
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

    options->gid_index = -1;
    rma_options_parse(&argp, &options->rma, argc, argv);
}

#endif
