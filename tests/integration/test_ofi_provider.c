/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The libfabric provider on libfabric's software providers: what it opens, lists and
 * closes. test_ofi_wrap.c has the caller's domains, test_ofi_register.c registrations and
 * keys, test_ofi_rma.c transfers, test_ofi_fake.c what no software provider asks for.
 */
#include "ofi_domain.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char memory[1 << 16] __attribute__((aligned(4096)));

/* -- open -- */

/* The bytes end where the memory does. */
static void import_cut_keys(void *state, const struct mrp_registration *made)
{
    struct mrp_import_request request = {sizeof(request), NULL, NULL, 0, 0x1000, 64};
    unsigned char *page =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *handle = NULL;
    uint64_t key;

    assert_ptr_not_equal(page, MAP_FAILED);
    assert_int_equal(mprotect(page + 4096, 4096, PROT_NONE), 0);
    for (size_t size = 1; size < made->key_size; size++) {
        request.key = memcpy(page + 4096 - size, made->key_blob, size);
        request.key_size = size;
        assert_error(ofi_ops()->import_key(state, &request, &key, &handle),
            MRP_ERR_INVALID, "it was cut");
    }
    request.key = made->key_blob;
    request.key_size = made->key_size;
    assert_int_equal(ofi_ops()->import_key(state, &request, &key, &handle), MRP_OK);
    ofi_ops()->release_key(state, handle, key);
    assert_int_equal(munmap(page, 8192), 0);
}

static void use_raw_key_provider(void)
{
    struct mrp_registration made;
    struct mrp_provider_info info;
    void *state;

    assert_int_equal(ofi_open("ofi_mrail", "", &state), MRP_OK);
    info = ofi_query(state);
    assert_true(
        (info.traits & MRP_PROVIDER_REMOTE_KEY) != 0); /* the others: as the rails */
    assert_true((info.traits & MRP_PROVIDER_RAW_KEY) != 0);
    assert_int_equal(info.key_size, 32);
    assert_int_equal(
        ofi_register(state, memory, sizeof(memory), MRP_ACCESS_REMOTE, &made), MRP_OK);
    assert_int_equal(made.key_size, 32);
    assert_non_null(made.key_blob);
    import_cut_keys(state, &made);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    ofi_ops()->close(state);
}

/* ofi_mrail stripes over rails of other providers and packs their keys into a blob. In
 * libfabric 1.17 it does not free what fi_close gets, hence a process without leak check.
 */
static void open__raw_key_provider(void **test)
{
    int status;
    pid_t child;

    (void)test;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        use_raw_key_provider();
        ofi_exit_unchecked();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void open__unknown_provider_names_it(void **test)
{
    void *state = test;

    assert_error(ofi_open("nosuch", "", &state), MRP_ERR_UNAVAILABLE, "'nosuch'");
    assert_error(MRP_ERR_UNAVAILABLE, MRP_ERR_UNAVAILABLE, "sockets");
    assert_error(MRP_ERR_UNAVAILABLE, MRP_ERR_UNAVAILABLE, "install");
    assert_int_equal(mrp_error_last()->native, -FI_ENODATA);
    assert_ptr_equal(state, test);
}

static void open__unknown_domain_names_it(void **test)
{
    void *state = test;

    assert_error(
        ofi_open("tcp", "no_such_device", &state), MRP_ERR_UNAVAILABLE, "no_such_device");
    assert_ptr_equal(state, test);
}

static void open__software_providers(void **test)
{
    static const struct {
        const char *provider, *domain, *device;
        uint32_t traits;
    } cases[] = {
        {"tcp", "lo", "tcp;ofi_rxm on lo", MRP_PROVIDER_REMOTE_KEY},
        {"sockets", "lo", "sockets on lo", MRP_PROVIDER_REMOTE_KEY},
        {"udp", "lo", "udp;ofi_rxd on lo", MRP_PROVIDER_REMOTE_KEY},
        {"net", "lo", "net on lo", MRP_PROVIDER_REMOTE_KEY},
        {"shm", "", "shm on shm", MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS},
    };

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mrp_registration made;
        struct mrp_provider_info info;
        void *state;

        assert_int_equal(ofi_open(cases[i].provider, cases[i].domain, &state), MRP_OK);
        info = ofi_query(state);
        assert_string_equal(info.device, cases[i].device);
        assert_int_equal(info.traits, cases[i].traits);
        assert_int_equal(info.key_size, 8);
        assert_int_equal(info.memory_kinds, 1 << MRP_MEMORY_HOST);
        assert_int_equal(
            ofi_register(state, memory, sizeof(memory), MRP_ACCESS_ALL, &made), MRP_OK);
        assert_int_equal(ofi_deregister(state, &made), MRP_OK);
        ofi_ops()->close(state);
    }
}

static void open__fabric_chooses_the_address(void **test)
{
    void *state;

    (void)test;
    assert_int_equal(
        ofi_open_by("tcp", "lo", "127.0.0.1/32", "auto", "off", &state), MRP_OK);
    ofi_ops()->close(state);
    assert_error(ofi_open_by("tcp", "lo", "10.99.99.0/24", "auto", "off", &state),
        MRP_ERR_UNAVAILABLE, "10.99.99.0/24");
}

