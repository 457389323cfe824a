/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend array: what it refuses, how it fits, and that it stays out of the memory.
 */
#include "mrpool/backend.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct mrp_backend_ops mrp_backend_array;

#define SIZE ((size_t)4096)

static _Alignas(4096) char memory[2 * SIZE];

/* -- helpers -- */

static enum mrp_status create(void *address, size_t size, void **state)
{
    struct mrp_backend_params params = MRP_BACKEND_PARAMS_INIT;

    params.address = address;
    params.size = size;
    return mrp_backend_array.create(&params, state);
}

static enum mrp_status map(
    void *state, size_t size, size_t alignment, struct mrp_mapping *mapping)
{
    struct mrp_map_request request = {
        .struct_size = sizeof request, .size = size, .alignment = alignment};

    return mrp_backend_array.map(state, &request, mapping);
}

/* Maps and gives the offset in `memory`. */
static size_t map_at(
    void *state, size_t size, size_t alignment, struct mrp_mapping *mapping)
{
    assert_int_equal(map(state, size, alignment, mapping), MRP_OK);
    return (size_t)((char *)mapping->address - memory);
}

static void unmap(void *state, const struct mrp_mapping *mapping)
{
    assert_int_equal(mrp_backend_array.unmap(state, mapping), MRP_OK);
}

static void assert_text(const char *word)
{
    if (!strstr(mrp_error_last()->text, word)) {
        print_error("no '%s' in: %s\n", word, mrp_error_last()->text);
    }
    assert_non_null(strstr(mrp_error_last()->text, word));
}

static int array_setup(void **state)
{
    return create(memory, SIZE, state);
}

static int array_teardown(void **state)
{
    mrp_backend_array.destroy(*state);
    return 0;
}

/* -- create -- */

static void create__misaligned_is_refused_with_both_numbers(void **unused)
{
    void *state = &state;
    char address[32];
    (void)unused;

    for (size_t shift = 1; shift < 64; shift++) {
        assert_int_equal(create(memory + shift, SIZE, &state), MRP_ERR_INVALID);
        snprintf(address, sizeof address, "%p", (void *)(memory + shift));
        assert_text(address);
        assert_text("aligned to 64 bytes");
        assert_ptr_equal(state, &state);
    }
    assert_int_equal(create(NULL, SIZE, &state), MRP_ERR_INVALID);
    assert_int_equal(create(memory + 64, SIZE, &state), MRP_OK);
    mrp_backend_array.destroy(state);
}

static void create__size_out_of_range_is_refused(void **unused)
{
    static const size_t sizes[] = {0, 1, 63, SIZE_MAX, SIZE_MAX - 4096};
    void *state = &state;
    (void)unused;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char number[32];
        assert_int_equal(create(memory, sizes[i], &state), MRP_ERR_INVALID);
        snprintf(number, sizeof number, "not %zu", sizes[i]);
        assert_text(number);
        assert_ptr_equal(state, &state);
    }
}

static void query__counts_whole_lines(void **unused)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    void *state;
    (void)unused;

    assert_int_equal(create(memory, 64 + 63, &state), MRP_OK);
    mrp_backend_array.query(state, &info);
    assert_int_equal(info.max_size, 64);
    assert_int_equal(info.granularity, 64);
    mrp_backend_array.destroy(state);
}

/* -- map -- */

static void map__takes_the_first_gap_that_fits(void **state)
{
    struct mrp_mapping a, b, c, d;

    assert_int_equal(map_at(*state, 100, 64, &a), 0);
    assert_int_equal(a.size, 128);
    assert_int_equal(map_at(*state, 64, 64, &b), 128);
    assert_int_equal(map_at(*state, 1024, 64, &c), 192);
    unmap(*state, &a);
    assert_int_equal(map_at(*state, 129, 64, &d), 1216); /* the gap of 128 is too small */
    assert_int_equal(map_at(*state, 128, 64, &a), 0);
    unmap(*state, &c);
    unmap(*state, &b); /* joins the gap behind it */
    assert_int_equal(map_at(*state, 1088, 64, &b), 128);
}

static void map__gap_before_an_aligned_run_is_not_lost(void **state)
{
    struct mrp_mapping a, b, c;

    assert_int_equal(map_at(*state, 1, 64, &a), 0);
    assert_int_equal(map_at(*state, 1, 2048, &b), 2048);
    assert_int_equal(map_at(*state, 2048 - 64, 64, &c), 64);
}

/* The array begins 64 bytes behind a page: offsets are aligned where addresses are not.
 */
static void map__alignment_is_that_of_the_address(void **unused)
{
    struct mrp_mapping mapping;
    void *state;
    (void)unused;

    assert_int_equal(create(memory + 64, SIZE, &state), MRP_OK);
    assert_int_equal(map_at(state, 1, 1024, &mapping), 1024);
    assert_int_equal(map_at(state, 1, 4096, &mapping), 4096);
    mrp_backend_array.destroy(state);
}

