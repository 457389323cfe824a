/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend mmap when the system refuses: old kernels, missing pages, nodes, limits.
 * ctest: RUN_SERIAL TRUE
 */
#include "backend_mmap_job.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE */

/* -- a system that fails -- */

#define FAULT_POPULATE(error) \
    { \
        .call = SYS_madvise, .native = (error), .n_when = 1, .when = { \
            {2, POPULATE_WRITE} \
        } \
    }

static void map__populates_on_kernels_before_5_14(void **unused)
{
    static const struct test_fault old[] = {FAULT_POPULATE(EINVAL)};
    static const enum mrp_pages kinds[] = {MRP_PAGES_4K, MRP_PAGES_2M};
    bool huge = test_huge_pages_set(HUGE_2M, 2);
    (void)unused;

    for (size_t i = 0; i < (huge ? 2 : 1); i++) {
        struct job job = job_of(kinds[i], 2 * HUGE_2M, 64);
        if (!test_run_with_faults(old, 1, job_run, &job)) {
            test_skip(__func__, "no seccomp filters here");
            return;
        }
        assert_int_equal(job.status, MRP_OK);
        assert_int_equal(job.mapping.pages, kinds[i]);
        assert_true(job.mapping.prefaulted);
        assert_int_equal(*(char *)job.mapping.address, 0);
        size_t resident = i ? hugetlb_size(job.mapping.address)
                            : test_smaps_size(job.mapping.address, "Rss:");
        assert_true(resident >= 2 * HUGE_2M);
        unmap(&job.mapping);
    }
}

/* The reservation succeeded, the pages are not there: a limit of a node or a cgroup.
 * Sizes tell the kinds apart: 2 MiB + 1 is two huge pages, or one and a base page. The
 * second system is an old one, where reading from /dev/zero tells the same. */
static void map__missing_huge_page_falls_back(void **unused)
{
    static const struct test_fault missing[] = {
        {SYS_madvise, EFAULT, 2, {{1, 2 * HUGE_2M}, {2, POPULATE_WRITE}}},
    };
    static const struct test_fault missing_before_5_14[] = {
        FAULT_POPULATE(EINVAL),
        {.call = SYS_read, .native = EFAULT, .n_when = 1, .when = {{2, 1}}},
    };
    (void)unused;

    /* Valgrind reads single bytes for itself. */
    for (size_t n = 1; n <= (test_is_watched() ? 1 : 2); n++) {
        struct job job = job_of(MRP_PAGES_2M, HUGE_2M + 1, 64);
        if (!test_huge_pages_set(HUGE_2M, 2) ||
            !test_run_with_faults(
                n == 1 ? missing : missing_before_5_14, n, job_run, &job)) {
            test_skip(__func__, "no huge pages or no seccomp filters here");
            return;
        }
        assert_int_equal(job.status, MRP_OK);
        assert_in_range(job.mapping.pages, MRP_PAGES_4K, MRP_PAGES_THP);
        assert_int_equal(job.mapping.pages_wanted, MRP_PAGES_2M);
        assert_int_equal(job.error.status, MRP_OK);
        unmap(&job.mapping);
    }
}

static void map__populate_fails_cleanly(void **unused)
{
    static const struct {
        struct test_fault fault;
        enum mrp_status status;
        const char *word;
    } cases[] = {
        {FAULT_POPULATE(ENOMEM), MRP_ERR_MEMORY, "populating of 4194304 bytes"},
        {FAULT_POPULATE(EHWPOISON), MRP_ERR_SYSTEM, "populating of 4194304 bytes"},
        {{.call = SYS_mprotect, .native = ENOMEM}, MRP_ERR_MEMORY,
            "mmap of 4194304 bytes"},
        {{.call = SYS_madvise, .native = ENOMEM}, MRP_ERR_MEMORY, "madvise of 4194304"},
        {{.call = SYS_mprotect, .native = EAGAIN}, MRP_ERR_LIMIT, "RLIMIT_MEMLOCK"},
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job job = job_of(MRP_PAGES_THP, 4 * MIB, 64);
        size_t n_maps = test_count_maps();
        if (!test_run_with_faults(&cases[i].fault, 1, job_run, &job)) {
            test_skip(__func__, "no seccomp filters here");
            return;
        }
        assert_refused(&job, cases[i].status, cases[i].word);
        if (i > 0 && !test_is_watched()) { /* the first thread leaves its stack behind */
            assert_in_range(test_count_maps(), 1, n_maps);
        }
    }
}

