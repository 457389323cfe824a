/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What provider.h promises of an ops table, called directly: the contract that the core
 * relies on. test_providers.c asks the same providers through the public calls.
 */
#include "context/module.h"
#include "support/provider_cases.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define N_THREADS 4
#define MANY 32
#define MEMORY_SIZE ((size_t)4 << 20)

/* An open provider and memory to register. */
struct opened {
    const struct mrp_provider_ops *ops;
    void *state;
    struct mrp_provider_info info;
    unsigned char *memory;
    struct mrp_mapping mapping; /* where it is the provider's own */
    uint64_t remote_base; /* of its first byte, where addresses are not virtual */
};

static enum mrp_status open_state(const struct provider_case *provider,
    const struct mrp_provider_ops *ops, void **state)
{
    struct mrp_provider_open_request request = {.struct_size = sizeof(request)};
    const char **values = calloc(ops->n_settings + 1, sizeof(*values));
    uint64_t *numbers = calloc(ops->n_settings + 1, sizeof(*numbers));
    enum mrp_status status;
    char *storage = NULL;

    assert_non_null(values);
    assert_non_null(numbers);
    status = mrp_module_settings(ops, provider->options, values, numbers, &storage);
    if (status == MRP_OK) {
        request.values = values;
        request.numbers = numbers;
        status = ops->open(&request, state);
        free(storage);
    }
    free(numbers);
    free(values);
    return status;
}

static void close_state(const struct mrp_provider_ops *ops, void *state)
{
    if (ops->close != NULL) {
        ops->close(state);
    }
}

static enum mrp_status probe(const struct provider_case *provider)
{
    const struct mrp_provider_ops *ops;
    void *state = NULL;
    enum mrp_status status = mrp_module_load(provider->module, &ops);

    if (status == MRP_OK) {
        status = open_state(provider, ops, &state);
    }
    if (status == MRP_OK) {
        close_state(ops, state);
    }
    return status;
}

static enum mrp_status take(const struct opened *opened, size_t offset, size_t size,
    struct mrp_registration *registration);
static enum mrp_status give(
    const struct opened *opened, const struct mrp_registration *registration);

static bool has_trait(const struct opened *opened, enum mrp_provider_trait trait)
{
    return (opened->info.traits & trait) != 0;
}

/* Of the provider's making, where it takes no other; addressed from where that lies. */
static void map_own_memory(struct opened *opened)
{
    const struct mrp_map_request request = {
        .struct_size = sizeof(request), .size = MEMORY_SIZE, .alignment = 4096};
    struct mrp_registration registration;

    opened->mapping.struct_size = sizeof(opened->mapping);
    assert_int_equal(
        opened->ops->backend->map(opened->state, &request, &opened->mapping), MRP_OK);
    opened->memory = opened->mapping.address;
    assert_int_equal(take(opened, 0, 1, &registration), MRP_OK);
    opened->remote_base = registration.remote_base;
    assert_int_equal(give(opened, &registration), MRP_OK);
}

static struct opened open_case(const struct provider_case *provider)
{
    struct opened opened = {.info = MRP_PROVIDER_INFO_INIT};

    assert_int_equal(mrp_module_load(provider->module, &opened.ops), MRP_OK);
    assert_int_equal(open_state(provider, opened.ops, &opened.state), MRP_OK);
    opened.info.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    opened.info.memory_kinds = 1U << MRP_MEMORY_HOST;
    if (opened.ops->query != NULL) {
        opened.ops->query(opened.state, &opened.info);
    }
    if (provider_case_owns_memory(provider)) {
        map_own_memory(&opened);
        return opened;
    }
    opened.memory = mmap(
        NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(opened.memory, MAP_FAILED);
    return opened;
}

static void close_case(struct opened *opened)
{
    if (opened->mapping.address != NULL) {
        assert_int_equal(
            opened->ops->backend->unmap(opened->state, &opened->mapping), MRP_OK);
    } else {
        assert_int_equal(munmap(opened->memory, MEMORY_SIZE), 0);
    }
    close_state(opened->ops, opened->state);
}

static enum mrp_status take(const struct opened *opened, size_t offset, size_t size,
    struct mrp_registration *registration)
{
    const struct mrp_register_request request = {
        .struct_size = sizeof(request),
        .address = opened->memory + offset,
        .size = size,
        .access = opened->info.access,
        .dmabuf_fd = -1,
    };

