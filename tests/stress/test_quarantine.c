/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Regions abandoned, drained and revoked by several threads: none is given out before its
 * fence has drained, none is lost, and of two that give one up or back one wins.
 */
#include "pool/pool.h"
#include "stress.h"

#include <sched.h>

#define FENCES 16
#define HELD 32
#define CONTENDED 2048

struct load {
    struct stress_world world;
    size_t rounds, size;
    struct mrp_region *shared[CONTENDED];
    atomic_int n_met[CONTENDED];
    atomic_size_t n_abandoned, n_drained, n_won, n_revoked;
};

static void drain(struct load *load, uint64_t fence)
{
    size_t n_regions = 0;

    STRESS_CHECK(mrp_pool_drained(load->world.pool, fence, &n_regions) == MRP_OK);
    atomic_fetch_add(&load->n_drained, n_regions);
}

/* Each thread has fences of its own, and writes late into what it abandoned: nobody else
 * may have that until the thread says so. */
static void write_late(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *held[HELD];
    char *late[HELD];

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        uint64_t fence = thread->number << 32 | round % FENCES;
        size_t n = 1 + stress_random(thread) % HELD;

        for (size_t i = 0; i < n; i++) {
            held[i] = mrp_region_alloc(load->world.pool, load->size);
            if (!STRESS_CHECK(held[i] != NULL)) {
                return;
            }
            stress_fill(held[i], thread->number);
        }
        for (size_t i = 0; i < n; i++) {
            STRESS_CHECK(stress_is_intact(held[i], thread->number));
            late[i] = mrp_region_address(held[i]);
            STRESS_CHECK(i % 2 == 0 ? mrp_region_abandon(held[i], fence) == MRP_OK
                                    : mrp_region_free(held[i]) == MRP_OK);
        }
        atomic_fetch_add(&load->n_abandoned, (n + 1) / 2);
        for (size_t i = 0; i < n; i += 2) {
            memset(late[i], 0xbd, load->size); /* a race, were it anybody's */
            /* where nothing is checked a free is believed */
            STRESS_CHECK(load->world.pool->checks == MRP_CHECKS_NONE ||
                mrp_region_free(held[i]) == MRP_ERR_STALE);
        }
        drain(load, fence);
    }
}

static void abandon__keeps_from_others_what_is_written_late(void **state)
{
    static const enum mrp_checks checks[] = {
        MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};
    static struct load load;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

        params.checks = i < 3 ? checks[i] : MRP_CHECKS_STATE;
        params.isolate = i == 3;
        params.max_registrations = 100000;
        load.size = 1000;
        load.rounds = stress_rounds(i == 3 ? 400 : 4000);
        load.n_abandoned = load.n_drained = 0;
        stress_create(&load.world, &params);
        stress_run(STRESS_THREADS, write_late, &load);
        assert_int_equal(load.n_drained, load.n_abandoned);
        assert_int_equal(stress_stats(load.world.pool).n_quarantined, 0);
        stress_destroy(&load.world);
    }
}

/* All abandon under the same few fences while all drain them. */
static void share_fences(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        struct mrp_region *region = mrp_region_alloc(load->world.pool, load->size);

        if (!STRESS_CHECK(region != NULL)) {
            return;
        }
        STRESS_CHECK(
            mrp_region_abandon(region, stress_random(thread) % FENCES) == MRP_OK);
        atomic_fetch_add(&load->n_abandoned, 1);
        if (round % 8 == 0) {
            drain(load, stress_random(thread) % FENCES);
        }
    }
}

