/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What no provider of a libfabric without hardware asks for: endpoint-bound
 * registrations, device memory, keys that are not available, and calls that fail.
 */
#include "ofi_fake.h"

static char memory[8192];

static void assert_text(const char *word)
{
    if (strstr(mrp_error_last()->text, word) == NULL) {
        fail_msg("'%s' is not in '%s'", word, mrp_error_last()->text);
    }
}

/* -- cases -- */

/* Which calls a registration makes in which mode. */
static void register__calls_by_mode(void **test)
{
    static const struct {
        int mr_mode;
        bool counter;
        uint32_t access;
        const char *calls;
    } cases[] = {
        {0, false, MRP_ACCESS_REMOTE, "regattr "},
        {0, true, MRP_ACCESS_REMOTE, "regattr bind-counter "},
        {0, true, MRP_ACCESS_REMOTE_READ, "regattr "},
        {FI_MR_RMA_EVENT, false, MRP_ACCESS_REMOTE, "regattr "},
        {FI_MR_RMA_EVENT, true, MRP_ACCESS_REMOTE, "regattr bind-counter enable "},
        {FI_MR_RMA_EVENT, true, MRP_ACCESS_LOCAL, "regattr "},
        {FI_MR_ENDPOINT, false, MRP_ACCESS_REMOTE, "regattr bind-ep enable "},
        {FI_MR_ENDPOINT, false, MRP_ACCESS_LOCAL, "regattr bind-ep enable "},
        {FI_MR_ENDPOINT | FI_MR_RMA_EVENT, true, MRP_ACCESS_ALL,
            "regattr bind-counter bind-ep enable "},
        {FI_MR_RAW, false, MRP_ACCESS_REMOTE, "regattr raw raw "}, /* 8 is too small */
        {FI_MR_RAW, false, MRP_ACCESS_LOCAL, "regattr "},
    };

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int lock = 0; lock < 2; lock++) {
            struct mrp_registration made;
            struct fake fake;
            void *state;

            fake_init(&fake, cases[i].mr_mode);
            fake.uses_lock = lock == 1;
            state = wrap(&fake, cases[i].counter);
            assert_int_equal(
                ofi_register(state, memory, sizeof(memory), cases[i].access, &made),
                MRP_OK);
            assert_string_equal(fake.calls, cases[i].calls);
            assert_int_equal(fake.flags & FI_RMA_EVENT,
                strstr(fake.calls, "counter") != NULL ? FI_RMA_EVENT : 0);
            assert_ptr_equal(fake.range.iov_base, memory);
            assert_int_equal(fake.range.iov_len, sizeof(memory));
            assert_int_equal(ofi_deregister(state, &made), MRP_OK);
            finish(&fake, state);
        }
    }
}

/* Whichever call fails, nothing is left and nothing is written. */
static void register__fails_at_each_call(void **test)
{
    static const char *const names[] = {"fi_mr_regattr", "fi_mr_bind (counter)",
        "fi_mr_bind (endpoint", "fi_mr_enable", "fi_mr_raw_attr", "fi_mr_raw_attr"};

    (void)test;
    for (int n = 0; n < 6; n++) {
        struct mrp_registration made;
        struct mrp_register_request request =
            ofi_request(memory, sizeof(memory), MRP_ACCESS_ALL);
        struct fake fake;
        void *state;

        fake_init(&fake, FI_MR_ENDPOINT | FI_MR_RMA_EVENT | FI_MR_RAW);
        fake.uses_lock = true;
        fake.failing_call = n;
        fake.failure = -FI_EPERM;
        state = wrap(&fake, true);
        memset(&made, 0x5a, sizeof(made));
        assert_int_equal(
            ofi_ops()->register_memory(state, &request, &made), MRP_ERR_REGISTER);
        assert_int_equal(mrp_error_last()->native, -FI_EPERM);
        assert_text(names[n]);
        assert_int_equal(((unsigned char *)&made)[sizeof(made) - 1], 0x5a);
        assert_int_equal(fake.n_live, 0);

        fake.failing_call = -1; /* the next one works */
        assert_int_equal(
            ofi_register(state, memory, sizeof(memory), MRP_ACCESS_ALL, &made), MRP_OK);
        assert_int_equal(ofi_deregister(state, &made), MRP_OK);
        finish(&fake, state);
    }
}

static void register__no_memory_explains(void **test)
{
    struct mrp_registration made;
    struct fake fake;
    void *state;

    (void)test;
    fake_init(&fake, FI_MR_PROV_KEY);
    fake.info->domain_attr->mr_cnt = 4321;
    fake.failing_call = 0;
    fake.failure = -FI_ENOMEM;
    state = wrap(&fake, false);
    assert_int_equal(
        ofi_register(state, memory, 5000, MRP_ACCESS_ALL, &made), MRP_ERR_REGISTER);
    assert_text("5000 bytes");
    assert_text("4321 registrations");
    assert_text("register less");
    finish(&fake, state);
}

