/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Giving regions back, and what is not one: every wrong handle is refused and nothing is
 * harmed.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Every call that takes a region refuses this one. */
static void refuse_region(struct mrp_region *region, const char *words)
{
    struct mrp_region_info info = MRP_REGION_INFO_INIT;
    struct mrp_region *slice = NULL;
    struct mrp_token token;
    uint64_t number = 0;
    void *pointer = NULL;
    size_t size = 0;

    assert_refused(mrp_region_free(region), MRP_ERR_STALE, words);
    assert_refused(mrp_region_release(region), MRP_ERR_STALE, words);
    assert_refused(mrp_region_retain(region), MRP_ERR_STALE, words);
    assert_refused(mrp_region_slice(region, 0, 0, &slice), MRP_ERR_STALE, words);
    assert_refused(mrp_region_set_length(region, 0), MRP_ERR_STALE, words);
    assert_refused(mrp_region_query(region, &info), MRP_ERR_STALE, words);
    assert_refused(mrp_region_local_desc(region, 0, &pointer), MRP_ERR_STALE, words);
    assert_refused(mrp_region_remote_key(region, 0, &number), MRP_ERR_STALE, words);
    assert_refused(mrp_region_remote_addr(region, 0, &number), MRP_ERR_STALE, words);
    assert_refused(
        mrp_region_registration(region, 0, &pointer, &size), MRP_ERR_STALE, words);
    assert_refused(mrp_region_token(region, &token), MRP_ERR_STALE, words);
    assert_refused(mrp_region_key_pack(region, 1, NULL, &size), MRP_ERR_STALE, words);
    assert_null(mrp_region_address(region));
    assert_null(mrp_region_user(region));
    assert_null(mrp_region_pool(region));
    assert_int_equal(mrp_region_size(region), 0);
    assert_int_equal(mrp_region_capacity(region), 0);
    assert_int_equal(mrp_region_length(region), 0);
    assert_null(slice);
    assert_null(pointer);
    assert_int_equal(number + size, 0);
}

static struct mrp_region *at(const void *address)
{
    return (struct mrp_region *)(uintptr_t)address;
}

static void free__foreign_pointers_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    uint64_t on_stack[16] = {0};
    char *on_heap = malloc(4096);
    char *mapped =
        mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    refuse_region(NULL, "NULL");
    refuse_region(at(on_stack), "not a region of this library");
    refuse_region(at(on_heap), "not a region of this library");
    refuse_region(at(mapped), "not a region of this library");
    refuse_region(at(mapped + 8192), "not a region of this library");
    refuse_region(at((void *)1), "not a region of this library");
    refuse_region(at((void *)UINTPTR_MAX), "not a region of this library");
    refuse_region(at((void *)(UINTPTR_MAX & ~(uintptr_t)63)), "not a region");
    refuse_region(at((void *)((uintptr_t)1 << 47)), "not a region of this library");
    refuse_region(at(f->pool), "not a region of this library");
    refuse_region(at(f->context), "not a region of this library");
    free(on_heap);
    munmap(mapped, 8192);
    pool_fixture_free(region);
}

static void free__addresses_and_interior_handles_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *first, *region;

    pool_fixture_create(f, NULL);
    first = pool_fixture_alloc(f, 100); /* so that descriptors lie on both sides */
    region = pool_fixture_alloc(f, 100);
    for (size_t i = 1; i < 64; i++) {
        refuse_region(at((char *)region + i), "not a region of this library");
    }
    region->length = MRP_STATE_LIVE; /* would be the state, seen from 8 bytes before */
    refuse_region(at((char *)region - 8), "not a region of this library");
    region->length = 0;
    refuse_region(at(mrp_region_address(region)), "use mrp_ptr_free for an address");
    refuse_region(at((char *)f->pool + MRP_RANGE_SIZE - 64), "not a region of pool");
    refuse_region(at((char *)f->pool + MRP_KEYS_OFFSET), "not a region of this library");
    pool_fixture_free(region);
    pool_fixture_free(first);
}

static void free__what_has_been_given_back_is_refused(void **state)
{
    static const size_t sizes[] = {1, 16 * MRP_KIB, MRP_MIB, 2 * MRP_MIB};
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 4; i++) {
        struct mrp_region *region = pool_fixture_alloc(f, sizes[i]);
        struct mrp_region *next = pool_fixture_alloc(f, sizes[i]);

        pool_fixture_free(region);
        refuse_region(region, "has been given back already (its use number 1)");
        pool_fixture_free(next);
        refuse_region(next, "has been given back already");
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    }
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
}

