/* SPDX-License-Identifier: BSD-3-Clause
 *
 * UCX: the module's table. context.c opens a context of its own, wrap.c takes the
 * caller's, register.c, keys.c and memory.c do the work, devices.c and resources.c look
 * around, log.c hears why UCX fails.
 */
#include "context.h"
#include "devices.h"
#include "keys.h"
#include "memory.h"
#include "register.h"

#include <string.h>

enum {
    SETTING_TLS,
    SETTING_DEVICES,
    SETTING_FEATURES,
    SETTING_THREADS,
    SETTING_RCACHE,
    SETTING_REVOKES,
    SETTING_CONFIG,
    N_SETTINGS
};

static const struct mrp_setting_spec settings[N_SETTINGS] = {
    [SETTING_TLS] = {"MRPOOL_UCX_TLS", MRP_SETTING_TEXT, 0, 0, NULL, "",
        "transports to open, as UCX_TLS, with + or a comma between: tcp, "
        "posix+sysv+self, rc+ud, ... (ucx_info -d); when empty what UCX_TLS says"},
    [SETTING_DEVICES] = {"MRPOOL_UCX_DEVICES", MRP_SETTING_TEXT, 0, 0, NULL, "",
        "network devices to open, as UCX_NET_DEVICES: eth0, mlx5_0:1, ...; when empty "
        "what UCX_NET_DEVICES says"},
    [SETTING_FEATURES] = {"MRPOOL_UCX_FEATURES", MRP_SETTING_TEXT, 0, 0, NULL,
        "rma+amo32+amo64+am+tag",
        "what the context is for, with + or a comma between: rma, amo32, amo64, am, tag, "
        "stream, wakeup; without rma and amo no remote access is granted"},
    [SETTING_THREADS] = {"MRPOOL_UCX_THREADS", MRP_SETTING_CHOICE, 0, 0, "multi|single",
        "multi",
        "whether workers of several threads may share the context (mt_workers_shared); "
        "with single, no other thread may use it while a pool grows"},
    [SETTING_RCACHE] = {"MRPOOL_UCX_RCACHE", MRP_SETTING_CHOICE, 0, 0, "ucx|try|y|n",
        "ucx",
        "UCX's own cache of registrations, UCX_RCACHE_ENABLE; ucx: as UCX says itself. "
        "It finds what pools have registered, and pins only other memory"},
    [SETTING_REVOKES] = {"MRPOOL_UCX_REVOKES", MRP_SETTING_SWITCH, 0, 0, NULL, "off",
        "whether ending a registration ends all access to it, so that abandoned regions "
        "may be revoked: on is true only of InfiniBand and RoCE alone, with "
        "UCX_IB_REG_METHODS=direct"},
    [SETTING_CONFIG] = {"MRPOOL_UCX_CONFIG", MRP_SETTING_TEXT, 0, 0, NULL, "",
        "other settings of UCX for this context, NAME=VALUE;NAME=VALUE without UCX_ and "
        "with + for commas; a transport's own without its name too: "
        "REG_METHODS=direct for UCX_IB_REG_METHODS"},
};

static const char *const cache_values[] = {NULL, "try", "y", "n"};

static const struct {
    const char *name;
    uint64_t bit;
} features[] = {
    {"rma", UCP_FEATURE_RMA},
    {"amo32", UCP_FEATURE_AMO32},
    {"amo64", UCP_FEATURE_AMO64},
    {"am", UCP_FEATURE_AM},
    {"tag", UCP_FEATURE_TAG},
    {"stream", UCP_FEATURE_STREAM},
    {"wakeup", UCP_FEATURE_WAKEUP},
};
#define N_FEATURES (sizeof features / sizeof features[0])

