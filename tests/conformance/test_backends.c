/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One suite over every backend that is built in: what all of them promise in backend.h.
 */
#include "mrpool/backend.h"
#include "support/test_system.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct mrp_backend_ops mrp_backend_array;
extern const struct mrp_backend_ops mrp_backend_malloc;
extern const struct mrp_backend_ops mrp_backend_mmap;

/* A kind that is missing here fails the suite. */
static const struct mrp_backend_ops *const tables[] = {
    &mrp_backend_array,
    &mrp_backend_malloc,
    &mrp_backend_mmap,
};

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)
#define ARRAY_SIZE (48 * MIB)
#define N_MANY 32
#define N_CYCLES 1000
#define N_THREADS 4

static const struct mrp_backend_ops *ops; /* of the kind in turn */
static void *state;
static char *array_memory;

/* -- helpers -- */

static struct mrp_map_request request_of(size_t size, size_t alignment)
{
    return (struct mrp_map_request){
        .struct_size = sizeof(struct mrp_map_request),
        .size = size,
        .alignment = alignment,
    };
}

static enum mrp_status map(size_t size, size_t alignment, struct mrp_mapping *mapping)
{
    struct mrp_map_request request = request_of(size, alignment);

    return ops->map(state, &request, mapping);
}

static struct mrp_backend_info info_of(void)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    ops->query(state, &info);
    return info;
}

/* What every mapping has to say of itself. */
static void assert_sound(const struct mrp_mapping *mapping, size_t size, size_t alignment)
{
    assert_int_equal(mapping->struct_size, sizeof *mapping);
    assert_non_null(mapping->address);
    assert_int_equal((uintptr_t)mapping->address % alignment, 0);
    assert_true(mapping->size >= size);
    assert_int_equal(mapping->size % info_of().granularity, 0);
    assert_true(mapping->page_size >= 4096);
    assert_int_equal(mapping->page_size & (mapping->page_size - 1), 0);
    assert_in_range(mapping->pages, MRP_PAGES_4K, MRP_PAGES_1G);
    assert_in_range(mapping->pages_wanted, mapping->pages, MRP_PAGES_1G);
}

static struct mrp_mapping map_ok(size_t size, size_t alignment)
{
    struct mrp_mapping mapping;
    enum mrp_status status = map(size, alignment, &mapping);

    if (status != MRP_OK) {
        print_error("%s\n", mrp_error_last()->text);
    }
    assert_int_equal(status, MRP_OK);
    assert_sound(&mapping, size, alignment);
    return mapping;
}

static void unmap_ok(const struct mrp_mapping *mapping)
{
    assert_int_equal(ops->unmap(state, mapping), MRP_OK);
}

static bool holds(const struct mrp_mapping *mapping, int byte)
{
    const char *bytes = mapping->address;

    /* All bytes equal the first one, when the range equals itself shifted by one. */
    return bytes[0] == (char)byte && memcmp(bytes, bytes + 1, mapping->size - 1) == 0;
}

static bool is_in_array(const struct mrp_mapping *mapping)
{
    char *address = mapping->address;

    return address >= array_memory &&
        address + mapping->size <= array_memory + ARRAY_SIZE;
}

/* -- map -- */

static void map__one_byte(void **unused)
{
    (void)unused;
    struct mrp_mapping mapping = map_ok(1, 64);

    *(char *)mapping.address = 'x';
    assert_int_equal(*(char *)mapping.address, 'x');
    unmap_ok(&mapping);
}

static void map__odd_sizes_every_byte_writable(void **unused)
{
    static const size_t sizes[] = {1, 63, 64, 65, 4095, 4096, 4097, 65537, 2 * MIB - 1,
        2 * MIB + 1, 5 * MIB + 12345};
    (void)unused;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct mrp_mapping mapping = map_ok(sizes[i], 64);
        memset(mapping.address, (int)i + 1, mapping.size);
        assert_true(holds(&mapping, (int)i + 1));
        if (ops == &mrp_backend_array) {
            assert_true(is_in_array(&mapping));
        }
        unmap_ok(&mapping);
    }
}

static void map__every_alignment(void **unused)
{
    (void)unused;
    for (size_t alignment = 1; alignment <= 2 * MIB; alignment *= 2) {
        struct mrp_mapping small = map_ok(1, alignment);
        struct mrp_mapping large = map_ok(100001, alignment);
        memset(small.address, 1, small.size);
        memset(large.address, 2, large.size);
        assert_true(holds(&small, 1));
        unmap_ok(&large);
        unmap_ok(&small);
    }
}

