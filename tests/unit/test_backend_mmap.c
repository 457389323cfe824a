/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend mmap: kinds of pages as the kernel has them, fallback, alignment, prefault.
 * ctest: RUN_SERIAL TRUE
 */
#include "backend_mmap_job.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* -- kinds of pages -- */

static void map__4k_has_no_huge_pages(void **unused)
{
    (void)unused;
    struct mrp_mapping mapping = job_ok(job_of(MRP_PAGES_4K, 8 * MIB, HUGE_2M));
    size_t base = (size_t)sysconf(_SC_PAGESIZE);

    assert_int_equal(mapping.pages, MRP_PAGES_4K);
    assert_int_equal(mapping.pages_wanted, MRP_PAGES_4K);
    assert_int_equal(mapping.page_size, base);
    assert_int_equal(test_smaps_size(mapping.address, "KernelPageSize:"), base);
    assert_int_equal(test_smaps_size(mapping.address, "AnonHugePages:"), 0);
    /* Refused, not only unasked for: the system may be set to "always". */
    assert_true(test_smaps_flag(mapping.address, "nh"));
    unmap(&mapping);
}

static void map__thp_has_transparent_huge_pages(void **unused)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    (void)unused;

    assert_int_equal(mrp_system_query(&system), MRP_OK);
    if (!system.transparent_huge) {
        test_skip(__func__, "the system has transparent huge pages switched off");
        return;
    }
    struct mrp_mapping mapping = job_ok(job_of(MRP_PAGES_THP, 8 * MIB + 1, 64));
    assert_int_equal(mapping.pages, MRP_PAGES_THP);
    assert_int_equal(mapping.page_size, (size_t)sysconf(_SC_PAGESIZE));
    assert_int_equal((uintptr_t)mapping.address % HUGE_2M, 0);
    assert_true(test_smaps_size(mapping.address, "AnonHugePages:") >= 8 * MIB);
    unmap(&mapping);
}

static void map__thp_smaller_than_one_falls_back(void **unused)
{
    (void)unused;
    struct mrp_mapping mapping = job_ok(job_of(MRP_PAGES_THP, HUGE_2M - 1, 64));

    assert_int_equal(mapping.pages, MRP_PAGES_4K);
    assert_int_equal(mapping.pages_wanted, MRP_PAGES_THP);
    assert_true(mapping.size <= HUGE_2M);
    unmap(&mapping);
}

static void check_hugetlb(const char *test, enum mrp_pages pages, size_t page_size)
{
    if (!test_huge_pages_set(page_size, 2)) {
        test_skip(test, "two such huge pages are not to be had");
        return;
    }
    struct mrp_mapping mapping = job_ok(job_of(pages, page_size + 1, 64));
    assert_int_equal(mapping.pages, pages);
    assert_int_equal(mapping.pages_wanted, pages);
    assert_int_equal(mapping.page_size, page_size);
    assert_int_equal(mapping.size, 2 * page_size);
    assert_true(mapping.zeroed);
    assert_int_equal(test_smaps_size(mapping.address, "KernelPageSize:"), page_size);
    assert_int_equal(hugetlb_size(mapping.address), 2 * page_size);
    memset(mapping.address, 1, mapping.size);
    unmap(&mapping);
}

static void map__2m_is_real(void **unused)
{
    (void)unused;
    check_hugetlb(__func__, MRP_PAGES_2M, HUGE_2M);
}

static void map__1g_is_real(void **unused)
{
    (void)unused;
    if (test_is_watched()) {
        test_skip(__func__, "2 GiB at once are much under a tool");
        return;
    }
    check_hugetlb(__func__, MRP_PAGES_1G, GIB);
}

/* A page free is not two: the cascade goes on, and writing everywhere raises no SIGBUS.
 */
