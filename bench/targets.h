/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The providers to measure: those named with --providers, or whatever the machine has.
 */
#ifndef BENCH_TARGETS_H
#define BENCH_TARGETS_H

#include "harness.h"

#define BENCH_TARGETS_MAX 32

struct bench_target {
    char spec[128]; /* as --providers takes it: "ofi:provider=tcp,domain=lo" */
    char module[24]; /* "ofi" */
    char options[104]; /* "provider=tcp,domain=lo" */
    char label[64]; /* for people */
};

struct bench_targets {
    size_t n;
    struct bench_target all[BENCH_TARGETS_MAX];
};

/** Read "host,ofi:provider=tcp,domain=lo,ofi:provider=shm": commas separate providers and
 * their options alike; what has a '=' and no module before it belongs to the provider
 * before it.
 *  @return NULL, or what is wrong with the text. */
const char *bench_targets_parse(const char *text, struct bench_targets *targets);

/** "ofi tcp on lo" for "ofi:provider=tcp;ofi_rxm,domain=lo": what people call it. */
void bench_target_label(const char *spec, char *label, size_t size);

/** Each usable module; of one that lists devices, one device of each sort, on loopback
 * where it can be. Modules that are missing are noted with their reason. */
void bench_targets_default(struct bench *bench, struct bench_targets *targets);

#endif
