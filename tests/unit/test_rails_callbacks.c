/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Callbacks of a provider that use another pool, as they may, or trim the context: they
 * meet the chunk that their own thread is just registering or deregistering.
 */
#include "rails.h"
#include "thread_cache.h"

#include <sched.h>
#include <unistd.h>

#define PATIENCE_S \
    60 /* never to be reached: a thread that waits for itself does for ever */

enum use {
    ALLOCATES, /* from another pool, and the context's memory is used up */
    TRIMS
};

struct user {
    struct mrp_context *context;
    struct mrp_pool *other;
    enum use use;
    size_t n_calls;
    enum mrp_status status;
};

static void use_context(struct test_provider *network, void *address, size_t size)
{
    struct user *user = network->hook_user;
    struct mrp_region *region;

    (void)address;
    (void)size;
    if (user->n_calls++ > 0) {
        return;
    }
    if (user->use == TRIMS) {
        user->status = mrp_context_trim(user->context, 0);
        return;
    }
    region = mrp_region_alloc(user->other, 12 * MRP_MIB);
    user->status = region != NULL ? MRP_OK : mrp_error_last()->status;
    if (region != NULL) {
        mrp_region_free(region);
    }
}

static struct mrp_pool *create(struct mrp_context *context, struct mrp_backend *backend)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool = NULL;

    params.backend = backend;
    params.access = MRP_ACCESS_ALL;
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    return pool;
}

/* An idle chunk that takes the context's budget, and a rail that is added or removed. */
static void use_beside_change(enum use use, bool is_removal)
{
    struct mrp_context_params narrow = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_backend_params plain = MRP_BACKEND_PARAMS_INIT;
    struct pool_fixture f = {.pool = NULL};
    struct user user = {.use = use};
    struct mrp_region *region;
    unsigned rail = 9;

    narrow.max_bytes = 16 * MRP_MIB;
    assert_int_equal(mrp_context_create(&narrow, &f.context), MRP_OK);
    plain.pages = MRP_PAGES_4K;
    plain.prefault = -1;
    assert_int_equal(mrp_backend_create(f.context, "mmap", &plain, &f.backend), MRP_OK);
    test_provider_init(&f.networks[0]);
    f.networks[0].hook_user = &user;
    *(is_removal ? &f.networks[0].on_deregister : &f.networks[0].on_register) =
        use_context;
    assert_int_equal(mrp_provider_create(f.context, "network", test_provider_ops(),
                         &f.networks[0], &f.rails[0]),
        MRP_OK);
    f.pool = create(f.context, f.backend);
    user.other = create(f.context, f.backend);
    user.context = f.context;
    if (is_removal) {
        assert_int_equal(add(&f, f.rails[0], MRP_RAIL_EAGER), 0);
    }
    region = pool_fixture_alloc(&f, 12 * MRP_MIB);
    pool_fixture_free(region);
    assert_int_equal(pool_fixture_stats(f.pool).n_idle, 1);
    alarm(PATIENCE_S);
    assert_int_equal(is_removal
            ? mrp_pool_rail_remove(f.pool, 0)
            : mrp_pool_rail_add(f.pool, f.rails[0], MRP_RAIL_EAGER, &rail),
        MRP_OK);
    alarm(0);
    assert_true(user.n_calls > 0);
    if (use == TRIMS) {
        assert_int_equal(user.status, MRP_OK);
    } else if (user.status != MRP_OK) { /* what it evicts comes when the hold ends */
        assert_int_equal(user.status, MRP_ERR_LIMIT);
    }
    assert_int_equal(pool_fixture_stats(f.pool).n_idle, 0); /* and it does come */
    assert_int_equal(f.networks[0].n_live, 0);
    assert_int_equal(mrp_pool_check(f.pool), MRP_OK);
    assert_int_equal(mrp_pool_check(user.other), MRP_OK);
    region = mrp_region_alloc(user.other, 12 * MRP_MIB);
    assert_non_null(region);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_context_destroy(f.context), MRP_OK);
    assert_string_equal(f.networks[0].first_error, "");
    test_provider_fini(&f.networks[0]);
}

