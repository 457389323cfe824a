/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The measurements of mrpool-bench reg for one provider: what a registration is made of,
 * and registering per message against taking a region from a pool.
 */
#ifndef BENCH_MEASURE_REG_H
#define BENCH_MEASURE_REG_H

#include "buffer.h"
#include "harness.h"
#include "registrar.h"
#include "targets.h"

/* Cases, in the order of their recording. */
#define CASE_MMAP "mmap"
#define CASE_TOUCH "touch"
#define CASE_REGISTER "register"
#define CASE_DEREGISTER "deregister"
#define CASE_MUNMAP "munmap"
#define CASE_MESSAGE "per message"
#define CASE_MESSAGE_MRPOOL "per message mrpool"
#define CASE_POOL "pool"

/** A provider opened for measuring, in mrpool and, where the build knows how, bare. */
struct reg_station {
    struct bench *bench;
    const struct bench_target *target;
    struct mrp_context *context;
    struct mrp_provider *provider;
    uint32_t access;
    bool pins; /* so the kind of page matters */
    const struct bench_registrar *bare; /* NULL: only mrpool's call is measured */
    void *bare_state;
};

enum mrp_status reg_station_open(
    struct bench *bench, const struct bench_target *target, struct reg_station *station);
void reg_station_close(struct reg_station *station);

/** Map, touch, register, deregister and unmap buffers, each step timed apart. */
enum mrp_status reg_measure_steps(
    struct reg_station *station, const struct bench_pages *pages, size_t size);

/** A buffer that exists and is registered per message, against a region of the pool. */
enum mrp_status reg_measure_message(
    struct reg_station *station, const struct bench_pages *pages, size_t size);

#endif
