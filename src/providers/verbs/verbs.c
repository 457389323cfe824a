/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Verbs: the module's table. device.c opens a device of its own, wrap.c takes the caller's
 * domain, register.c does the work, ports.c looks around.
 */
#include "device.h"
#include "ports.h"
#include "register.h"

enum {
    SETTING_DEVICE,
    SETTING_PORT,
    SETTING_GID_INDEX,
    SETTING_RELAXED_ORDERING,
    SETTING_ODP,
    SETTING_FORK,
    N_SETTINGS
};

static const struct mrp_setting_spec settings[N_SETTINGS] = {
    [SETTING_DEVICE] = {"MRPOOL_VERBS_DEVICE", MRP_SETTING_TEXT, 0, 0, NULL, "",
        "device to open: mlx5_0, rxe0, ... (`rdma link`); when empty the first with an "
        "active port"},
    [SETTING_PORT] = {"MRPOOL_VERBS_PORT", MRP_SETTING_COUNT, 0, 255, NULL, "0",
        "its port, active or not; 0: the first active one"},
    [SETTING_GID_INDEX] = {"MRPOOL_VERBS_GID_INDEX", MRP_SETTING_COUNT, 0, 65535, NULL,
        "",
        "index of the port's address (GID) for queue pairs made on this device; when "
        "empty a RoCE v2 one, of IPv4 before others, else the first"},
    [SETTING_RELAXED_ORDERING] = {"MRPOOL_VERBS_RELAXED_ORDERING", MRP_SETTING_SWITCH, 0,
        0, NULL, "off",
        "let the bus reorder the device's writes: faster on some machines, wrong for who "
        "polls on the last byte of a write instead of its completion"},
    [SETTING_ODP] = {"MRPOOL_VERBS_ODP", MRP_SETTING_SWITCH, 0, 0, NULL, "off",
        "on-demand paging: pin nothing, let the device fault pages in; refused by "
        "devices without it"},
    [SETTING_FORK] = {"MRPOOL_VERBS_FORK", MRP_SETTING_SWITCH, 0, 0, NULL, "off",
        "make forking safe where the kernel does not by itself (before Linux 5.12) by "
        "ibv_fork_init, or refuse to open"},
};

static enum mrp_status open_device(
    const struct mrp_provider_open_request *request, void **state)
{
    const uint64_t *numbers = request->numbers;
    const struct mrp_verbs_choice choice = {
        .device = request->values[SETTING_DEVICE],
        .port = (unsigned)numbers[SETTING_PORT],
        .gid_index = request->values[SETTING_GID_INDEX][0] != '\0'
            ? (int)numbers[SETTING_GID_INDEX]
            : -1,
        .relaxed_ordering = numbers[SETTING_RELAXED_ORDERING] != 0,
        .on_demand = numbers[SETTING_ODP] != 0,
        .fork = numbers[SETTING_FORK] != 0,
    };
    struct mrp_verbs_device *device = NULL;
    enum mrp_status status = request->native != NULL
        ? mrp_verbs_device_wrap(request->native, &choice, &device)
        : mrp_verbs_device_open(&choice, &device);

    if (status == MRP_OK) {
        *state = device;
    }
    return status;
}

static void close_device(void *state)
{
    mrp_verbs_device_close(state);
}

static void query_device(void *state, struct mrp_provider_info *info)
{
    const struct mrp_verbs_device *device = state;

    info->device = device->name;
    /* The device looks the key up for each packet, and ibv_dereg_mr returns when it has
     * done with the last. */
    info->traits = MRP_PROVIDER_LOCAL_DESC | MRP_PROVIDER_REMOTE_KEY |
        MRP_PROVIDER_VIRTUAL_ADDRESS | MRP_PROVIDER_REVOKES |
        (device->on_demand ? 0u : MRP_PROVIDER_PINS);
    info->access = device->access;
    info->memory_kinds = 1u << MRP_MEMORY_HOST;
    if (device->has_dmabuf && !device->on_demand) {
        info->memory_kinds |= 1u << MRP_MEMORY_CUDA | 1u << MRP_MEMORY_ROCM;
    }
    info->max_registrations = device->max_mr;
    info->max_size = device->max_mr_size;
    info->key_size = sizeof(uint32_t);
    info->node = device->node;
}

static const void *show_native(void *state)
{
    return &((struct mrp_verbs_device *)state)->native;
}

MRP_API const struct mrp_provider_ops mrp_provider_verbs = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "verbs",
    .purpose =
        "libibverbs: InfiniBand, RoCE, iWARP, or a protection domain of the caller's",
    .settings = settings,
    .n_settings = N_SETTINGS,

    .register_memory = mrp_verbs_register_memory,
    .deregister_memory = mrp_verbs_deregister_memory,
    .open = open_device,

    .close = close_device,
    .query = query_device,
    .devices = mrp_verbs_devices,
    .native = show_native,
};
