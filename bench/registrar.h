/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Ways to register memory per message: the bare calls that a program would make without
 * mrpool, and mrpool's own call for memory of the caller.
 */
#ifndef BENCH_REGISTRAR_H
#define BENCH_REGISTRAR_H

#include "mrpool/mrpool.h"

struct bench_registrar {
    const char *module; /* whose provider it stands beside: "host", "ofi", "uring" */
    const char *calls; /* what it calls, for people: "mlock + munlock" */
    /** Options as mrp_provider_params takes them. Failures are recorded with mrp_fail. */
    enum mrp_status (*open)(const char *options, void **state);
    void (*close)(void *state);
    enum mrp_status (*register_memory)(
        void *state, void *address, size_t size, void **handle);
    enum mrp_status (*deregister_memory)(
        void *state, void *address, size_t size, void *handle);
};

/** The bare calls of a module's network; NULL when there are none in this build. */
const struct bench_registrar *bench_registrar_bare(const char *module);

/** mrp_region_register and mrp_region_free; its state is a pool, so no open and close. */
extern const struct bench_registrar bench_registrar_mrpool;

extern const struct bench_registrar bench_registrar_host;
#ifdef HAVE_OFI
extern const struct bench_registrar bench_registrar_ofi;
#endif
#ifdef HAVE_URING
extern const struct bench_registrar bench_registrar_uring;
#endif

#endif
