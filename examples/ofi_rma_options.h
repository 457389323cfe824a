/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of ofi_rma.
 */
#ifndef EXAMPLES_OFI_RMA_OPTIONS_H
#define EXAMPLES_OFI_RMA_OPTIONS_H

#include "ofi_endpoint.h"
#include "rma_options.h"

struct options {
    struct rma_options rma; /* stands first, as rma_options_parse wants it */
    struct ofi_options ofi;
    bool json;
};

enum option_key {
    OPTION_MAX_MESSAGE = OPTION_OWN,
    OPTION_JSON
};

static const struct argp_option options_table[] = {
    {NULL, 0, NULL, 0, "What to use", 1},
    {"provider", 'p', "NAME", 0, "libfabric provider: tcp (default), shm, sockets, verbs",
        0},
    {"domain", 'd', "NAME", 0, "its domain, as fi_info shows it", 0},
    {"endpoint", 'e', "rdm|msg", 0,
        "connectionless (default; msg with verbs) or connected endpoints", 0},
    {"max-message", OPTION_MAX_MESSAGE, "BYTES", 0, "split what is larger than that", 2},
    {"json", OPTION_JSON, NULL, 0, "one JSON object instead of the table", 4},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char options_doc[] =
    "One-sided writes and reads between two processes, from and to pool memory, over "
    "libfabric: sizes from 1 byte to 16 MiB in both directions, every byte verified, and "
    "nothing registered after the warm-up."
    "\vWithout --server or --client it starts its peer itself, on this machine.\n\n"
    "Examples:\n"
    "  ofi_rma\n"
    "  ofi_rma --provider shm --rounds 10 --max-size 64M\n"
    "  ofi_rma --provider tcp --endpoint msg --max-message 64K\n"
    "  ofi_rma --server --provider verbs                 on one machine, and\n"
    "  ofi_rma --client 192.0.2.1 --provider verbs       on the other\n\n"
    "The exit status is 0 only when every byte was right and nothing was registered "
    "after the warm-up.";

static error_t options_take(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->rma;
        break;
    case 'p':
        options->ofi.provider = argument;
        break;
    case 'd':
        options->ofi.domain = argument;
        break;
    case 'e':
        if (strcmp(argument, "rdm") != 0 && strcmp(argument, "msg") != 0) {
            argp_error(state, "--endpoint is rdm or msg, not '%s'", argument);
        }
        options->ofi.type = argument[0] == 'm' ? FI_EP_MSG : FI_EP_RDM;
        break;
    case OPTION_MAX_MESSAGE:
        options->ofi.max_message = option_number(state, argument, 1, UINT32_MAX);
        break;
    case OPTION_JSON:
        options->json = true;
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

    options->ofi.provider = "tcp";
    options->ofi.type = FI_EP_UNSPEC;
    rma_options_parse(&argp, &options->rma, argc, argv);
    if (options->ofi.type == FI_EP_UNSPEC) { /* verbs itself has only connected ones */
        options->ofi.type =
            strcmp(options->ofi.provider, "verbs") == 0 ? FI_EP_MSG : FI_EP_RDM;
    }
}

#endif