static void map__mbind_refused(void **unused)
{
    static const struct {
        int native;
        enum mrp_status status;
        const char *word;
    } cases[] = {
        {ENOSYS, MRP_ERR_UNSUPPORTED, "NUMA"},
        {EPERM, MRP_ERR_SYSTEM, "CAP_SYS_NICE"},
        {EINVAL, MRP_ERR_INVALID, "Mems_allowed_list"},
        {EIO, MRP_ERR_SYSTEM, "mbind of 4194304 bytes"},
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct test_fault fault = {.call = SYS_mbind, .native = cases[i].native};
        struct job job = job_of(MRP_PAGES_AUTO, 4 * MIB, 64);
        job.params.node = MRP_NODE(0);
        if (!test_run_with_faults(&fault, 1, job_run, &job)) {
            test_skip(__func__, "no seccomp filters here");
            return;
        }
        assert_refused(&job, cases[i].status, cases[i].word);
    }
}

/* -- nodes -- */

static void map__node_0_is_bound(void **unused)
{
    (void)unused;
    for (int in_request = 0; in_request <= 1; in_request++) {
        struct job job = job_of(MRP_PAGES_AUTO, 4 * MIB, 64);
        int mode = -1;
        unsigned long nodes[16] = {0};
        *(in_request ? &job.request.node : &job.params.node) = MRP_NODE(0);
        job_run(&job);
        if (job.status == MRP_ERR_UNSUPPORTED || job.error.native == EPERM) {
            test_skip(__func__, job.error.text);
            return;
        }
        assert_int_equal(job.status, MRP_OK);
        assert_int_equal(job.mapping.node, MRP_NODE(0));
        assert_int_equal(syscall(SYS_get_mempolicy, &mode, nodes, 8 * sizeof nodes,
                             job.mapping.address, MPOL_F_ADDR),
            0);
        assert_int_equal(mode, MPOL_BIND);
        assert_int_equal(nodes[0], 1);
        unmap(&job.mapping);
    }
}

/* The node that the page at `address` lies on. */
static int node_of(void *address)
{
    int node = -1;

    assert_int_equal(
        syscall(SYS_get_mempolicy, &node, NULL, 0, address, MPOL_F_NODE | MPOL_F_ADDR),
        0);
    return node;
}

static void map__pages_lie_on_their_node(void **unused)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    (void)unused;

    assert_int_equal(mrp_system_query(&system), MRP_OK);
    if (system.n_nodes < 2) {
        test_skip(__func__, "one NUMA node");
        return;
    }
    for (int node = 0; node < 2; node++) {
        struct job job = job_of(MRP_PAGES_THP, 5 * MIB, 64);
        job.params.node = MRP_NODE(1 - node);
        job.request.node = MRP_NODE(node); /* wins */
        struct mrp_mapping mapping = job_ok(job);
        assert_int_equal(mapping.node, MRP_NODE(node));
        for (size_t at = 0; at < mapping.size; at += mapping.page_size) {
            assert_int_equal(node_of((char *)mapping.address + at), node);
        }
        unmap(&mapping);
    }
}

