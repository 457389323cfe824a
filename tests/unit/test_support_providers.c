/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The test provider itself: other tests trust what it counts and what it calls misuse.
 */
#include "support/test_providers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static unsigned char memory[4096];

static int create(void **state)
{
    static struct test_provider provider;

    test_provider_init(&provider);
    *state = &provider;
    return 0;
}

static int destroy(void **state)
{
    test_provider_fini(*state);
    return 0;
}

static enum mrp_status take(struct test_provider *provider, void *address, size_t size,
    struct mrp_registration *registration)
{
    const struct mrp_register_request request = {
        .struct_size = sizeof(request),
        .address = address,
        .size = size,
        .access = MRP_ACCESS_ALL,
    };

    memset(registration, 0, sizeof(*registration));
    registration->struct_size = sizeof(*registration);
    return test_provider_ops()->register_memory(provider, &request, registration);
}

static enum mrp_status give(
    struct test_provider *provider, const struct mrp_registration *registration)
{
    return test_provider_ops()->deregister_memory(provider, registration);
}

static void register__counts_live_and_peak(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration first, second;

    assert_int_equal(take(provider, memory, 100, &first), MRP_OK);
    assert_int_equal(take(provider, memory + 50, 10, &second), MRP_OK);
    assert_int_not_equal(first.remote_key, second.remote_key);
    assert_int_equal(first.remote_base, (uintptr_t)memory);
    assert_int_equal(give(provider, &first), MRP_OK);
    assert_int_equal(provider->n_live, 1);
    assert_int_equal(provider->live_size, 10);
    assert_int_equal(provider->peak_live, 2);
    assert_int_equal(provider->peak_size, 110);
    assert_int_equal(provider->n_overlaps, 1);
    assert_int_equal(give(provider, &second), MRP_OK);
    assert_int_equal(provider->n_live, 0);
    assert_int_equal(provider->n_errors, 0);
}

static void register__fails_where_told(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration registration;

    provider->fail_at = 2;
    provider->fail_count = 2;
    provider->fail_status = MRP_ERR_LIMIT;
    assert_int_equal(take(provider, memory, 1, &registration), MRP_OK);
    assert_int_equal(take(provider, memory, 1, &registration), MRP_ERR_LIMIT);
    assert_int_equal(take(provider, memory, 1, &registration), MRP_ERR_LIMIT);
    assert_int_equal(take(provider, memory, 1, &registration), MRP_OK);
    assert_int_equal(provider->n_failed, 2);
    test_provider_fail_next(provider, 2, 1, MRP_ERR_SYSTEM);
    assert_int_equal(take(provider, memory, 1, &registration), MRP_OK);
    assert_int_equal(take(provider, memory, 1, &registration), MRP_ERR_SYSTEM);
    test_provider_fail_next(provider, 1, 0, MRP_ERR_MEMORY);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(take(provider, memory, 1, &registration), MRP_ERR_MEMORY);
    }
    assert_int_equal(provider->n_live, 3);
    assert_int_equal(provider->n_register, 11);
}

static void register__hidden_limit_is_refused_as_limit(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration first, second;

    provider->hidden_limit = 1;
    assert_int_equal(take(provider, memory, 1, &first), MRP_OK);
    assert_int_equal(take(provider, memory, 1, &second), MRP_ERR_LIMIT);
    assert_int_equal(give(provider, &first), MRP_OK);
    assert_int_equal(take(provider, memory, 1, &second), MRP_OK);
    assert_int_equal(provider->n_errors, 0);
}

static void register__what_query_rules_out_is_misuse(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration registration;

    provider->max_size = 10;
    take(provider, memory, 11, &registration);
    assert_int_equal(provider->n_errors, 1);
    provider->access = MRP_ACCESS_LOCAL;
    take(provider, memory, 1, &registration);
    assert_int_equal(provider->n_errors, 2);
    take(provider, memory, 0, &registration);
    assert_int_equal(provider->n_errors, 4); /* no bytes, and still too many rights */
    assert_string_equal(provider->first_error, "11 bytes, but query says at most 10");
}