    *registration = (struct mrp_registration){.struct_size = sizeof(*registration)};
    return opened->ops->register_memory(opened->state, &request, registration);
}

static enum mrp_status give(
    const struct opened *opened, const struct mrp_registration *registration)
{
    return opened->ops->deregister_memory(opened->state, registration);
}

/* How many registrations to hold at once, of those a case would like. */
static size_t at_most(const struct opened *opened, size_t n_wanted)
{
    size_t limit = opened->info.max_registrations;

    return limit > 0 && limit < n_wanted ? limit : n_wanted;
}

/* -- the table -- */

static void table__is_complete(void **state)
{
    const struct provider_case *provider = *state;
    const struct mrp_provider_ops *ops;
    char prefix[64];

    assert_int_equal(mrp_module_load(provider->module, &ops), MRP_OK);
    assert_int_equal(ops->abi, MRP_PROVIDER_ABI);
    assert_string_equal(ops->module, provider->module);
    assert_true(ops->purpose != NULL && strlen(ops->purpose) > 0);
    assert_non_null(ops->register_memory);
    assert_non_null(ops->deregister_memory);
    assert_non_null(ops->open);
    snprintf(prefix, sizeof(prefix), "MRPOOL_%s_", provider->module);
    for (size_t i = 0; i < ops->n_settings; i++) {
        const struct mrp_setting_spec *spec = &ops->settings[i];

        assert_int_equal(strncasecmp(spec->variable, prefix, strlen(prefix)), 0);
        assert_true(spec->purpose != NULL && strlen(spec->purpose) > 0);
        assert_non_null(spec->default_text);
        assert_int_equal(spec->kind == MRP_SETTING_CHOICE,
            spec->choices != NULL && *spec->choices != 0);
    }
}

static void query__agrees_with_itself(void **state)
{
    struct opened opened = open_case(*state);
    const struct mrp_provider_info *info = &opened.info;
    bool has_key = has_trait(&opened, MRP_PROVIDER_REMOTE_KEY);

    assert_true(info->device != NULL || opened.ops->query == NULL);
    assert_int_equal(info->access & MRP_ACCESS_LOCAL, MRP_ACCESS_LOCAL);
    assert_int_equal(info->access & ~(uint32_t)MRP_ACCESS_ALL, 0);
    assert_true((info->memory_kinds & (1U << MRP_MEMORY_HOST)) != 0);
    assert_int_equal(info->key_size > 0, has_key);
    assert_int_equal((info->access & MRP_ACCESS_REMOTE) != 0, has_key);
    if (has_trait(&opened, MRP_PROVIDER_RAW_KEY)) {
        assert_true(has_key);
        assert_non_null(opened.ops->import_key);
    } else {
        assert_true(info->key_size <= sizeof(uint64_t));
    }
    assert_int_equal(opened.ops->import_key == NULL, opened.ops->release_key == NULL);
    close_case(&opened);
}

static void open__again_and_again(void **state)
{
    for (int i = 0; i < 10; i++) {
        struct opened opened = open_case(*state);
        struct mrp_registration registration;

        assert_int_equal(take(&opened, 0, 4096, &registration), MRP_OK);
        assert_int_equal(give(&opened, &registration), MRP_OK);
        close_case(&opened);
    }
}

/* -- one registration -- */

static void assert_as_queried(const struct opened *opened,
    const struct mrp_registration *registration, size_t offset)
{
    bool is_raw = has_trait(opened, MRP_PROVIDER_RAW_KEY);
    uintptr_t address = (uintptr_t)opened->memory + offset;

    assert_non_null(registration->native);
    if (has_trait(opened, MRP_PROVIDER_LOCAL_DESC)) {
        assert_non_null(registration->local_desc);
    }
    assert_int_equal(registration->key_size, opened->info.key_size);
    assert_int_equal(registration->key_blob != NULL, is_raw);
    if (opened->info.key_size > 0) {
        assert_int_equal(registration->remote_base,
            has_trait(opened, MRP_PROVIDER_VIRTUAL_ADDRESS) ? address
                : opened->mapping.address != NULL           ? opened->remote_base + offset
                                                            : 0);
    }
}

/* Aligned or not, from one byte to more than a huge page; the memory is not touched. */
static void register__any_size_and_alignment(void **state)
{
    static const size_t sizes[] = {1, 64, 4095, 4096, 4097, (2U << 20) + 1};
    static const size_t offsets[] = {0, 1, 4095, 8192};
    struct opened opened = open_case(*state);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(offsets) / sizeof(offsets[0]); j++) {
            struct mrp_registration registration;

            memset(opened.memory + offsets[j], 0x5a, sizes[i]);
            assert_int_equal(take(&opened, offsets[j], sizes[i], &registration), MRP_OK);
            assert_as_queried(&opened, &registration, offsets[j]);
            assert_int_equal(opened.memory[offsets[j]], 0x5a);
            assert_int_equal(opened.memory[offsets[j] + sizes[i] - 1], 0x5a);
            assert_int_equal(give(&opened, &registration), MRP_OK);
        }
    }
    close_case(&opened);
}

static void register__local_access_alone(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_registration registration;

    opened.info.access = MRP_ACCESS_LOCAL;
    assert_int_equal(take(&opened, 0, 4096, &registration), MRP_OK);
    assert_non_null(registration.native);
    assert_int_equal(give(&opened, &registration), MRP_OK);
    close_case(&opened);
}

/* -- several -- */

static void register__overlaps_go_in_any_order(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_registration registrations[8];
    size_t n = at_most(&opened, 8);

    for (size_t first = 0; first < n; first++) {
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(take(&opened, i * 3000, 10000, &registrations[i]), MRP_OK);
        }
        for (size_t i = 0; i < n; i++) {
            /* 3 and 8 have no common factor, nor have 3 and 4: every one once */
            assert_int_equal(give(&opened, &registrations[(first + i * 3) % n]), MRP_OK);
        }
    }
    close_case(&opened);
}