static void add__whose_network_allocates_elsewhere(void **state)
{
    (void)state;
    use_beside_change(ALLOCATES, false);
}

static void add__whose_network_trims_the_context(void **state)
{
    (void)state;
    use_beside_change(TRIMS, false);
}

static void remove__whose_network_allocates_elsewhere(void **state)
{
    (void)state;
    use_beside_change(ALLOCATES, true);
}

static void remove__whose_network_trims_the_context(void **state)
{
    (void)state;
    use_beside_change(TRIMS, true);
}

/* -- a thread evicts chunks of two pools, and the network of the first uses the second -- */

struct chain {
    struct pool_fixture f;
    struct user user;
    struct mrp_pool *last; /* makes the other two give up theirs */
};

/* Of pool f.pool one idle chunk of 16 MiB, and a younger one of pool user.other, which may
 * have no more: a request there waits for it to be idle, or gone. */
static void chain_create(struct chain *chain, struct mrp_context_params *bounds)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct pool_fixture *f = &chain->f;
    struct mrp_region *first, *second;

    memset(chain, 0, sizeof *chain);
    assert_int_equal(mrp_context_create(bounds, &f->context), MRP_OK);
    test_provider_init(&f->networks[0]);
    f->networks[0].hook_user = &chain->user;
    f->networks[0].on_deregister = use_context;
    assert_int_equal(mrp_provider_create(f->context, "network", test_provider_ops(),
                         &f->networks[0], &f->rails[0]),
        MRP_OK);
    params.decay_ms = UINT32_MAX;
    params.max_bytes = 256 * MRP_MIB;
    assert_int_equal(mrp_pool_create(f->context, &params, &chain->last), MRP_OK);
    params.max_bytes = 16 * MRP_MIB;
    assert_int_equal(mrp_pool_create(f->context, &params, &chain->user.other), MRP_OK);
    params.rails = f->rails;
    params.n_rails = 1;
    assert_int_equal(mrp_pool_create(f->context, &params, &f->pool), MRP_OK);
    chain->user.use = ALLOCATES;
    first = pool_fixture_alloc(f, 16 * MRP_MIB);
    second = mrp_region_alloc(chain->user.other, 16 * MRP_MIB);
    assert_non_null(second);
    pool_fixture_free(first);
    pool_fixture_free(second);
}

static void chain_end(struct chain *chain)
{
    struct pool_fixture *f = &chain->f;

    assert_int_equal(chain->user.n_calls, 1);
    assert_int_equal(chain->user.status, MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_check(chain->user.other), MRP_OK);
    assert_int_equal(mrp_pool_check(chain->last), MRP_OK);
    assert_int_equal(mrp_context_destroy(f->context), MRP_OK);
    assert_string_equal(f->networks[0].first_error, "");
    test_provider_fini(&f->networks[0]);
}

static void growth__evicts_what_the_network_of_another_uses(void **state)
{
    struct mrp_context_params bounds = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_region *region;
    struct chain chain;
    (void)state;

    bounds.max_bytes = 48 * MRP_MIB;
    bounds.retained_size = MRP_GIB;
    chain_create(&chain, &bounds);
    alarm(PATIENCE_S);
    region = mrp_region_alloc(chain.last, 40 * MRP_MIB);
    alarm(0);
    if (region == NULL) {
        fail_msg("%s", mrp_error_last()->text);
    }
    pool_fixture_free(region);
    chain_end(&chain);
}

/* The same where a free is beyond what may stay idle. */
static void free__evicts_what_the_network_of_another_uses(void **state)
{
    struct mrp_context_params bounds = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_region *region;
    struct chain chain;
    (void)state;

    bounds.retained_size = 40 * MRP_MIB;
    chain_create(&chain, &bounds);
    region = mrp_region_alloc(chain.last, 40 * MRP_MIB);
    assert_non_null(region);
    alarm(PATIENCE_S);
    pool_fixture_free(region);
    alarm(0);
    chain_end(&chain);
}