static void deregister__twice_is_misuse(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration registration;

    assert_int_equal(take(provider, memory, 1, &registration), MRP_OK);
    assert_int_equal(give(provider, &registration), MRP_OK);
    assert_int_equal(give(provider, &registration), MRP_ERR_STALE);
    assert_string_equal(
        provider->first_error, "deregistration of the already gone registration 1");
    registration.native = &registration;
    assert_int_equal(give(provider, &registration), MRP_ERR_STALE);
    assert_int_equal(provider->n_errors, 2);
}

static void deregister__after_unmap_is_misuse(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration registration;
    void *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_int_equal(take(provider, page, 4096, &registration), MRP_OK);
    assert_int_equal(munmap(page, 4096), 0);
    assert_int_equal(give(provider, &registration), MRP_OK);
    assert_int_equal(provider->n_errors, 1);
    assert_non_null(strstr(provider->first_error, "unmapped before"));
}

static void deregister__fails_where_told(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration registration;

    provider->deregister_fail_at = 1;
    assert_int_equal(take(provider, memory, 1, &registration), MRP_OK);
    assert_int_equal(give(provider, &registration), MRP_ERR_REGISTER);
    assert_int_equal(provider->n_live, 1);
    test_provider_ops()->close(provider);
    assert_int_equal(provider->n_errors, 0); /* it was not the core that forgot it */
}

static void close__with_live_registration_is_misuse(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration registration;

    assert_int_equal(take(provider, memory, 1, &registration), MRP_OK);
    test_provider_ops()->close(provider);
    assert_int_equal(provider->n_errors, 1);
    assert_int_equal(give(provider, &registration), MRP_OK);
    assert_int_equal(provider->n_errors, 2);
}

static void events__are_in_the_order_of_the_calls(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration first, failed;

    provider->fail_at = 2;
    take(provider, memory, 7, &first);
    take(provider, memory, 8, &failed);
    give(provider, &first);
    assert_int_equal(provider->n_events, 3);
    assert_int_equal(provider->events[0].kind, TEST_REGISTER);
    assert_ptr_equal(provider->events[0].address, memory);
    assert_int_equal(provider->events[0].size, 7);
    assert_int_equal(provider->events[0].serial, 1);
    assert_int_equal(provider->events[1].status, MRP_ERR_REGISTER);
    assert_int_equal(provider->events[1].serial, 0);
    assert_int_equal(provider->events[2].kind, TEST_DEREGISTER);
    assert_int_equal(provider->events[2].serial, 1);
}

static void import_key__reads_what_register_gave(void **state)
{
    struct test_provider *provider = *state;
    struct mrp_registration registration;
    struct mrp_import_request request = {.struct_size = sizeof(request)};
    uint64_t key = 0, broken[4];
    void *handle = NULL;

    provider->traits |= MRP_PROVIDER_RAW_KEY;
    assert_int_equal(take(provider, memory, 1, &registration), MRP_OK);
    assert_int_equal(registration.remote_key, 0);
    request.key = registration.key_blob;
    request.key_size = registration.key_size;
    assert_int_equal(
        test_provider_ops()->import_key(provider, &request, &key, &handle), MRP_OK);
    assert_int_equal(key, *(const uint64_t *)registration.key_blob);
    test_provider_ops()->release_key(provider, handle, key);
    assert_int_equal(provider->n_imported, 1);
    assert_int_equal(provider->n_released, 1);
    memcpy(broken, registration.key_blob, sizeof(broken));
    broken[0] ^= 1;
    request.key = broken;
    assert_int_equal(test_provider_ops()->import_key(provider, &request, &key, &handle),
        MRP_ERR_INVALID);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, create, destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(register__counts_live_and_peak),
        CASE(register__fails_where_told),
        CASE(register__hidden_limit_is_refused_as_limit),
        CASE(register__what_query_rules_out_is_misuse),
        CASE(deregister__twice_is_misuse),
        CASE(deregister__after_unmap_is_misuse),
        CASE(deregister__fails_where_told),
        CASE(close__with_live_registration_is_misuse),
        CASE(events__are_in_the_order_of_the_calls),
        CASE(import_key__reads_what_register_gave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