/* Pools mark the rail failed by this status, and go on with the others. */
static void register__lost_device_is_named(void **test)
{
    struct mrp_register_request request = ofi_request(memory, 64, MRP_ACCESS_ALL);
    struct mrp_registration made;
    struct fake fake;
    void *state;

    (void)test;
    fake_init(&fake, FI_MR_PROV_KEY | FI_MR_HMEM);
    fake.failing_call = 0;
    fake.failure = -FI_ENODEV;
    state = wrap(&fake, false);
    assert_int_equal(
        ofi_ops()->register_memory(state, &request, &made), MRP_ERR_UNAVAILABLE);
    assert_text("taken out");
    assert_int_equal(mrp_error_last()->native, -FI_ENODEV);
    finish(&fake, state);

    fake_init(&fake, FI_MR_PROV_KEY | FI_MR_HMEM); /* of the GPU it says nothing */
    fake.info->caps |= FI_HMEM;
    fake.failing_call = 0;
    fake.failure = -FI_ENODEV;
    state = wrap(&fake, false);
    request.kind = MRP_MEMORY_CUDA;
    assert_int_equal(
        ofi_ops()->register_memory(state, &request, &made), MRP_ERR_REGISTER);
    finish(&fake, state);
}

static void register__key_not_available(void **test)
{
    struct mrp_registration made;
    struct fake fake;
    void *state;

    (void)test;
    fake_init(&fake, FI_MR_PROV_KEY);
    fake.key = FI_KEY_NOTAVAIL;
    state = wrap(&fake, false);
    assert_int_equal(
        ofi_register(state, memory, 64, MRP_ACCESS_REMOTE, &made), MRP_ERR_REGISTER);
    assert_text("FI_KEY_NOTAVAIL");
    assert_int_equal(fake.n_live, 0);
    assert_int_equal(ofi_register(state, memory, 64, MRP_ACCESS_LOCAL, &made), MRP_OK);
    assert_int_equal(made.key_size, 0);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    finish(&fake, state);
}

static void register__raw_key(void **test)
{
    struct mrp_import_request import = {sizeof(import), NULL, NULL, 0, 0x1000, 64};
    struct mrp_registration made;
    struct fake fake;
    uint64_t key = 0;
    void *state, *handle = NULL;

    (void)test;
    fake_init(&fake, FI_MR_RAW | FI_MR_VIRT_ADDR);
    fake.base = 0x1000;
    fake.info->domain_attr->mr_key_size = 0; /* unknown */
    state = wrap(&fake, false);
    assert_int_equal(ofi_register(state, memory, 64, MRP_ACCESS_REMOTE, &made), MRP_OK);
    assert_int_equal(made.key_size, RAW_KEY_SIZE);
    assert_int_equal(((const uint8_t *)made.key_blob)[23], 24);
    assert_int_equal(made.remote_base, 0x1000);
    assert_int_equal(made.remote_key, 0);

    import.key = made.key_blob;
    import.key_size = made.key_size;
    assert_int_equal(ofi_ops()->import_key(state, &import, &key, &handle), MRP_OK);
    assert_int_equal(key, 0xabcd);
    assert_int_equal(fake.n_mapped, 1);
    ofi_ops()->release_key(state, handle, key);
    assert_int_equal(fake.n_mapped, 0);

    fake.failing_call = fake.n_calls;
    fake.failure = -FI_EPERM;
    handle = NULL;
    assert_int_equal(
        ofi_ops()->import_key(state, &import, &key, &handle), MRP_ERR_REGISTER);
    assert_text("24 bytes");
    assert_null(handle);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    finish(&fake, state);
}

static void register__rights(void **test)
{
    static const struct {
        uint32_t access;
        uint64_t native;
    } cases[] = {
        {MRP_ACCESS_LOCAL_READ, FI_SEND | FI_WRITE},
        {MRP_ACCESS_LOCAL_WRITE, FI_RECV | FI_READ},
        {MRP_ACCESS_REMOTE_READ, FI_REMOTE_READ},
        {MRP_ACCESS_REMOTE_WRITE, FI_REMOTE_WRITE},
        {MRP_ACCESS_REMOTE_ATOMIC, FI_REMOTE_READ | FI_REMOTE_WRITE},
    };
    struct mrp_register_request request = ofi_request(memory, 64, 0);
    struct mrp_registration made;
    struct fake fake;
    void *state;

    (void)test;
    fake_init(&fake, 0);
    state = wrap(&fake, false);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        request.access = cases[i].access;
        request.native_flags = FI_RMA_PMEM;
        assert_int_equal(ofi_ops()->register_memory(state, &request, &made), MRP_OK);
        assert_int_equal(fake.attr.access, cases[i].native);
        assert_int_equal(fake.flags, FI_RMA_PMEM);
        assert_int_equal(fake.attr.iface, FI_HMEM_SYSTEM);
        assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    }
    finish(&fake, state);
}

