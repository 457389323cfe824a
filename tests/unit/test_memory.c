/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tracked blocks: every attribute acts, and many at once.
 */
#include "memory_blocks.h"
#include "support/test_system.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_zero(const void *address, size_t size)
{
    const unsigned char *bytes = address;

    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* -- attributes that act -- */

static void query__of_defaults(void **state)
{
    struct mrp_memory_info info = info_of(12);
    void *block = alloc(*state, &info);

    info = query(*state, block);
    assert_int_equal(info.struct_size, sizeof info);
    assert_int_equal(info.size, 12);
    assert_true(info.usable_size >= 12);
    assert_int_equal(info.alignment, 64);
    assert_int_equal((uintptr_t)block % 64, 0);
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.kind, MRP_MEMORY_HOST);
    assert_int_equal(info.device, 0);
    assert_int_equal(info.node, 0);
    assert_int_equal(info.page_size, (size_t)sysconf(_SC_PAGESIZE));
    assert_non_null(info.backend);
    assert_null(info.tag);
    assert_true(is_zero(block, 12));
    assert_accepted(mrp_memory_free(*state, block));
}

static void alloc__takes_no_info_as_size_0(void **state)
{
    void *block = mrp_memory_alloc(*state, NULL);

    assert_non_null(block);
    assert_int_equal(query(*state, block).size, 0);
    assert_accepted(mrp_memory_free(*state, block));
}

static void query__of_each_alignment(void **state)
{
    struct mrp_memory_info info = info_of(100);

    for (info.alignment = 1; info.alignment <= GIB; info.alignment *= 2) {
        void *block;

        if (test_is_watched() && info.alignment > (size_t)1 << 24) {
            break; /* the tool's allocator pads by the alignment and fills it */
        }
        block = alloc(*state, &info);
        assert_int_equal((uintptr_t)block % info.alignment, 0);
        assert_int_equal((uintptr_t)block % 64, 0);
        assert_int_equal(
            query(*state, block).alignment, info.alignment < 64 ? 64 : info.alignment);
        assert_accepted(mrp_memory_free(*state, block));
    }
}

static void query__of_tag_and_flags(void **state)
{
    struct mrp_memory_info info = info_of(64);
    void *block;

    info.tag = "for this";
    info.flags = MRP_MEMORY_UNZEROED;
    block = alloc(*state, &info);
    info = query(*state, block);
    assert_string_equal(info.tag, "for this");
    assert_int_equal(info.flags, MRP_MEMORY_UNZEROED);
    assert_accepted(mrp_memory_free(*state, block));
}

static void query__of_backend_node_and_pages(void **state)
{
    struct mrp_backend_info used = MRP_BACKEND_INFO_INIT;
    struct mrp_memory_info info = info_of(5000);
    struct mrp_backend *backend;
    void *block;

    assert_accepted(mrp_backend_create(*state, "mmap", NULL, &backend));
    info.backend = backend;
    info.pages = MRP_PAGES_4K;
    info.node = MRP_NODE(0);
    block = alloc(*state, &info);
    info = query(*state, block);
    assert_ptr_equal(info.backend, backend);
    assert_int_equal(info.pages, MRP_PAGES_4K);
    assert_int_equal(info.node, MRP_NODE(0));
    assert_int_equal(info.page_size, (size_t)sysconf(_SC_PAGESIZE));
    assert_int_equal(info.size, 5000);
    assert_true(info.usable_size >= 5000);
    memset(block, 1, info.usable_size);
    assert_true(test_smaps_flag(block, "nh"));
    assert_accepted(mrp_backend_query(backend, &used));
    assert_int_equal(used.n_mappings, 1);
    assert_refused(mrp_backend_destroy(backend), MRP_ERR_BUSY, "1 pools or blocks");
    assert_accepted(mrp_memory_free(*state, block));
    assert_accepted(mrp_backend_query(backend, &used));
    assert_int_equal(used.n_mappings, 0);
    assert_int_equal(used.mapped_size, 0);
    assert_accepted(mrp_backend_destroy(backend));
}