static void map__2m_short_of_pages_falls_back(void **unused)
{
    (void)unused;
    if (!test_huge_pages_set(HUGE_2M, 1)) {
        test_skip(__func__, "the number of huge pages cannot be set");
        return;
    }
    struct mrp_mapping mapping = job_ok(job_of(MRP_PAGES_2M, 2 * HUGE_2M, HUGE_2M));
    assert_in_range(mapping.pages, MRP_PAGES_4K, MRP_PAGES_THP);
    assert_int_equal(mapping.pages_wanted, MRP_PAGES_2M);
    assert_int_equal(mapping.page_size, (size_t)sysconf(_SC_PAGESIZE));
    memset(mapping.address, 1, mapping.size);
    unmap(&mapping);
}

static void map__1g_falls_back_to_2m(void **unused)
{
    (void)unused;
    if (!test_huge_pages_set(GIB, 0) || !test_huge_pages_set(HUGE_2M, 3)) {
        test_skip(__func__, "the number of huge pages cannot be set");
        return;
    }
    struct mrp_mapping mapping = job_ok(job_of(MRP_PAGES_1G, 5 * MIB, 64));
    assert_int_equal(mapping.pages, MRP_PAGES_2M);
    assert_int_equal(mapping.pages_wanted, MRP_PAGES_1G);
    assert_int_equal(mapping.size, 6 * MIB);
    unmap(&mapping);
}

static void map__auto_takes_huge_pages_while_enough_are_free(void **unused)
{
    (void)unused;
    if (!test_huge_pages_set(HUGE_2M, 2)) {
        test_skip(__func__, "two huge pages of 2 MiB are not to be had");
        return;
    }
    struct mrp_mapping fits = job_ok(job_of(MRP_PAGES_AUTO, 2 * HUGE_2M, 64));
    assert_int_equal(fits.pages, MRP_PAGES_2M);
    unmap(&fits);
    struct mrp_mapping small = job_ok(job_of(MRP_PAGES_AUTO, 4096, 64));
    assert_int_equal(small.pages, MRP_PAGES_4K);
    assert_true(small.size < HUGE_2M);
    unmap(&small);
    struct mrp_mapping large = job_ok(job_of(MRP_PAGES_AUTO, 2 * HUGE_2M + 1, 64));
    assert_in_range(large.pages, MRP_PAGES_4K, MRP_PAGES_THP);
    assert_int_equal(large.pages_wanted, MRP_PAGES_THP);
    unmap(&large);
}

static void map__request_overrides_the_backend(void **unused)
{
    (void)unused;
    struct job job = job_of(MRP_PAGES_2M, 4 * MIB, 64);

    job.request.pages = MRP_PAGES_4K;
    struct mrp_mapping mapping = job_ok(job);
    assert_int_equal(mapping.pages, MRP_PAGES_4K);
    assert_int_equal(mapping.pages_wanted, MRP_PAGES_4K);
    unmap(&mapping);
}

/* -- alignment -- */

/* The surplus of the reservation is given back on both sides. */
static void map__alignment_leaves_no_address_space_behind(void **unused)
{
    size_t size = test_status_size("VmSize:");
    (void)unused;

    /* Valgrind has less address space than the machine. */
    size_t most = test_is_watched() ? GIB : 64 * GIB;
    for (size_t alignment = 4096; alignment <= most; alignment *= 4) {
        struct mrp_mapping mapping = job_ok(job_of(MRP_PAGES_4K, 3 * 4096, alignment));
        assert_int_equal(mapping.size, 3 * 4096);
        unmap(&mapping);
    }
    if (!test_is_watched()) {
        assert_in_range(test_status_size("VmSize:"), 1, size + MIB);
    }
}

static void map__hugetlb_aligned_beyond_its_page(void **unused)
{
    (void)unused;
    if (!test_huge_pages_set(HUGE_2M, 3)) {
        test_skip(__func__, "three huge pages of 2 MiB are not to be had");
        return;
    }
    for (size_t alignment = 2 * HUGE_2M; alignment <= 4 * GIB; alignment *= 2) {
        struct mrp_mapping mapping = job_ok(job_of(MRP_PAGES_2M, 6 * MIB, alignment));
        assert_int_equal(mapping.pages, MRP_PAGES_2M);
        memset(mapping.address, 1, mapping.size);
        unmap(&mapping);
    }
}

