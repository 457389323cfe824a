/* SPDX-License-Identifier: BSD-3-Clause
 *
 * io_uring: the module's table. ring.c sets up a ring of its own, wrap.c takes the
 * caller's, register.c does the work.
 */
#include "register.h"
#include "ring.h"

#include <stdio.h>
#include <sys/utsname.h>

enum {
    SETTING_ENTRIES,
    SETTING_BUFFERS,
    N_SETTINGS
};

static const struct mrp_setting_spec settings[N_SETTINGS] = {
    [SETTING_ENTRIES] = {"MRPOOL_URING_ENTRIES", MRP_SETTING_COUNT, 1, 32768, NULL, "64",
        "requests that the submission queue of the provider's own ring holds"},
    [SETTING_BUFFERS] = {"MRPOOL_URING_BUFFERS", MRP_SETTING_COUNT, 1,
        MRP_URING_BUFFERS_MAX, NULL, "1024",
        "entries of the buffer table of the provider's own ring: registrations at once"},
};

static enum mrp_status open_ring(
    const struct mrp_provider_open_request *request, void **state)
{
    struct mrp_uring_ring *ring;
    enum mrp_status status = request->native != NULL
        ? mrp_uring_ring_wrap(request->native, &ring)
        : mrp_uring_ring_open((unsigned)request->numbers[SETTING_ENTRIES],
              (unsigned)request->numbers[SETTING_BUFFERS], &ring);

    if (status == MRP_OK) {
        *state = ring;
    }
    return status;
}

static void close_ring(void *state)
{
    mrp_uring_ring_destroy(state);
}

/* Not REVOKES: a request that is under way keeps its buffer until it is over, whether the
 * entry has been emptied or not. */
static void query_ring(void *state, struct mrp_provider_info *info)
{
    const struct mrp_uring_ring *ring = state;

    info->device = ring->device;
    info->traits = MRP_PROVIDER_PINS | MRP_PROVIDER_LOCAL_DESC;
    info->access = MRP_ACCESS_LOCAL;
    info->memory_kinds = 1u << MRP_MEMORY_HOST;
    info->max_registrations = ring->count;
    info->max_size = MRP_URING_BUFFER_SIZE_MAX;
    info->key_size = 0;
    info->node = 0;
}

/* Whether the kernel knows zero-copy sends, what the buffers are wanted for most. */
static bool has_zero_copy_send(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool has = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_SEND_ZC) != 0;

    io_uring_free_probe(probe);
    return has;
}

/* There is one as soon as a ring can be set up. */
static enum mrp_status list_devices(mrp_device_visitor *visit, void *user)
{
    struct mrp_device device = {sizeof(device), "io_uring", "", "", NULL};
    struct utsname kernel = {.release = "?"};
    struct mrp_uring_ring *ring;
    enum mrp_status status = mrp_uring_ring_open(1, 1, &ring);
    char detail[160];

    if (status != MRP_OK) {
        return status;
    }
    uname(&kernel);
    snprintf(detail, sizeof(detail),
        "kernel %.40s: up to %d fixed buffers of up to 1 GiB; zero-copy send: %s",
        kernel.release, MRP_URING_BUFFERS_MAX,
        has_zero_copy_send(&ring->own) ? "yes" : "no");
    device.detail = detail;
    visit(&device, user);
    mrp_uring_ring_destroy(ring);
    return MRP_OK;
}

static const void *show_native(void *state)
{
    return &((struct mrp_uring_ring *)state)->native;
}

MRP_API const struct mrp_provider_ops mrp_provider_uring = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "uring",
    .purpose = "io_uring fixed buffers: of a ring of the caller's, or of its own",
    .settings = settings,
    .n_settings = N_SETTINGS,

    .register_memory = mrp_uring_register_memory,
    .deregister_memory = mrp_uring_deregister_memory,
    .open = open_ring,

    .close = close_ring,
    .query = query_ring,
    .devices = list_devices,
    .native = show_native,
};
