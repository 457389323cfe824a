/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What memory checkers are told: at every moment, free memory of a pool is hidden, live
 * memory is not, and nothing stays hidden that the pool has given back. Under
 * AddressSanitizer it is asked; else the test takes its place and notes what it is told.
 * That reads after free are reported is test_debug_tools.sh's.
 */
#include "base/memcheck.h"
#include "debug.h"
#include "support/sanitizers.h"

#include <sys/mman.h>

#if TEST_ASAN
void *__asan_region_is_poisoned(void *begin, size_t size);
int __asan_address_is_poisoned(const volatile void *address);

static bool is_hidden(const void *address)
{
    return __asan_address_is_poisoned(address) != 0;
}
#else
/* Lines that are hidden: pages in an open table, a bit per line. */
#define PAGES ((size_t)1 << 17)
#define LINES_OF_PAGE 64 /* of 64 bytes */

static struct {
    uintptr_t page; /* 0: a free place */
    uint64_t hidden;
} pages[PAGES];

static uint64_t *page_of(uintptr_t page)
{
    size_t place = page * 2654435761u % PAGES;

    while (pages[place].page != page && pages[place].page != 0) {
        place = (place + 1) % PAGES;
    }
    pages[place].page = page;
    return &pages[place].hidden;
}

/* A line counts as what is said last of its first byte that is told of. */
static void note(const volatile void *address, size_t size, bool is_hiding)
{
    uintptr_t end = (uintptr_t)address + size;

    for (uintptr_t line = (uintptr_t)address / 64; line * 64 < end; line++) {
        uint64_t bit = UINT64_C(1) << line % LINES_OF_PAGE;
        uint64_t *hidden = page_of(line / LINES_OF_PAGE);

        *hidden = is_hiding ? *hidden | bit : *hidden & ~bit;
    }
}

__attribute__((visibility("default"))) void __asan_poison_memory_region(
    const volatile void *address, size_t size);
__attribute__((visibility("default"))) void __asan_unpoison_memory_region(
    const volatile void *address, size_t size);

void __asan_poison_memory_region(const volatile void *address, size_t size)
{
    note(address, size, true);
}

void __asan_unpoison_memory_region(const volatile void *address, size_t size)
{
    note(address, size, false);
}

static bool is_hidden(const void *address)
{
    uintptr_t line = (uintptr_t)address / 64;

    return (*page_of(line / LINES_OF_PAGE) >> line % LINES_OF_PAGE & 1) != 0;
}
#endif

/* Whether all lines in [address, address + size) are hidden, or none. */
static bool is_all(const void *address, size_t size, bool wanted)
{
    for (const char *at = address; at < (const char *)address + size; at += 64) {
        if (is_hidden(at) != wanted) {
            return false;
        }
    }
    return size == 0 || is_hidden((const char *)address + size - 1) == wanted;
}

/* Every chunk of the pool: what is a live region's is shown, the rest hidden. */
static void check_told(struct mrp_pool *pool)
{
    for (uint32_t id = 0; id < pool->n_chunk_ids; id++) {
        const struct mrp_chunk *chunk = mrp_chunk_entry(pool, id)->chunk;

        for (size_t i = 0;
             chunk != NULL && chunk->backend != NULL && i < chunk->mapping.size;
             i += 64) {
            const char *at = (const char *)chunk->mapping.address + i;
            const struct mrp_region *region = mrp_region_find(pool, at);
            const char *begin;
            bool is_live =
                region != NULL && mrp_load_relaxed(&region->state) == MRP_STATE_LIVE;

            if (is_live) { /* of guarded ones, not what is left before them */
                begin = (const char *)mrp_payload(region) - pool->classes.lead;
                is_live = at >= begin &&
                    at < (const char *)mrp_payload(region) + region->capacity +
                            pool->classes.tailroom;
            }
            if (is_hidden(at) == is_live) {
                fail_msg("%p of a %s region is%s hidden", (const void *)at,
                    is_live ? "live" : "free", is_live ? "" : " not");
            }
        }
    }
}

