/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The verbs provider on devices of the test's own making: what neither a machine without
 * one nor soft-RoCE can show. Lost devices, iWARP, dma-buf, on-demand paging, kernels
 * that need ibv_fork_init, ports that are down.
 */
#include "verbs_fake.h"

static char memory[8192] __attribute__((aligned(4096)));

/* -- what is asked of the device -- */

static void register__least_access_flags(void **test)
{
    enum {
        LOCAL = IBV_ACCESS_LOCAL_WRITE,
        READ = IBV_ACCESS_REMOTE_READ,
        WRITE = IBV_ACCESS_REMOTE_WRITE,
        ATOMIC = IBV_ACCESS_REMOTE_ATOMIC
    };
    static const struct {
        uint32_t access;
        enum ibv_transport_type transport;
        unsigned flags;
    } cases[] = {
        {MRP_ACCESS_LOCAL_READ, IBV_TRANSPORT_IB, 0},
        {MRP_ACCESS_LOCAL_WRITE, IBV_TRANSPORT_IB, LOCAL},
        {MRP_ACCESS_LOCAL, IBV_TRANSPORT_IB, LOCAL},
        {MRP_ACCESS_REMOTE_READ, IBV_TRANSPORT_IB, READ},
        {MRP_ACCESS_REMOTE_WRITE, IBV_TRANSPORT_IB, LOCAL | WRITE},
        {MRP_ACCESS_REMOTE_ATOMIC, IBV_TRANSPORT_IB, LOCAL | ATOMIC},
        {MRP_ACCESS_ALL, IBV_TRANSPORT_IB, LOCAL | READ | WRITE | ATOMIC},
        {MRP_ACCESS_LOCAL_READ, IBV_TRANSPORT_IWARP, 0},
        {MRP_ACCESS_LOCAL, IBV_TRANSPORT_IWARP, LOCAL | WRITE},
        {MRP_ACCESS_REMOTE_READ, IBV_TRANSPORT_IWARP, READ},
    };

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool is_remote = (cases[i].access & ~(uint32_t)MRP_ACCESS_LOCAL) != 0;
        struct mrp_registration made;
        void *state;

        fake.devices[0].transport_type = cases[i].transport;
        assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
        assert_int_equal(
            verbs_register(state, memory, 5000, cases[i].access, &made), MRP_OK);
        assert_int_equal(fake.access, cases[i].flags);
        assert_int_equal(fake.size, 5000);
        assert_int_equal(fake.iova, (uintptr_t)memory);
        assert_int_equal(
            (uintptr_t)made.local_desc, ((struct ibv_mr *)made.native)->lkey);
        assert_int_equal(made.key_size, is_remote ? 4 : 0);
        assert_int_equal(
            made.remote_key, is_remote ? ((struct ibv_mr *)made.native)->rkey : 0);
        assert_int_equal(made.remote_base, is_remote ? (uintptr_t)memory : 0);
        assert_int_equal(verbs_deregister(state, &made), MRP_OK);
        verbs_close(state);
    }
}

static void register__flags_of_settings_and_caller(void **test)
{
    struct mrp_register_request request = verbs_request(memory, 4096, MRP_ACCESS_LOCAL);
    struct mrp_registration made = {0};
    void *state;

    (void)test;
    assert_int_equal(verbs_open("relaxed_ordering=on", NULL, &state), MRP_OK);
    request.native_flags = IBV_ACCESS_MW_BIND;
    assert_int_equal(verbs_ops()->register_memory(state, &request, &made), MRP_OK);
    assert_int_equal(fake.access,
        IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND | IBV_ACCESS_RELAXED_ORDERING);
    assert_int_equal(verbs_deregister(state, &made), MRP_OK);
    request.native_flags = IBV_ACCESS_ZERO_BASED;
    assert_error(verbs_ops()->register_memory(state, &request, &made), MRP_ERR_INVALID,
        "IBV_ACCESS_ZERO_BASED");
    request.native_flags = UINT64_C(1) << 40;
    assert_error(verbs_ops()->register_memory(state, &request, &made), MRP_ERR_INVALID,
        "0x10000000000");
    verbs_close(state);
}

