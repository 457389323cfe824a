/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A stand-in for libibverbs, for what soft-RoCE never does: the program's own functions of
 * these names are found before the library's, and serve the module. Two devices, two
 * ports; calls are noted, and fail as they are told to.
 */
#ifndef MRP_TEST_VERBS_FAKE_H
#define MRP_TEST_VERBS_FAKE_H

#include "verbs_module.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The functions behind the header's macros. */
#undef ibv_reg_mr
#undef ibv_query_port

#define FAKE_DEVICES 2
#define FAKE_PORTS 2

static struct fake {
    /* what the devices are like */
    int n_devices, list_errno, open_errno;
    enum ibv_port_state states[FAKE_DEVICES][FAKE_PORTS];
    struct ibv_device_attr_ex attr;
    struct ibv_gid_entry gids[4];
    size_t n_gids;
    enum ibv_fork_status fork_status;
    int fork_errno;

    /* what the next calls do */
    int reg_errno, dereg_errno, query_errno;
    bool has_dmabuf;
    uint32_t next_key;

    /* what was asked for */
    char calls[512]; /* "fork_init open reg " */
    unsigned access;
    uint64_t iova, offset;
    size_t size;
    int fd;
    int n_mrs, n_pds, n_contexts; /* live now */

    struct ibv_device devices[FAKE_DEVICES];
    struct verbs_context contexts[FAKE_DEVICES];
    int events[2]; /* a pipe of event types, of the first device */
} fake;

static void note(const char *call)
{
    size_t used = strlen(fake.calls);

    snprintf(fake.calls + used, sizeof(fake.calls) - used, "%s ", call);
}

static int fake_query_device_ex(struct ibv_context *context,
    const struct ibv_query_device_ex_input *input, struct ibv_device_attr_ex *attr,
    size_t size)
{
    (void)context;
    (void)input;
    memcpy(attr, &fake.attr, size);
    return 0;
}

static int fake_query_port(
    struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr, size_t size)
{
    memset(attr, 0, size);
    attr->state = fake.states[context->device - fake.devices][port - 1];
    attr->link_layer = IBV_LINK_LAYER_ETHERNET;
    attr->active_mtu = IBV_MTU_4096;
    attr->gid_tbl_len = 4;
    return 0;
}

/* Both ports of both devices active, and everything works. */
static int fake_reset(void **test)
{
    (void)test;
    memset(&fake, 0, sizeof(fake));
    fake.n_devices = FAKE_DEVICES;
    fake.fork_status = IBV_FORK_UNNEEDED;
    fake.next_key = 0x100;
    fake.attr.orig_attr.phys_port_cnt = FAKE_PORTS;
    fake.attr.orig_attr.max_mr = 1000;
    fake.attr.orig_attr.max_mr_size = UINT64_MAX;
    fake.attr.orig_attr.atomic_cap = IBV_ATOMIC_HCA;
    for (int i = 0; i < FAKE_DEVICES; i++) {
        struct verbs_context *context = &fake.contexts[i];

        snprintf(fake.devices[i].name, sizeof(fake.devices[i].name), "fake%d", i);
        snprintf(
            fake.devices[i].dev_name, sizeof(fake.devices[i].dev_name), "uverbs%d", i);
        context->sz = sizeof(*context);
        context->query_device_ex = fake_query_device_ex;
        context->query_port = fake_query_port;
        context->context.abi_compat = __VERBS_ABI_IS_EXTENDED;
        context->context.device = &fake.devices[i];
        for (int j = 0; j < FAKE_PORTS; j++) {
            fake.states[i][j] = IBV_PORT_ACTIVE;
        }
    }
    assert_int_equal(pipe2(fake.events, O_CLOEXEC), 0);
    fake.contexts[0].context.async_fd = fake.events[0];
    fake.contexts[1].context.async_fd = -1;
    return 0;
}

/* Nothing may be left open, made or registered. */
static int fake_check(void **test)
{
    (void)test;
    close(fake.events[0]);
    close(fake.events[1]);
    assert_int_equal(fake.n_mrs, 0);
    assert_int_equal(fake.n_pds, 0);
    assert_int_equal(fake.n_contexts, 0);
    return 0;
}

static void fake_event(enum ibv_event_type type)
{
    unsigned char byte = (unsigned char)type;

    assert_int_equal(write(fake.events[1], &byte, 1), 1);
}

/* -- libibverbs -- */