static void map__many_do_not_overlap(void **unused)
{
    struct mrp_mapping many[N_MANY];
    (void)unused;

    for (size_t i = 0; i < N_MANY; i++) {
        many[i] = map_ok(1 + i * 9001, (size_t)64 << i % 10);
        memset(many[i].address, (int)i + 1, many[i].size);
    }
    for (size_t i = 0; i < N_MANY; i++) {
        assert_true(holds(&many[i], (int)i + 1));
        unmap_ok(&many[i]);
    }
}

static void map__zeroed_is_really_zero(void **unused)
{
    (void)unused;
    for (int round = 0; round < 3; round++) {
        struct mrp_mapping mapping = map_ok(3 * MIB + 1, 64);
        if (mapping.zeroed) {
            assert_true(holds(&mapping, 0));
        }
        memset(mapping.address, 0xA5, mapping.size);
        unmap_ok(&mapping);
    }
}

static void map__size_near_size_max_is_refused(void **unused)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 63, SIZE_MAX - 4096,
        SIZE_MAX - 2 * MIB, SIZE_MAX / 2, PTRDIFF_MAX - 2 * MIB};
    static const size_t alignments[] = {64, 4096, 2 * MIB, (size_t)1 << 40};
    (void)unused;

    if (ops == &mrp_backend_malloc && test_is_watched()) {
        test_skip("map__size_near_size_max", "the tool's malloc aborts instead");
        return;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < sizeof alignments / sizeof alignments[0]; j++) {
            struct mrp_mapping mapping, untouched;
            memset(&mapping, 0x5A, sizeof mapping);
            memcpy(&untouched, &mapping, sizeof mapping);
            mrp_error_clear();
            enum mrp_status status = map(sizes[i], alignments[j], &mapping);
            assert_true(status == MRP_ERR_MEMORY || status == MRP_ERR_LIMIT);
            assert_int_equal(mrp_error_last()->status, status);
            assert_non_null(strstr(mrp_error_last()->text, "bytes"));
            assert_memory_equal(&mapping, &untouched, sizeof mapping);
        }
    }
}

/* -- unmap -- */

/* `stride` is coprime to N_MANY, so that every mapping has its turn. */
static void unmap_strided(size_t stride)
{
    struct mrp_mapping many[N_MANY];

    for (size_t i = 0; i < N_MANY; i++) {
        many[i] = map_ok(64 * KIB + i, 4096);
        memset(many[i].address, (int)i + 1, many[i].size);
    }
    for (size_t i = 0, at = stride; i < N_MANY; i++, at += stride) {
        assert_true(holds(&many[at % N_MANY], (int)(at % N_MANY) + 1));
        unmap_ok(&many[at % N_MANY]);
    }
    /* Nothing is left over: the whole is to be had again. */
    struct mrp_mapping whole = map_ok(ARRAY_SIZE, 64);
    unmap_ok(&whole);
}

static void unmap__in_any_order(void **unused)
{
    (void)unused;
    unmap_strided(1);
    unmap_strided(N_MANY - 1);
    unmap_strided(7);
    unmap_strided(13);
}

static void unmap__thousand_cycles_do_not_grow(void **unused)
{
    static const size_t sizes[] = {1, 4097, 300 * KIB, 2 * MIB + 5, 4 * MIB};
    size_t maps = 0, size = 0;
    (void)unused;

    for (size_t i = 0; i < N_CYCLES; i++) {
        if (i == N_CYCLES / 10) { /* by now the C library has its arenas and buffers */
            maps = test_count_maps();
            size = test_status_size("VmSize:");
        }
        struct mrp_mapping mapping =
            map_ok(sizes[i % 5], (size_t)64 << (i % 3 * 7 + i % 2)); /* to 2 MiB */
        *(char *)mapping.address = 'x';
        unmap_ok(&mapping);
    }
    if (test_is_watched()) {
        test_skip("unmap__thousand_cycles_do_not_grow", "the tool's own mappings grow");
        return;
    }
    assert_in_range(test_count_maps(), 1, maps + 2);
    assert_in_range(test_status_size("VmSize:"), 1, size + 256 * KIB);
}

/* -- threads -- */

