/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tracked blocks: what cannot be is refused, and every wrong address is told.
 */
#include "memory_blocks.h"

#include <stdlib.h>

/* A sanitizer's heap ends the program where others return NULL, unless told not to. */
#define RETURN_NULL "allocator_may_return_null=1"
MRP_API const char *__asan_default_options(void);
MRP_API const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return RETURN_NULL;
}

const char *__tsan_default_options(void)
{
    return RETURN_NULL;
}

static void alloc__near_size_max_is_refused(void **state)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 63, SIZE_MAX - 64,
        SIZE_MAX - 4095, SIZE_MAX - 4096, SIZE_MAX / 2 + 2, SIZE_MAX / 2 + 1,
        SIZE_MAX / 2, SIZE_MAX / 2 - 4096};
    struct mrp_memory_info info;
    struct mrp_backend *backend;

    assert_accepted(mrp_backend_create(*state, "mmap", NULL, &backend));
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof sizes[0]; i++) {
        info = info_of(sizes[i / 4]);
        info.flags = (i & 1) != 0 ? MRP_MEMORY_PINNED : 0;
        info.backend = (i & 2) != 0 ? backend : NULL;
        mrp_error_clear();
        assert_null(mrp_memory_alloc(*state, &info));
        assert_true(mrp_error_last()->status == MRP_ERR_INVALID ||
            mrp_error_last()->status == MRP_ERR_MEMORY);
        assert_true(strlen(mrp_error_last()->text) > 0);
        info.alignment = GIB;
        assert_null(mrp_memory_alloc(*state, &info));
    }
    info = info_of(100); /* and the context is none the worse for it */
    assert_accepted(mrp_memory_free(*state, alloc(*state, &info)));
    assert_int_equal(stats_of(*state).n_blocks, 0);
}

/* -- attributes that are refused -- */

#define assert_no_block(context, info, status, word) \
    assert_refused(status_of(mrp_memory_alloc((context), (info))), (status), (word))

static void alloc__refuses_wrong_values(void **state)
{
    struct mrp_memory_info info = info_of(64);

    for (info.alignment = 3; info.alignment < 100; info.alignment += 4) {
        assert_no_block(*state, &info, MRP_ERR_INVALID, "power of two");
    }
    info.alignment = 2 * GIB;
    assert_no_block(*state, &info, MRP_ERR_INVALID, "at most 1 GiB");
    info.alignment = SIZE_MAX;
    assert_no_block(*state, &info, MRP_ERR_INVALID, "alignment");
    info = info_of(64);
    for (info.flags = 4; info.flags != 0; info.flags <<= 1) {
        assert_no_block(*state, &info, MRP_ERR_INVALID, "flags");
    }
    info = info_of(64);
    info.kind = (enum mrp_memory_kind)3;
    assert_no_block(*state, &info, MRP_ERR_INVALID, "kind is 3");
    info = info_of(64);
    info.device = 1;
    assert_no_block(*state, &info, MRP_ERR_INVALID, "device is 1");
    info = info_of(64);
    info.address = &info;
    assert_no_block(*state, &info, MRP_ERR_INVALID, "outputs");
    info = info_of(64);
    info.usable_size = 64;
    assert_no_block(*state, &info, MRP_ERR_INVALID, "outputs");
    info = info_of(64);
    info.page_size = 4096;
    assert_no_block(*state, &info, MRP_ERR_INVALID, "outputs");
    assert_int_equal(stats_of(*state).n_blocks, 0);
}

static void alloc__refuses_what_the_backend_cannot(void **state)
{
    struct mrp_memory_info info = info_of(64);
    struct mrp_backend *mmap_backend;

    info.node = MRP_NODE(0);
    assert_no_block(*state, &info, MRP_ERR_UNSUPPORTED, "node 0");
    info = info_of(64);
    for (int pages = MRP_PAGES_4K; pages <= MRP_PAGES_1G; pages++) {
        info.pages = (enum mrp_pages)pages;
        assert_no_block(*state, &info, MRP_ERR_UNSUPPORTED, "pages");
    }
    info = info_of(64);
    info.kind = MRP_MEMORY_CUDA;
    assert_no_block(*state, &info, MRP_ERR_UNSUPPORTED, "kind");
    info.kind = MRP_MEMORY_ROCM;
    assert_no_block(*state, &info, MRP_ERR_UNSUPPORTED, "kind");
    assert_accepted(mrp_backend_create(*state, "mmap", NULL, &mmap_backend));
    info.backend = mmap_backend;
    assert_no_block(*state, &info, MRP_ERR_UNSUPPORTED, "kind");
    info.kind = MRP_MEMORY_HOST;
    info.node = MRP_NODE(100000);
    assert_null(mrp_memory_alloc(*state, &info));
    assert_non_null(strstr(mrp_error_last()->text, "100000"));
    info.node = -5;
    assert_null(mrp_memory_alloc(*state, &info));
    info.node = 0;
    info.pages = (enum mrp_pages)77;
    assert_null(mrp_memory_alloc(*state, &info));
    assert_accepted(mrp_backend_destroy(mmap_backend));
}