/* As a descriptor it would mean that none is needed. */
static void register__never_a_local_key_of_zero(void **test)
{
    struct mrp_registration made;
    void *state;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    fake.next_key = 0;
    assert_int_equal(verbs_register(state, memory, 4096, MRP_ACCESS_ALL, &made), MRP_OK);
    assert_int_equal((uintptr_t)made.local_desc, 0x100);
    assert_int_equal(made.remote_key, 0x101);
    assert_string_equal(fake.calls, "open reg reg dereg ");
    assert_int_equal(fake.n_mrs, 1);
    assert_int_equal(verbs_deregister(state, &made), MRP_OK);
    verbs_close(state);
}

static void query__no_atomics_where_there_are_none(void **test)
{
    void *state;

    (void)test;
    fake.attr.orig_attr.atomic_cap = IBV_ATOMIC_NONE;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_int_equal(verbs_query(state).access, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE);
    verbs_close(state);
}

static void query__limits_of_the_device(void **test)
{
    void *state;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_int_equal(verbs_query(state).max_registrations, 1000);
    assert_int_equal(verbs_query(state).max_size, 0); /* all ones: no limit */
    verbs_close(state);
    fake.attr.orig_attr.max_mr = 0;
    fake.attr.orig_attr.max_mr_size = UINT64_C(1) << 31;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_int_equal(verbs_query(state).max_registrations, 0);
    assert_int_equal(verbs_query(state).max_size, UINT64_C(1) << 31);
    verbs_close(state);
}

/* -- dma-buf -- */

static void register__dmabuf(void **test)
{
    struct mrp_register_request request = verbs_request(memory, 4096, MRP_ACCESS_ALL);
    struct mrp_registration made = {0};
    void *state;

    (void)test;
    request.has_dmabuf = true;
    request.dmabuf_fd = 42;
    request.dmabuf_offset = 12288;
    request.kind = MRP_MEMORY_CUDA;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_int_equal(verbs_query(state).memory_kinds, 1 << MRP_MEMORY_HOST);
    assert_error(verbs_ops()->register_memory(state, &request, &made),
        MRP_ERR_UNSUPPORTED, "dma-buf on fake0 port 1");
    verbs_close(state);

    fake.has_dmabuf = true;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_int_equal(verbs_query(state).memory_kinds,
        1 << MRP_MEMORY_HOST | 1 << MRP_MEMORY_CUDA | 1 << MRP_MEMORY_ROCM);
    fake.calls[0] = '\0';
    assert_int_equal(verbs_ops()->register_memory(state, &request, &made), MRP_OK);
    assert_string_equal(fake.calls, "reg_dmabuf ");
    assert_int_equal(fake.fd, 42);
    assert_int_equal(fake.offset, 12288);
    assert_int_equal(fake.iova, (uintptr_t)memory);
    assert_int_equal(made.remote_base, (uintptr_t)memory);
    assert_int_equal(verbs_deregister(state, &made), MRP_OK);
    request.has_dmabuf = false;
    assert_error(verbs_ops()->register_memory(state, &request, &made),
        MRP_ERR_UNSUPPORTED, "through a dma-buf only");
    verbs_close(state);
}

/* -- on-demand paging -- */

