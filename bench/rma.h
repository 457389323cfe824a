/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench rma: what is measured, and what came out.
 *
 * A network is a worker program (workers/rma.h) with its options. A result is called
 * "<put|get>/<latency|message>/<subject>"; its provider is the network. What is compared is
 * a result too, of the ratios round by round: its case ends in "<subject>/<subject>".
 */
#ifndef BENCH_RMA_H
#define BENCH_RMA_H

#include "harness.h"
#include "targets.h"

#define RMA_SIZES_MAX 32
#define RMA_AT_MOST 1.05 /* times the cost, to count as a match */
#define RMA_LIMIT_S 3 /* of sampling, for a case */

#define RMA_SUBJECTS 4
extern const char *const rma_subjects[RMA_SUBJECTS]; /* pool first */

/** The ratios: to the library's own, to what is registered once, and of two that are equal. */
#define RMA_TO_CACHE "pool/cache"
#define RMA_TO_ONCE "pool/once"
#define RMA_CONTROL "control/once"

struct rma_options {
    struct bench_options common;
    struct bench_targets networks; /* none: all that there are */
    size_t sizes[RMA_SIZES_MAX], n_sizes;
    size_t limit_s; /* of sampling, for a case */
    bool is_server; /* for a client elsewhere: one network */
    const char *host; /* of the server elsewhere; NULL: both run here */
    const char *address; /* where the server listens; NULL: here alone */
    const char *port;
    const char *plot; /* NULL: none */
};

/** Measure a network; results and notes go to the bench. */
void rma_measure(struct bench *bench, const struct rma_options *options,
    const struct bench_target *network);

/** Run its server until the client has gone; the exit status. */
int rma_serve(const struct rma_options *options, const struct bench_target *network);

/** The result of an operation ("put"), figure ("latency") and subject or ratio; NULL: none. */
const struct bench_result *rma_find(const struct bench *bench, const char *network,
    size_t size, const char *operation, const char *figure, const char *subject);

void rma_print(const struct bench *bench);

/** Draw bandwidth by size. False, with a message, when that failed. */
bool rma_plot(const struct bench *bench, const char *path);

#endif
