/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Limits of the system that are met while a pool is at work: memlock lowered under it, and
 * the memory of a control group used up. Each is a refusal with a sentence, nothing is
 * lost, and what is free again serves again.
 */
#include "base/align.h"
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "mrpool/thread.h"
#include "support/child.h"
#include "support/test_system.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534
#define SKIPPED 77
#define BLOCK (256 * MRP_KIB)
#define HIGH (8 * MRP_MIB) /* what Linux gives everybody */
#define GROUP_LIMIT (64 * MRP_MIB)

static bool was_skipped(const char *test, pid_t child, const char *why)
{
    int status = -1;

    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        fail_msg("killed by signal %d", WTERMSIG(status));
    }
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED) {
        test_skip(test, why);
        return true;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static size_t take_what_there_is(
    struct mrp_pool *pool, struct mrp_region **regions, size_t first, size_t most)
{
    size_t n = first;

    while (n < most && (regions[n] = mrp_region_alloc(pool, BLOCK)) != NULL) {
        memset(mrp_region_address(regions[n]), 1, BLOCK);
        n++;
    }
    return n;
}

/* -- memlock -- */

static void set_memlock(size_t size)
{
    struct rlimit limit = {size, HIGH};

    EXPECT(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
}

static struct mrp_pool *pool_that_locks(struct mrp_context **context, uint32_t at_limit)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *host;
    struct mrp_pool *pool;

    EXPECT(mrp_context_create(NULL, context) == MRP_OK);
    EXPECT(mrp_provider_open(*context, "host", NULL, &host) == MRP_OK);
    params.rails = &host;
    params.n_rails = 1;
    params.max_bytes = 7 * MRP_MIB;
    params.chunk_min = params.chunk_max = MRP_MIB;
    params.at_limit = at_limit;
    params.wait_ms = 200;
    EXPECT(mrp_pool_create(*context, &params, &pool) == MRP_OK);
    return pool;
}

/* What was allowed is more than what now is: the network refuses, the pool lives on. */
static void lower_memlock(uint32_t at_limit)
{
    static struct mrp_region *regions[200];
    struct mrp_pool_stats stats = {.struct_size = sizeof stats};
    struct mrp_context *context;
    struct mrp_pool *pool;
    size_t n, more;

    pool = pool_that_locks(&context, at_limit);
    n = take_what_there_is(pool, regions, 0, 12); /* 3 MiB */
    EXPECT(n == 12);
    set_memlock(5 * MRP_MIB);
    more = take_what_there_is(pool, regions, n, 200);
    EXPECT(more >= n && more <= 20);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT ||
        mrp_error_last()->status == MRP_ERR_REGISTER ||
        mrp_error_last()->status == MRP_ERR_MEMORY);
    EXPECT(strstr(mrp_error_last()->text, "memlock") != NULL ||
        strstr(mrp_error_last()->text, "ulimit -l") != NULL);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    set_memlock(1 * MRP_MIB); /* below what is locked: that stays */
    EXPECT(mrp_region_alloc(pool, 2 * MRP_MIB) == NULL);
    EXPECT(mrp_region_free_many(regions, more, NULL) == MRP_OK);
    n = take_what_there_is(pool, regions, 0, 12); /* of what is locked already */
    EXPECT(n == 12);
    EXPECT(mrp_region_free_many(regions, n, NULL) == MRP_OK);
    EXPECT(mrp_thread_flush(pool) == MRP_OK);
    EXPECT(mrp_pool_trim(pool, 0, NULL) == MRP_OK);
    EXPECT(mrp_pool_stats(pool, &stats) == MRP_OK);
    EXPECT(stats.mapped_size == 0 && stats.n_registrations == 0);
    EXPECT(mrp_region_alloc(pool, 2 * MRP_MIB) == NULL);
    set_memlock(HIGH); /* and raised again */
    n = take_what_there_is(pool, regions, 0, 16);
    EXPECT(n == 16);
    EXPECT(mrp_region_free_many(regions, n, NULL) == MRP_OK);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void run_with_little_memlock(const char *test, uint32_t at_limit)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = {HIGH, HIGH};

        setenv("MRPOOL_PAGES", "4k", 1); /* VmLck does not count hugetlb pages */
        if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
            (getuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))) {
            _exit(SKIPPED);
        }
        lower_memlock(at_limit);
        _exit(0);
    }
    was_skipped(test, child, "may not set the limit or drop to an ordinary user");
}

static void memlock__lowered_under_a_pool_that_fails(void **unused)
{
    (void)unused;
    run_with_little_memlock(
        "memlock__lowered_under_a_pool_that_fails", MRP_AT_LIMIT_FAIL);
}