static void open__on_demand_paging(void **test)
{
    struct mrp_registration made;
    void *state = test;

    assert_error(
        verbs_open("odp=on", NULL, &state), MRP_ERR_UNAVAILABLE, "MRPOOL_VERBS_ODP");
    assert_ptr_equal(state, test);
    fake.attr.odp_caps.general_caps = IBV_ODP_SUPPORT;
    fake.attr.odp_caps.per_transport_caps.rc_odp_caps =
        IBV_ODP_SUPPORT_READ | IBV_ODP_SUPPORT_WRITE;
    assert_int_equal(verbs_open("odp=on", NULL, &state), MRP_OK);
    assert_int_equal(verbs_query(state).access, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE);
    assert_int_equal(verbs_query(state).traits & MRP_PROVIDER_PINS, 0);
    assert_int_equal(
        verbs_register(state, memory, 4096, MRP_ACCESS_LOCAL, &made), MRP_OK);
    assert_int_equal(fake.access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
    assert_int_equal(verbs_deregister(state, &made), MRP_OK);
    verbs_close(state);
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_int_not_equal(verbs_query(state).traits & MRP_PROVIDER_PINS, 0);
    verbs_close(state);
}

/* -- what fails -- */

static void register__says_what_is_wrong(void **test)
{
    static const struct {
        int code;
        enum mrp_status status;
        const char *words[3];
    } cases[] = {
        {ENOMEM, MRP_ERR_MEMORY, {"5000 bytes", "the device has 1000", "register less"}},
        {EAGAIN, MRP_ERR_LIMIT, {"hca_object", "0 registrations", "raise it"}},
        {EINVAL, MRP_ERR_REGISTER, {"5000 bytes", "Invalid argument", "access 0x1f"}},
        {EFAULT, MRP_ERR_REGISTER, {"Bad address", "fake0 port 1", "ibv_reg_mr"}},
        {EIO, MRP_ERR_REGISTER, {"5000 bytes", "Input/output error", "ibv_reg_mr"}},
        {EIO, MRP_ERR_UNAVAILABLE, {"failed or was taken out", "close", "fake0"}},
        {ENODEV, MRP_ERR_UNAVAILABLE, {"failed or was taken out", "close", "fake0"}},
    };

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool is_lost = cases[i].status == MRP_ERR_UNAVAILABLE;
        struct mrp_registration made;
        void *state;

        assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
        fake.reg_errno = cases[i].code;
        fake.query_errno = is_lost ? cases[i].code : 0;
        assert_error(verbs_register(state, memory, 5000, MRP_ACCESS_ALL, &made),
            cases[i].status, cases[i].words[0]);
        assert_error(mrp_error_last()->status, cases[i].status, cases[i].words[1]);
        assert_error(mrp_error_last()->status, cases[i].status, cases[i].words[2]);
        assert_int_equal(mrp_error_last()->native, cases[i].code);
        assert_null(made.native);

        /* a lost device is not asked again, any other is */
        fake.reg_errno = fake.query_errno = 0;
        fake.calls[0] = '\0';
        assert_int_equal(verbs_register(state, memory, 5000, MRP_ACCESS_ALL, &made),
            is_lost ? MRP_ERR_UNAVAILABLE : MRP_OK);
        assert_string_equal(fake.calls, is_lost ? "" : "reg ");
        if (!is_lost) {
            assert_int_equal(verbs_deregister(state, &made), MRP_OK);
        }
        verbs_close(state);
    }
}

static void register__fatal_event_of_an_own_device(void **test)
{
    struct mrp_registration made;
    void *state;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    fake.reg_errno = ETIMEDOUT;
    fake_event(IBV_EVENT_PORT_ERR);
    assert_int_equal(
        verbs_register(state, memory, 4096, MRP_ACCESS_ALL, &made), MRP_ERR_REGISTER);
    assert_string_equal(fake.calls, "open reg ack ");
    fake_event(IBV_EVENT_DEVICE_FATAL);
    assert_int_equal(
        verbs_register(state, memory, 4096, MRP_ACCESS_ALL, &made), MRP_ERR_UNAVAILABLE);
    verbs_close(state);
}

