/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A network that fails where its settings say. Calls count from 1 in each provider
 * opened.
 */
#include "mrpool/provider.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum fault_setting {
    FAIL_AT,
    FAIL_COUNT,
    FAIL_STATUS,
    DEREGISTER_FAIL_AT,
    DEREGISTER_FAIL_COUNT,
    HIDDEN_LIMIT,
    N_SETTINGS
};

#define COUNT(name, value, purpose) \
    { \
        "MRPOOL_FAULT_" name, MRP_SETTING_COUNT, 0, UINT64_MAX, "", value, purpose \
    }

static const struct mrp_setting_spec fault_settings[N_SETTINGS] = {
    [FAIL_AT] = COUNT("FAIL_AT", "0", "which registration fails first; 0 for none"),
    [FAIL_COUNT] = COUNT("FAIL_COUNT", "1", "how many fail in a row; 0 for all after it"),
    [FAIL_STATUS] = {"MRPOOL_FAULT_FAIL_STATUS", MRP_SETTING_CHOICE, 0, 0,
        "register|limit|memory|system|unsupported|unavailable", "register",
        "with which status they fail"},
    [DEREGISTER_FAIL_AT] =
        COUNT("DEREGISTER_FAIL_AT", "0", "which deregistration fails first; 0 for none"),
    [DEREGISTER_FAIL_COUNT] =
        COUNT("DEREGISTER_FAIL_COUNT", "1", "how many fail in a row; 0 for all after it"),
    [HIDDEN_LIMIT] = COUNT("HIDDEN_LIMIT", "0",
        "more live registrations are refused as a limit that query does not tell; 0 for "
        "none"),
};

struct fault_point {
    uint64_t at, count;
    _Atomic uint64_t n_calls;
};

struct fault_provider {
    struct fault_point on_register, on_deregister;
    enum mrp_status status;
    uint64_t hidden_limit;
    _Atomic uint64_t n_live, last_key;
};

static bool is_hit(struct fault_point *point, uint64_t *call)
{
    *call = ++point->n_calls;
    return point->at > 0 && *call >= point->at &&
        (point->count == 0 || *call - point->at < point->count);
}

static enum mrp_status status_of(const char *word)
{
    static const struct {
        const char *word;
        enum mrp_status status;
    } words[] = {
        {"limit", MRP_ERR_LIMIT},
        {"memory", MRP_ERR_MEMORY},
        {"system", MRP_ERR_SYSTEM},
        {"unsupported", MRP_ERR_UNSUPPORTED},
        {"unavailable", MRP_ERR_UNAVAILABLE},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(word, words[i].word) == 0) {
            return words[i].status;
        }
    }
    return MRP_ERR_REGISTER;
}

static enum mrp_status fault_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct fault_provider *provider = state;
    uint64_t call, key;

    if (is_hit(&provider->on_register, &call)) {
        return mrp_fail(provider->status, 0, "fault: registration %llu fails as told",
            (unsigned long long)call);
    }
    if (provider->hidden_limit > 0 && provider->n_live >= provider->hidden_limit) {
        return mrp_fail(MRP_ERR_LIMIT, 0, "fault: hidden_limit, %llu, is reached",
            (unsigned long long)provider->hidden_limit);
    }
    key = ++provider->last_key;
    provider->n_live++;
    registration->native = (void *)(uintptr_t)key;
    registration->local_desc = NULL;
    registration->remote_key = key;
    registration->key_blob = NULL;
    registration->key_size = sizeof(key);
    registration->remote_base = (uintptr_t)request->address;
    return MRP_OK;
}

static enum mrp_status fault_deregister(
    void *state, const struct mrp_registration *registration)
{
    struct fault_provider *provider = state;
    uint64_t call;

    (void)registration;
    if (is_hit(&provider->on_deregister, &call)) {
        return mrp_fail(MRP_ERR_REGISTER, 0, "fault: deregistration %llu fails as told",
            (unsigned long long)call);
    }
    provider->n_live--;
    return MRP_OK;
}

static enum mrp_status fault_open(
    const struct mrp_provider_open_request *request, void **state)
{
    struct fault_provider *provider = calloc(1, sizeof(*provider));

    if (provider == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "fault: out of memory");
    }
    provider->on_register.at = request->numbers[FAIL_AT];
    provider->on_register.count = request->numbers[FAIL_COUNT];
    provider->on_deregister.at = request->numbers[DEREGISTER_FAIL_AT];
    provider->on_deregister.count = request->numbers[DEREGISTER_FAIL_COUNT];
    provider->status = status_of(request->values[FAIL_STATUS]);
    provider->hidden_limit = request->numbers[HIDDEN_LIMIT];
    *state = provider;
    return MRP_OK;
}

static void fault_close(void *state)
{
    free(state);
}

static void fault_query(void *state, struct mrp_provider_info *info)
{
    (void)state;
    info->device = "";
    info->traits = MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS;
    info->access = MRP_ACCESS_ALL;
    info->memory_kinds = 1U << MRP_MEMORY_HOST;
    info->key_size = sizeof(uint64_t);
}

MRP_API const struct mrp_provider_ops mrp_provider_fault = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "fault",
    .purpose = "fails where it is told to; for tests",
    .settings = fault_settings,
    .n_settings = N_SETTINGS,
    .register_memory = fault_register,
    .deregister_memory = fault_deregister,
    .open = fault_open,
    .close = fault_close,
    .query = fault_query,
};