static void memlock__lowered_under_a_pool_that_waits(void **unused)
{
    (void)unused;
    run_with_little_memlock(
        "memlock__lowered_under_a_pool_that_waits", MRP_AT_LIMIT_WAIT);
}

static void memlock__lowered_under_a_pool_with_temporary_regions(void **unused)
{
    (void)unused;
    run_with_little_memlock(
        "memlock__lowered_under_a_pool_with_temporary_regions", MRP_AT_LIMIT_TEMPORARY);
}

/* -- the control group -- */

static bool write_to(const char *folder, const char *file, const char *text)
{
    char path[512];
    int descriptor;
    bool is_done;

    snprintf(path, sizeof path, "%s/%s", folder, file);
    descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return false;
    }
    is_done = write(descriptor, text, strlen(text)) == (ssize_t)strlen(text);
    close(descriptor);
    return is_done;
}

/* Two default pools, all of their pages touched, until the context refuses: before the
 * kernel would have to kill. */
static void use_up_the_group(void)
{
    static struct mrp_region *regions[1024];
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_system system = MRP_SYSTEM_INIT;
    struct mrp_context *context;
    struct mrp_pool *pools[3];
    size_t n = 0;

    EXPECT(mrp_system_query(&system) == MRP_OK);
    EXPECT(system.memory_size == GROUP_LIMIT);
    EXPECT(mrp_context_create(NULL, &context) == MRP_OK);
    for (size_t i = 0; i < 3; i++) {
        EXPECT(mrp_pool_create(context, &params, &pools[i]) == MRP_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        n = take_what_there_is(pools[i], regions, n, 1024);
        EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
        EXPECT(strstr(mrp_error_last()->text, "max_bytes") != NULL ||
            strstr(mrp_error_last()->text, "MAX_BYTES") != NULL);
    }
    EXPECT(mrp_context_stats(context, &stats) == MRP_OK);
    EXPECT(stats.charged_size <= stats.max_bytes && stats.max_bytes < GROUP_LIMIT);
    EXPECT(stats.charged_size >= GROUP_LIMIT / 2);
    EXPECT(mrp_region_free_many(regions, n, NULL) == MRP_OK);
    for (size_t i = 0; i < 3; i++) {
        EXPECT(mrp_pool_check(pools[i]) == MRP_OK);
        EXPECT(mrp_thread_flush(pools[i]) == MRP_OK);
        EXPECT(mrp_pool_trim(pools[i], 0, NULL) == MRP_OK);
    }
    EXPECT(mrp_context_stats(context, &stats) == MRP_OK);
    EXPECT(stats.charged_size == 0 && stats.n_chunks == 0);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void group__used_up_is_refused_by_the_context(void **unused)
{
    static const char test[] = "group__used_up_is_refused_by_the_context";
    char folder[128], text[32];
    pid_t child;

    (void)unused;
    snprintf(folder, sizeof folder, "/sys/fs/cgroup/mrpool-test-%d", (int)getpid());
    if (test_is_watched()) {
        test_skip(test, "a sanitizer's own memory does not fit");
        return;
    }
    if (access("/sys/fs/cgroup/cgroup.controllers", R_OK) != 0 ||
        mkdir(folder, 0700) != 0) {
        test_skip(test, "may not make a cgroup of version 2");
        return;
    }
    snprintf(text, sizeof text, "%zu", (size_t)GROUP_LIMIT);
    child = write_to(folder, "memory.max", text) ? fork() : -1;
    if (child == 0) {
        if (!write_to(folder, "cgroup.procs", "0")) {
            _exit(SKIPPED);
        }
        use_up_the_group();
        _exit(0);
    }
    if (child > 0) {
        was_skipped(test, child, "may not enter a cgroup");
    } else {
        test_skip(test, "the cgroup has no memory controller");
    }
    rmdir(folder);
}

static void use_up_job(void *user)
{
    *(bool *)user = true;
    use_up_the_group();
}

/* The same with a limit that is only written, not kept: everywhere. */
static void group__as_the_library_reads_it(void **unused)
{
    static const char test[] = "group__as_the_library_reads_it";
    pid_t child;

    (void)unused;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool has_run = false;

        if (!test_run_with_file("/proc/meminfo",
                "MemTotal:       65536 kB\nHugepagesize:    2048 kB\n", use_up_job,
                &has_run) ||
            !has_run) {
            _exit(SKIPPED);
        }
        _exit(0);
    }
    was_skipped(test, child, "may not have a mount namespace");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(memlock__lowered_under_a_pool_that_fails),
        cmocka_unit_test(memlock__lowered_under_a_pool_that_waits),
        cmocka_unit_test(memlock__lowered_under_a_pool_with_temporary_regions),
        cmocka_unit_test(group__used_up_is_refused_by_the_context),
        cmocka_unit_test(group__as_the_library_reads_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
