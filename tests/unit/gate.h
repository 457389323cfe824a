/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A network that stops inside a call until the test lets it go on.
 *
 *     gate_init(&gate, 2);                    the second registration stops
 *     gate_at(&f->networks[1], &gate);
 *     partner_begin(&partner, ...);           a thread that comes there
 *     gate_await(&gate);                      it is inside the network
 *     ...
 *     gate_open(&gate);
 *     partner_wait(&partner);
 */
#ifndef GATE_H
#define GATE_H

#include "rails.h"
#include "thread_cache.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#define GATE_PATIENCE_S 60 /* never to be reached: a hang is the failure */

/* What must not happen while somebody is inside the network would happen in this time. To
 * wait less, on a slow machine, can only hide an error. */
#define GATE_QUIET_MS 50

struct gate {
    sem_t is_reached, may_go;
    atomic_size_t n_calls;
    size_t at; /* which call stops: from 1 on */
};

static inline void gate_init(struct gate *gate, size_t at)
{
    sem_init(&gate->is_reached, 0, 0);
    sem_init(&gate->may_go, 0, 0);
    gate->n_calls = 0;
    gate->at = at;
}

static inline bool gate_wait_for(sem_t *event)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GATE_PATIENCE_S;
    while (sem_timedwait(event, &until) != 0) {
        if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

static inline void gate_stop(struct test_provider *network, void *address, size_t size)
{
    struct gate *gate = network->hook_user;

    (void)address;
    (void)size;
    if (++gate->n_calls == gate->at) {
        sem_post(&gate->is_reached);
        gate_wait_for(&gate->may_go);
    }
}

/* Before any thread uses the network. */
static inline void gate_at(struct test_provider *network, struct gate *gate)
{
    network->hook_user = gate;
    network->on_register = gate_stop;
}

static inline void gate_at_deregister(struct test_provider *network, struct gate *gate)
{
    network->hook_user = gate;
    network->on_deregister = gate_stop;
}

static inline void gate_await(struct gate *gate)
{
    assert_true(gate_wait_for(&gate->is_reached));
}

static inline void gate_open(struct gate *gate)
{
    sem_post(&gate->may_go);
}

/* -- what threads do beside it -- */

struct beside {
    struct partner partner;
    struct pool_fixture *f;
    struct mrp_provider *provider;
    struct mrp_region *region; /* of the call, or what it made */
    unsigned rail;
    uint32_t policy;
    size_t size;
    enum mrp_status status;
    struct mrp_error error;
};

static inline void beside_begin(
    struct beside *beside, struct pool_fixture *f, void (*job)(void *beside))
{
    beside->f = f;
    partner_start(&beside->partner);
    partner_begin(&beside->partner, job, beside);
}

static inline bool beside_goes_on(struct beside *beside)
{
    return !partner_ends_within(&beside->partner, GATE_QUIET_MS);
}

static inline enum mrp_status beside_end(struct beside *beside)
{
    partner_wait(&beside->partner);
    partner_stop(&beside->partner);
    return beside->status;
}

/* The call was refused so. */
static inline void beside_refused(
    struct beside *beside, enum mrp_status status, const char *words)
{
    enum mrp_status told = beside_end(beside);

    if (told != status || strstr(beside->error.text, words) == NULL) {
        fail_msg("%s with the words \"%s\" wanted, but it is %s: %s",
            mrp_status_name(status), words, mrp_status_name(told), beside->error.text);
    }
}

static inline void beside_ensure(void *argument)
{
    struct beside *beside = argument;

    mrp_error_clear();
    beside->status = mrp_region_ensure(beside->region, UINT64_C(1) << beside->rail);
    beside->error = *mrp_error_last();
}

static inline void beside_add(void *argument)
{
    struct beside *beside = argument;

    mrp_error_clear();
    beside->status = mrp_pool_rail_add(beside->f->pool, beside->provider,
        (enum mrp_rail_policy)beside->policy, &beside->rail);
    beside->error = *mrp_error_last();
}

static inline void beside_remove(void *argument)
{
    struct beside *beside = argument;

    mrp_error_clear();
    beside->status = mrp_pool_rail_remove(beside->f->pool, beside->rail);
    beside->error = *mrp_error_last();
}

static inline void beside_alloc(void *argument)
{
    struct beside *beside = argument;

    mrp_error_clear();
    beside->region = mrp_region_alloc(beside->f->pool, beside->size);
    beside->error = *mrp_error_last();
    beside->status = beside->region != NULL ? MRP_OK : beside->error.status;
}

static inline void beside_trim(void *argument)
{
    struct beside *beside = argument;

    mrp_error_clear();
    beside->status = mrp_pool_trim(beside->f->pool, 0, NULL);
    beside->error = *mrp_error_last();
}

/* Until another thread has brought it there. */
static inline void await_state(
    struct pool_fixture *f, unsigned rail, enum mrp_rail_state state)
{
    time_t end = time(NULL) + GATE_PATIENCE_S;

    while (query(f, rail).state != state) {
        assert_true(time(NULL) < end);
        sched_yield();
    }
}

#endif