/* -- prefault -- */

static void map__prefault_on_and_off(void **unused)
{
    (void)unused;
    for (int prefault = -1; prefault <= 1; prefault++) {
        struct job job = job_of(MRP_PAGES_4K, 4 * MIB, 64);
        job.params.prefault = prefault;
        struct mrp_mapping mapping = job_ok(job);
        unsigned char resident[4 * 256];
        size_t n_resident = 0;
        assert_int_equal(mincore(mapping.address, mapping.size, resident), 0);
        for (size_t i = 0; i < mapping.size / mapping.page_size; i++) {
            n_resident += resident[i] & 1;
        }
        assert_int_equal(n_resident, prefault < 0 ? 0 : mapping.size / mapping.page_size);
        assert_int_equal(mapping.prefaulted, prefault >= 0);
        unmap(&mapping);
    }
}

static void map__hugetlb_is_populated_in_any_case(void **unused)
{
    (void)unused;
    if (!test_huge_pages_set(HUGE_2M, 2)) {
        test_skip(__func__, "two huge pages of 2 MiB are not to be had");
        return;
    }
    struct job job = job_of(MRP_PAGES_2M, 2 * HUGE_2M, 64);
    job.params.prefault = -1;
    struct mrp_mapping mapping = job_ok(job);
    assert_int_equal(mapping.pages, MRP_PAGES_2M);
    assert_true(mapping.prefaulted);
    assert_int_equal(hugetlb_size(mapping.address), 2 * HUGE_2M);
    unmap(&mapping);
}

/* -- parameters -- */

static void create__values_out_of_range(void **unused)
{
    struct job job = job_of((enum mrp_pages)17, 1, 64);
    (void)unused;

    job_run(&job);
    assert_refused(&job, MRP_ERR_INVALID, "'pages' is 17");
    job = job_of(MRP_PAGES_4K, 1, 64);
    job.request.pages = (enum mrp_pages) - 1;
    job_run(&job);
    assert_refused(&job, MRP_ERR_INVALID, "'pages' is -1");
    job = job_of(MRP_PAGES_4K, 1, 64);
    job.params.prefault = 2;
    job_run(&job);
    assert_refused(&job, MRP_ERR_INVALID, "'prefault' is 2");
}

static void unmap__not_a_mapping(void **unused)
{
    struct mrp_mapping mapping = {.address = (void *)1, .size = 4096};
    (void)unused;

    assert_int_equal(mrp_backend_mmap.unmap(NULL, &mapping), MRP_ERR_SYSTEM);
    assert_int_equal(mrp_error_last()->native, EINVAL);
    assert_non_null(strstr(mrp_error_last()->text, "munmap of 4096 bytes"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__4k_has_no_huge_pages),
        cmocka_unit_test(map__thp_has_transparent_huge_pages),
        cmocka_unit_test(map__thp_smaller_than_one_falls_back),
        cmocka_unit_test(map__2m_is_real),
        cmocka_unit_test(map__1g_is_real),
        cmocka_unit_test(map__2m_short_of_pages_falls_back),
        cmocka_unit_test(map__1g_falls_back_to_2m),
        cmocka_unit_test(map__auto_takes_huge_pages_while_enough_are_free),
        cmocka_unit_test(map__request_overrides_the_backend),
        cmocka_unit_test(map__alignment_leaves_no_address_space_behind),
        cmocka_unit_test(map__hugetlb_aligned_beyond_its_page),
        cmocka_unit_test(map__prefault_on_and_off),
        cmocka_unit_test(map__hugetlb_is_populated_in_any_case),
        cmocka_unit_test(create__values_out_of_range),
        cmocka_unit_test(unmap__not_a_mapping),
    };

    return cmocka_run_group_tests(tests, NULL, restore);
}
