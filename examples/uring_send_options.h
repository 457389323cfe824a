/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of uring_send, and the plan: what the receiver has to know of it.
 */
#ifndef EXAMPLES_URING_SEND_OPTIONS_H
#define EXAMPLES_URING_SEND_OPTIONS_H

#include "options.h"
#include "peer.h"

#define WINDOW_MAX 1024
#define SIZE_LARGEST ((size_t)1 << 20)

struct plan {
    uint64_t seed, n_messages;
    size_t max_size; /* bytes of the largest message */
};

struct options {
    struct plan plan;
    size_t window; /* regions that the kernel may hold at once */
    size_t timeout; /* seconds */
    bool quiet;
    bool is_receiver; /* how the program starts itself */
    unsigned port;
};

enum option_key {
    OPTION_SEED = 256,
    OPTION_RECEIVER
};

static const struct argp_option options_table[] = {
    {"messages", 'n', "N", 0, "messages to send (4000)", 0},
    {"max-size", 's', "BYTES", 0, "largest message, up to 1M (1M)", 0},
    {"window", 'w', "N", 0, "regions that the kernel may hold at once, up to 1024 (32)",
        0},
    {"seed", OPTION_SEED, "N", 0, "of sizes and contents (1)", 0},
    {"timeout", 't', "SECONDS", 0, "longest wait for anything (30)", 0},
    {"quiet", 'q', NULL, 0, "nothing but complaints", 0},
    {"receiver", OPTION_RECEIVER, "PORT", OPTION_HIDDEN, NULL, 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char options_doc[] =
    "Send messages from pool regions through a TCP socket without copying them "
    "(IORING_OP_SEND_ZC) to another process, which verifies every byte. A region is "
    "given back when the kernel says that it needs the pages no more, and nothing is "
    "registered after the warm-up."
    "\vIt starts the receiver itself, on this machine; the loopback interface copies "
    "what a network card would fetch. Needs Linux 6.0.\n\n"
    "Examples:\n"
    "  uring_send\n"
    "  uring_send --messages 100000 --max-size 4K --window 128\n\n"
    "The exit status is 0 only when every byte was right and nothing was registered "
    "after the warm-up.";

static error_t options_take(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case 'n':
        options->plan.n_messages = option_number(state, argument, 1, UINT32_MAX);
        break;
    case 's':
        options->plan.max_size = option_number(state, argument, 1, SIZE_LARGEST);
        break;
    case 'w':
        options->window = option_number(state, argument, 1, WINDOW_MAX);
        break;
    case 't':
        options->timeout = option_number(state, argument, 1, 3600);
        break;
    case 'q':
        options->quiet = true;
        break;
    case OPTION_SEED:
        options->plan.seed = option_number(state, argument, 0, UINT32_MAX);
        break;
    case OPTION_RECEIVER:
        options->is_receiver = true;
        options->port = (unsigned)option_number(state, argument, 1, 65535);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void options_parse(struct options *options, int argc, char **argv)
{
    static const struct argp argp = {
        .options = options_table, .parser = options_take, .doc = options_doc};

    *options =
        (struct options){.plan = {1, 4000, SIZE_LARGEST}, .window = 32, .timeout = 30};
    argp_parse(&argp, argc, argv, 0, NULL, options);
}

/* Start our receiver. */
static bool options_spawn(const struct options *options, unsigned port, struct peer *peer)
{
    char port_text[16], timeout_text[24];
    char *const arguments[] = {program_invocation_short_name, (char *)"--receiver",
        port_text, (char *)"--timeout", timeout_text, NULL};

    snprintf(port_text, sizeof(port_text), "%u", port);
    snprintf(timeout_text, sizeof(timeout_text), "%zu", options->timeout);
    return peer_spawn(peer, arguments);
}

static bool plan_send(const struct plan *plan, struct peer *peer)
{
    char text[128];
    int size = snprintf(text, sizeof(text),
        "uring_send 1: seed %" PRIu64 ", %" PRIu64 " messages, %zu bytes", plan->seed,
        plan->n_messages, plan->max_size);

    return peer_send(peer, PEER_PLAN, text, (size_t)size);
}

static bool plan_read(struct plan *plan, const char *text)
{
    return (sscanf(text,
                "uring_send 1: seed %" SCNu64 ", %" SCNu64 " messages, %zu bytes",
                &plan->seed, &plan->n_messages, &plan->max_size) == 3 &&
               plan->max_size >= 1 && plan->max_size <= SIZE_LARGEST) ||
        complain("the sender's plan is not understood");
}

#endif