/* As long as no more fails than a request they are for whoever has the context. */
static void register__leaves_events_alone(void **test)
{
    struct mrp_verbs_wrap_params params = MRP_VERBS_WRAP_PARAMS_INIT;
    struct mrp_registration made;
    void *state;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    fake_event(IBV_EVENT_QP_FATAL);
    assert_int_equal(verbs_register(state, memory, 4096, MRP_ACCESS_ALL, &made), MRP_OK);
    assert_int_equal(verbs_deregister(state, &made), MRP_OK);
    fake.reg_errno = ENOMEM;
    assert_int_equal(
        verbs_register(state, memory, 4096, MRP_ACCESS_ALL, &made), MRP_ERR_MEMORY);
    verbs_close(state);
    assert_null(strstr(fake.calls, "ack"));

    params.pd = ibv_alloc_pd(&fake.contexts[0].context);
    assert_int_equal(verbs_open("", &params, &state), MRP_OK);
    fake.reg_errno = ETIMEDOUT;
    assert_int_equal(
        verbs_register(state, memory, 4096, MRP_ACCESS_ALL, &made), MRP_ERR_REGISTER);
    assert_null(strstr(fake.calls, "ack"));
    verbs_close(state);
    assert_int_equal(ibv_dealloc_pd(params.pd), 0);
}

static void deregister__refused_is_tried_again_at_the_end(void **test)
{
    struct mrp_registration made;
    void *state;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_int_equal(verbs_register(state, memory, 4096, MRP_ACCESS_ALL, &made), MRP_OK);
    fake.dereg_errno = EBUSY;
    assert_error(verbs_deregister(state, &made), MRP_ERR_REGISTER, "memory window");
    assert_int_equal(fake.n_mrs, 1);
    fake.dereg_errno = 0;
    verbs_close(state); /* fake_check: none is left */
}

/* -- fork -- */

static void open__fork_is_made_safe_where_asked_for(void **test)
{
    void *state = test;

    fake.fork_status = IBV_FORK_DISABLED;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    assert_false(verbs_native(state)->fork_safe);
    assert_string_equal(fake.calls, "open ");
    verbs_close(state);

    assert_int_equal(verbs_open("fork=on", NULL, &state), MRP_OK);
    assert_true(verbs_native(state)->fork_safe);
    assert_string_equal(fake.calls, "open fork_init open ");
    verbs_close(state);

    fake.fork_status = IBV_FORK_DISABLED;
    fake.fork_errno = EINVAL;
    state = test;
    assert_error(
        verbs_open("fork=on", NULL, &state), MRP_ERR_UNAVAILABLE, "RDMAV_FORK_SAFE=1");
    assert_ptr_equal(state, test);

    fake.fork_status = IBV_FORK_UNNEEDED;
    fake.calls[0] = '\0';
    assert_int_equal(verbs_open("fork=on", NULL, &state), MRP_OK);
    assert_true(verbs_native(state)->fork_safe);
    assert_string_equal(fake.calls, "open ");
    verbs_close(state);
}

/* -- which device, which port, which address -- */

static void assert_opens(const char *options, const char *device)
{
    void *state;

    assert_int_equal(verbs_open(options, NULL, &state), MRP_OK);
    assert_string_equal(verbs_query(state).device, device);
    verbs_close(state);
}

static void open__first_active_port(void **test)
{
    void *state = test;

    assert_opens("", "fake0 port 1");
    assert_opens("device=fake1", "fake1 port 1");
    fake.states[0][0] = IBV_PORT_DOWN;
    assert_opens("", "fake0 port 2");
    assert_opens("port=1", "fake0 port 1");
    fake.states[0][1] = IBV_PORT_INIT;
    assert_opens("", "fake1 port 1");
    assert_error(verbs_open("device=fake0", NULL, &state), MRP_ERR_UNAVAILABLE,
        "fake0 has no active port of 2");
    assert_error(verbs_open("device=fake0,port=3", NULL, &state), MRP_ERR_UNAVAILABLE,
        "fake0 has 2 ports, no port 3");
    assert_error(verbs_open("device=mlx5_9", NULL, &state), MRP_ERR_UNAVAILABLE,
        "'mlx5_9': there are fake0, fake1");
    assert_ptr_equal(state, test);
}