static void query__older_struct_gets_what_it_has_room_for(void **state)
{
    struct mrp_memory_info info = info_of(12);
    void *block = alloc(*state, &info);

    memset(&info, 0x77, sizeof info);
    info.struct_size = offsetof(struct mrp_memory_info, flags);
    assert_accepted(mrp_memory_query(*state, block, &info));
    assert_int_equal(info.struct_size, offsetof(struct mrp_memory_info, flags));
    assert_int_equal(info.size, 12);
    assert_int_equal(info.flags, 0x77777777);
    assert_accepted(mrp_memory_free(*state, block));
}

/* -- zeroed or not -- */

static void alloc__zeroes_what_was_used_before(void **state)
{
    struct mrp_memory_info info = info_of(100);

    for (info.size = 1; info.size <= 64 * KIB; info.size = info.size * 3 + 1) {
        for (int round = 0; round < 8; round++) {
            void *block = alloc(*state, &info);

            assert_true(is_zero(block, info.size));
            memset(block, 0xff, info.size);
            assert_accepted(mrp_memory_free(*state, block));
        }
    }
}

/* A backend of the test: memory full of a pattern that it calls zeroed or not. */
static bool claims_zeroed;

static enum mrp_status map_pattern(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    (void)state;
    mapping->address = aligned_alloc(request->alignment,
        (request->size + request->alignment - 1) & ~(request->alignment - 1));
    mapping->size = request->size;
    mapping->page_size = 4096;
    mapping->zeroed = claims_zeroed;
    memset(mapping->address, 0x5a, request->size);
    return MRP_OK;
}

static enum mrp_status unmap_pattern(void *state, const struct mrp_mapping *mapping)
{
    (void)state;
    free(mapping->address);
    return MRP_OK;
}

static const struct mrp_backend_ops pattern_ops = {
    .struct_size = sizeof pattern_ops,
    .kind = "pattern",
    .purpose = "not zero",
    .map = map_pattern,
    .unmap = unmap_pattern,
};

static unsigned char first_byte(
    struct mrp_context *context, struct mrp_backend *backend, uint32_t flags)
{
    struct mrp_memory_info info = info_of(200);
    unsigned char *block, byte;

    info.backend = backend;
    info.flags = flags;
    block = alloc(context, &info);
    byte = block[0];
    assert_int_equal(block[199], byte);
    assert_accepted(mrp_memory_free(context, block));
    return byte;
}

static void alloc__zeroes_only_where_it_has_to(void **state)
{
    struct mrp_backend *backend;

    assert_accepted(
        mrp_backend_create_custom(*state, NULL, &pattern_ops, NULL, &backend));
    claims_zeroed = false;
    assert_int_equal(first_byte(*state, backend, 0), 0);
    assert_int_equal(first_byte(*state, backend, MRP_MEMORY_UNZEROED), 0x5a);
    claims_zeroed = true;
    assert_int_equal(first_byte(*state, backend, 0), 0x5a);
}

/* -- size -- */

static void alloc__size_0_is_unique_and_freeable(void **state)
{
    struct mrp_memory_info none = info_of(0), some = info_of(8);
    void *first = alloc(*state, &none), *second = alloc(*state, &none);
    void *third = alloc(*state, &some);

    assert_ptr_not_equal(first, second);
    assert_int_equal(query(*state, first).size, 0);
    assert_int_equal(query(*state, first).usable_size, 0);
    assert_int_equal(query(*state, third).size, 8);
    assert_true(is_zero(third, 8));
    assert_int_equal(stats_of(*state).n_blocks, 3);
    assert_int_equal(stats_of(*state).block_size, 8);
    assert_accepted(mrp_memory_free(*state, first));
    assert_accepted(mrp_memory_free(*state, third));
    assert_accepted(mrp_memory_free(*state, second));
    assert_int_equal(stats_of(*state).n_blocks, 0);
    assert_int_equal(stats_of(*state).block_size, 0);
}

/* -- many -- */

#define MANY ((size_t)64 << 10)