static void drained__each_region_once(void **state)
{
    static struct load load;
    static const enum mrp_checks checks[] = {
        MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

        params.checks = checks[i];
        load.size = 1000;
        load.rounds = stress_rounds(20000);
        load.n_abandoned = load.n_drained = 0;
        stress_create(&load.world, &params);
        stress_run(STRESS_THREADS, share_fences, &load);
        for (uint64_t fence = 0; fence < FENCES; fence++) {
            drain(&load, fence);
        }
        assert_int_equal(load.n_drained, load.n_abandoned);
        assert_int_equal(load.n_drained, STRESS_THREADS * load.rounds);
        assert_int_equal(stress_stats(load.world.pool).n_quarantined, 0);
        stress_destroy(&load.world);
    }
}

/* Some revoke what others abandon and drain. */
static void revoke_or_drain(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number > 1) {
        share_fences(thread);
        return;
    }
    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        struct mrp_pool_stats stats = {.struct_size = sizeof stats};

        atomic_fetch_add(&load->n_revoked, mrp_quarantine_revoke(load->world.pool, 0));
        STRESS_CHECK(mrp_pool_stats(load->world.pool, &stats) == MRP_OK);
    }
}

static void revoke__beside_drains(void **state)
{
    static struct load load;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct test_provider *network = &load.world.network;

    (void)state;
    stress_create_context(&load.world, NULL);
    assert_int_equal(mrp_provider_close(load.world.rail), MRP_OK);
    network->n_closed = 0;
    network->traits |= MRP_PROVIDER_REVOKES;
    assert_int_equal(mrp_provider_create(load.world.context, "revokes",
                         test_provider_ops(), network, &load.world.rail),
        MRP_OK);
    params.isolate = true;
    params.access = MRP_ACCESS_REMOTE;
    params.max_registrations = 100000;
    params.backend = load.world.backend;
    params.rails = &load.world.rail;
    params.n_rails = 1;
    assert_int_equal(
        mrp_pool_create(load.world.context, &params, &load.world.pool), MRP_OK);
    load.size = 1000;
    load.rounds = stress_rounds(2000);
    stress_run(STRESS_THREADS, revoke_or_drain, &load);
    for (uint64_t fence = 0; fence < FENCES; fence++) {
        drain(&load, fence);
    }
    assert_int_equal(load.n_drained + load.n_revoked, load.n_abandoned);
    assert_int_equal(stress_stats(load.world.pool).n_revoked, load.n_revoked);
    stress_destroy(&load.world);
}

/* Two threads give up, or back, the same region at the same moment: where checks are full
 * one of them wins. */
static void contend(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t i = 0; i < CONTENDED; i++) {
        bool abandons = i % 2 == 0 || thread->number == 0;
        enum mrp_status status;

        atomic_fetch_add(&load->n_met[i], 1);
        for (size_t spins = 0; atomic_load(&load->n_met[i]) < 2; spins++) {
            if (spins > 1000) {
                sched_yield();
            }
        }
        status = abandons ? mrp_region_abandon(load->shared[i], 1)
                          : mrp_region_free(load->shared[i]);
        STRESS_CHECK(status == MRP_OK || status == MRP_ERR_STALE);
        atomic_fetch_add(&load->n_won, status == MRP_OK);
    }
}

static void abandon__of_two_that_give_up_one_region_one_wins(void **state)
{
    static struct load load;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    (void)state;
    params.checks = MRP_CHECKS_FULL;
    stress_create(&load.world, &params);
    for (size_t round = 0; round < stress_rounds(50); round++) {
        load.n_won = 0;
        memset(load.n_met, 0, sizeof load.n_met);
        assert_int_equal(
            mrp_region_alloc_many(load.world.pool, 500, CONTENDED, load.shared),
            CONTENDED);
        stress_run(2, contend, &load);
        assert_int_equal(load.n_won, CONTENDED);
        assert_int_equal(mrp_pool_check(load.world.pool), MRP_OK);
        drain(&load, 1);
    }
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abandon__keeps_from_others_what_is_written_late),
        cmocka_unit_test(drained__each_region_once),
        cmocka_unit_test(revoke__beside_drains),
        cmocka_unit_test(abandon__of_two_that_give_up_one_region_one_wins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
