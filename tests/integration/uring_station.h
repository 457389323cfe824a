/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool on a uring provider, of a ring of its own or round the test's, and requests that
 * use its fixed buffers.
 */
#ifndef MRP_TEST_URING_STATION_H
#define MRP_TEST_URING_STATION_H

#include "mrpool/mrpool.h"
#include "mrpool/uring.h"

#include "support/test_system.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>
#include <liburing.h>

#define MIB ((size_t)1 << 20)

struct station {
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
};

static inline void assert_error(
    enum mrp_status status, enum mrp_status expected, const char *word)
{
    assert_string_equal(mrp_status_name(status), mrp_status_name(expected));
    assert_int_equal(mrp_error_last()->status, expected);
    if (strstr(mrp_error_last()->text, word) == NULL) {
        fail_msg("'%s' is not in '%s'", word, mrp_error_last()->text);
    }
}

/* 77 for the whole program where there is no module or no io_uring. */
static inline int skip_without_uring(void)
{
    struct mrp_context *context;
    struct mrp_provider *provider;
    enum mrp_status status = mrp_context_create(NULL, &context);

    if (status == MRP_OK) {
        status = mrp_provider_open(context, "uring", NULL, &provider);
        mrp_context_destroy(context);
    }
    if (status == MRP_OK) {
        return 0;
    }
    printf("SKIP: uring: %s\n", mrp_error_last()->text);
    return status == MRP_ERR_UNAVAILABLE ? 77 : 1;
}

static inline enum mrp_status station_pool(struct station *station)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.rails = &station->provider;
    params.n_rails = 1;
    params.max_bytes = 16 * MIB;
    return mrp_pool_create(station->context, &params, &station->pool);
}

static inline struct station station_open(const char *options)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct station station;

    params.options = options;
    assert_int_equal(mrp_context_create(NULL, &station.context), MRP_OK);
    assert_int_equal(
        mrp_provider_open(station.context, "uring", &params, &station.provider), MRP_OK);
    assert_int_equal(station_pool(&station), MRP_OK);
    return station;
}

static inline struct station station_wrap(const struct mrp_uring_wrap_params *params)
{
    struct station station;

    assert_int_equal(mrp_context_create(NULL, &station.context), MRP_OK);
    assert_int_equal(
        mrp_uring_provider_wrap(station.context, NULL, params, &station.provider),
        MRP_OK);
    assert_int_equal(station_pool(&station), MRP_OK);
    return station;
}

static inline void station_close(struct station *station)
{
    assert_int_equal(mrp_pool_destroy(station->pool), MRP_OK);
    assert_int_equal(mrp_context_trim(station->context, 0), MRP_OK);
    assert_int_equal(mrp_provider_close(station->provider), MRP_OK);
    assert_int_equal(mrp_context_destroy(station->context), MRP_OK);
}

static inline void *map_memory(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static inline int index_of(const struct mrp_region *region)
{
    void *desc = NULL;

    assert_int_equal(mrp_region_local_desc(region, 0, &desc), MRP_OK);
    assert_non_null(desc);
    return mrp_uring_index(desc);
}

/* Submit one request on buffer `index` and do not wait for it. */
static inline void submit(struct io_uring *ring, bool is_read, int file, void *address,
    unsigned size, int index)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

    assert_non_null(sqe);
    if (is_read) {
        io_uring_prep_read_fixed(sqe, file, address, size, 0, index);
    } else {
        io_uring_prep_write_fixed(sqe, file, address, size, 0, index);
    }
    assert_int_equal(io_uring_submit(ring), 1);
}

/* Its result. */
static inline int complete(struct io_uring *ring)
{
    struct io_uring_cqe *cqe = NULL;
    int result;

    assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
    result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return result;
}

static inline size_t pinned(void)
{
    return test_status_size("VmPin:");
}

/* Setup of tests that look at it: the kernel unpins what a ring had some time after its
 * end, so that of the test before may still count. */
static inline int wait_until_unpinned(void **test)
{
    const struct timespec pause = {0, 1000000};

    (void)test;
    for (int i = 0; i < 10000 && pinned() > 0; i++) {
        nanosleep(&pause, NULL);
    }
    return pinned() == 0 ? 0 : -1;
}

#endif
