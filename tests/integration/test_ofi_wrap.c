/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The libfabric provider round a domain of the caller's, and the locks it takes there.
 */
#include "ofi_domain.h"

#include "mrpool/context.h"

#include <pthread.h>

#define MR_BASIC (1 << 0) /* deprecated: virtual addresses, keys of the provider */

static char memory[1 << 16] __attribute__((aligned(4096)));

/* -- wrap -- */

static void noop(void *argument)
{
    (void)argument;
}

static void assert_wrap_fails(
    const struct mrp_ofi_wrap_params *params, enum mrp_status expected, const char *word)
{
    void *state = NULL;

    assert_error(ofi_wrap(params, &state), expected, word);
    assert_null(state);
}

static void wrap__wrong_params(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params right = params_of(&own), wrong;
    struct fid_ep *no_endpoint = NULL;
    struct fi_info empty = {0};

    (void)test;
    wrong = right;
    wrong.struct_size = 0;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "_INIT macro");
    wrong = right;
    wrong.domain = NULL;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "domain");
    wrong.domain = (struct fid_domain *)own.fabric;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "fi_domain");
    wrong = right;
    wrong.info = NULL;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "info is NULL");
    wrong.info = &empty;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "domain_attr");
    wrong = right;
    wrong.lock = noop;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "lock without unlock");
    wrong = right;
    wrong.unlock = noop;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "unlock without lock");
    wrong = right;
    wrong.n_endpoints = 2;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "once per endpoint");
    wrong.n_endpoints = 1;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "endpoints is NULL");
    wrong.endpoints = &no_endpoint;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "endpoints[0] is NULL");
    close_own(&own);
}

static void wrap__what_the_domain_needs(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);

    (void)test;
    own.info->domain_attr->mr_mode = FI_MR_ENDPOINT;
    assert_wrap_fails(&params, MRP_ERR_INVALID, "mrp_ofi_wrap_params.endpoints");
    own.info->domain_attr->mr_mode = FI_MR_MMU_NOTIFY;
    assert_wrap_fails(&params, MRP_ERR_UNSUPPORTED, "fi_mr_refresh");
    own.info->domain_attr->mr_mode = 0;
    close_own(&own);
}

/* A struct of a newer header may be longer as long as the rest is zero, one of an older
 * header shorter. */
static void wrap__other_struct_sizes(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct {
        struct mrp_ofi_wrap_params params;
        char newer[16];
    } params = {params_of(&own), {0}};
    void *state;

    (void)test;
    params.params.struct_size = sizeof(params);
    assert_int_equal(ofi_wrap(&params.params, &state), MRP_OK);
    ofi_ops()->close(state);
    params.newer[3] = 1;
    assert_wrap_fails(&params.params, MRP_ERR_INVALID, "newer");
    params.params.struct_size = offsetof(struct mrp_ofi_wrap_params, endpoints);
    params.params.n_endpoints = 77; /* not read any more */
    assert_int_equal(ofi_wrap(&params.params, &state), MRP_OK);
    ofi_ops()->close(state);
    close_own(&own);
}

static void wrap__info_is_copied_and_domain_stays_open(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);
    struct mrp_registration made;
    struct fid_mr *mr;
    void *state;

    (void)test;
    params.info = fi_dupinfo(own.info);
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    fi_freeinfo((struct fi_info *)(uintptr_t)params.info);
    assert_int_equal(
        ofi_register(state, memory, sizeof(memory), MRP_ACCESS_ALL & ~16u, &made),
        MRP_OK);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    ofi_ops()->close(state);
    assert_int_equal(fi_mr_reg(own.domain, memory, 64, FI_SEND, 0, 1, 0, &mr, NULL), 0);
    assert_int_equal(fi_close(&mr->fid), 0);
    close_own(&own);
}

/* -- through the core -- */