static void register__device_memory(void **test)
{
    struct mrp_register_request request = ofi_request(memory, 64, MRP_ACCESS_LOCAL);
    struct mrp_registration made;
    struct fake fake;
    void *state;

    (void)test;
    fake_init(&fake, FI_MR_HMEM);
    fake.info->caps |= FI_HMEM;
    state = wrap(&fake, false);
    request.kind = MRP_MEMORY_CUDA;
    request.device = 3;
    assert_int_equal(ofi_ops()->register_memory(state, &request, &made), MRP_OK);
    assert_int_equal(fake.attr.iface, FI_HMEM_CUDA);
    assert_int_equal(fake.attr.device.cuda, 3);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    request.kind = MRP_MEMORY_ROCM;
    assert_int_equal(ofi_ops()->register_memory(state, &request, &made), MRP_OK);
    assert_int_equal(fake.attr.iface, FI_HMEM_ROCR);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    finish(&fake, state);
}

/* A refused close is reported; closing the domain tries again, before the memory goes. */
static void deregister__busy(void **test)
{
    struct mrp_registration made;
    struct fake fake;
    void *state;

    (void)test;
    fake_init(&fake, FI_MR_RAW);
    state = wrap(&fake, false);
    assert_int_equal(ofi_register(state, memory, 64, MRP_ACCESS_REMOTE, &made), MRP_OK);
    fake.close_failure = -FI_EBUSY;
    assert_int_equal(ofi_deregister(state, &made), MRP_ERR_REGISTER);
    assert_int_equal(mrp_error_last()->native, -FI_EBUSY);
    assert_text("-FI_EBUSY");
    fake.close_failure = 0;
    finish(&fake, state);
}

static uint64_t key_under_no_lock(void *argument)
{
    assert_false(((struct fake *)argument)->locked);
    return 5;
}

static void register__next_key_runs_under_no_lock(void **test)
{
    struct mrp_ofi_wrap_params params = MRP_OFI_WRAP_PARAMS_INIT;
    struct mrp_registration made;
    struct fake fake;
    void *state;

    (void)test;
    fake_init(&fake, 0);
    fake.uses_lock = true;
    params.domain = &fake.domain;
    params.info = fake.info;
    params.lock = fake_lock;
    params.unlock = fake_unlock;
    params.lock_arg = &fake;
    params.next_key = key_under_no_lock;
    params.next_key_arg = &fake;
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    assert_int_equal(ofi_register(state, memory, 64, MRP_ACCESS_REMOTE, &made), MRP_OK);
    assert_int_equal(fake.attr.requested_key, 5);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    finish(&fake, state);
}

/* -- query -- */

static void query__traits_by_mode(void **test)
{
    static const struct {
        int mr_mode;
        uint64_t mode;
        uint32_t traits;
    } cases[] = {
        {0, 0, 0},
        {1 << 0, 0, MRP_PROVIDER_VIRTUAL_ADDRESS}, /* FI_MR_BASIC */
        {1 << 0, 1ULL << 55, MRP_PROVIDER_VIRTUAL_ADDRESS | MRP_PROVIDER_LOCAL_DESC},
        {1 << 1, 0, 0}, /* FI_MR_SCALABLE */
        {1 << 0 | 1 << 1, 0, 0},
        {FI_MR_LOCAL, 0, MRP_PROVIDER_LOCAL_DESC},
        {FI_MR_VIRT_ADDR | FI_MR_RAW, 0,
            MRP_PROVIDER_VIRTUAL_ADDRESS | MRP_PROVIDER_RAW_KEY},
    };

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake;
        void *state;

        fake_init(&fake, cases[i].mr_mode);
        fake.info->mode = cases[i].mode;
        state = wrap(&fake, false);
        assert_int_equal(ofi_query(state).traits,
            cases[i].traits | MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_PINS);
        finish(&fake, state);
    }
}

static void query__pins_by_name(void **test)
{
    static const struct {
        const char *provider;
        bool pins;
    } cases[] = {{"verbs;ofi_rxm", true}, {"efa", true}, {"tcp;ofi_rxm", false},
        {"tcp", false}, {"tcpx", true}, {"shm", false}, {"udp;ofi_rxd", false}};

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake;
        void *state;

        fake_init(&fake, 0);
        fake.info->fabric_attr->prov_name = strdup(cases[i].provider);
        state = wrap(&fake, false);
        assert_int_equal(
            (ofi_query(state).traits & MRP_PROVIDER_PINS) != 0, cases[i].pins);
        finish(&fake, state);
    }
}