static bool has_same_key(
    const struct mrp_registration *one, const struct mrp_registration *other)
{
    if (one->key_size != other->key_size || one->key_size == 0) {
        return false;
    }
    return one->key_blob != NULL
        ? memcmp(one->key_blob, other->key_blob, one->key_size) == 0
        : one->remote_key == other->remote_key;
}

/* Of the same bytes, too: a key revoked must not leave another that looks like it. */
static void register__keys_are_unique_while_live(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_registration registrations[MANY];
    size_t n = at_most(&opened, MANY);

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(take(&opened, i / 2 * 4096, 4096, &registrations[i]), MRP_OK);
        for (size_t j = 0; j < i && !provider_case_shares_keys(*state); j++) {
            assert_false(has_same_key(&registrations[i], &registrations[j]));
            assert_ptr_not_equal(registrations[i].native, registrations[j].native);
        }
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(give(&opened, &registrations[i]), MRP_OK);
    }
    close_case(&opened);
}

static void register__limit_is_as_queried(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_registration registrations[MANY], one_more;
    size_t n = opened.info.max_registrations;

    for (size_t i = 0; n <= MANY && i < n; i++) {
        assert_int_equal(take(&opened, 0, 1, &registrations[i]), MRP_OK);
    }
    if (n > 0 && n <= MANY) {
        assert_int_equal(take(&opened, 0, 1, &one_more), MRP_ERR_LIMIT);
        assert_int_equal(give(&opened, &registrations[0]), MRP_OK);
        assert_int_equal(take(&opened, 0, 1, &registrations[0]), MRP_OK);
    }
    for (size_t i = 0; n <= MANY && i < n; i++) {
        assert_int_equal(give(&opened, &registrations[i]), MRP_OK);
    }
    close_case(&opened);
}

struct worker {
    const struct opened *opened;
    size_t offset, n_wrong;
};

/* Failures are counted: cmocka's assertions belong to the first thread. */
static void *take_and_give(void *user)
{
    struct worker *worker = user;

    for (size_t i = 0; i < 50; i++) {
        struct mrp_registration registration;

        /* neighbours share half of what they register */
        if (take(worker->opened, worker->offset, 8192 + i, &registration) != MRP_OK) {
            worker->n_wrong++;
            continue;
        }
        worker->n_wrong += registration.native == NULL;
        worker->n_wrong += give(worker->opened, &registration) != MRP_OK;
    }
    return NULL;
}

static void register__several_threads_at_once(void **state)
{
    struct opened opened = open_case(*state);
    struct worker workers[N_THREADS];
    pthread_t threads[N_THREADS];

    for (size_t i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){&opened, i * 4096, 0};
        assert_int_equal(
            pthread_create(&threads[i], NULL, take_and_give, &workers[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    close_case(&opened);
}

/* -- a peer's key -- */

static void import_key__takes_what_register_gave(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_import_request request = {.struct_size = sizeof(request), .size = 4096};
    struct mrp_registration registration;
    uint64_t key = 0;
    void *handle = NULL;

    assert_int_equal(take(&opened, 0, 4096, &registration), MRP_OK);
    request.key = registration.key_blob != NULL ? registration.key_blob
                                                : (const void *)&registration.remote_key;
    request.key_size = registration.key_size;
    request.remote_base = registration.remote_base;
    if (provider_case_ties_keys(*state)) {
        assert_int_equal(opened.ops->import_key(opened.state, &request, &key, &handle),
            MRP_ERR_INVALID);
        assert_non_null(strstr(mrp_error_last()->text, "endpoint"));
    } else if (opened.ops->import_key != NULL && registration.key_size > 0) {
        assert_int_equal(
            opened.ops->import_key(opened.state, &request, &key, &handle), MRP_OK);
        if (!has_trait(&opened, MRP_PROVIDER_RAW_KEY)) {
            assert_int_equal(key, registration.remote_key);
        }
        opened.ops->release_key(opened.state, handle, key);
    }
    assert_int_equal(give(&opened, &registration), MRP_OK);
    close_case(&opened);
}

int main(void)
{
    static const struct provider_test tests[] = {
        PROVIDER_TEST(table__is_complete),
        PROVIDER_TEST(query__agrees_with_itself),
        PROVIDER_TEST(open__again_and_again),
        PROVIDER_TEST(register__any_size_and_alignment),
        PROVIDER_TEST(register__local_access_alone),
        PROVIDER_TEST(register__overlaps_go_in_any_order),
        PROVIDER_TEST(register__keys_are_unique_while_live),
        PROVIDER_TEST(register__limit_is_as_queried),
        PROVIDER_TEST(register__several_threads_at_once),
        PROVIDER_TEST(import_key__takes_what_register_gave),
    };

    return provider_cases_run(tests, sizeof(tests) / sizeof(tests[0]), probe);
}