static void memcheck__is_the_default(void **state)
{
    struct pool_fixture *f = *state;

    assert_true(mrp_memcheck_is_present());
    unsetenv("MRPOOL_DEBUG");
    pool_fixture_create(f, NULL);
    setenv("MRPOOL_DEBUG", "off", 1);
    assert_int_equal(f->pool->debug, MRP_DEBUG_MEMCHECK);
    assert_int_equal(f->pool->cache_slot, MRP_NO_SLOT);
    pool_fixture_free(pool_fixture_alloc(f, 100));
    debug_destroy(f);
    pool_fixture_create(f, NULL);
    assert_int_equal(f->pool->debug, 0);
}

static void memcheck__hides_what_is_free(void **state)
{
    struct pool_fixture *f = *state;

    for (uint32_t i = 0; i < 24; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        struct mrp_region *held[30] = {NULL};
        uint64_t seed = i;

        params.debug = MRP_DEBUG_MEMCHECK | (i % 2 != 0 ? MRP_DEBUG_POISON : 0) |
            (i % 4 >= 2 ? MRP_DEBUG_GUARD : 0);
        params.checks = 1 + i % 3;
        params.chunk_min = 256 * MRP_KIB;
        params.headroom = i % 3 * 64;
        params.tailroom = i % 5 * 64;
        pool_fixture_create(f, &params);
        for (int round = 0; round < 60; round++) {
            struct mrp_region **place = &held[pool_fixture_random(&seed) % N_OF(held)];
            size_t size =
                pool_fixture_random(&seed) % (round % 20 == 0 ? 2 * MRP_MIB : 9000);

            if (*place != NULL) {
                pool_fixture_free(*place);
            }
            *place = pool_fixture_alloc(f, size);
            memset((char *)mrp_region_address(*place) - f->pool->classes.lead, 1,
                f->pool->classes.lead + mrp_region_capacity(*place) + params.tailroom);
            if (round % 10 == 0) {
                check_told(f->pool);
            }
        }
        for (size_t n = 0; n < N_OF(held); n++) {
            if (held[n] != NULL) {
                pool_fixture_free(held[n]);
            }
        }
        check_told(f->pool);
        debug_destroy(f);
    }
}

static void memcheck__shows_the_usable_capacity(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    char *address;

    debug_create(f, MRP_DEBUG_MEMCHECK);
    region = pool_fixture_alloc(f, 1030);
    address = mrp_region_address(region);
    assert_true(is_all(address, mrp_region_capacity(region), false));
    assert_true(is_hidden(address + mrp_region_capacity(region))); /* its neighbour */
    pool_fixture_free(region);
    assert_true(is_all(address, 1280, true));
}

static void memcheck__of_large_ones_and_their_eviction(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    size_t capacity;
    char *address;

    debug_create(f, MRP_DEBUG_MEMCHECK);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    address = mrp_region_address(region);
    capacity = mrp_region_capacity(region);
    assert_true(is_all(address, capacity, false));
    pool_fixture_free(region);
    assert_true(is_all(address, capacity, true)); /* idle */
    assert_ptr_equal(pool_fixture_alloc(f, 2 * MRP_MIB), region);
    assert_true(is_all(address, capacity, false));
    pool_fixture_free(region);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_true(is_all(address, capacity, false)); /* whoever maps there next */
}

static enum mrp_status init_payload(
    struct mrp_region *region, void *user_data, void *unused)
{
    (void)unused;
    memset((char *)mrp_region_address(region) - 64, 5, 64 + mrp_region_capacity(region));
    ((char *)user_data)[0] = 5;
    return is_all(mrp_region_address(region), mrp_region_capacity(region), false)
        ? MRP_OK
        : mrp_fail(MRP_ERR_INVALID, 0, "hidden from region_init");
}

static void memcheck__shows_to_region_init(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.debug = MRP_DEBUG_MEMCHECK | MRP_DEBUG_POISON;
    params.headroom = 64;
    params.user_size = 8;
    params.region_init = init_payload;
    pool_fixture_create(f, &params);
    for (size_t size = 100; size <= 2 * MRP_MIB; size += 2 * MRP_MIB - 100) {
        region = pool_fixture_alloc(f, size);
        assert_int_equal(((char *)mrp_region_address(region))[-1], 5); /* stays */
        pool_fixture_free(region);
    }
    check_told(f->pool);
}