static bool huge_pages_on_node_0(size_t n_pages)
{
    FILE *file = fopen(
        "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "we");

    if (file) {
        fprintf(file, "%zu\n", n_pages);
        fclose(file);
    }
    return file != NULL;
}

/* The reservation does not count nodes: touching such a mapping would raise SIGBUS. */
static void map__huge_pages_of_another_node_are_not_taken(void **unused)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    (void)unused;

    assert_int_equal(mrp_system_query(&system), MRP_OK);
    if (system.n_nodes < 2 || !test_huge_pages_set(HUGE_2M, 0) ||
        !huge_pages_on_node_0(2)) {
        test_skip(__func__, "one NUMA node, or huge pages cannot be set");
        return;
    }
    for (int node = 0; node < 2; node++) {
        struct job job = job_of(MRP_PAGES_2M, 2 * HUGE_2M, 64);
        job.params.node = MRP_NODE(node);
        struct mrp_mapping mapping = job_ok(job);
        if (node == 0) {
            assert_int_equal(mapping.pages, MRP_PAGES_2M);
        } else {
            assert_in_range(mapping.pages, MRP_PAGES_4K, MRP_PAGES_THP);
        }
        memset(mapping.address, 1, mapping.size);
        assert_int_equal(node_of(mapping.address), node);
        unmap(&mapping);
    }
}

static void create__node_that_does_not_exist(void **unused)
{
    static const int nodes[] = {1000, 1024, 5000, INT32_MAX, -2, INT32_MIN};
    (void)unused;

    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        for (int in_request = 0; in_request <= 1; in_request++) {
            struct job job = job_of(MRP_PAGES_4K, 1, 64);
            *(in_request ? &job.request.node : &job.params.node) = nodes[i];
            job_run(&job);
            assert_refused(&job, MRP_ERR_INVALID, "NUMA node");
        }
    }
}

/* The machine is told to have other nodes than it has; mbind knows better. */
static void create__node_list_is_read_as_the_kernel_writes_it(void **unused)
{
    static const struct {
        const char *list;
        int node;
        const char *word;
    } cases[] = {
        {"0-1,4,6-7\n", 5, "with memory here, 0-1,4,6-7:"},
        {"0-1,4,6-7\n", 2, "with memory here, 0-1,4,6-7:"},
        {"0-1,4,6-7\n", 7, "Mems_allowed_list"},
        {"1\n", 0, "with memory here, 1:"},
        {"garbage\n", 0, "with memory here, garbage:"},
        {"", 900, "Mems_allowed_list"},
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job job = job_of(MRP_PAGES_4K, 1, 64);
        job.params.node = MRP_NODE(cases[i].node);
        if (!test_run_with_file(
                "/sys/devices/system/node/has_memory", cases[i].list, job_run, &job)) {
            test_skip(__func__, "no mount namespaces here");
            return;
        }
        assert_refused(&job, MRP_ERR_INVALID, cases[i].word);
    }
}

/* A full node is refused before the OOM killer has to choose. */
static void map__node_without_free_memory(void **unused)
{
    static const char meminfo[] = "Node 0 MemFree:            1024 kB\n"
                                  "Node 0 Active(file):       512 kB\n"
                                  "Node 0 Inactive(file):     256 kB\n"
                                  "Node 0 FilePages:      9999999 kB\n"
                                  "Node 0 SReclaimable:       256 kB\n";
    static const char path[] = "/sys/devices/system/node/node0/meminfo";
    (void)unused;

    struct job fits = job_of(MRP_PAGES_4K, 2 * MIB, 64);
    struct job full = job_of(MRP_PAGES_THP, 2 * MIB + 1, 64);
    fits.params.node = full.params.node = MRP_NODE(0);
    if (!test_run_with_file(path, meminfo, job_run, &fits) ||
        !test_run_with_file(path, meminfo, job_run, &full) ||
        fits.error.native == EPERM) {
        test_skip(__func__, "no mount namespaces or no mbind here");
        return;
    }
    assert_int_equal(fits.status, MRP_OK);
    unmap(&fits.mapping);
    assert_refused(&full, MRP_ERR_MEMORY, "node 0 has ");
}

/* -- limits -- */