static void open__no_device(void **test)
{
    void *state = test;

    fake.n_devices = 0;
    assert_error(verbs_open("", NULL, &state), MRP_ERR_UNAVAILABLE, "finds none");
    assert_error(MRP_ERR_UNAVAILABLE, MRP_ERR_UNAVAILABLE, "rdma link");
    fake.n_devices = 1;
    fake.open_errno = EACCES;
    assert_error(
        verbs_open("", NULL, &state), MRP_ERR_UNAVAILABLE, "/dev/infiniband/uverbs0");
    fake.list_errno = ENOSYS;
    assert_error(verbs_open("", NULL, &state), MRP_ERR_UNAVAILABLE, "rdma-core");
    assert_int_equal(mrp_error_last()->native, ENOSYS);
    assert_ptr_equal(state, test);
}

static void add_gid(uint32_t index, uint32_t port, uint32_t type, bool is_ipv4)
{
    struct ibv_gid_entry *entry = &fake.gids[fake.n_gids++];

    *entry =
        (struct ibv_gid_entry){.gid_index = index, .port_num = port, .gid_type = type};
    entry->gid.raw[0] = is_ipv4 ? 0 : 0xfe;
    entry->gid.raw[10] = entry->gid.raw[11] = is_ipv4 ? 0xff : 0;
    entry->gid.raw[15] = (uint8_t)(index + 1);
}

static int gid_chosen(const char *options)
{
    void *state;
    int index;

    assert_int_equal(verbs_open(options, NULL, &state), MRP_OK);
    index = verbs_native(state)->gid_index;
    verbs_close(state);
    return index;
}

static void open__best_address_of_the_port(void **test)
{
    void *state = test;

    assert_int_equal(gid_chosen(""), 0); /* none at all */
    add_gid(0, 1, IBV_GID_TYPE_ROCE_V1, false);
    assert_int_equal(gid_chosen(""), 0);
    add_gid(1, 1, IBV_GID_TYPE_ROCE_V2, false);
    assert_int_equal(gid_chosen(""), 1);
    add_gid(5, 2, IBV_GID_TYPE_ROCE_V2, true);
    assert_int_equal(gid_chosen(""), 1);
    assert_int_equal(gid_chosen("port=2"), 5);
    add_gid(3, 1, IBV_GID_TYPE_ROCE_V2, true);
    assert_int_equal(gid_chosen(""), 3);
    assert_int_equal(gid_chosen("gid_index=0"), 0);
    assert_error(verbs_open("device=fake0,gid_index=5", NULL, &state),
        MRP_ERR_UNAVAILABLE, "fake0 port 1 has no GID at index 5");
    assert_ptr_equal(state, test);
}

static void note_device(const struct mrp_device *device, void *user)
{
    size_t *n_devices = user;

    (*n_devices)++;
    if (strcmp(device->options, "device=fake0,port=1") == 0) {
        assert_string_equal(device->name, "fake0");
        assert_string_equal(device->domain, "port 1");
        assert_non_null(strstr(device->detail, "Ethernet, active, MTU 4096"));
        assert_non_null(
            strstr(device->detail, "0 ::ffff:0.0.0.1 RoCE v1, 7 fe00::8 RoCE v2"));
    } else {
        assert_non_null(strstr(device->detail, "GIDs: none"));
    }
}

static void devices__one_per_port(void **test)
{
    size_t n_devices = 0;

    (void)test;
    add_gid(0, 1, IBV_GID_TYPE_ROCE_V1, true);
    add_gid(7, 1, IBV_GID_TYPE_ROCE_V2, false);
    fake.n_devices = 1;
    assert_int_equal(verbs_ops()->devices(note_device, &n_devices), MRP_OK);
    assert_int_equal(n_devices, FAKE_PORTS);
    fake.open_errno = EACCES;
    assert_error(verbs_ops()->devices(note_device, &n_devices), MRP_ERR_UNAVAILABLE,
        "/dev/infiniband/uverbs0");
}

