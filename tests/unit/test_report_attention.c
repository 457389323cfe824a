/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What needs attention is marked in a report, as text and as JSON, with what to do; the
 * rest is not.
 */
#include "report_reader.h"

#include "pool/depot.h"
#include "pool/report.h"

#include <jansson.h>

static void budget__nearly_used_up_is_marked(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;
    char *text;
    json_t *root;

    params.max_bytes = 16 * MRP_MIB;
    params.max_registrations = 1;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 14 * MRP_MIB);
    root = report_json(f->context);
    assert_int_equal(report_number(root, "pools.0.budgets.mapped.used_percent"), 87);
    assert_null(json_object_get(report_at(root, "pools.0.budgets.mapped"), "attention"));
    assert_non_null(
        strstr(report_text(root, "pools.0.budgets.registrations_per_rail.attention"),
            "raise max_registrations"));
    json_decref(root);
    pool_fixture_free(region);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    region = pool_fixture_alloc(f, 15 * MRP_MIB);
    root = report_json(f->context);
    assert_non_null(strstr(report_text(root, "pools.0.budgets.mapped.attention"),
        "raise max_bytes (MRPOOL_MAX_BYTES)"));
    json_decref(root);
    text = report_read(f->context, MRP_REPORT_TEXT);
    assert_non_null(strstr(text, "\n! mapped"));
    assert_non_null(strstr(text, "\n    -> the next growth may be refused: raise max_"));
    free(text);
    pool_fixture_free(region);
}

static void budget__of_a_whole_array_is_not_marked(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_backend_params backend = MRP_BACKEND_PARAMS_INIT;
    static _Alignas(4096) char memory[MRP_MIB];
    json_t *root;

    backend.address = memory;
    backend.size = sizeof memory;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &backend, &params.backend), MRP_OK);
    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 100));
    root = report_json(f->context);
    assert_int_equal(report_number(root, "pools.0.budgets.mapped.used_percent"), 100);
    assert_string_equal(
        report_text(root, "pools.0.budgets.mapped.source"), "its backend");
    assert_null(json_object_get(report_at(root, "pools.0.budgets.mapped"), "attention"));
    json_decref(root);
}

static void budget__of_the_context_is_marked(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_pool *pool;
    struct mrp_region *region;
    char *text;
    json_t *root;

    (void)state;
    params.max_bytes = 16 * MRP_MIB;
    assert_int_equal(mrp_context_create(&params, &context), MRP_OK);
    pool_params.max_bytes = 64 * MRP_MIB;
    assert_int_equal(mrp_pool_create(context, &pool_params, &pool), MRP_OK);
    region = mrp_region_alloc(pool, 14 * MRP_MIB);
    assert_non_null(region);
    root = report_json(context);
    assert_int_equal(report_number(root, "budgets.mapped.used"), 14 * MRP_MIB);
    assert_null(json_object_get(report_at(root, "budgets.mapped"), "attention"));
    json_decref(root);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    region = mrp_region_alloc(pool, 15 * MRP_MIB);
    assert_non_null(region);
    root = report_json(context);
    assert_non_null(strstr(report_text(root, "budgets.mapped.attention"),
        "raise the context's max_bytes (MRPOOL_CONTEXT_MAX_BYTES)"));
    json_decref(root);
    text = report_read(context, MRP_REPORT_TEXT);
    assert_string_equal(
        report_line(text, "mapped"), "mapped 16 MiB 16 MiB 100 % max_bytes");
    free(text);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* Free regions that a trim sorts at this moment, by the count it keeps of them. */
static void trim__has_what_it_holds(void **state)
{
    static const enum mrp_checks checks[] = {MRP_CHECKS_NONE, MRP_CHECKS_STATE};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        struct mrp_region *region, *held[4];
        size_t n_free, n = 0, *n_held;
        unsigned class;
        json_t *root;

        params.checks = checks[i];
        params.thread_cache_size = 1;
        assert_int_equal(mrp_pool_create(f->context, &params, &f->pool), MRP_OK);
        region = mrp_region_alloc(f->pool, 1000);
        n_free = pool_fixture_stats(f->pool).tiers[0].n_free;
        class = mrp_class_of(&f->pool->classes, 1000);
        n_held = &f->pool->depots[class].sift.n_regions;
        assert_int_equal(*n_held, 0);
        while (n < 4 && (held[n] = mrp_depot_take(f->pool, class)) != NULL) {
            n++;
        }
        assert_true(n > 0);
        *n_held = n;
        root = report_json(f->context);
        assert_int_equal(report_number(root, "pools.0.tiers.0.live"), 1);
        assert_int_equal(report_number(root, "pools.0.tiers.0.in_trim.count"), n);
        assert_int_equal(report_number(root, "pools.0.tiers.0.in_trim.size"), n * 1024);
        assert_int_equal(report_number(root, "pools.0.tiers.0.depot.count"), n_free - n);
        json_decref(root);
        *n_held = 0;
        mrp_depot_put_many(f->pool, class, held, n);
        pool_fixture_free(region);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void parked__memory_is_marked(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    char *text;
    json_t *root;

    params.n_rails = 2;
    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 3 * MRP_MIB));
    atomic_store(&f->networks[1].deregister_fail_at, 1);
    atomic_store(&f->networks[1].deregister_fail_count, 1);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    root = report_json(f->context);
    assert_int_equal(report_number(root, "parked.count"), 1);
    assert_int_equal(report_number(root, "parked.size"), 3 * MRP_MIB);
    assert_int_equal(report_number(root, "providers.0.parked"), 0);
    assert_int_equal(report_number(root, "providers.1.parked"), 1);
    assert_int_equal(report_number(root, "providers.1.parked_size"), 3 * MRP_MIB);
    assert_non_null(strstr(report_text(root, "parked.attention"), "close that provider"));
    json_decref(root);
    text = report_read(f->context, MRP_REPORT_TEXT);
    assert_non_null(strstr(text, "\n! 1 parked mapping: 3 MiB\n    -> "));
    free(text);
    atomic_store(&f->networks[1].n_live, 0); /* the network's own loss */
}

