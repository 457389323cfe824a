/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Guard pages: a larger-than-huge region lies between two pages that nobody may touch,
 * and what was freed is mapped no more.
 */
#include "debug.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGE ((size_t)4096)

enum access {
    READ,
    WRITE
};

/* The signal that ends a child which touches the byte; 0 when it lives. */
static int touch(volatile char *address, enum access access)
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0, 0};

        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL); /* not the report of a sanitizer */
        signal(SIGBUS, SIG_DFL);
        if (access == WRITE) {
            *address = 1;
        } else {
            (void)*address;
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static size_t round_to(size_t size, size_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

static void guard__faults_on_both_sides(void **state)
{
    static const size_t sizes[] = {
        MRP_MIB + 1, MRP_MIB + 64, 2 * MRP_MIB, 2 * MRP_MIB + 4095, 5 * MRP_MIB + 77};
    struct pool_fixture *f = *state;

    debug_create(f, MRP_DEBUG_GUARD);
    for (size_t i = 0; i < N_OF(sizes); i++) {
        struct mrp_region *region = pool_fixture_alloc(f, sizes[i]);
        char *address = mrp_region_address(region);
        char *end = address + mrp_region_capacity(region);
        char *begin = (char *)round_to((uintptr_t)address - PAGE + 1, PAGE);

        assert_int_equal(mrp_region_capacity(region), round_to(sizes[i], 64));
        assert_int_equal((uintptr_t)end % PAGE, 0);
        memset(address, 1, mrp_region_capacity(region));
        for (enum access access = READ; access <= WRITE; access++) {
            assert_int_equal(touch(end - 1, access), 0);
            assert_int_equal(touch(end, access), SIGSEGV);
            assert_int_equal(touch(end + PAGE - 1, access), SIGSEGV);
            assert_int_equal(touch(begin, access), 0);
            assert_int_equal(touch(begin - 1, access), SIGSEGV);
            assert_int_equal(touch(begin - PAGE, access), SIGSEGV);
        }
        pool_fixture_free(region);
    }
}

static void guard__freed_memory_faults(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    char *address;

    debug_create(f, MRP_DEBUG_GUARD);
    region = pool_fixture_alloc(f, 3 * MRP_MIB);
    address = mrp_region_address(region);
    pool_fixture_free(region);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    assert_int_equal(f->networks[0].n_live, 0);
    assert_false(test_is_mapped(address - PAGE, 3 * MRP_MIB + 2 * PAGE));
    if (!test_is_watched()) { /* a sanitizer's own memory may come to lie there */
        assert_int_equal(touch(address, READ), SIGSEGV);
        assert_int_equal(touch(address + MRP_MIB, WRITE), SIGSEGV);
    }
}

/* The network never sees the guard pages, the budget does not count them. */
static void guard__is_not_registered(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct mrp_region_info info;
    char *address;

    debug_create(f, MRP_DEBUG_GUARD);
    region = pool_fixture_alloc(f, 2 * MRP_MIB + 100);
    info = pool_fixture_query(region);
    address = info.address;
    assert_int_equal(info.kind, MRP_REGION_LARGE);
    assert_int_equal(info.chunk_size, round_to(2 * MRP_MIB + 100, PAGE));
    assert_ptr_equal((char *)info.chunk_address + info.chunk_size,
        address + mrp_region_capacity(region));
    assert_int_equal(f->networks[0].live_size, info.chunk_size);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, info.chunk_size);
    assert_int_equal(info.page_size, PAGE);
    pool_fixture_check_registrations(f, 1);
    pool_fixture_free(region);
}

static void guard__regions_are_found_by_address(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[20];
    struct mrp_wire wire = MRP_WIRE_INIT;

    debug_create(f, MRP_DEBUG_GUARD);
    for (size_t i = 0; i < N_OF(regions); i++) {
        regions[i] = pool_fixture_alloc(f, MRP_MIB + 1 + i * 5000);
    }
    for (size_t i = 0; i < N_OF(regions); i++) {
        char *address = mrp_region_address(regions[i]);
        size_t capacity = mrp_region_capacity(regions[i]);

        assert_ptr_equal(mrp_region_find(f->pool, address), regions[i]);
        assert_ptr_equal(mrp_region_find(f->pool, address + capacity - 1), regions[i]);
        assert_none(mrp_region_find(f->pool, address + capacity), MRP_ERR_NOT_FOUND, "");
        assert_none(mrp_region_find(f->pool, address - PAGE), MRP_ERR_NOT_FOUND, "");
        assert_int_equal(mrp_resolve(f->pool, address, capacity, 0, &wire), MRP_OK);
        assert_int_equal(wire.bytes_left, capacity);
        assert_int_equal(mrp_ptr_free(f->pool, address), MRP_OK);
    }
}

static void guard__heeds_alignment_and_room(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    params.debug = MRP_DEBUG_GUARD | MRP_DEBUG_POISON;
    for (size_t alignment = 64; alignment <= 4 * MRP_MIB; alignment *= 16) {
        struct mrp_region *region;
        char *address, *end;

        params.headroom = alignment > 16 * MRP_KIB ? 0 : 100;
        params.tailroom = alignment > 16 * MRP_KIB ? 0 : 40;
        params.alignment = alignment > 16 * MRP_KIB ? 64 : alignment;
        pool_fixture_create(f, &params);
        request.alignment = alignment;
        region = mrp_region_alloc_with(f->pool, 3 * MRP_MIB + 1, &request);
        assert_non_null(region);
        address = mrp_region_address(region);
        end = address + mrp_region_capacity(region) + params.tailroom;
        assert_int_equal((uintptr_t)address % alignment, 0);
        assert_int_equal((uintptr_t)end % PAGE, 0); /* tailroom ends there */
        assert_true(mrp_region_capacity(region) - (3 * MRP_MIB + 1) < alignment);
        memset(address - f->pool->classes.lead, 1,
            (size_t)(end - address) + f->pool->classes.lead);
        assert_int_equal(touch(end, WRITE), SIGSEGV);
        pool_fixture_free(region);
        debug_destroy(f);
    }
}

static void guard__does_not_leave_the_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    void *address;
    size_t size;

    debug_create(f, MRP_DEBUG_GUARD);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_refused(mrp_region_forget(region, &address, &size), MRP_ERR_UNSUPPORTED,
        "between guard pages");
    pool_fixture_free(region);
}

