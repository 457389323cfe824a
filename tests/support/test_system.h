/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a test needs of the machine: how a range is really mapped, a stock of huge pages,
 * and a system that fails on demand, for one thread only.
 */
#ifndef TEST_SYSTEM_H
#define TEST_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Runs under Valgrind or a sanitizer, whose own mappings come and go. */
bool test_is_watched(void);

/** Print "SKIP: <test>: <reason>"; the case then returns. */
void test_skip(const char *test, const char *reason);

/* -- how memory is mapped -- */

/** Lines of /proc/self/maps. */
size_t test_count_maps(void);

/** A row of /proc/self/status, "VmSize:", in bytes. */
size_t test_status_size(const char *row);

/** A row of /proc/self/smaps, "Rss:", in bytes, over the mapping that holds `address`.
 *  Neighbours alike may be part of it. SIZE_MAX if nothing is mapped there. */
size_t test_smaps_size(const void *address, const char *row);

/** Whether the mapping that holds `address` has a flag of smaps' VmFlags, "nh". */
bool test_smaps_flag(const void *address, const char *flag);

/** Whether any of [address, address + size) is mapped. */
bool test_is_mapped(const void *address, size_t size);

/* -- huge pages -- */

/** Have exactly `free` huge pages of page_size free; false when this is not permitted or
 * the system has not enough. The first call notes what to restore. */
bool test_huge_pages_set(size_t page_size, size_t free);

/** Back to what was before the first test_huge_pages_set. */
void test_huge_pages_restore(void);

/* -- a failing system -- */

/** A system call that fails with `native` where the low halves of its arguments match. */
struct test_fault {
    long call;
    int native;
    size_t n_when;
    struct {
        int argument;
        uint32_t value;
    } when[2];
};

typedef void test_job(void *user);

/** Run the job in a thread of its own whose system calls fail so (seccomp); false when
 * that is not permitted and the job has not run. CMocka's assertions do not work in
 * there. */
bool test_run_with_faults(
    const struct test_fault *faults, size_t n_faults, test_job *job, void *user);

/** Run the job in a thread of its own that reads `text` in place of a file (a mount
 *  namespace); false when that is not permitted and the job has not run. */
bool test_run_with_file(const char *path, const char *text, test_job *job, void *user);

#endif