/* Only of verbs is it known, where libfabric keeps no registration that was closed; the
 * caller may know more. */
static void query__revokes_where_it_is_known(void **test)
{
    static const struct {
        const char *provider, *cache_count, *cache_size;
        enum ofi_revokes word;
        bool revokes;
    } cases[] = {{"verbs", NULL, NULL, OFI_REVOKES_AUTO, false},
        {"verbs", "0", NULL, OFI_REVOKES_AUTO, true},
        {"verbs", NULL, "0", OFI_REVOKES_AUTO, true},
        {"verbs", "1", "", OFI_REVOKES_AUTO, false},
        {"verbs", "0", NULL, OFI_REVOKES_OFF, false},
        {"verbs;ofi_rxm", "0", NULL, OFI_REVOKES_AUTO, false},
        {"tcp", "0", NULL, OFI_REVOKES_AUTO, false},
        {"tcp", NULL, NULL, OFI_REVOKES_ON, true},
        {"shm", "0", NULL, OFI_REVOKES_AUTO, false}};

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake;
        void *state;

        unsetenv("FI_MR_CACHE_MAX_COUNT");
        unsetenv("FI_MR_CACHE_MAX_SIZE");
        if (cases[i].cache_count != NULL) {
            setenv("FI_MR_CACHE_MAX_COUNT", cases[i].cache_count, 1);
        }
        if (cases[i].cache_size != NULL) {
            setenv("FI_MR_CACHE_MAX_SIZE", cases[i].cache_size, 1);
        }
        fake_init(&fake, 0);
        fake.info->fabric_attr->prov_name = strdup(cases[i].provider);
        ofi_wrap_revokes = cases[i].word;
        state = wrap(&fake, false);
        ofi_wrap_revokes = OFI_REVOKES_AUTO;
        assert_int_equal(
            (ofi_query(state).traits & MRP_PROVIDER_REVOKES) != 0, cases[i].revokes);
        finish(&fake, state);
    }
    unsetenv("FI_MR_CACHE_MAX_COUNT");
    unsetenv("FI_MR_CACHE_MAX_SIZE");
}

static void query__limits(void **test)
{
    static const size_t limits[][2] = {{0, 0}, {65535, 65535}, {SIZE_MAX, 0}};

    (void)test;
    for (size_t i = 0; i < 3; i++) {
        struct fake fake;
        void *state;

        fake_init(&fake, 0);
        fake.info->domain_attr->mr_cnt = limits[i][0];
        state = wrap(&fake, false);
        assert_int_equal(ofi_query(state).max_registrations, limits[i][1]);
        assert_int_equal(ofi_query(state).max_size, 0);
        finish(&fake, state);
    }
}

static int keep_nic(struct fid *fid)
{
    (void)fid;
    return 0;
}

/* fi_dupinfo asks the device for a copy of itself. */
static int share_nic(struct fid *fid, int command, void *copy)
{
    assert_int_equal(command, FI_DUP);
    *(struct fid_nic **)copy = CONTAINER(struct fid_nic, fid, fid);
    return 0;
}

/* The node of a PCI device is what /sys says. */
static void query__node_of_the_device(void **test)
{
    struct fi_ops ops = {.size = sizeof(ops), .close = keep_nic, .control = share_nic};
    struct fi_bus_attr bus = {.bus_type = FI_BUS_PCI};
    struct fid_nic nic = {.fid = {.ops = &ops}, .bus_attr = &bus};
    FILE *file = fopen("/sys/bus/pci/devices/0000:00:00.0/numa_node", "re");
    struct fake fake;
    void *state;
    int node = -1;

    (void)test;
    if (file != NULL) {
        assert_int_equal(fscanf(file, "%d", &node), 1);
        fclose(file);
    }
    fake_init(&fake, 0);
    fake.info->nic = &nic;
    state = wrap(&fake, false);
    assert_int_equal(ofi_query(state).node, node >= 0 ? MRP_NODE(node) : 0);
    finish(&fake, state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(register__calls_by_mode),
        cmocka_unit_test(register__fails_at_each_call),
        cmocka_unit_test(register__no_memory_explains),
        cmocka_unit_test(register__lost_device_is_named),
        cmocka_unit_test(register__key_not_available),
        cmocka_unit_test(register__raw_key),
        cmocka_unit_test(register__rights),
        cmocka_unit_test(register__device_memory),
        cmocka_unit_test(deregister__busy),
        cmocka_unit_test(register__next_key_runs_under_no_lock),
        cmocka_unit_test(query__traits_by_mode),
        cmocka_unit_test(query__pins_by_name),
        cmocka_unit_test(query__revokes_where_it_is_known),
        cmocka_unit_test(query__limits),
        cmocka_unit_test(query__node_of_the_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