static void guard__of_a_pool_that_leaks_goes(void **state)
{
    struct pool_fixture *f = *state;
    char *address;

    debug_create(f, MRP_DEBUG_GUARD);
    address = mrp_region_address(pool_fixture_alloc(f, 2 * MRP_MIB));
    assert_refused(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED, "of 2097152 bytes");
    f->pool = NULL;
    assert_false(test_is_mapped(address - PAGE, 2 * MRP_MIB + 2 * PAGE));
}

/* A registration that fails leaves nothing mapped; one that is not given back keeps the
 * memory, which goes with its provider. */
static void guard__goes_when_the_network_fails(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    debug_create(f, MRP_DEBUG_GUARD);
    test_provider_fail_next(&f->networks[0], 1, 0, MRP_ERR_REGISTER);
    assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_REGISTER, "");
    f->networks[0].fail_at = 0;
    assert_int_equal(mrp_backend_query(f->backend, &info), MRP_OK);
    assert_int_equal(info.n_mappings, 0);
    assert_int_equal(info.mapped_size, 0);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_chunks, 0);
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB));
}

static void guard__of_parked_memory_goes_with_the_provider(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    struct mrp_region *region;
    char *address;

    debug_create(f, MRP_DEBUG_GUARD);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    address = mrp_region_address(region);
    f->networks[0].deregister_fail_at = f->networks[0].n_deregister + 1;
    f->networks[0].deregister_fail_count = 1;
    assert_int_equal(mrp_region_free(region), MRP_ERR_REGISTER);
    assert_int_equal(touch(address, READ), 0); /* the network may still write there */
    assert_int_equal(touch(address + 2 * MRP_MIB, READ), SIGSEGV);
    debug_destroy(f);
    assert_int_equal(mrp_provider_close(f->rails[0]), MRP_OK);
    assert_false(test_is_mapped(address - PAGE, 2 * MRP_MIB + 2 * PAGE));
    assert_int_equal(mrp_backend_query(f->backend, &info), MRP_OK);
    assert_int_equal(info.mapped_size, 0);
    f->networks[0].n_live = 0; /* that one stayed */
}

static void refuse_mprotect(void *user)
{
    struct pool_fixture *f = user;

    EXPECT(mrp_region_alloc(f->pool, 2 * MRP_MIB) == NULL);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(strstr(mrp_error_last()->text, "guard pages") != NULL);
    EXPECT(strstr(mrp_error_last()->text, "vm.max_map_count") != NULL);
}

static void guard__that_cannot_be_closed_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    /* mprotect(, 4096, PROT_NONE) */
    const struct test_fault fault = {SYS_mprotect, ENOMEM, 2, {{1, PAGE}, {2, 0}}};
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    debug_create(f, MRP_DEBUG_GUARD);
    if (test_is_watched() || !test_run_with_faults(&fault, 1, refuse_mprotect, f)) {
        test_skip(
            "guard__that_cannot_be_closed_is_refused", "no system to be refused by");
        return;
    }
    assert_int_equal(mrp_backend_query(f->backend, &info), MRP_OK);
    assert_int_equal(info.n_mappings, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(guard__faults_on_both_sides),
        POOL_TEST(guard__freed_memory_faults),
        POOL_TEST(guard__is_not_registered),
        POOL_TEST(guard__regions_are_found_by_address),
        POOL_TEST(guard__heeds_alignment_and_room),
        POOL_TEST(guard__does_not_leave_the_pool),
        POOL_TEST(guard__of_a_pool_that_leaks_goes),
        POOL_TEST(guard__goes_when_the_network_fails),
        POOL_TEST(guard__of_parked_memory_goes_with_the_provider),
        POOL_TEST(guard__that_cannot_be_closed_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