/* The same where less may stay idle from now on. */
static void retain__evicts_what_the_network_of_another_uses(void **state)
{
    struct mrp_context_params bounds = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_retention_params none = MRP_RETENTION_PARAMS_INIT;
    struct chain chain;
    (void)state;

    bounds.retained_size = MRP_GIB;
    chain_create(&chain, &bounds);
    alarm(PATIENCE_S);
    assert_int_equal(mrp_context_retain(chain.f.context, &none), MRP_OK);
    alarm(0);
    chain_end(&chain);
}

/* -- two threads, each inside its network, evict what the other is registering -- */

struct both {
    pthread_barrier_t inside;
    struct mrp_context *context;
    const struct test_provider *first;
    atomic_size_t n_trims;
};

static size_t count_retained(struct mrp_context *context)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    mrp_context_stats(context, &stats);
    return stats.n_retained;
}

/* The first registration of either network. The second one evicts the older chunk, which is
 * the first one's, and then the first one what is left. */
static void trim_together(struct test_provider *network, void *address, size_t size)
{
    struct both *both = network->hook_user;
    bool is_first = network == both->first;

    (void)address;
    (void)size;
    network->on_register = NULL;
    pthread_barrier_wait(&both->inside);
    while (is_first && count_retained(both->context) > 1) {
        sched_yield();
    }
    if (mrp_context_trim(both->context, is_first ? 0 : 12 * MRP_MIB) == MRP_OK) {
        both->n_trims++;
    }
}

struct adding {
    struct partner partner;
    struct mrp_pool *pool;
    struct mrp_provider *rail;
    enum mrp_status status;
};

static void add_rail(void *argument)
{
    struct adding *adding = argument;
    unsigned rail;

    adding->status = mrp_pool_rail_add(adding->pool, adding->rail, MRP_RAIL_EAGER, &rail);
}

static void add__of_two_that_evict_each_others_chunk(void **state)
{
    struct pool_fixture *f = *state;
    struct both both = {.context = f->context, .first = &f->networks[0]};
    struct adding adding[2];

    pthread_barrier_init(&both.inside, NULL, 2);
    for (size_t i = 0; i < 2; i++) {
        adding[i].pool = create(f->context, f->backend);
        adding[i].rail = f->rails[i];
        f->networks[i].hook_user = &both;
        f->networks[i].on_register = trim_together;
        assert_int_equal(
            mrp_region_free(mrp_region_alloc(adding[i].pool, 12 * MRP_MIB)), MRP_OK);
    }
    alarm(PATIENCE_S);
    for (size_t i = 0; i < 2; i++) {
        partner_start(&adding[i].partner);
        partner_begin(&adding[i].partner, add_rail, &adding[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        partner_wait(&adding[i].partner);
        partner_stop(&adding[i].partner);
        assert_int_equal(adding[i].status, MRP_OK);
    }
    alarm(0);
    assert_int_equal(both.n_trims, 2);
    for (size_t i = 0; i < 2; i++) { /* what is evicted goes with the end of its hold */
        assert_int_equal(pool_fixture_stats(adding[i].pool).n_idle, 0);
        assert_int_equal(f->networks[i].n_live, 0);
        assert_int_equal(mrp_pool_check(adding[i].pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(adding[i].pool), MRP_OK);
    }
    pthread_barrier_destroy(&both.inside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add__whose_network_allocates_elsewhere),
        cmocka_unit_test(add__whose_network_trims_the_context),
        cmocka_unit_test(remove__whose_network_allocates_elsewhere),
        cmocka_unit_test(remove__whose_network_trims_the_context),
        cmocka_unit_test(growth__evicts_what_the_network_of_another_uses),
        cmocka_unit_test(free__evicts_what_the_network_of_another_uses),
        cmocka_unit_test(retain__evicts_what_the_network_of_another_uses),
        POOL_TEST(add__of_two_that_evict_each_others_chunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
