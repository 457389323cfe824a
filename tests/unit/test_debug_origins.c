/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Origins: a leak report names who has taken a region, by the caller's tag or by the
 * backtrace, and does not name who had it before.
 */
#include "debug.h"

#include <pthread.h>

static struct {
    size_t count;
    size_t sizes[16];
    char origins[16][MRP_ORIGIN_TEXT];
} leaks;

static void keep_leak(const struct mrp_leak *leak, void *unused)
{
    (void)unused;
    if (leaks.count < N_OF(leaks.origins)) {
        leaks.sizes[leaks.count] = leak->size;
        snprintf(leaks.origins[leaks.count], MRP_ORIGIN_TEXT, "%s", leak->origin);
    }
    leaks.count++;
}

/* A context that reports leaks here, beside the fixture's. */
static struct mrp_pool *create(
    struct mrp_context **context, uint32_t debug, uint32_t checks)
{
    struct mrp_context_params watched = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    memset(&leaks, 0, sizeof leaks);
    watched.on_leak = keep_leak;
    assert_int_equal(mrp_context_create(&watched, context), MRP_OK);
    params.debug = debug;
    params.checks = checks;
    params.max_bytes = 64 * MRP_MIB;
    assert_int_equal(mrp_pool_create(*context, &params, &pool), MRP_OK);
    return pool;
}

/* The origin that the report has for the leak of this size. */
static const char *origin_of_leak(size_t size)
{
    for (size_t i = 0; i < leaks.count && i < N_OF(leaks.origins); i++) {
        if (leaks.sizes[i] == size) {
            return leaks.origins[i];
        }
    }
    fail_msg("no leak of %zu bytes was reported", size);
    return NULL;
}

static struct mrp_region *alloc_tagged(
    struct mrp_pool *pool, size_t size, const char *tag)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;

    request.tag = tag;
    region = mrp_region_alloc_with(pool, size, &request);
    assert_non_null(region);
    return region;
}

/* Exported by the program, so that they have names. */
__attribute__((noinline, visibility("default"))) struct mrp_region *take_for_requests(
    struct mrp_pool *pool, size_t size);
__attribute__((noinline, visibility("default"))) struct mrp_region *take_for_replies(
    struct mrp_pool *pool, size_t size);

struct mrp_region *take_for_requests(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *volatile region = mrp_region_alloc(pool, size); /* no tail call */

    return region;
}

struct mrp_region *take_for_replies(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *volatile region = mrp_region_alloc_inline(pool, size);

    return region;
}

/* -- tags -- */

static void origin__is_the_tag_in_every_pool(void **unused)
{
    static const uint32_t flags[] = {MRP_DEBUG_OFF, MRP_DEBUG_ORIGINS, MRP_DEBUG_POISON};
    (void)unused;

    for (size_t i = 0; i < N_OF(flags); i++) {
        struct mrp_context *context;
        struct mrp_pool *pool = create(&context, flags[i], MRP_CHECKS_STATE);
        char text[64];

        for (int round = 0; round < 3; round++) {
            assert_int_equal(mrp_region_free(alloc_tagged(pool, 300, "old")), MRP_OK);
        }
        alloc_tagged(pool, 300, "requests");
        alloc_tagged(pool, 2 * MRP_MIB, "halo");
        assert_true(mrp_region_origin(
            pool, alloc_tagged(pool, 301, "\"%s\""), text, sizeof text));
        assert_string_equal(text, "\"%s\"");
        mrp_error_clear();
        assert_int_equal(mrp_pool_destroy(pool), MRP_ERR_LEAKED);
        assert_non_null(strstr(mrp_error_last()->text, "from "));
        assert_int_equal(leaks.count, 3);
        assert_string_equal(origin_of_leak(300), "requests");
        assert_string_equal(origin_of_leak(301), "\"%s\"");
        assert_string_equal(origin_of_leak(2 * MRP_MIB), "halo");
        assert_int_equal(mrp_context_destroy(context), MRP_OK);
    }
}

/* The region is taken again without a word: by the fast path, which writes no origin. */
static void origin__of_an_earlier_owner_is_not_believed(void **unused)
{
    static const uint32_t flags[] = {MRP_DEBUG_OFF, MRP_DEBUG_POISON};
    (void)unused;

    for (size_t i = 0; i < N_OF(flags); i++) {
        struct mrp_context *context;
        struct mrp_pool *pool = create(&context, flags[i], MRP_CHECKS_STATE);
        struct mrp_region *region = alloc_tagged(pool, 300, "old"), *again;
        char text[64];

        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_true(mrp_region_origin(pool, region, text, sizeof text)); /* its last */
        again = mrp_region_alloc_inline(pool, 300);
        assert_ptr_equal(again, region);
        assert_false(mrp_region_origin(pool, region, text, sizeof text));
        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_ptr_equal(mrp_region_alloc_inline(pool, 300), region);
        assert_int_equal(mrp_pool_destroy(pool), MRP_ERR_LEAKED);
        assert_string_equal(origin_of_leak(300), "mrp_region_alloc");
        assert_int_equal(mrp_context_destroy(context), MRP_OK);
    }
}