/* What the rest of the library only fills under load, from numbers. */
static void pool__in_trouble_says_what_to_do(void **state)
{
    struct mrp_pool_report *report = calloc(1, sizeof *report);
    char remedy[MRP_REMEDY_SIZE], *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);

    (void)state;
    snprintf(report->name, sizeof report->name, "tight");
    report->stats.n_waiting = 3;
    report->stats.cached_size = 7 * MRP_KIB;
    report->stats.n_temporary = 1;
    report->stats.temporary_size = MRP_MIB;
    report->stats.n_quarantined = 2;
    report->stats.quarantined_size = 8192;
    report->quarantine_age = UINT64_C(10000000000);
    assert_string_equal(mrp_pool_quarantine_remedy(report, remedy), "");
    report->quarantine_age = UINT64_C(75000000000);
    assert_true(mrp_pool_report_text(report, file));
    fclose(file);
    assert_string_equal(report_line(text, "waiting"), "waiting 3 requests in line");
    assert_non_null(strstr(text, "\n! temporary "));
    assert_non_null(strstr(text, "\n! quarantine "));
    assert_non_null(strstr(text, "abandoned 1 min ago"));
    assert_non_null(strstr(text, "mrp_pool_drained"));
    assert_non_null(strstr(text, "\n! waiting "));
    assert_non_null(strstr(text, "mrp_thread_flush first: caches hold 7 KiB"));
    free(text);
    free(report);
}

static void quarantine__by_tier(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *small[3], *large;
    struct mrp_pool_stats stats;
    char *text;
    json_t *root;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 3; i++) {
        small[i] = pool_fixture_alloc(f, 1000);
    }
    large = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(mrp_region_abandon(small[0], 7), MRP_OK);
    assert_int_equal(mrp_region_abandon(small[1], 7), MRP_OK);
    assert_int_equal(mrp_region_abandon(large, 7), MRP_OK);
    root = report_json(f->context);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(report_number(root, "pools.0.tiers.0.live"), 1);
    assert_int_equal(report_number(root, "pools.0.tiers.0.quarantined.count"), 2);
    assert_int_equal(report_number(root, "pools.0.tiers.0.quarantined.size"), 2048);
    assert_int_equal(report_number(root, "pools.0.quarantined.count"), 3);
    assert_int_equal(
        report_number(root, "pools.0.quarantined.size"), stats.quarantined_size);
    assert_in_range(report_number(root, "pools.0.quarantined.age_max"), 0, 9);
    assert_null(
        json_object_get(report_at(root, "pools.0.quarantined"), "attention")); /* yet */
    json_decref(root);
    text = report_read(f->context, MRP_REPORT_TEXT);
    assert_non_null(strstr(report_line(text, "tier"), "quarantine slabs"));
    free(text);
    assert_int_equal(mrp_pool_drained(f->pool, 7, NULL), MRP_OK);
    pool_fixture_free(small[2]);
}

static void origins__that_hold_most_come_first(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *regions[12];
    char tags[12][16], *text;
    json_t *root;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 12; i++) {
        snprintf(tags[i], sizeof tags[i], "tag \"%zu\"", i);
        request.tag = tags[i];
        regions[i] = mrp_region_alloc_with(f->pool, 1000 * (i + 1), &request);
        assert_non_null(regions[i]);
    }
    root = report_json(f->context);
    assert_int_equal(report_number(root, "pools.0.n_origins"), 12);
    assert_int_equal(json_array_size(report_at(root, "pools.0.origins")), 8);
    assert_string_equal(report_text(root, "pools.0.origins.0.origin"), "tag \"11\"");
    assert_int_equal(report_number(root, "pools.0.origins.0.size"), 12000);
    assert_int_equal(report_number(root, "pools.0.origins.0.count"), 1);
    json_decref(root);
    text = report_read(f->context, MRP_REPORT_TEXT);
    assert_non_null(strstr(text, "by who took them: the first 8 of 12\n"));
    assert_string_equal(report_line(text, "11.7 KiB"), "11.7 KiB 1 tag \"11\"");
    free(text);
    for (size_t i = 0; i < 12; i++) {
        pool_fixture_free(regions[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(budget__nearly_used_up_is_marked),
        POOL_TEST(budget__of_the_context_is_marked),
        POOL_TEST(trim__has_what_it_holds),
        POOL_TEST(budget__of_a_whole_array_is_not_marked),
        POOL_TEST(parked__memory_is_marked),
        POOL_TEST(pool__in_trouble_says_what_to_do),
        POOL_TEST(quarantine__by_tier),
        POOL_TEST(origins__that_hold_most_come_first),
    };

    return cmocka_run_group_tests_name("report_attention", tests, NULL, NULL);
}