/* -- the caller's domain -- */

static void wrap__refuses_what_is_no_domain(void **test)
{
    struct mrp_verbs_wrap_params params = MRP_VERBS_WRAP_PARAMS_INIT;
    struct {
        struct mrp_verbs_wrap_params params;
        size_t newer;
    } newer = {MRP_VERBS_WRAP_PARAMS_INIT, 1};
    void *state = test;

    assert_error(verbs_open("", &params, &state), MRP_ERR_INVALID, "pd is NULL");
    params.pd = ibv_alloc_pd(&fake.contexts[1].context);
    params.struct_size = 7;
    assert_error(verbs_open("", &params, &state), MRP_ERR_INVALID, "struct_size is 7");
    params.struct_size = 8; /* what lies beyond it is not looked at */
    assert_error(verbs_open("", &params, &state), MRP_ERR_INVALID, "pd is NULL");
    assert_int_equal(ibv_dealloc_pd(params.pd), 0);
    newer.params.struct_size = sizeof(newer);
    assert_error(verbs_open("", &newer.params, &state), MRP_ERR_INVALID, "is set");
    assert_int_equal(mrp_verbs_provider_wrap(NULL, NULL, NULL, NULL), MRP_ERR_INVALID);
    assert_ptr_equal(state, test);
}

/* The settings for devices of our own do not matter. */
static void wrap__shows_what_it_was_given(void **test)
{
    struct mrp_verbs_wrap_params params = MRP_VERBS_WRAP_PARAMS_INIT;
    void *one, *other;

    (void)test;
    params.pd = ibv_alloc_pd(&fake.contexts[1].context);
    assert_int_equal(verbs_open("device=none,port=9", &params, &one), MRP_OK);
    assert_string_equal(verbs_query(one).device, "fake1");
    params.port = 2;
    params.gid_index = 6;
    assert_int_equal(verbs_open("", &params, &other), MRP_OK);
    assert_string_equal(verbs_query(other).device, "fake1 port 2");
    assert_ptr_equal(verbs_native(other)->pd, params.pd);
    assert_ptr_equal(verbs_native(other)->context, &fake.contexts[1].context);
    assert_int_equal(verbs_native(other)->gid_index, 6);
    verbs_close(one);
    verbs_close(other);
    assert_int_equal(fake.n_pds, 1);
    assert_int_equal(ibv_dealloc_pd(params.pd), 0);
}

#define FAKE_TEST(function) \
    cmocka_unit_test_setup_teardown(function, fake_reset, fake_check)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(register__least_access_flags),
        FAKE_TEST(register__flags_of_settings_and_caller),
        FAKE_TEST(register__never_a_local_key_of_zero),
        FAKE_TEST(query__no_atomics_where_there_are_none),
        FAKE_TEST(query__limits_of_the_device),
        FAKE_TEST(register__dmabuf),
        FAKE_TEST(open__on_demand_paging),
        FAKE_TEST(register__says_what_is_wrong),
        FAKE_TEST(register__fatal_event_of_an_own_device),
        FAKE_TEST(register__leaves_events_alone),
        FAKE_TEST(deregister__refused_is_tried_again_at_the_end),
        FAKE_TEST(open__fork_is_made_safe_where_asked_for),
        FAKE_TEST(open__first_active_port),
        FAKE_TEST(open__no_device),
        FAKE_TEST(open__best_address_of_the_port),
        FAKE_TEST(devices__one_per_port),
        FAKE_TEST(wrap__refuses_what_is_no_domain),
        FAKE_TEST(wrap__shows_what_it_was_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