static void open__endpoint_type(void **test)
{
    static const char *const types[][2] = {
        {"msg", "tcp on lo"}, {"rdm", "tcp;ofi_rxm on lo"}};
    void *state;

    (void)test;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            ofi_open_by("tcp", "lo", "", types[i][0], "off", &state), MRP_OK);
        assert_string_equal(ofi_query(state).device, types[i][1]);
        ofi_ops()->close(state);
    }
    assert_error(
        ofi_open_by("shm", "", "", "msg", "off", &state), MRP_ERR_UNAVAILABLE, "'shm'");
}

static void open__device_memory(void **test)
{
    struct mrp_registration made = {0};
    struct mrp_register_request request;
    void *state;

    (void)test;
    assert_error(ofi_open_by("sockets", "", "", "auto", "on", &state),
        MRP_ERR_UNAVAILABLE, "device memory");
    assert_int_equal(ofi_open_by("shm", "", "", "auto", "on", &state), MRP_OK);
    assert_int_equal(ofi_query(state).memory_kinds,
        1 << MRP_MEMORY_HOST | 1 << MRP_MEMORY_CUDA | 1 << MRP_MEMORY_ROCM);
    request = ofi_request(memory, 4096, MRP_ACCESS_LOCAL);
    request.kind = MRP_MEMORY_CUDA;
    if (ofi_ops()->register_memory(state, &request, &made) == MRP_OK) {
        assert_int_equal(ofi_deregister(state, &made), MRP_OK); /* built with CUDA */
    } else {
        assert_error(MRP_ERR_REGISTER, MRP_ERR_REGISTER, "CUDA");
    }
    ofi_ops()->close(state);
}

/* fi_getinfo names the open instances of what it finds. */
static bool is_instance_open(const char *provider)
{
    struct fi_info *hints = fi_allocinfo(), *list;
    bool is_open = false;

    hints->fabric_attr->prov_name = strdup(provider);
    assert_int_equal(fi_getinfo(OFI_API, NULL, NULL, 0, hints, &list), 0);
    for (struct fi_info *info = list; info != NULL; info = info->next) {
        is_open = is_open || info->fabric_attr->fabric != NULL ||
            info->domain_attr->domain != NULL;
    }
    fi_freeinfo(hints);
    fi_freeinfo(list);
    return is_open;
}

static void close__leaves_nothing_open(void **test)
{
    void *state;

    (void)test;
    assert_false(is_instance_open("shm"));
    assert_int_equal(ofi_open("shm", "", &state), MRP_OK);
    assert_true(is_instance_open("shm"));
    ofi_ops()->close(state);
    assert_false(is_instance_open("shm"));
}

/* -- devices -- */

struct device_list {
    size_t n_devices;
    char options[64][256], names[64][64];
};

static void note_device(const struct mrp_device *device, void *user)
{
    struct device_list *list = user;
    size_t i = list->n_devices;

    assert_true(i < 64);
    assert_true(device->detail[0] != '\0');
    snprintf(list->options[i], sizeof(list->options[i]), "%s", device->options);
    snprintf(
        list->names[i], sizeof(list->names[i]), "%s on %s", device->name, device->domain);
    for (size_t j = 0; j < i; j++) {
        assert_string_not_equal(list->names[j], list->names[i]);
    }
    list->n_devices++;
}

static void devices__each_opens_by_its_options(void **test)
{
    static struct device_list list;
    size_t n_tcp = 0;

    (void)test;
    assert_int_equal(ofi_ops()->devices(note_device, &list), MRP_OK);
    for (size_t i = 0; i < list.n_devices; i++) {
        char provider[64], domain[64], endpoint[64] = "auto";
        void *state;

        assert_in_range(
            sscanf(list.options[i], "provider=%63[^,],domain=%63[^,],endpoint=%63s",
                provider, domain, endpoint),
            2, 3);
        assert_int_equal(
            ofi_open_by(provider, domain, "", endpoint, "off", &state), MRP_OK);
        assert_string_equal(ofi_query(state).device, list.names[i]);
        ofi_ops()->close(state);
        n_tcp += strncmp(list.names[i], "tcp", 3) == 0;
    }
    assert_true(n_tcp > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__raw_key_provider),
        cmocka_unit_test(open__unknown_provider_names_it),
        cmocka_unit_test(open__unknown_domain_names_it),
        cmocka_unit_test(open__software_providers),
        cmocka_unit_test(open__fabric_chooses_the_address),
        cmocka_unit_test(open__endpoint_type),
        cmocka_unit_test(open__device_memory),
        cmocka_unit_test(close__leaves_nothing_open),
        cmocka_unit_test(devices__each_opens_by_its_options),
    };

    setenv("FI_OFI_MRAIL_ADDR", "127.0.0.1,127.0.0.1", 0); /* read by the first call */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