static void map__exhausted_tells_how_much_is_used(void **state)
{
    struct mrp_mapping whole, more;

    memset(&more, 0x5A, sizeof more);
    assert_int_equal(map_at(*state, SIZE - 64, 64, &whole), 0);
    assert_int_equal(map(*state, 65, 64, &more), MRP_ERR_LIMIT);
    assert_text("65 bytes");
    assert_text("4032 of 4096 bytes used by 1 mappings");
    assert_text("largest gap 64");
    assert_int_equal(more.size, (size_t)0x5A5A5A5A5A5A5A5A);
    assert_int_equal(map(*state, SIZE + 1, 64, &more), MRP_ERR_LIMIT);
    assert_int_equal(map_at(*state, 64, 64, &more), SIZE - 64);
    unmap(*state, &whole);
    assert_int_equal(map(*state, SIZE, 64, &whole), MRP_ERR_LIMIT);
    assert_text("64 of 4096 bytes used by 1 mappings, largest gap 4032");
    unmap(*state, &more);
    assert_int_equal(map_at(*state, SIZE, 64, &whole), 0);
}

/* No freeing helps here, so it is not MRP_ERR_LIMIT. */
static void map__alignment_the_array_cannot_meet(void **state)
{
    struct mrp_mapping mapping;
    size_t beyond = (size_t)1 << 62;

    assert_int_equal(map(*state, 64, beyond, &mapping), MRP_ERR_UNSUPPORTED);
    assert_text("aligned to 4611686018427387904");
    assert_text("align the array");
}

static void map__node_and_pages_are_refused(void **state)
{
    struct mrp_mapping mapping;
    struct mrp_map_request request = {
        .struct_size = sizeof request, .size = 1, .alignment = 64, .node = MRP_NODE(3)};

    assert_int_equal(
        mrp_backend_array.map(*state, &request, &mapping), MRP_ERR_UNSUPPORTED);
    assert_text("node 3");
    request.node = 0;
    request.pages = MRP_PAGES_2M;
    assert_int_equal(
        mrp_backend_array.map(*state, &request, &mapping), MRP_ERR_UNSUPPORTED);
    assert_text("pages");
    request.pages = MRP_PAGES_AUTO;
    assert_int_equal(mrp_backend_array.map(*state, &request, &mapping), MRP_OK);
}

/* Peers may write all of it at any time: neither is it read, nor does a byte change. */
static void map__bookkeeping_is_outside_the_memory(void **state)
{
    struct mrp_mapping mappings[SIZE / 64];

    for (int round = 0; round < 4; round++) {
        memset(memory, 0xC3 + round, sizeof memory);
        for (size_t i = 0; i < SIZE / 64; i++) {
            assert_int_equal(map_at(*state, 64, 64, &mappings[i]), i * 64);
        }
        for (size_t i = 0; i < SIZE / 64; i++) {
            unmap(*state, &mappings[i * 5 % (SIZE / 64)]);
        }
        for (size_t i = 0; i < sizeof memory; i++) {
            assert_int_equal(memory[i], (char)(0xC3 + round));
        }
    }
}

/* -- unmap -- */

static void unmap__what_is_not_mapped_is_stale(void **state)
{
    struct mrp_mapping mapping, other;

    assert_int_equal(map_at(*state, 100, 64, &other), 0);
    assert_int_equal(map_at(*state, 100, 64, &mapping), 128);
    unmap(*state, &mapping);
    assert_int_equal(mrp_backend_array.unmap(*state, &mapping), MRP_ERR_STALE);
    assert_text("given back before");
    other.address = (char *)other.address + 64; /* a record that was tampered with */
    assert_int_equal(mrp_backend_array.unmap(*state, &other), MRP_ERR_STALE);
}

int main(void)
{
#define WITH_ARRAY(test) \
    cmocka_unit_test_setup_teardown(test, array_setup, array_teardown)
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(create__misaligned_is_refused_with_both_numbers),
        cmocka_unit_test(create__size_out_of_range_is_refused),
        cmocka_unit_test(query__counts_whole_lines),
        WITH_ARRAY(map__takes_the_first_gap_that_fits),
        WITH_ARRAY(map__gap_before_an_aligned_run_is_not_lost),
        cmocka_unit_test(map__alignment_is_that_of_the_address),
        WITH_ARRAY(map__exhausted_tells_how_much_is_used),
        WITH_ARRAY(map__alignment_the_array_cannot_meet),
        WITH_ARRAY(map__node_and_pages_are_refused),
        WITH_ARRAY(map__bookkeeping_is_outside_the_memory),
        WITH_ARRAY(unmap__what_is_not_mapped_is_stale),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
