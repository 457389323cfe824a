/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of backend mmap share: one map, which can run in a thread whose system
 * calls fail.
 */
#ifndef BACKEND_MMAP_JOB_H
#define BACKEND_MMAP_JOB_H

#include "mrpool/backend.h"
#include "support/test_system.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern const struct mrp_backend_ops mrp_backend_mmap;

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define HUGE_2M (2 * MIB)

/* One map on a backend of these parameters, and what came of it. It can run in a thread
 * whose system calls fail; the error record is that thread's. */
struct job {
    struct mrp_backend_params params;
    struct mrp_map_request request;
    enum mrp_status status;
    struct mrp_mapping mapping;
    struct mrp_error error;
};

static inline struct job job_of(enum mrp_pages pages, size_t size, size_t alignment)
{
    return (struct job){
        .params = {.struct_size = sizeof(struct mrp_backend_params), .pages = pages},
        .request = {.struct_size = sizeof(struct mrp_map_request),
            .size = size,
            .alignment = alignment},
    };
}

static inline void job_run(void *user)
{
    struct job *job = user;
    void *state = NULL;

    mrp_error_clear();
    job->status = mrp_backend_mmap.create(&job->params, &state);
    if (job->status == MRP_OK) {
        job->status = mrp_backend_mmap.map(state, &job->request, &job->mapping);
        mrp_backend_mmap.destroy(state);
    }
    job->error = *mrp_error_last();
}

static inline struct mrp_mapping job_ok(struct job job)
{
    job_run(&job);
    if (job.status != MRP_OK) {
        print_error("%s\n", job.error.text);
    }
    assert_int_equal(job.status, MRP_OK);
    assert_int_equal((uintptr_t)job.mapping.address % job.request.alignment, 0);
    assert_true(job.mapping.size >= job.request.size);
    return job.mapping;
}

static inline void assert_refused(
    const struct job *job, enum mrp_status status, const char *word)
{
    if (job->status != status || !strstr(job->error.text, word)) {
        print_error("%d, not %d with '%s': %s\n", (int)job->status, (int)status, word,
            job->error.text);
    }
    assert_int_equal(job->status, status);
    assert_int_equal(job->error.status, status);
    assert_non_null(strstr(job->error.text, word));
    assert_true(strlen(job->error.text) < sizeof job->error.text - 1);
    assert_null(job->mapping.address);
}

/* No memory of it stays behind. */
static inline void unmap(const struct mrp_mapping *mapping)
{
    assert_int_equal(mrp_backend_mmap.unmap(NULL, mapping), MRP_OK);
    assert_false(test_is_mapped(mapping->address, mapping->size));
}

/* Bytes of huge pages there. Linux counts gigantic ones as shared at times. */
static inline size_t hugetlb_size(const void *address)
{
    return test_smaps_size(address, "Private_Hugetlb:") +
        test_smaps_size(address, "Shared_Hugetlb:");
}

static inline int restore(void **unused)
{
    (void)unused;
    test_huge_pages_restore();
    return 0;
}

#endif