struct sum {
    struct mrp_context *context;
    size_t count, size;
};

static void add_and_free(const struct mrp_memory_info *info, void *user)
{
    struct sum *sum = user;

    sum->count++;
    sum->size += info->size;
    assert_int_equal(mrp_memory_free(sum->context, info->address), MRP_OK);
}

/* The visitor sees a snapshot under no lock: it may free what it is shown. */
static void visit__shows_each_of_64k_blocks_once(void **state)
{
    struct mrp_memory_info info = info_of(1);
    struct sum sum = {*state, 0, 0};
    size_t size = 0;

    for (size_t i = 0; i < MANY; i++) {
        info.size = i % 100;
        size += info.size;
        alloc(*state, &info);
    }
    assert_int_equal(stats_of(*state).n_blocks, MANY);
    assert_int_equal(stats_of(*state).block_size, size);
    assert_accepted(mrp_memory_visit(*state, add_and_free, &sum));
    assert_int_equal(sum.count, MANY);
    assert_int_equal(sum.size, size);
    assert_int_equal(stats_of(*state).n_blocks, 0);
}

#define THREADS 4

struct worker {
    struct mrp_context *context;
    atomic_bool *stop;
    size_t n_wrong;
};

static void touch(const struct mrp_memory_info *info, void *user)
{
    *(size_t *)user += info->size == 0 || info->usable_size < info->size;
}

static void use_blocks(struct worker *worker, size_t round)
{
    struct mrp_memory_info info = info_of(1 + round % 300), found = MRP_MEMORY_INFO_INIT;
    unsigned char *blocks[8];

    for (size_t i = 0; i < 8; i++) {
        blocks[i] = mrp_memory_alloc(worker->context, &info);
        worker->n_wrong += blocks[i] == NULL || !is_zero(blocks[i], info.size);
        memset(blocks[i], 0xff, info.size);
    }
    for (size_t i = 0; i < 8; i++) {
        worker->n_wrong +=
            mrp_memory_query(worker->context, blocks[i], &found) != MRP_OK ||
            found.size != info.size || found.address != blocks[i];
        worker->n_wrong += mrp_memory_free(worker->context, blocks[i]) != MRP_OK;
    }
}

static void *work(void *user)
{
    struct worker *worker = user;

    for (size_t round = 0; round < 500; round++) {
        use_blocks(worker, round);
    }
    return NULL;
}

static void *watch(void *user)
{
    struct worker *worker = user;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    while (!atomic_load(worker->stop)) {
        worker->n_wrong +=
            mrp_memory_visit(worker->context, touch, &worker->n_wrong) != MRP_OK;
        worker->n_wrong += mrp_context_stats(worker->context, &stats) != MRP_OK ||
            stats.n_blocks > THREADS * 8;
    }
    return NULL;
}

static void all__by_several_threads(void **state)
{
    struct worker workers[THREADS + 1];
    pthread_t threads[THREADS + 1];
    atomic_bool stop = false;

    for (size_t i = 0; i <= THREADS; i++) {
        workers[i] = (struct worker){*state, &stop, 0};
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < THREADS ? work : watch, &workers[i]),
            0);
    }
    for (size_t i = 0; i <= THREADS; i++) {
        atomic_store(&stop, i == THREADS);
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    assert_int_equal(stats_of(*state).n_blocks, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        MEMORY_TEST(query__of_defaults),
        MEMORY_TEST(alloc__takes_no_info_as_size_0),
        MEMORY_TEST(query__of_each_alignment),
        MEMORY_TEST(query__of_tag_and_flags),
        MEMORY_TEST(query__of_backend_node_and_pages),
        MEMORY_TEST(query__older_struct_gets_what_it_has_room_for),
        MEMORY_TEST(alloc__zeroes_what_was_used_before),
        MEMORY_TEST(alloc__zeroes_only_where_it_has_to),
        MEMORY_TEST(alloc__size_0_is_unique_and_freeable),
        MEMORY_TEST(visit__shows_each_of_64k_blocks_once),
        MEMORY_TEST(all__by_several_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
