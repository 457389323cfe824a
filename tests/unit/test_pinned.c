/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Pinned blocks: locked while they live, within what the system allows.
 */
#include "mrpool/mrpool.h"
#include "refusal.h"
#include "support/child.h"
#include "support/test_system.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)

static struct mrp_memory_info pinned(size_t size)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;

    info.size = size;
    info.flags = MRP_MEMORY_PINNED;
    return info;
}

static size_t locked_size(void)
{
    return test_status_size("VmLck:");
}

static void alloc__locks_whole_pages_of_its_own(void **unused)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), before = locked_size();
    struct mrp_memory_info info = pinned(100), found = MRP_MEMORY_INFO_INIT;
    struct mrp_context *context;
    unsigned char *first, *second;
    (void)unused;

    assert_accepted(mrp_context_create(NULL, &context));
    first = mrp_memory_alloc(context, &info);
    assert_non_null(first);
    assert_int_equal((uintptr_t)first % page, 0);
    assert_int_equal(locked_size(), before + page);
    assert_true(test_smaps_flag(first, "lo"));
    info.size = 3 * page + 1;
    second = mrp_memory_alloc(context, &info);
    assert_non_null(second);
    assert_int_equal(locked_size(), before + 5 * page);
    assert_int_equal(second[0] | second[3 * page], 0);
    assert_accepted(mrp_memory_query(context, second, &found));
    assert_int_equal(found.flags, MRP_MEMORY_PINNED);
    assert_int_equal(found.size, 3 * page + 1);
    assert_int_equal(found.usable_size, 4 * page);
    assert_accepted(mrp_memory_free(context, first));
    assert_int_equal(locked_size(), before + 4 * page);
    assert_accepted(mrp_memory_free(context, second));
    assert_int_equal(locked_size(), before);
    assert_accepted(mrp_context_destroy(context));
}

static void destroy__unlocks_what_was_left(void **unused)
{
    size_t before = locked_size();
    struct mrp_memory_info info = pinned(5 * KIB);
    struct mrp_context *context;
    (void)unused;

    assert_accepted(mrp_context_create(NULL, &context));
    assert_non_null(mrp_memory_alloc(context, &info));
    info.size = 0;
    assert_non_null(mrp_memory_alloc(context, &info));
    assert_true(locked_size() > before);
    assert_refused(mrp_context_destroy(context), MRP_ERR_LEAKED, "2 blocks");
    assert_int_equal(locked_size(), before);
}

static void alloc__pins_on_any_backend(void **unused)
{
    size_t before = locked_size();
    struct mrp_memory_info info = pinned(100);
    struct mrp_context *context;
    void *block;
    (void)unused;

    assert_accepted(mrp_context_create(NULL, &context));
    assert_accepted(mrp_backend_create(context, "mmap", NULL, &info.backend));
    block = mrp_memory_alloc(context, &info);
    assert_non_null(block);
    assert_true(locked_size() > before);
    assert_accepted(mrp_memory_free(context, block));
    assert_int_equal(locked_size(), before);
    assert_accepted(mrp_backend_destroy(info.backend));
    assert_accepted(mrp_context_destroy(context));
}

/* -- an ordinary user -- */

static void expect_nothing_left(struct mrp_context *context, size_t locked)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    struct mrp_backend *backend;

    EXPECT(mrp_context_stats(context, &stats) == MRP_OK);
    EXPECT(stats.n_blocks == 0 && stats.block_size == 0 && stats.n_parked == 0);
    EXPECT(stats.n_registrations == 0);
    EXPECT(mrp_backend_find(context, "blocks", &backend) == MRP_OK);
    EXPECT(mrp_backend_query(backend, &info) == MRP_OK);
    EXPECT(info.n_mappings == 0 && info.mapped_size == 0);
    EXPECT(locked_size() == locked);
}

static void run_into_the_limit(void)
{
    struct rlimit limit = {64 * KIB, 64 * KIB};
    struct mrp_memory_info info = pinned(128 * KIB);
    struct mrp_context *context;
    void *blocks[17];
    size_t n_blocks = 0;

    EXPECT(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    EXPECT(setresuid(65534, 65534, 65534) == 0);
    EXPECT(mrp_context_create(NULL, &context) == MRP_OK);
    EXPECT(mrp_memory_alloc(context, &info) == NULL);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(text_has_number(mrp_error_last()->text, 128 * KIB));
    EXPECT(text_has_number(mrp_error_last()->text, 64 * KIB));
    EXPECT(strstr(mrp_error_last()->text, "ulimit -l") != NULL);
    expect_nothing_left(context, 0);
    info.size = 4 * KIB; /* what fits, fits */
    while ((blocks[n_blocks] = mrp_memory_alloc(context, &info)) != NULL) {
        EXPECT(++n_blocks <= 16);
    }
    EXPECT(n_blocks == 16);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(locked_size() == 64 * KIB);
    while (n_blocks > 0) {
        EXPECT(mrp_memory_free(context, blocks[--n_blocks]) == MRP_OK);
    }
    expect_nothing_left(context, 0);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void alloc__beyond_memlock_is_refused_with_the_numbers(void **unused)
{
    pid_t child;
    int status = 0;
    (void)unused;

    if (geteuid() != 0) {
        test_skip(__func__, "needs root to become somebody else");
        return;
    }
    child = fork();
    if (child == 0) {
        alarm(60);
        run_into_the_limit();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc__locks_whole_pages_of_its_own),
        cmocka_unit_test(destroy__unlocks_what_was_left),
        cmocka_unit_test(alloc__pins_on_any_backend),
        cmocka_unit_test(alloc__beyond_memlock_is_refused_with_the_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