static void free__into_a_destroyed_pool_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *slice;
    char *address;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    address = mrp_region_address(region);
    assert_int_equal(mrp_region_slice(region, 0, 10, &slice), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED);
    refuse_region(region, "has been destroyed");
    refuse_region(slice, "has been destroyed");
    assert_refused(mrp_ptr_free(f->pool, address), MRP_ERR_STALE, "has been destroyed");
    assert_none(mrp_region_find(f->pool, address), MRP_ERR_STALE, "has been destroyed");
    f->pool = NULL;
    /* the next pool may live in the same place: it has not cut that region yet */
    pool_fixture_create(f, NULL);
    refuse_region(region, "");
}

/* -- references -- */

static void free__of_a_retained_region_is_busy(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_retain(region), MRP_OK);
    assert_int_equal(pool_fixture_query(region).references, 2);
    assert_refused(mrp_region_free(region), MRP_ERR_BUSY, "has 2 references");
    assert_int_equal(pool_fixture_query(region).references, 2);
    assert_int_equal(mrp_region_release(region), MRP_OK);
    pool_fixture_free(region);
}

static void release__the_last_one_gives_back(void **state)
{
    static const size_t sizes[] = {100, 2 * MRP_MIB};
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct mrp_region *region = pool_fixture_alloc(f, sizes[i]);

        for (size_t j = 0; j < 100; j++) {
            assert_int_equal(mrp_region_retain(region), MRP_OK);
        }
        for (size_t j = 0; j < 100; j++) {
            assert_int_equal(mrp_region_release(region), MRP_OK);
            assert_non_null(mrp_region_address(region));
        }
        assert_int_equal(mrp_region_release(region), MRP_OK);
        assert_refused(mrp_region_release(region), MRP_ERR_STALE, "given back already");
        assert_ptr_equal(pool_fixture_alloc(f, sizes[i]), region);
        pool_fixture_free(region);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
}

static void retain__2_to_the_31_references_are_too_many(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *slice = NULL;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    mrp_store_relaxed(&region->state, MRP_STATE_FREE + MRP_REFERENCES_MAX - 1);
    assert_int_equal(mrp_region_retain(region), MRP_OK);
    assert_refused(mrp_region_retain(region), MRP_ERR_LIMIT, "2^31 - 1 references");
    assert_refused(mrp_region_slice(region, 0, 1, &slice), MRP_ERR_LIMIT, "2^31 - 1");
    assert_null(slice);
    assert_int_equal(mrp_load_relaxed(&region->state), UINT32_MAX);
    assert_int_equal(mrp_region_release(region), MRP_OK);
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    pool_fixture_free(region);
}

/* -- many -- */

static void free_many__duplicates_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[7], *list[10];
    size_t n_freed = 99;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 7; i++) {
        list[i] = regions[i] = pool_fixture_alloc(f, 64 * MRP_KIB);
    }
    list[7] = regions[6];
    list[8] = regions[0];
    list[9] = regions[3];
    assert_refused(
        mrp_region_free_many(list, 10, &n_freed), MRP_ERR_STALE, "given back already");
    assert_int_equal(n_freed, 7);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[MRP_TIER_LARGE].n_live, 0);
}

static void free_many__a_duplicate_at_once_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *list[2];
    size_t n_freed;

    pool_fixture_create(f, NULL);
    for (size_t size = 1; size <= 2 * MRP_MIB; size *= 4) {
        list[0] = list[1] = pool_fixture_alloc(f, size);
        assert_refused(mrp_region_free_many(list, 2, &n_freed), MRP_ERR_STALE, "already");
        assert_int_equal(n_freed, 1);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    }
}

/* Pools, classes and kinds in any order; each wrong one costs only itself. */
static void free_many__mixed_pools_and_classes(void **state)
{
    static const size_t sizes[] = {1, 1, 300, 300, 300, 70000, MRP_MIB, 2 * MRP_MIB};
    static char memory[1000];
    struct pool_fixture *f = *state;
    struct mrp_region *list[400], *slice, *user, *retained;
    struct mrp_pool *other;
    size_t n = 0, n_freed, n_wrong = 0;
    uint64_t seed = 7;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_create(f->context, NULL, &other), MRP_OK);
    while (n < 380) {
        struct mrp_pool *pool = pool_fixture_random(&seed) % 3 != 0 ? f->pool : other;

        list[n] = mrp_region_alloc(pool, sizes[pool_fixture_random(&seed) % 8]);
        assert_non_null(list[n++]);
        if (n % 40 == 0) {
            list[n++] = n_wrong++ % 2 == 0 ? NULL : at(memory);
        }
    }
    assert_int_equal(mrp_region_slice(list[0], 0, 1, &slice), MRP_OK);
    assert_int_equal(mrp_region_register(other, memory, 1000, NULL, &user), MRP_OK);
    retained = list[n++] = mrp_region_alloc(other, 5);
    assert_int_equal(mrp_region_retain(retained), MRP_OK);
    list[n++] = slice; /* after its root, which is therefore busy */
    list[n++] = user;
    assert_refused(mrp_region_free_many(list, n, &n_freed), MRP_ERR_BUSY, "2 references");
    assert_int_equal(n_freed, n - n_wrong - 2);
    assert_int_equal(mrp_region_free(list[0]), MRP_OK);
    assert_int_equal(mrp_region_release(retained), MRP_OK);
    assert_int_equal(mrp_region_free(retained), MRP_OK);
    assert_int_equal(mrp_pool_check(other), MRP_OK);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
}