static void alloc__refuses_structs_it_does_not_know(void **state)
{
    struct {
        struct mrp_memory_info info;
        unsigned char newer[8];
    } given = {MRP_MEMORY_INFO_INIT, {0}};

    given.info.struct_size = sizeof given;
    given.newer[7] = 1;
    assert_no_block(*state, &given.info, MRP_ERR_INVALID, "newer library");
    given.newer[7] = 0;
    assert_accepted(mrp_memory_free(*state, alloc(*state, &given.info)));
    given.info.struct_size = 0;
    assert_no_block(*state, &given.info, MRP_ERR_INVALID, "_INIT");
    given.info.struct_size = (size_t)0xdeadbeefdeadbeef;
    assert_no_block(*state, &given.info, MRP_ERR_INVALID, "_INIT");
}

static void alloc__refuses_backends_that_are_not_the_contexts(void **state)
{
    struct mrp_memory_info info = info_of(64);
    struct mrp_context *other;

    assert_accepted(mrp_context_create(NULL, &other));
    assert_accepted(mrp_backend_create(other, "malloc", NULL, &info.backend));
    assert_no_block(*state, &info, MRP_ERR_INVALID, "another context");
    assert_accepted(mrp_context_destroy(other));
    assert_no_block(*state, &info, MRP_ERR_STALE, "backend");
    info.backend = (struct mrp_backend *)0x1234;
    assert_no_block(*state, &info, MRP_ERR_STALE, "0x1234");
}

/* -- wrong addresses -- */

#define assert_unknown(context, wrong, status, word) \
    do { \
        struct mrp_memory_info unknown = MRP_MEMORY_INFO_INIT; \
\
        assert_refused(mrp_memory_free((context), (wrong)), (status), (word)); \
        assert_refused( \
            mrp_memory_query((context), (wrong), &unknown), (status), (word)); \
        assert_null(unknown.address); \
    } while (0)

static void free__refuses_null_and_foreign_addresses(void **state)
{
    struct mrp_memory_info info = info_of(256);
    unsigned char local[64], *foreign = malloc(64), *block = alloc(*state, &info);

    memset(local, 7, sizeof local);
    memset(foreign, 7, 64);
    assert_unknown(*state, NULL, MRP_ERR_INVALID, "address is NULL");
    assert_unknown(*state, local, MRP_ERR_STALE, "no block of context");
    assert_unknown(*state, foreign, MRP_ERR_STALE, "1 are live");
    assert_unknown(*state, (void *)1, MRP_ERR_STALE, "0x1");
    assert_unknown(*state, (void *)-1, MRP_ERR_STALE, "no block");
    assert_int_equal(local[0], 7);
    assert_int_equal(foreign[63], 7);
    free(foreign);
    assert_unknown(*state, block + 1, MRP_ERR_STALE, "lies 1 bytes inside");
    assert_unknown(*state, block + 255, MRP_ERR_STALE, "block of 256 bytes");
    assert_unknown(*state, block + 256, MRP_ERR_STALE, "no block");
    assert_unknown(*state, block - 1, MRP_ERR_STALE, "no block");
    assert_accepted(mrp_memory_free(*state, block));
    assert_unknown(*state, block, MRP_ERR_STALE, "freed already");
}

/* Told apart for the last 64; after that they are unknown, never taken for live. */
static void free__tells_a_double_free(void **state)
{
    struct mrp_memory_info info = info_of(32);
    void *blocks[65];

    for (size_t i = 0; i < 65; i++) {
        blocks[i] = alloc(*state, &info);
    }
    for (size_t i = 0; i < 65; i++) {
        assert_accepted(mrp_memory_free(*state, blocks[i]));
    }
    for (size_t i = 1; i < 65; i++) {
        assert_unknown(*state, blocks[i], MRP_ERR_STALE, "freed already");
    }
    assert_unknown(*state, blocks[0], MRP_ERR_STALE, "no block");
    assert_int_equal(stats_of(*state).n_blocks, 0);
}

static void free__another_contexts_block_is_unknown(void **state)
{
    struct mrp_memory_info info = info_of(32);
    struct mrp_context *other;
    void *block = alloc(*state, &info);

    assert_accepted(mrp_context_create(NULL, &other));
    assert_unknown(other, block, MRP_ERR_STALE, "0 are live");
    assert_accepted(mrp_context_destroy(other));
    assert_accepted(mrp_memory_free(*state, block));
    assert_refused(mrp_memory_free(other, block), MRP_ERR_STALE, "context");
}

static void query__refuses_a_missing_struct(void **state)
{
    struct mrp_memory_info info = info_of(32);
    void *block = alloc(*state, &info);

    assert_refused(mrp_memory_query(*state, block, NULL), MRP_ERR_INVALID, "NULL");
    info.struct_size = 3;
    assert_refused(mrp_memory_query(*state, block, &info), MRP_ERR_INVALID, "_INIT");
    assert_refused(mrp_memory_visit(*state, NULL, NULL), MRP_ERR_INVALID, "visit");
    assert_accepted(mrp_memory_free(*state, block));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        MEMORY_TEST(alloc__near_size_max_is_refused),
        MEMORY_TEST(alloc__refuses_wrong_values),
        MEMORY_TEST(alloc__refuses_what_the_backend_cannot),
        MEMORY_TEST(alloc__refuses_structs_it_does_not_know),
        MEMORY_TEST(alloc__refuses_backends_that_are_not_the_contexts),
        MEMORY_TEST(free__refuses_null_and_foreign_addresses),
        MEMORY_TEST(free__tells_a_double_free),
        MEMORY_TEST(free__another_contexts_block_is_unknown),
        MEMORY_TEST(query__refuses_a_missing_struct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
