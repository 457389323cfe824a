/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An ordinary user with a small memlock limit: 8 MiB, which is what Linux gives, are
 * enough for a default pool over `host`; with 64 KiB the error names the limit, what is
 * used, and the remedy. Each case is a child that drops to a user without CAP_IPC_LOCK.
 */
#include "base/align.h"
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "support/child.h"
#include "support/test_system.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534
#define SKIPPED 77

static void become_ordinary(size_t memlock)
{
    struct rlimit limit = {memlock, memlock};

    setenv("MRPOOL_PAGES", "4k", 1); /* VmLck does not count hugetlb pages */
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        _exit(SKIPPED);
    }
    if (getuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)) {
        _exit(SKIPPED);
    }
}

static void run_as_ordinary_user(const char *test, size_t memlock, void (*job)(void))
{
    pid_t child = fork();
    int status = -1;

    assert_true(child >= 0);
    if (child == 0) {
        become_ordinary(memlock);
        job();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED) {
        test_skip(test, "may not set the limit or drop to an ordinary user");
        return;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static struct mrp_pool *default_pool(struct mrp_context **context)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *host;
    struct mrp_pool *pool;

    EXPECT(mrp_context_create(NULL, context) == MRP_OK);
    EXPECT(mrp_provider_open(*context, "host", NULL, &host) == MRP_OK);
    params.rails = &host;
    params.n_rails = 1;
    EXPECT(mrp_pool_create(*context, &params, &pool) == MRP_OK);
    return pool;
}

static size_t locked(void)
{
    struct mrp_system system = MRP_SYSTEM_INIT;

    EXPECT(mrp_system_query(&system) == MRP_OK);
    return system.locked_size;
}

/* Several regions of every tier at once, all locked, all writable; then all of it again. */
static void use_8_mib(void)
{
    static const size_t sizes[] = {
        1, 1000, 5000, 16 * MRP_KIB, 40000, 64 * MRP_KIB, 100000, 500000, MRP_MIB};
    struct mrp_pool_stats stats = {.struct_size = sizeof stats};
    struct mrp_region *regions[27];
    struct mrp_context *context;
    struct mrp_pool *pool = default_pool(&context);

    EXPECT(mrp_pool_stats(pool, &stats) == MRP_OK);
    EXPECT(stats.max_bytes <= 8 * MRP_MIB && stats.max_bytes > 7 * MRP_MIB);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 27; i++) {
            size_t size = sizes[i % 9];

            regions[i] = mrp_region_alloc(pool, i >= 18 && size > 100000 ? 1 : size);
            EXPECT(regions[i] != NULL);
            memset(mrp_region_address(regions[i]), 1, mrp_region_size(regions[i]));
        }
        EXPECT(mrp_pool_stats(pool, &stats) == MRP_OK);
        EXPECT(locked() >= stats.mapped_size);
        EXPECT(stats.mapped_size <= stats.max_bytes);
        EXPECT(mrp_region_free_many(regions, 27, NULL) == MRP_OK);
    }
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
    EXPECT(locked() == 0);
}

/* The end of the budget is the end of the limit, and is told before the system is asked. */
static void use_up_8_mib(void)
{
    struct mrp_region *regions[64];
    struct mrp_context *context;
    struct mrp_pool *pool = default_pool(&context);
    size_t n = 0;

    while (n < 64 && (regions[n] = mrp_region_alloc(pool, 256 * MRP_KIB)) != NULL) {
        n++;
    }
    EXPECT(n >= 28 && n <= 32);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(strstr(mrp_error_last()->text, "what memlock left") != NULL);
    EXPECT(mrp_region_free_many(regions, n, NULL) == MRP_OK);
    EXPECT(mrp_region_alloc(pool, 20 * MRP_MIB) == NULL);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    regions[0] = mrp_region_alloc(pool, 256 * MRP_KIB);
    EXPECT(regions[0] != NULL);
    EXPECT(mrp_region_free(regions[0]) == MRP_OK);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void use_64_kib(void)
{
    static const size_t sizes[] = {1, MRP_KIB, 64 * MRP_KIB, MRP_MIB, 2 * MRP_MIB};
    struct mrp_pool_stats stats = {.struct_size = sizeof stats};
    struct mrp_context *context;
    struct mrp_pool *pool = default_pool(&context);

    for (size_t i = 0; i < 5; i++) {
        const char *text;

        mrp_error_clear();
        EXPECT(mrp_region_alloc(pool, sizes[i]) == NULL);
        EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
        text = mrp_error_last()->text;
        if (sizes[i] < MRP_MIB) { /* larger ones stop at the pool's own budget */
            EXPECT(strstr(text, "65536") != NULL);
            EXPECT(strstr(text, "locked") != NULL);
            EXPECT(strstr(text, "ulimit -l") != NULL || strstr(text, "memlock") != NULL);
        }
    }
    EXPECT(mrp_pool_stats(pool, &stats) == MRP_OK);
    EXPECT(stats.mapped_size == 0 && stats.n_registrations == 0);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
    EXPECT(locked() == 0);
}

static void pool__default_one_works_with_8_mib_of_memlock(void **unused)
{
    (void)unused;
    run_as_ordinary_user(
        "pool__default_one_works_with_8_mib_of_memlock", 8 * MRP_MIB, use_8_mib);
}

static void pool__ends_cleanly_where_8_mib_end(void **unused)
{
    (void)unused;
    run_as_ordinary_user("pool__ends_cleanly_where_8_mib_end", 8 * MRP_MIB, use_up_8_mib);
}

static void pool__says_what_is_wrong_with_64_kib(void **unused)
{
    (void)unused;
    run_as_ordinary_user(
        "pool__says_what_is_wrong_with_64_kib", 64 * MRP_KIB, use_64_kib);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool__default_one_works_with_8_mib_of_memlock),
        cmocka_unit_test(pool__ends_cleanly_where_8_mib_end),
        cmocka_unit_test(pool__says_what_is_wrong_with_64_kib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