static enum mrp_status read_features(const char *text, uint64_t *bits)
{
    *bits = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, "+,"), i = 0;

        while (i < N_FEATURES &&
            (strlen(features[i].name) != length ||
                strncmp(text, features[i].name, length) != 0)) {
            i++;
        }
        if (i == N_FEATURES) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "MRPOOL_UCX_FEATURES: \"%.*s\" is none of rma, amo32, amo64, am, tag, "
                "stream, wakeup",
                (int)length, text);
        }
        *bits |= features[i].bit;
        text += length + (text[length] != '\0');
    }
    return *bits != 0 ? MRP_OK
                      : mrp_fail(MRP_ERR_INVALID, 0,
                            "MRPOOL_UCX_FEATURES is empty: UCX opens a context for at "
                            "least one feature, such as rma");
}

static enum mrp_status open_own(
    const struct mrp_provider_open_request *request, struct mrp_ucx_context **context)
{
    struct mrp_ucx_choice choice = {
        .transports = request->values[SETTING_TLS],
        .devices = request->values[SETTING_DEVICES],
        .cache = cache_values[request->numbers[SETTING_RCACHE]],
        .config = request->values[SETTING_CONFIG],
        .is_threaded = request->numbers[SETTING_THREADS] == 0,
    };
    enum mrp_status status =
        read_features(request->values[SETTING_FEATURES], &choice.features);

    return status == MRP_OK ? mrp_ucx_context_open(&choice, context) : status;
}

static enum mrp_status open_context(
    const struct mrp_provider_open_request *request, void **state)
{
    struct mrp_ucx_context *context;
    enum mrp_status status = request->native != NULL
        ? mrp_ucx_context_wrap(request->native, &context)
        : open_own(request, &context);

    if (status == MRP_OK) {
        context->is_revoking = request->numbers[SETTING_REVOKES] != 0;
        *state = context;
    }
    return status;
}

static void close_context(void *state)
{
    mrp_ucx_context_destroy(state);
}

/* Which memory kinds ucp_mem_map takes, in our numbers. */
static uint32_t memory_kinds(const struct mrp_ucx_context *context)
{
    uint32_t kinds = 1u << MRP_MEMORY_HOST;

    if ((context->memory_types >> UCS_MEMORY_TYPE_CUDA & 1) != 0) {
        kinds |= 1u << MRP_MEMORY_CUDA;
    }
    if ((context->memory_types >> UCS_MEMORY_TYPE_ROCM & 1) != 0) {
        kinds |= 1u << MRP_MEMORY_ROCM;
    }
    return kinds;
}

/* No limits are known: UCX tells none of its devices. The memory handle is passed to an
 * operation by choice (UCP_OP_ATTR_FIELD_MEMH), so MRP_PROVIDER_LOCAL_DESC is not set. */
static void query_context(void *state, struct mrp_provider_info *info)
{
    const struct mrp_ucx_context *context = state;

    info->device = context->device;
    info->access = mrp_ucx_context_access(context);
    info->traits = MRP_PROVIDER_VIRTUAL_ADDRESS |
        (context->is_pinning ? MRP_PROVIDER_PINS : 0u) |
        (context->is_revoking ? MRP_PROVIDER_REVOKES : 0u);
    if (info->access != MRP_ACCESS_LOCAL) {
        info->traits |= MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_RAW_KEY;
    }
    info->memory_kinds = memory_kinds(context);
    info->key_size = context->key_size;
    info->node = context->node;
}

static const void *show_native(void *state)
{
    return &((struct mrp_ucx_context *)state)->native;
}

MRP_API const struct mrp_provider_ops mrp_provider_ucx = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "ucx",
    .purpose = "UCX: tcp, shared memory, InfiniBand, ... or a context of the caller's",
    .settings = settings,
    .n_settings = N_SETTINGS,

    .register_memory = mrp_ucx_register_memory,
    .deregister_memory = mrp_ucx_deregister_memory,
    .open = open_context,

    .close = close_context,
    .query = query_context,
    .devices = mrp_ucx_devices,
    .import_key = mrp_ucx_import_key,
    .release_key = mrp_ucx_release_key,
    .native = show_native,
    .backend = &mrp_ucx_backend,
};
