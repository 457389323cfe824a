/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool_fixture.h"

int pool_fixture_setup(void **state)
{
    static const char *const names[POOL_FIXTURE_RAILS] = {"first", "second", "third"};
    static struct pool_fixture fixture;
    struct mrp_backend_params backend = MRP_BACKEND_PARAMS_INIT;

    memset(&fixture, 0, sizeof fixture);
    backend.pages = MRP_PAGES_4K;
    backend.prefault = -1;
    assert_int_equal(mrp_context_create(NULL, &fixture.context), MRP_OK);
    assert_int_equal(
        mrp_backend_create(fixture.context, "mmap", &backend, &fixture.backend), MRP_OK);
    for (size_t i = 0; i < POOL_FIXTURE_RAILS; i++) {
        test_provider_init(&fixture.networks[i]);
        assert_int_equal(
            mrp_provider_create(fixture.context, names[i], test_provider_ops(),
                &fixture.networks[i], &fixture.rails[i]),
            MRP_OK);
    }
    mrp_error_clear();
    *state = &fixture;
    return 0;
}

static void check(enum mrp_status status, const char *what)
{
    if (status != MRP_OK) {
        fail_msg("%s: %s: %s", what, mrp_status_name(status), mrp_error_last()->text);
    }
}

int pool_fixture_teardown(void **state)
{
    struct pool_fixture *f = *state;

    if (f->pool != NULL) {
        check(mrp_pool_check(f->pool), "mrp_pool_check");
        check(mrp_pool_destroy(f->pool), "mrp_pool_destroy");
    }
    for (size_t i = 0; i < POOL_FIXTURE_RAILS; i++) {
        assert_int_equal(f->networks[i].n_live, 0);
    }
    check(mrp_context_destroy(f->context), "mrp_context_destroy");
    for (size_t i = 0; i < POOL_FIXTURE_RAILS; i++) {
        assert_string_equal(f->networks[i].first_error, "");
        assert_int_equal(f->networks[i].n_closed, 1);
        test_provider_fini(&f->networks[i]);
    }
    return 0;
}

struct mrp_pool_params pool_fixture_params(struct pool_fixture *f)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.backend = f->backend;
    params.rails = f->rails;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    return params;
}

void pool_fixture_create(struct pool_fixture *f, const struct mrp_pool_params *params)
{
    struct mrp_pool_params defaults = pool_fixture_params(f);

    check(mrp_pool_create(f->context, params != NULL ? params : &defaults, &f->pool),
        "mrp_pool_create");
}

struct mrp_pool_stats pool_fixture_stats(struct mrp_pool *pool)
{
    struct mrp_pool_stats stats = {.struct_size = sizeof stats};

    check(mrp_pool_stats(pool, &stats), "mrp_pool_stats");
    return stats;
}

struct mrp_region_info pool_fixture_query(const struct mrp_region *region)
{
    struct mrp_region_info info = MRP_REGION_INFO_INIT;

    check(mrp_region_query(region, &info), "mrp_region_query");
    return info;
}

struct mrp_region *pool_fixture_alloc(struct pool_fixture *f, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(f->pool, size);

    if (region == NULL) {
        fail_msg("mrp_region_alloc of %zu bytes: %s", size, mrp_error_last()->text);
    }
    assert_true(mrp_region_capacity(region) >= size);
    assert_int_equal(mrp_region_size(region), size);
    return region;
}

void pool_fixture_free(struct mrp_region *region)
{
    check(mrp_region_free(region), "mrp_region_free");
}

void pool_fixture_check_registrations(struct pool_fixture *f, size_t n_rails)
{
    struct mrp_pool_stats stats = pool_fixture_stats(f->pool);
    struct mrp_context_stats context = MRP_CONTEXT_STATS_INIT;

    check(mrp_pool_check(f->pool), "mrp_pool_check");
    check(mrp_context_stats(f->context, &context), "mrp_context_stats");
    assert_int_equal(stats.n_registrations, n_rails > 0 ? context.n_chunks : 0);
    assert_int_equal(context.n_registrations, context.n_chunks * n_rails);
    for (size_t i = 0; i < POOL_FIXTURE_RAILS; i++) {
        assert_int_equal(f->networks[i].n_live, i < n_rails ? context.n_chunks : 0);
    }
    assert_int_equal(
        stats.n_chunks + stats.n_large + stats.n_idle + stats.n_user, context.n_chunks);
}

void pool_fixture_check_error(
    enum mrp_status wanted, const char *words, const char *file, int line)
{
    const struct mrp_error *error = mrp_error_last();

    if (error->status != wanted || strstr(error->text, words) == NULL) {
        print_error("%s with the words \"%s\" wanted, the record is %s: %s\n",
            mrp_status_name(wanted), words, mrp_status_name(error->status), error->text);
        _fail(file, line);
    }
}