static void free_many__nothing_is_no_failure(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    size_t n_freed = 1;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_region_free_many(NULL, 0, &n_freed), MRP_OK);
    assert_int_equal(n_freed, 0);
    assert_refused(mrp_region_free_many(NULL, 1, NULL), MRP_ERR_INVALID, "NULL");
    region = pool_fixture_alloc(f, 1);
    assert_int_equal(mrp_region_free_many(&region, 1, NULL), MRP_OK);
}

/* -- by plain pointer -- */

static void ptr_free__takes_first_bytes_only(void **state)
{
    static const size_t sizes[] = {0, 1, 1000, 16 * MRP_KIB, MRP_MIB, 3 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    int on_stack;

    params.headroom = 64;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 6; i++) {
        char *address = mrp_ptr_alloc(f->pool, sizes[i]);

        assert_non_null(address);
        memset(address, 1, sizes[i]);
        assert_refused(
            mrp_ptr_free(f->pool, address + 1), MRP_ERR_STALE, "1 bytes inside");
        assert_refused(mrp_ptr_free(f->pool, address - 64), MRP_ERR_STALE, "first byte");
        assert_int_equal(mrp_ptr_free(f->pool, address), MRP_OK);
        assert_refused(mrp_ptr_free(f->pool, address), MRP_ERR_STALE, "already");
    }
    assert_refused(mrp_ptr_free(f->pool, &on_stack), MRP_ERR_STALE, "no live region");
    assert_refused(mrp_ptr_free(f->pool, NULL), MRP_ERR_STALE, "no live region");
    assert_refused(mrp_ptr_free(NULL, &on_stack), MRP_ERR_STALE, "");
    assert_none(mrp_ptr_alloc(NULL, 1), MRP_ERR_STALE, "NULL");
}

static void ptr_free__of_another_pool_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool *other;
    void *address;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_create(f->context, NULL, &other), MRP_OK);
    address = mrp_ptr_alloc(f->pool, 100);
    assert_refused(mrp_ptr_free(other, address), MRP_ERR_STALE, "no live region of pool");
    assert_int_equal(mrp_ptr_free(f->pool, address), MRP_OK);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
}

static void set_length__is_bounded_by_the_capacity(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_set_length(region, 128), MRP_OK);
    assert_int_equal(mrp_region_length(region), 128);
    assert_refused(mrp_region_set_length(region, 129), MRP_ERR_INVALID,
        "length is 129, but the region holds 128 bytes");
    assert_int_equal(mrp_region_length(region), 128);
    pool_fixture_free(region);
    assert_ptr_equal(pool_fixture_alloc(f, 100), region);
    assert_int_equal(mrp_region_length(region), 0);
    assert_int_equal(pool_fixture_query(region).generation, 2);
    pool_fixture_free(region);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(free__foreign_pointers_are_refused),
        POOL_TEST(free__addresses_and_interior_handles_are_refused),
        POOL_TEST(free__what_has_been_given_back_is_refused),
        POOL_TEST(free__into_a_destroyed_pool_is_refused),
        POOL_TEST(free__of_a_retained_region_is_busy),
        POOL_TEST(release__the_last_one_gives_back),
        POOL_TEST(retain__2_to_the_31_references_are_too_many),
        POOL_TEST(free_many__duplicates_are_refused),
        POOL_TEST(free_many__a_duplicate_at_once_is_refused),
        POOL_TEST(free_many__mixed_pools_and_classes),
        POOL_TEST(free_many__nothing_is_no_failure),
        POOL_TEST(ptr_free__takes_first_bytes_only),
        POOL_TEST(ptr_free__of_another_pool_is_refused),
        POOL_TEST(set_length__is_bounded_by_the_capacity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
