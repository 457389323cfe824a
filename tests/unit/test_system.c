/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What mrp_system_query reads, from this machine and from files that say otherwise.
 */
#include "support/test_system.h"
#include "mrpool/base.h"
#include "refusal.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void query__agrees_with_the_kernel(void **unused)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    size_t ram = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    (void)unused;

    assert_accepted(mrp_system_query(&system));
    assert_int_equal(system.struct_size, sizeof system);
    assert_int_equal(system.page_size, (size_t)sysconf(_SC_PAGESIZE));
    assert_in_range(system.memory_size, 1, ram);
    assert_int_equal(system.locked_size, test_status_size("VmLck:"));
    assert_int_equal(system.pinned_size, test_status_size("VmPin:"));
    assert_true(system.huge_2m_free <= system.huge_2m_total);
    assert_true(system.huge_1g_free <= system.huge_1g_total);
    assert_true(system.max_map_count > 1000);
    assert_true(system.n_nodes >= 1);
}

static void query__counts_locked_pages(void **unused)
{
    struct mrp_system before = MRP_SYSTEM_INIT, during = MRP_SYSTEM_INIT;
    size_t size = 16 * (size_t)sysconf(_SC_PAGESIZE);
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)unused;

    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_accepted(mrp_system_query(&before));
    assert_int_equal(mlock(memory, size), 0);
    assert_accepted(mrp_system_query(&during));
    munmap(memory, size);
    if (test_is_watched() && during.locked_size == before.locked_size) {
        test_skip(__func__, "this sanitizer makes mlock do nothing");
        return;
    }
    assert_int_equal(during.locked_size, before.locked_size + size);
}

static void query__null_and_garbage_are_refused(void **unused)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    (void)unused;

    assert_refused(mrp_system_query(NULL), MRP_ERR_INVALID, "NULL");
    system.struct_size = 0;
    assert_refused(mrp_system_query(&system), MRP_ERR_INVALID, "_INIT");
}

/* -- files that say otherwise -- */

static void ask(void *user)
{
    mrp_system_query(user);
}

/* False, and a word about it, where a file cannot be covered. */
static bool query_with(const char *path, const char *text, struct mrp_system *system)
{
    *system = (struct mrp_system)MRP_SYSTEM_INIT;
    if (test_run_with_file(path, text, ask, system)) {
        return true;
    }
    test_skip(path, "not permitted to mount over it, or it is not there");
    return false;
}

static void query__reads_lists_of_nodes(void **unused)
{
    static const struct {
        const char *list;
        size_t n_nodes;
    } cases[] = {{"0\n", 1}, {"0-1\n", 2}, {"0-1,3\n", 3}, {"0,2,4-7,9\n", 7}, {"\n", 1},
        {"", 1}, {"0-1023\n", 1024}, {"5-2\n", 1}};
    struct mrp_system system;
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!query_with("/sys/devices/system/node/has_memory", cases[i].list, &system)) {
            return;
        }
        assert_int_equal(system.n_nodes, cases[i].n_nodes);
    }
}

static void query__reads_the_memory_of_the_machine(void **unused)
{
    struct mrp_system system;
    (void)unused;

    if (query_with("/proc/meminfo",
            "MemTotal:       123 kB\nMemFree: 5 kB\nHugepagesize:     2048 kB\n",
            &system)) {
        assert_int_equal(system.memory_size, 123 * KIB);
        assert_int_equal(system.huge_page_size, 2 * MIB);
    }
    if (query_with("/proc/meminfo", "nothing of the kind\n", &system)) {
        assert_int_equal(system.memory_size, 0);
        assert_int_equal(system.huge_page_size, 0);
    }
}

static void query__reads_transparent_huge_pages(void **unused)
{
    static const struct {
        const char *text;
        bool transparent_huge;
    } cases[] = {{"always [madvise] never\n", true}, {"[always] madvise never\n", true},
        {"always madvise [never]\n", false}};
    struct mrp_system system;
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!query_with(
                "/sys/kernel/mm/transparent_hugepage/enabled", cases[i].text, &system)) {
            return;
        }
        assert_int_equal(system.transparent_huge, cases[i].transparent_huge);
    }
}

static void query__reads_max_map_count(void **unused)
{
    struct mrp_system system;
    (void)unused;

    if (query_with("/proc/sys/vm/max_map_count", "4242\n", &system)) {
        assert_int_equal(system.max_map_count, 4242);
    }
}

/* Only with the capability in the kernel's own user namespace is memory locked without
 * limit. */
static void query__root_of_a_user_namespace_has_a_limit(void **unused)
{
    struct rlimit limit;
    struct mrp_system system;
    (void)unused;

    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (query_with("/proc/self/uid_map", "0 1000 65536\n", &system)) {
        assert_int_equal(system.memlock_limit,
            limit.rlim_cur == RLIM_INFINITY ? MRP_UNLIMITED : limit.rlim_cur);
    }
}

/* In a child without privileges: 0 as wished, another number what went wrong. */
static int query_unprivileged(void)
{
    struct rlimit limit = {64 * KIB, 64 * KIB};
    struct mrp_system system = MRP_SYSTEM_INIT;

    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || setresuid(65534, 65534, 65534) != 0) {
        return 1;
    }
    if (mrp_system_query(&system) != MRP_OK) {
        return 2;
    }
    return system.memlock_limit == 64 * KIB ? 0 : 3;
}

static void query__memlock_limit_of_an_ordinary_user(void **unused)
{
    int status = 0;
    pid_t child;
    (void)unused;

    if (geteuid() != 0) {
        test_skip(__func__, "needs root to become somebody else");
        return;
    }
    child = fork();
    if (child == 0) {
        _exit(query_unprivileged());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(query__agrees_with_the_kernel),
        cmocka_unit_test(query__counts_locked_pages),
        cmocka_unit_test(query__null_and_garbage_are_refused),
        cmocka_unit_test(query__reads_lists_of_nodes),
        cmocka_unit_test(query__reads_the_memory_of_the_machine),
        cmocka_unit_test(query__reads_transparent_huge_pages),
        cmocka_unit_test(query__reads_max_map_count),
        cmocka_unit_test(query__root_of_a_user_namespace_has_a_limit),
        cmocka_unit_test(query__memlock_limit_of_an_ordinary_user),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