/* An array is its owner's again, all of it. */
static void memcheck__gives_an_array_back_as_it_was(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_backend_params array = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = pool_fixture_params(f);
    size_t size = 4 * MRP_MIB;
    struct mrp_region *region;
    char *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(memory, MAP_FAILED);
    array.address = memory;
    array.size = size;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &array, &params.backend), MRP_OK);
    params.debug = MRP_DEBUG_MEMCHECK;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 1000);
    assert_true(is_hidden(memory + size - 64));
    pool_fixture_free(region);
    check_told(f->pool);
    debug_destroy(f);
    assert_true(is_all(memory, size, false));
    assert_int_equal(mrp_backend_destroy(params.backend), MRP_OK);
    memset(memory, 1, size);
    munmap(memory, size);
}

static void memcheck__leaves_registered_memory(void **state)
{
    static _Alignas(64) char memory[4096];
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    debug_create(f, MRP_DEBUG_MEMCHECK);
    mrp_memcheck_hide(memory + 64, 64); /* the caller's own business */
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, NULL, &region), MRP_OK);
    assert_false(is_hidden(memory));
    assert_true(is_hidden(memory + 64));
    pool_fixture_free(region);
    assert_false(is_hidden(memory));
    assert_true(is_hidden(memory + 64));
    mrp_memcheck_show(memory, sizeof memory);
}

/* Adopted memory is live, with its contents, then the pool's, then its owner's again. */
static void memcheck__of_adopted_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    size_t size = 2 * MRP_MIB;
    char *memory = mmap(
        NULL, size + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *inner = memory + 4096;

    assert_ptr_not_equal(memory, MAP_FAILED);
    memset(memory, 7, size + 8192);
    debug_create(f, MRP_DEBUG_MEMCHECK | MRP_DEBUG_POISON);
    assert_int_equal(mrp_region_adopt(f->pool, inner, size, NULL, &region), MRP_OK);
    assert_true(is_all(memory, size + 8192, false));
    assert_int_equal(inner[0], 7);
    pool_fixture_free(region);
    assert_true(is_all(inner, size, true));
    assert_true(is_all(memory, 4096, false));
    assert_true(is_all(inner + size, 4096, false));
    region = pool_fixture_alloc(f, size - 100);
    assert_ptr_equal(mrp_region_address(region), inner);
    assert_true(is_all(inner, size, false));
    pool_fixture_free(region);
    debug_destroy(f);
    assert_true(is_all(memory, size + 8192, false));
    munmap(memory, size + 8192);
}

/* What the network keeps is memory again, until its provider goes. */
static void memcheck__shows_what_is_parked(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    char *address;

    debug_create(f, MRP_DEBUG_MEMCHECK);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    address = mrp_region_address(region);
    pool_fixture_free(region);
    f->networks[0].deregister_fail_at = f->networks[0].n_deregister + 1;
    f->networks[0].deregister_fail_count = 1;
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_true(is_all(address, 2 * MRP_MIB, false));
    f->networks[0].n_live = 0; /* that one stayed */
}

static void memcheck__of_a_pool_that_leaks_hides_nothing_after_it(void **state)
{
    struct pool_fixture *f = *state;
    char *small, *large;

    debug_create(f, MRP_DEBUG_MEMCHECK | MRP_DEBUG_POISON);
    small = mrp_region_address(pool_fixture_alloc(f, 100));
    large = mrp_region_address(pool_fixture_alloc(f, 2 * MRP_MIB));
    assert_true(is_hidden(small + 4096));
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED);
    f->pool = NULL;
    assert_true(is_all(small, MRP_MIB, false));
    assert_true(is_all(large, 2 * MRP_MIB, false));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(memcheck__is_the_default),
        POOL_TEST(memcheck__hides_what_is_free),
        POOL_TEST(memcheck__shows_the_usable_capacity),
        POOL_TEST(memcheck__of_large_ones_and_their_eviction),
        POOL_TEST(memcheck__shows_to_region_init),
        POOL_TEST(memcheck__gives_an_array_back_as_it_was),
        POOL_TEST(memcheck__leaves_registered_memory),
        POOL_TEST(memcheck__of_adopted_memory),
        POOL_TEST(memcheck__shows_what_is_parked),
        POOL_TEST(memcheck__of_a_pool_that_leaks_hides_nothing_after_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
