/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A provider for tests, in the test's own process: it registers nothing, counts
 * everything, fails where it is told to, and notices misuse.
 *
 *     struct test_provider network;
 *     test_provider_init(&network);
 *     network.fail_at = 3;                        the third registration fails
 *     mrp_provider_create(context, "network", test_provider_ops(), &network, &provider);
 *     ...
 *     assert_string_equal(network.first_error, "");
 *     mrp_context_destroy(context);
 *     test_provider_fini(&network);
 *
 * The modules in tests/providers/ do the same by name, built as a stranger's are.
 */
#ifndef MRP_TEST_PROVIDERS_H
#define MRP_TEST_PROVIDERS_H

#include "mrpool/provider.h"

#include <pthread.h>
#include <stdatomic.h>

enum test_event_kind {
    TEST_REGISTER,
    TEST_DEREGISTER,
    TEST_CLOSE
};

/* One call, in the order of its end. */
struct test_event {
    enum test_event_kind kind;
    enum mrp_status status; /* what it returned */
    void *address; /* of the memory, also for a deregistration */
    size_t size;
    uint64_t serial; /* of the registration, from 1 on; 0 if it failed */
};

#define TEST_EVENTS 4096

struct test_registration;
struct test_provider;

/* Called at the start of a call, under no lock: sleep to be slow, wait to hold a thread.
 */
typedef void test_provider_hook(
    struct test_provider *provider, void *address, size_t size);

struct test_provider {
    /* What the provider is like; to be changed between init and create only. */
    uint32_t
        traits; /* init: REMOTE_KEY | VIRTUAL_ADDRESS; all but PINS change behaviour */
    uint32_t access; /* init: MRP_ACCESS_ALL */
    uint32_t memory_kinds; /* init: host */
    size_t max_registrations; /* 0: no limit. More are refused as MRP_ERR_LIMIT */
    size_t max_size; /* 0: no limit. A larger one is misuse */
    size_t hidden_limit; /* as max_registrations, but query does not tell it */
    test_provider_hook *on_register, *on_deregister;
    void *hook_user;

    /* Which calls fail; may change at any time. Calls count from 1, in n_register and
     * n_deregister; fail_count 0 means that one and all after it. A deregistration that
     * fails leaves its registration live. */
    atomic_size_t fail_at, fail_count;
    _Atomic(enum mrp_status) fail_status; /* init: MRP_ERR_REGISTER */
    atomic_size_t deregister_fail_at, deregister_fail_count;

    /* Counters; may be read at any time. */
    atomic_size_t n_register, n_deregister; /* calls, failed ones included */
    atomic_size_t n_failed; /* of both, those told to and refused ones */
    atomic_size_t n_live, live_size, peak_live, peak_size;
    atomic_size_t n_overlaps; /* registrations that overlapped a live one: no misuse */
    atomic_size_t n_imported, n_released, n_closed;

    /* Misuse: deregistering what is not live, memory that is gone at its deregistration,
     * requests that query rules out, a close with live registrations, calls after it. */
    atomic_size_t n_errors;
    char first_error[160]; /* "" for none */

    struct test_event
        events[TEST_EVENTS]; /* the latest; event n is events[n % TEST_EVENTS] */
    atomic_size_t n_events;

    /* private */
    pthread_mutex_t mutex;
    struct test_registration *live;
    uint64_t last_serial;
};

/* To be done once before use. */
void test_provider_init(struct test_provider *provider);

/* Forget what is still live. */
void test_provider_fini(struct test_provider *provider);

/* The n-th registration from now on fails, and count - 1 after it (0: all of them). */
void test_provider_fail_next(
    struct test_provider *provider, size_t n, size_t count, enum mrp_status status);

/* For mrp_provider_create, with the struct test_provider as the state. */
const struct mrp_provider_ops *test_provider_ops(void);

/* What a provider of the trace module has counted. */
struct test_trace {
    size_t n_register, n_deregister; /* calls */
    size_t n_live, live_size, peak_live, peak_size, n_overlaps, n_errors;
};

/* Reads the counts of a provider opened as module "trace"; false if it is none. */
bool test_trace_read(struct mrp_provider *provider, struct test_trace *trace);

#endif