/* Nothing would tell such a tag from an earlier owner's. */
static void origin__without_checks_is_of_large_ones_only(void **unused)
{
    struct mrp_context *context;
    struct mrp_pool *pool = create(&context, MRP_DEBUG_OFF, MRP_CHECKS_NONE);
    (void)unused;

    assert_int_equal(alloc_tagged(pool, 300, "pooled")->cookie, 0);
    alloc_tagged(pool, 2 * MRP_MIB, "large");
    assert_int_equal(mrp_pool_destroy(pool), MRP_ERR_LEAKED);
    assert_string_equal(origin_of_leak(320), "mrp_region_alloc");
    assert_string_equal(origin_of_leak(2 * MRP_MIB), "large");
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* Moved or not, it is still the same owner's. */
static void origin__stays_through_realloc(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    char text[64];

    for (uint32_t flag = MRP_DEBUG_OFF; flag <= MRP_DEBUG_ORIGINS; flag <<= 1) {
        debug_create(f, flag);
        region = alloc_tagged(f->pool, 100, "grows");
        for (size_t size = 101; size < 3 * MRP_MIB; size = size * 3 + 1) {
            assert_int_equal(mrp_region_realloc(region, size, &region), MRP_OK);
            assert_true(mrp_region_origin(f->pool, region, text, sizeof text));
            assert_string_equal(text, "grows");
        }
        pool_fixture_free(region);
        debug_destroy(f);
    }
}

/* -- backtraces -- */

/* The innermost frame is ours, not one of the library's; the frames are in order. */
static void check_backtrace(const char *origin, const char *function)
{
    char wanted[64];

    snprintf(wanted, sizeof wanted, "%s+0x", function);
    assert_ptr_equal(strstr(origin, wanted), origin);
    assert_non_null(strstr(origin, "(test_debug_origins) < "));
    assert_null(strstr(origin, "mrp_"));
}

static void origin__is_the_backtrace_of_each_way_in(void **unused)
{
    static char memory[4096];
    struct mrp_context *context;
    struct mrp_pool *pool = create(&context, MRP_DEBUG_ORIGINS, MRP_CHECKS_STATE);
    struct mrp_region *region, *many[3];
    (void)unused;

    take_for_requests(pool, 300);
    take_for_replies(pool, 301);
    take_for_requests(pool, 2 * MRP_MIB);
    alloc_tagged(pool, 302, NULL);
    alloc_tagged(pool, 303, "tagged");
    assert_non_null(mrp_ptr_alloc(pool, 304));
    assert_int_equal(mrp_region_alloc_many(pool, 305, 3, many), 3);
    assert_int_equal(mrp_region_register(pool, memory, 306, NULL, &region), MRP_OK);
    assert_int_equal(mrp_region_slice(region, 0, 30, &region), MRP_OK);
    mrp_error_clear();
    assert_int_equal(mrp_pool_destroy(pool), MRP_ERR_LEAKED);
    assert_non_null(strstr(mrp_error_last()->text, "(test_debug_origins)"));
    assert_int_equal(leaks.count, 11);
    check_backtrace(origin_of_leak(300), "take_for_requests");
    check_backtrace(origin_of_leak(301), "take_for_replies");
    check_backtrace(origin_of_leak(2 * MRP_MIB), "take_for_requests");
    assert_string_equal(origin_of_leak(303), "tagged");
    for (size_t i = 0; i < 5; i++) { /* of functions without a name: static ones */
        static const size_t sizes[] = {302, 304, 305, 306, 30};

        check_backtrace(origin_of_leak(sizes[i]), "");
    }
    assert_string_not_equal(origin_of_leak(304), origin_of_leak(305));
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* Each is kept once, whoever brings it first. */
static pthread_barrier_t all_ready;

static void *capture_many(void *sum)
{
    pthread_barrier_wait(&all_ready);
    for (uintptr_t caller = 1; caller <= 4000; caller++) { /* in no backtrace: alone */
        const struct mrp_origin *origin =
            mrp_origin_capture((const void *)caller); /* NOLINT */

        EXPECT(origin != NULL);
        *(uintptr_t *)sum += (uintptr_t)origin * caller;
    }
    return NULL;
}

static void origin__is_interned_by_all_threads(void **unused)
{
    pthread_t threads[4];
    uintptr_t sums[4] = {0};
    char text[200];
    (void)unused;

    pthread_barrier_init(&all_ready, NULL, N_OF(threads));
    for (size_t i = 0; i < N_OF(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, capture_many, &sums[i]), 0);
    }
    for (size_t i = 0; i < N_OF(threads); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(sums[i], sums[0]);
    }
    pthread_barrier_destroy(&all_ready);
    mrp_origin_describe(mrp_origin_capture((const void *)16), text, sizeof text);
    assert_string_equal(text, "0x10"); /* in no file */
}

static void origin__text_is_cut_where_it_ends(void **unused)
{
    char text[MRP_ORIGIN_TEXT], cut[MRP_ORIGIN_TEXT];
    const struct mrp_origin *origin = mrp_origin_capture(__builtin_return_address(0));
    (void)unused;

    mrp_origin_describe(origin, text, sizeof text);
    for (size_t size = 1; size <= strlen(text) + 1; size++) {
        memset(cut, 'x', sizeof cut);
        mrp_origin_describe(origin, cut, size);
        assert_int_equal(strlen(cut), size - 1);
        assert_int_equal(strncmp(cut, text, size - 1), 0);
    }
}

/* -- totals -- */

static void totals__are_per_origin_largest_first(void **state)
{
    struct pool_fixture *f = *state;
    static struct mrp_origin_total totals[8];
    char tag[] = "requests", other[] = "requests"; /* two copies of one text */
    struct mrp_region *regions[300];
    size_t volatile sizes[100]; /* so that no round of the loop is taken out of it */
    struct mrp_region *slice;

    debug_create(f, MRP_DEBUG_ORIGINS);
    for (size_t i = 0; i < 100; i++) {
        sizes[i] = i == 0 ? 3 * MRP_MIB : 8;
    }
    assert_int_equal(mrp_pool_origins(f->pool, totals, 8), 0);
    for (size_t i = 0; i < 100; i++) {
        regions[i] = alloc_tagged(f->pool, 1000, i % 2 == 0 ? tag : other);
        regions[100 + i] = take_for_replies(f->pool, 500);
        regions[200 + i] = take_for_requests(f->pool, sizes[i]);
    }
    assert_int_equal(mrp_region_slice(regions[0], 0, 900, &slice), MRP_OK);
    assert_int_equal(mrp_pool_origins(f->pool, totals, 8), 4);
    assert_int_equal(totals[0].n_regions, 100);
    assert_int_equal(totals[0].size, 3 * MRP_MIB + 99 * 8);
    check_backtrace(totals[0].text, "take_for_requests");
    assert_string_equal(totals[1].text, "requests");
    assert_int_equal(totals[1].n_regions, 100);
    assert_int_equal(totals[1].size, 100000);
    check_backtrace(totals[2].text, "take_for_replies");
    assert_int_equal(totals[2].size, 50000);
    assert_int_equal(totals[3].n_regions, 1); /* the slice */
    assert_int_equal(totals[3].size, 0);
    memset(totals, 0, sizeof totals);
    assert_int_equal(mrp_pool_origins(f->pool, totals, 2), 4);
    assert_int_equal(totals[1].n_regions, 100);
    assert_int_equal(totals[2].n_regions, 0); /* not asked for */
    pool_fixture_free(slice);
    assert_int_equal(mrp_region_free_many(regions, 300, NULL), MRP_OK);
    assert_int_equal(mrp_pool_origins(f->pool, totals, 8), 0);
}

static void totals__of_many_origins(void **state)
{
    struct pool_fixture *f = *state;
    static char tags[1000][16];
    static struct mrp_origin_total totals[1001];
    struct mrp_region *regions[1003];

    debug_create(f, MRP_DEBUG_OFF);
    for (size_t i = 0; i < 1000; i++) {
        snprintf(tags[i], sizeof tags[i], "tag %zu", i);
        regions[i] = alloc_tagged(f->pool, i + 20, tags[i]);
    }
    for (size_t i = 1000; i < 1003; i++) {
        regions[i] = pool_fixture_alloc(f, 5);
    }
    assert_int_equal(mrp_pool_origins(f->pool, totals, 1001), 1001);
    for (size_t i = 0; i < 1001; i++) { /* the three of nobody have fewest bytes */
        char wanted[16];

        snprintf(wanted, sizeof wanted, "tag %zu", 999 - i);
        assert_int_equal(totals[i].is_known, i < 1000);
        assert_string_equal(totals[i].text, i < 1000 ? wanted : "");
        assert_int_equal(totals[i].n_regions, i < 1000 ? 1 : 3);
        assert_int_equal(totals[i].size, i < 1000 ? 1019 - i : 15);
    }
    assert_int_equal(mrp_region_free_many(regions, 1003, NULL), MRP_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(origin__is_the_tag_in_every_pool),
        cmocka_unit_test(origin__of_an_earlier_owner_is_not_believed),
        cmocka_unit_test(origin__without_checks_is_of_large_ones_only),
        POOL_TEST(origin__stays_through_realloc),
        cmocka_unit_test(origin__is_the_backtrace_of_each_way_in),
        cmocka_unit_test(origin__is_interned_by_all_threads),
        cmocka_unit_test(origin__text_is_cut_where_it_ends),
        POOL_TEST(totals__are_per_origin_largest_first),
        POOL_TEST(totals__of_many_origins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
