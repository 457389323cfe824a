/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A network that registers nothing: keys are numbers, memory stays as it is. For tests
 * and benchmarks that want every path of the library but no cost of a network, with
 * settings for the ways in which networks differ. It is also the example of
 * CONTRIBUTING.md.
 */
#include "mrpool/provider.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum null_setting {
    ADDRESSING,
    KEYS,
    MAX_REGISTRATIONS,
    MAX_SIZE,
    N_SETTINGS
};

static const struct mrp_setting_spec null_settings[N_SETTINGS] = {
    [ADDRESSING] = {"MRPOOL_NULL_ADDRESSING", MRP_SETTING_CHOICE, 0, 0, "virtual|offset",
        "virtual",
        "what remote addresses are: virtual, or offsets from the registration"},
    [KEYS] = {"MRPOOL_NULL_KEYS", MRP_SETTING_CHOICE, 0, 0, "number|raw|none", "number",
        "remote keys: a number of 64 bits, raw ones of 32 bytes to be imported, or none"},
    [MAX_REGISTRATIONS] = {"MRPOOL_NULL_MAX_REGISTRATIONS", MRP_SETTING_COUNT, 0,
        UINT64_MAX, "", "0", "registrations live at most, 0 for no limit"},
    [MAX_SIZE] = {"MRPOOL_NULL_MAX_SIZE", MRP_SETTING_COUNT, 0, UINT64_MAX, "", "0",
        "bytes of one registration at most, 0 for no limit"},
};

struct null_provider {
    size_t max_registrations, max_size;
    size_t key_size; /* 0, 8 or sizeof(struct null_key) */
    bool is_virtual;
    atomic_size_t n_live;
    _Atomic uint64_t last_key;
};

/* A registration is its key, also the raw one. */
struct null_key {
    uint64_t key, inverse, unused[2];
};

static bool is_raw(const struct null_provider *provider)
{
    return provider->key_size == sizeof(struct null_key);
}

static enum mrp_status check_limits(const struct null_provider *provider)
{
    if (provider->max_registrations > 0 &&
        provider->n_live >= provider->max_registrations) {
        return mrp_fail(MRP_ERR_LIMIT, 0, "null: max_registrations, %zu, are live",
            provider->max_registrations);
    }
    return MRP_OK;
}

static enum mrp_status null_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct null_provider *provider = state;
    enum mrp_status status = check_limits(provider);
    struct null_key *key;

    if (status != MRP_OK) {
        return status;
    }
    key = calloc(1, sizeof(*key));
    if (key == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "null: out of memory");
    }
    key->key = ++provider->last_key;
    key->inverse = ~key->key;
    provider->n_live++;
    registration->native = key;
    registration->local_desc = NULL;
    registration->remote_key = provider->key_size == sizeof(uint64_t) ? key->key : 0;
    registration->key_blob = is_raw(provider) ? key : NULL;
    registration->key_size = provider->key_size;
    registration->remote_base = provider->is_virtual ? (uintptr_t)request->address : 0;
    return MRP_OK;
}

static enum mrp_status null_deregister(
    void *state, const struct mrp_registration *registration)
{
    struct null_provider *provider = state;

    free(registration->native);
    provider->n_live--;
    return MRP_OK;
}

static size_t key_size_of(const char *keys)
{
    if (strcmp(keys, "raw") == 0) {
        return sizeof(struct null_key);
    }
    return strcmp(keys, "number") == 0 ? sizeof(uint64_t) : 0;
}

static enum mrp_status null_open(
    const struct mrp_provider_open_request *request, void **state)
{
    struct null_provider *provider;

    if (request->native != NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "null: there is no handle to wrap");
    }
    provider = calloc(1, sizeof(*provider));
    if (provider == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "null: out of memory");
    }
    provider->is_virtual = strcmp(request->values[ADDRESSING], "virtual") == 0;
    provider->key_size = key_size_of(request->values[KEYS]);
    provider->max_registrations = request->numbers[MAX_REGISTRATIONS];
    provider->max_size = request->numbers[MAX_SIZE];
    *state = provider;
    return MRP_OK;
}

static void null_close(void *state)
{
    free(state);
}

static void null_query(void *state, struct mrp_provider_info *info)
{
    const struct null_provider *provider = state;

    info->device = "";
    info->traits = (provider->key_size > 0 ? MRP_PROVIDER_REMOTE_KEY : 0U) |
        (provider->is_virtual ? MRP_PROVIDER_VIRTUAL_ADDRESS : 0U) |
        (is_raw(provider) ? MRP_PROVIDER_RAW_KEY : 0U);
    info->access = provider->key_size > 0 ? MRP_ACCESS_ALL : MRP_ACCESS_LOCAL;
    info->memory_kinds = 1U << MRP_MEMORY_HOST;
    info->max_registrations = provider->max_registrations;
    info->max_size = provider->max_size;
    info->key_size = provider->key_size;
}

static enum mrp_status null_devices(mrp_device_visitor *visit, void *user)
{
    const struct mrp_device device = {
        sizeof(device), "null", "", "", "registers nothing, for tests and benchmarks"};

    visit(&device, user);
    return MRP_OK;
}

/* The handle is the peer's key again: a network would have its own object here. */
static enum mrp_status null_import(
    void *state, const struct mrp_import_request *request, uint64_t *key, void **handle)
{
    const struct null_provider *provider = state;
    struct null_key peer = {0, 0, {0, 0}};

    if (request->key_size != provider->key_size || request->key_size == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "null: a key of %zu bytes, mine have %zu",
            request->key_size, provider->key_size);
    }
    memcpy(&peer, request->key, request->key_size);
    if (is_raw(provider) && peer.inverse != ~peer.key) {
        return mrp_fail(MRP_ERR_INVALID, 0, "null: the raw key is corrupted");
    }
    *handle = malloc(sizeof(peer));
    if (*handle == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "null: out of memory");
    }
    *key = peer.key;
    return MRP_OK;
}

static void null_release(void *state, void *handle, uint64_t key)
{
    (void)state;
    (void)key;
    free(handle);
}

MRP_API const struct mrp_provider_ops mrp_provider_null = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "null",
    .purpose = "registers nothing; for tests and benchmarks",
    .settings = null_settings,
    .n_settings = N_SETTINGS,
    .register_memory = null_register,
    .deregister_memory = null_deregister,
    .open = null_open,
    .close = null_close,
    .query = null_query,
    .devices = null_devices,
    .import_key = null_import,
    .release_key = null_release,
};
