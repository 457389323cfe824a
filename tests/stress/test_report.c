/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reports while everything they speak of comes and goes.
 *
 * thread model: counting
 */
#include "stress.h"

#include "pool/pool.h"

#define WORKERS 4

struct load {
    struct stress_world world;
    size_t rounds;
    atomic_size_t n_over, n_reports;
};

/* Some are abandoned, and drained later. */
static bool end_region(struct stress_thread *thread, size_t i, struct mrp_region *region)
{
    return (i % 10 == 0 ? mrp_region_abandon(region, thread->number)
                        : mrp_region_free(region)) == MRP_OK;
}

/* A pool of one's own, used and destroyed; regions of the pool that stays. */
static void work(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static const char *const tags[] = {"halo", "control", "gather", "eager"};
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *kept[16] = {NULL}, *own[8];

    request.tag = tags[thread->number % 4];
    params.max_bytes = 32 * MRP_MIB;
    params.checks = thread->number % 2 == 0 ? MRP_CHECKS_NONE : MRP_CHECKS_STATE;
    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        struct mrp_pool *pool = stress_add_pool(&load->world, &params);

        for (size_t i = 0; pool != NULL && i < 8; i++) {
            own[i] = mrp_region_alloc(
                pool, i == 0 ? 2 * MRP_MIB : 1 + stress_random(thread) % 20000);
            STRESS_CHECK(own[i] != NULL);
        }
        for (size_t i = 0; i < 200; i++) {
            struct mrp_region **slot = &kept[stress_random(thread) % 16];

            STRESS_CHECK(*slot == NULL || end_region(thread, i, *slot));
            *slot = mrp_region_alloc_with(load->world.pool,
                1 + stress_random(thread) % (i == 0 ? 3000000 : 9000), &request);
            STRESS_CHECK(*slot != NULL);
        }
        mrp_pool_drained(load->world.pool, thread->number, NULL);
        for (size_t i = 0; pool != NULL && i < 8; i++) {
            STRESS_CHECK(own[i] == NULL || mrp_region_free(own[i]) == MRP_OK);
        }
        STRESS_CHECK(pool == NULL || mrp_pool_destroy(pool) == MRP_OK);
    }
    for (size_t i = 0; i < 16; i++) {
        STRESS_CHECK(kept[i] == NULL || mrp_region_free(kept[i]) == MRP_OK);
    }
    atomic_fetch_add(&load->n_over, 1);
}

/* What is free in the pool that stays, too; backends and providers come and go. */
static void come_and_go(struct load *load)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider *provider;
    struct mrp_backend *backend;

    STRESS_CHECK(
        mrp_backend_create(load->world.context, "malloc", NULL, &backend) == MRP_OK);
    STRESS_CHECK(
        mrp_provider_open(load->world.context, "host", &params, &provider) == MRP_OK);
    STRESS_CHECK(mrp_provider_close(provider) == MRP_OK);
    STRESS_CHECK(mrp_backend_destroy(backend) == MRP_OK);
    STRESS_CHECK(mrp_pool_trim(load->world.pool, 0, NULL) == MRP_OK);
}

static void report(struct load *load, enum mrp_report_format format)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    STRESS_CHECK(mrp_context_report(load->world.context, format, file) == MRP_OK);
    fclose(file);
    STRESS_CHECK(size > 100 && text[size - 1] == '\n');
    STRESS_CHECK(format == MRP_REPORT_TEXT || text[size - 2] == '}');
    free(text);
    atomic_fetch_add(&load->n_reports, 1);
}

static void work_or_report(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number < WORKERS) {
        work(thread);
        return;
    }
    while (atomic_load(&load->n_over) < WORKERS && stress_goes_on()) {
        report(load, thread->number % 2 == 0 ? MRP_REPORT_TEXT : MRP_REPORT_JSON);
        if (thread->number == WORKERS) {
            come_and_go(load);
        }
    }
}

static void report__beside_everything(void **state)
{
    struct load load = {.rounds = stress_rounds(150)};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    (void)state;
    stress_create(&load.world, &params);
    stress_run(WORKERS + 2, work_or_report, &load);
    assert_true(atomic_load(&load.n_reports) > 0);
    stress_check_rest(load.world.pool);
    for (size_t i = 0; i <= MRP_CLASSES_MAX; i++) {
        assert_int_equal(load.world.pool->depots[i].sift.n_regions, 0);
    }
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(report__beside_everything),
    };

    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