MRP_API struct ibv_device **ibv_get_device_list(int *n_devices)
{
    struct ibv_device **list;

    errno = fake.list_errno;
    if (fake.list_errno != 0) {
        return NULL;
    }
    list = calloc((size_t)fake.n_devices + 1, sizeof(*list));
    for (int i = 0; i < fake.n_devices; i++) {
        list[i] = &fake.devices[i];
    }
    *n_devices = fake.n_devices;
    return list;
}

MRP_API void ibv_free_device_list(struct ibv_device **list)
{
    free(list);
}

MRP_API const char *ibv_get_device_name(struct ibv_device *device)
{
    return device->name;
}

MRP_API struct ibv_context *ibv_open_device(struct ibv_device *device)
{
    note("open");
    errno = fake.open_errno;
    if (fake.open_errno != 0) {
        return NULL;
    }
    fake.n_contexts++;
    return &fake.contexts[device - fake.devices].context;
}

MRP_API int ibv_close_device(struct ibv_context *context)
{
    (void)context;
    fake.n_contexts--;
    return 0;
}

MRP_API int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
    (void)context;
    *attr = fake.attr.orig_attr;
    return fake.query_errno;
}

MRP_API ssize_t _ibv_query_gid_table(struct ibv_context *context,
    struct ibv_gid_entry *entries, size_t n_entries, uint32_t flags, size_t entry_size)
{
    (void)context;
    (void)flags;
    assert_true(n_entries >= fake.n_gids && entry_size == sizeof(*entries));
    memcpy(entries, fake.gids, fake.n_gids * sizeof(*entries));
    return (ssize_t)fake.n_gids;
}

MRP_API struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
    struct ibv_pd *pd = calloc(1, sizeof(*pd));

    pd->context = context;
    fake.n_pds++;
    return pd;
}

MRP_API int ibv_dealloc_pd(struct ibv_pd *pd)
{
    fake.n_pds--;
    free(pd);
    return 0;
}

static struct ibv_mr *fake_mr(struct ibv_pd *pd, void *address, size_t size)
{
    struct ibv_mr *mr;

    errno = fake.reg_errno;
    if (fake.reg_errno != 0) {
        return NULL;
    }
    mr = calloc(1, sizeof(*mr));
    mr->context = pd->context;
    mr->pd = pd;
    mr->addr = address;
    mr->length = size;
    mr->lkey = fake.next_key;
    mr->rkey = fake.next_key + 1;
    fake.next_key += 0x100;
    fake.n_mrs++;
    return mr;
}

MRP_API struct ibv_mr *ibv_reg_mr_iova2(
    struct ibv_pd *pd, void *address, size_t size, uint64_t iova, unsigned access)
{
    note("reg");
    fake.access = access;
    fake.size = size;
    fake.iova = iova;
    return fake_mr(pd, address, size);
}

MRP_API struct ibv_mr *ibv_reg_dmabuf_mr(
    struct ibv_pd *pd, uint64_t offset, size_t size, uint64_t iova, int fd, int access)
{
    errno = fake.has_dmabuf ? EBADF : EOPNOTSUPP;
    if (!fake.has_dmabuf || fd < 0) {
        return NULL;
    }
    note("reg_dmabuf");
    fake.access = (unsigned)access;
    fake.offset = offset;
    fake.size = size;
    fake.iova = iova;
    fake.fd = fd;
    return fake_mr(pd, NULL, size);
}

MRP_API int ibv_dereg_mr(struct ibv_mr *mr)
{
    note("dereg");
    if (fake.dereg_errno != 0) {
        return fake.dereg_errno;
    }
    fake.n_mrs--;
    free(mr);
    return 0;
}

MRP_API int ibv_get_async_event(
    struct ibv_context *context, struct ibv_async_event *event)
{
    unsigned char byte;

    if (read(context->async_fd, &byte, 1) != 1) {
        return -1;
    }
    memset(event, 0, sizeof(*event));
    event->event_type = (enum ibv_event_type)byte;
    return 0;
}

MRP_API void ibv_ack_async_event(struct ibv_async_event *event)
{
    (void)event;
    note("ack");
}

MRP_API enum ibv_fork_status ibv_is_fork_initialized(void)
{
    return fake.fork_status;
}

MRP_API int ibv_fork_init(void)
{
    note("fork_init");
    if (fake.fork_errno == 0) {
        fake.fork_status = IBV_FORK_ENABLED;
    }
    return fake.fork_errno;
}

#endif