static void map__more_than_the_machine_has(void **unused)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    (void)unused;

    assert_int_equal(mrp_system_query(&system), MRP_OK);
    struct job job = job_of(MRP_PAGES_THP, system.memory_size + GIB, 64);
    job_run(&job);
    assert_refused(&job, MRP_ERR_MEMORY, "no memory");
}

/* What fits into the machine may be more than its cgroup has. */
static void map__more_than_is_known_to_be_there(void **unused)
{
    struct job job = job_of(MRP_PAGES_THP, 64 * MIB, 64);
    (void)unused;

    if (!test_run_with_file("/proc/meminfo", "MemTotal:  32768 kB\n", job_run, &job)) {
        test_skip(__func__, "no mount namespaces here");
        return;
    }
    assert_refused(&job, MRP_ERR_MEMORY, "of 33554432 bytes the machine");
}

/* Without prefault nothing but the sizes themselves stands in the way. */
static void map__sizes_that_would_wrap(void **unused)
{
    static const size_t alignments[] = {
        64, 8192, HUGE_2M, (size_t)1 << 40, SIZE_MAX / 2 + 1};
    (void)unused;

    for (size_t i = 0; i < 64 * 5; i++) {
        size_t size = SIZE_MAX - ((size_t)1 << i / 5) + 1;
        struct job job = job_of(MRP_PAGES_1G, size, alignments[i % 5]);
        job.params.prefault = -1;
        job_run(&job);
        assert_refused(&job, MRP_ERR_MEMORY, "no memory");
    }
}

static void map__address_space_limit_is_named(void **unused)
{
    struct rlimit before, lower;
    (void)unused;

    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    lower = before;
    lower.rlim_cur = test_status_size("VmSize:") + 64 * MIB;
    assert_int_equal(setrlimit(RLIMIT_AS, &lower), 0);
    struct job job = job_of(MRP_PAGES_4K, 128 * MIB, 64);
    job_run(&job);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_refused(&job, MRP_ERR_LIMIT, "RLIMIT_AS");
    assert_int_equal(job.error.native, ENOMEM);
}

/* Pages of alternating protection, none of which can be merged with its neighbour. */
static void map__map_count_limit_is_named(void **unused)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    (void)unused;

    assert_int_equal(mrp_system_query(&system), MRP_OK);
    if (test_is_watched() || system.max_map_count > 200000) {
        test_skip(__func__, "the limit is too high, or a tool needs mappings of its own");
        return;
    }
    size_t size = system.max_map_count * 2 * 4096;
    char *many = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(many, MAP_FAILED);
    for (size_t at = 4096; at < size; at += 2 * 4096) {
        if (mprotect(many + at, 4096, PROT_READ) != 0) {
            break;
        }
    }
    struct job job = job_of(MRP_PAGES_4K, 64 * 4096, 64);
    for (int i = 0; i < 4 && job.status == MRP_OK; i++) { /* the last two may still fit */
        job.mapping.address = NULL;
        job_run(&job);
    }
    munmap(many, size);
    assert_refused(&job, MRP_ERR_LIMIT, "vm.max_map_count");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__populates_on_kernels_before_5_14),
        cmocka_unit_test(map__missing_huge_page_falls_back),
        cmocka_unit_test(map__populate_fails_cleanly),
        cmocka_unit_test(map__mbind_refused),
        cmocka_unit_test(map__node_0_is_bound),
        cmocka_unit_test(map__pages_lie_on_their_node),
        cmocka_unit_test(map__huge_pages_of_another_node_are_not_taken),
        cmocka_unit_test(create__node_that_does_not_exist),
        cmocka_unit_test(create__node_list_is_read_as_the_kernel_writes_it),
        cmocka_unit_test(map__node_without_free_memory),
        cmocka_unit_test(map__more_than_the_machine_has),
        cmocka_unit_test(map__more_than_is_known_to_be_there),
        cmocka_unit_test(map__sizes_that_would_wrap),
        cmocka_unit_test(map__address_space_limit_is_named),
        cmocka_unit_test(map__map_count_limit_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, restore);
}