/* Returns NULL when all went well; CMocka's assertions belong to the first thread. */
static void *map_and_unmap(void *user)
{
    int byte = *(int *)user;

    for (size_t i = 0; i < 100; i++) {
        struct mrp_mapping one, other;
        if (map(1 + i * 100, 64, &one) ||
            map(1 + i * 1000, (size_t)64 << i % 8, &other)) {
            return user;
        }
        memset(one.address, byte, one.size);
        memset(other.address, byte + 1, other.size);
        if (!holds(&one, byte) || !holds(&other, byte + 1)) {
            return user;
        }
        if (ops->unmap(state, &one) || ops->unmap(state, &other)) {
            return user;
        }
    }
    return NULL;
}

static void map__from_several_threads(void **unused)
{
    pthread_t threads[N_THREADS];
    int bytes[N_THREADS];
    (void)unused;

    for (int i = 0; i < N_THREADS; i++) {
        bytes[i] = 1 + 2 * i;
        assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap, &bytes[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

/* -- create -- */

struct member {
    const char *name;
    struct mrp_backend_params params;
};

/* Each member is either of use, which `used` names, or refused by its own name. */
static void create__refuses_what_it_has_no_use_for(void **unused)
{
    const char *used = ops == &mrp_backend_mmap ? "pages node prefault prefault_threads"
        : ops == &mrp_backend_array             ? "address size"
                                                : "";
    struct member members[] = {
        {"address", {.address = array_memory}},
        {"size", {.size = ARRAY_SIZE}},
        {"pages", {.pages = MRP_PAGES_4K}},
        {"node", {.node = MRP_NODE(0)}},
        {"prefault", {.prefault = 1}},
        {"prefault_threads", {.prefault_threads = 2}},
    };
    (void)unused;

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        struct mrp_backend_params params = members[i].params;
        void *made = &params;
        if (strstr(used, members[i].name)) {
            continue;
        }
        if (ops == &mrp_backend_array) {
            params.address = array_memory;
            params.size = ARRAY_SIZE;
        }
        params.struct_size = sizeof params;
        assert_int_equal(ops->create(&params, &made), MRP_ERR_INVALID);
        assert_ptr_equal(made, &params);
        assert_non_null(strstr(mrp_error_last()->text, members[i].name));
    }
}

static void table__is_complete(void **unused)
{
    (void)unused;
    assert_int_equal(ops->struct_size, sizeof *ops);
    assert_true(ops->purpose && ops->purpose[0]);
    assert_int_equal(ops->memory_kind, MRP_MEMORY_HOST);
    assert_non_null(ops->map);
    assert_non_null(ops->unmap);
    assert_in_range(info_of().granularity, 1, 4096 * KIB);
    assert_int_equal(info_of().max_size, ops == &mrp_backend_array ? ARRAY_SIZE : 0);
}

/* -- one group for each kind -- */

static int backend_create(void **unused)
{
    struct mrp_backend_params params = MRP_BACKEND_PARAMS_INIT;
    (void)unused;

    if (ops == &mrp_backend_array) {
        params.address = array_memory;
        params.size = ARRAY_SIZE;
    }
    return ops->create(&params, &state);
}

static int backend_destroy(void **unused)
{
    (void)unused;
    if (ops->destroy) {
        ops->destroy(state);
    }
    return 0;
}

static void run_kind(const char *kind, const char *purpose, void *user)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(table__is_complete),
        cmocka_unit_test(create__refuses_what_it_has_no_use_for),
        cmocka_unit_test(map__one_byte),
        cmocka_unit_test(map__odd_sizes_every_byte_writable),
        cmocka_unit_test(map__every_alignment),
        cmocka_unit_test(map__many_do_not_overlap),
        cmocka_unit_test(map__zeroed_is_really_zero),
        cmocka_unit_test(map__size_near_size_max_is_refused),
        cmocka_unit_test(map__from_several_threads),
        cmocka_unit_test(unmap__in_any_order),
        cmocka_unit_test(unmap__thousand_cycles_do_not_grow),
    };
    int *failures = user;
    (void)purpose;

    ops = NULL;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (strcmp(tables[i]->kind, kind) == 0) {
            ops = tables[i];
        }
    }
    if (!ops) {
        print_error("backend %s is not in the table of this suite\n", kind);
        ++*failures;
        return;
    }
    *failures +=
        cmocka_run_group_tests_name(kind, tests, backend_create, backend_destroy);
}

int main(void)
{
    int failures = 0;

    array_memory = aligned_alloc(2 * MIB, ARRAY_SIZE);
    if (!array_memory) {
        return 1;
    }
    mrp_backend_kinds(run_kind, &failures);
    free(array_memory);
    return failures != 0;
}