static void wrap__through_the_core(void **test)
{
    struct own_domain own =
        open_own("sockets", FI_MSG | FI_RMA, MR_BASIC, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_provider *provider;
    struct mrp_context *context;

    (void)test;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(
        mrp_ofi_provider_wrap(context, NULL, NULL, &provider), MRP_ERR_INVALID);
    assert_int_equal(mrp_ofi_provider_wrap(context, "mine", &params, &provider), MRP_OK);
    assert_int_equal(mrp_provider_query(provider, &info), MRP_OK);
    assert_string_equal(info.name, "mine");
    assert_string_equal(info.module, "ofi");
    assert_int_equal(info.traits, MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS);
    assert_int_equal(info.max_registrations, 65535);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    close_own(&own);
}

static void open__options_through_the_core(void **test)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_provider *provider = NULL;
    struct mrp_context *context;

    (void)test;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    params.options = "provider=tcp;ofi_rxm,domain=lo,endpoint=rdm";
    assert_int_equal(mrp_provider_open(context, "ofi", &params, &provider), MRP_OK);
    assert_int_equal(mrp_provider_query(provider, &info), MRP_OK);
    assert_string_equal(info.device, "tcp;ofi_rxm on lo");
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    params.options = "provider=nosuch";
    assert_error(mrp_provider_open(context, "ofi", &params, &provider),
        MRP_ERR_UNAVAILABLE, "'nosuch'");
    params.options = "endpoint=dgram";
    assert_int_equal(
        mrp_provider_open(context, "ofi", &params, &provider), MRP_ERR_INVALID);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* -- threads -- */

#define N_ROUNDS 2000

static void *register_often(void *state)
{
    struct mrp_registration made[4];

    for (size_t i = 0; i < N_ROUNDS; i++) {
        size_t slot = i % 4;

        if (i >= 4 && ofi_deregister(state, &made[slot]) != MRP_OK) {
            return state;
        }
        if (ofi_register(state, memory, 4096, MRP_ACCESS_REMOTE, &made[slot]) != MRP_OK) {
            return state;
        }
    }
    for (size_t i = 0; i < 4; i++) {
        if (ofi_deregister(state, &made[i]) != MRP_OK) {
            return state;
        }
    }
    return NULL;
}

static void register_on_threads(struct own_domain *own, void *state)
{
    pthread_t threads[3];
    void *failed;

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, register_often, state), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    ofi_ops()->close(state);
    close_own(own);
}

/* libfabric leaves its lock out at FI_THREAD_DOMAIN, so the provider has to take one. */
static void register__on_threads_in_an_unlocked_domain(void **test)
{
    struct own_domain own = open_own("net", FI_MSG | FI_RMA, 0, FI_THREAD_DOMAIN);
    struct mrp_ofi_wrap_params params = params_of(&own);
    void *state;

    (void)test;
    assert_int_equal(own.info->domain_attr->threading, FI_THREAD_DOMAIN);
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    register_on_threads(&own, state);
}

static void take_mutex(void *mutex)
{
    pthread_mutex_lock(mutex);
}

static void drop_mutex(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

static void register__on_threads_with_the_callers_lock(void **test)
{
    struct own_domain own = open_own("net", FI_MSG | FI_RMA, 0, FI_THREAD_DOMAIN);
    struct mrp_ofi_wrap_params params = params_of(&own);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    void *state;

    (void)test;
    params.lock = take_mutex;
    params.unlock = drop_mutex;
    params.lock_arg = &mutex;
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    register_on_threads(&own, state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrap__wrong_params),
        cmocka_unit_test(wrap__what_the_domain_needs),
        cmocka_unit_test(wrap__other_struct_sizes),
        cmocka_unit_test(wrap__info_is_copied_and_domain_stays_open),
        cmocka_unit_test(wrap__through_the_core),
        cmocka_unit_test(open__options_through_the_core),
        cmocka_unit_test(register__on_threads_in_an_unlocked_domain),
        cmocka_unit_test(register__on_threads_with_the_callers_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
