/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The libfabric provider on libfabric's software providers: what it opens, wraps, refuses
 * and registers. Transfers are in test_ofi_rma.c, what no software provider asks for in
 * test_ofi_fake.c.
 */
#include "ofi_module.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <pthread.h>
#include <rdma/fi_errno.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define API FI_VERSION(1, 9)

/* Deprecated: every bit of basic registration, and none of them. */
#define MR_BASIC (1 << 0)
#define MR_SCALABLE (1 << 1)

static char memory[1 << 16] __attribute__((aligned(4096)));

/* -- a domain of the test's own
 * ---------------------------------------------------------- */

struct own_domain {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
};

static struct own_domain open_own(
    const char *provider, uint64_t caps, int mr_mode, enum fi_threading threading)
{
    struct own_domain own = {NULL, NULL, NULL};
    struct fi_info *hints = fi_allocinfo();

    hints->fabric_attr->prov_name = strdup(provider);
    hints->caps = caps;
    hints->mode = ~0ULL;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode = mr_mode;
    hints->domain_attr->threading = threading;
    assert_int_equal(fi_getinfo(API, NULL, NULL, 0, hints, &own.info), 0);
    fi_freeinfo(hints);
    assert_int_equal(fi_fabric(own.info->fabric_attr, &own.fabric, NULL), 0);
    assert_int_equal(fi_domain(own.fabric, own.info, &own.domain, NULL), 0);
    return own;
}

/* Fails where a registration was left in it. */
static void close_own(struct own_domain *own)
{
    assert_int_equal(fi_close(&own->domain->fid), 0);
    assert_int_equal(fi_close(&own->fabric->fid), 0);
    fi_freeinfo(own->info);
}

static struct mrp_ofi_wrap_params params_of(const struct own_domain *own)
{
    struct mrp_ofi_wrap_params params = MRP_OFI_WRAP_PARAMS_INIT;

    params.domain = own->domain;
    params.info = own->info;
    return params;
}

static void assert_error(
    enum mrp_status status, enum mrp_status expected, const char *word)
{
    assert_string_equal(mrp_status_name(status), mrp_status_name(expected));
    assert_int_equal(mrp_error_last()->status, expected);
    if (strstr(mrp_error_last()->text, word) == NULL) {
        fail_msg("'%s' is not in '%s'", word, mrp_error_last()->text);
    }
}

/* -- open
 * --------------------------------------------------------------------------------- */

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
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void open__device_memory(void **test)
{
    struct mrp_registration made = {0};
    struct mrp_register_request request;
    void *state;

    (void)test;
    assert_error(ofi_open_by("sockets", "", "", "auto", "on", &state),
        MRP_ERR_UNAVAILABLE, "device memory");
    assert_int_equal(ofi_open_by("shm", "", "", "auto", "YES", &state), MRP_OK);
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

/* -- wrap
 * --------------------------------------------------------------------------------- */

static void noop(void *argument)
{
    (void)argument;
}

static void assert_wrap_fails(
    const struct mrp_ofi_wrap_params *params, enum mrp_status expected, const char *word)
{
    void *state = NULL;

    assert_error(ofi_wrap(params, &state), expected, word);
    assert_null(state);
}

static void wrap__wrong_params(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params right = params_of(&own), wrong;
    struct fid_ep *no_endpoint = NULL;
    struct fi_info empty = {0};

    (void)test;
    wrong = right;
    wrong.struct_size = 0;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "MRP_OFI_WRAP_PARAMS_INIT");
    wrong = right;
    wrong.domain = NULL;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "domain");
    wrong.domain = (struct fid_domain *)own.fabric;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "fi_domain");
    wrong = right;
    wrong.info = NULL;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "info is NULL");
    wrong.info = &empty;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "domain_attr");
    wrong = right;
    wrong.lock = noop;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "lock without unlock");
    wrong = right;
    wrong.unlock = noop;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "unlock without lock");
    wrong = right;
    wrong.n_endpoints = 2;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "once per endpoint");
    wrong.n_endpoints = 1;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "endpoints is NULL");
    wrong.endpoints = &no_endpoint;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "endpoints[0] is NULL");
    close_own(&own);
}

static void wrap__what_the_domain_needs(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);

    (void)test;
    own.info->domain_attr->mr_mode = FI_MR_ENDPOINT;
    assert_wrap_fails(&params, MRP_ERR_INVALID, "mrp_ofi_wrap_params.endpoints");
    own.info->domain_attr->mr_mode = FI_MR_MMU_NOTIFY;
    assert_wrap_fails(&params, MRP_ERR_UNSUPPORTED, "fi_mr_refresh");
    own.info->domain_attr->mr_mode = 0;
    close_own(&own);
}

/* A struct of a newer header may be longer as long as the rest is zero, one of an older
 * header shorter. */
static void wrap__other_struct_sizes(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct {
        struct mrp_ofi_wrap_params params;
        char newer[16];
    } params = {params_of(&own), {0}};
    void *state;

    (void)test;
    params.params.struct_size = sizeof(params);
    assert_int_equal(ofi_wrap(&params.params, &state), MRP_OK);
    ofi_ops()->close(state);
    params.newer[3] = 1;
    assert_wrap_fails(&params.params, MRP_ERR_INVALID, "newer");
    params.params.struct_size = offsetof(struct mrp_ofi_wrap_params, endpoints);
    params.params.n_endpoints = 77; /* not read any more */
    assert_int_equal(ofi_wrap(&params.params, &state), MRP_OK);
    ofi_ops()->close(state);
    close_own(&own);
}

static void wrap__info_is_copied_and_domain_stays_open(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);
    struct mrp_registration made;
    struct fid_mr *mr;
    void *state;

    (void)test;
    params.info = fi_dupinfo(own.info);
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    fi_freeinfo((struct fi_info *)(uintptr_t)params.info);
    assert_int_equal(
        ofi_register(state, memory, sizeof(memory), MRP_ACCESS_ALL & ~16u, &made),
        MRP_OK);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    ofi_ops()->close(state);
    assert_int_equal(fi_mr_reg(own.domain, memory, 64, FI_SEND, 0, 1, 0, &mr, NULL), 0);
    assert_int_equal(fi_close(&mr->fid), 0);
    close_own(&own);
}

/* -- register
 * ------------------------------------------------------------------------------ */

/* What real providers make of the two families of mr_mode. */
static void register__addresses_and_keys(void **test)
{
    static const char *const providers[] = {"tcp", "sockets", "shm", "udp", "net"};

    (void)test;
    for (size_t i = 0; i < 2 * sizeof(providers) / sizeof(providers[0]); i++) {
        bool is_basic = i % 2 == 1;
        struct own_domain own = open_own(providers[i / 2], FI_MSG | FI_RMA,
            is_basic ? MR_BASIC : MR_SCALABLE, FI_THREAD_SAFE);
        struct mrp_ofi_wrap_params params = params_of(&own);
        struct mrp_registration made;
        void *state;

        assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
        assert_int_equal(ofi_query(state).traits,
            MRP_PROVIDER_REMOTE_KEY | (is_basic ? MRP_PROVIDER_VIRTUAL_ADDRESS : 0));
        assert_int_equal(
            ofi_register(state, memory, sizeof(memory), MRP_ACCESS_REMOTE, &made),
            MRP_OK);
        assert_int_equal(made.remote_base, is_basic ? (uintptr_t)memory : 0);
        assert_int_equal(made.key_size, 8);
        assert_int_equal(made.remote_key, fi_mr_key(made.native));
        assert_ptr_equal(made.local_desc, fi_mr_desc(made.native));
        /* Providers number from 1; ours are random in 64 bits. */
        assert_true(is_basic ? made.remote_key < 10 : made.remote_key > UINT32_MAX);
        assert_int_equal(ofi_deregister(state, &made), MRP_OK);
        ofi_ops()->close(state);
        close_own(&own);
    }
}

static void register__local_only_has_no_key(void **test)
{
    struct mrp_registration made;
    void *state;

    (void)test;
    assert_int_equal(ofi_open("sockets", "lo", &state), MRP_OK);
    assert_int_equal(
        ofi_register(state, memory, sizeof(memory), MRP_ACCESS_LOCAL, &made), MRP_OK);
    assert_int_equal(made.key_size, 0);
    assert_int_equal(made.remote_key, 0);
    assert_int_equal(made.remote_base, 0);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);
    ofi_ops()->close(state);
}

static void assert_refused(void *state, const struct mrp_register_request *request,
    enum mrp_status expected, const char *word)
{
    struct mrp_registration made, untouched;

    memset(&made, 0x5a, sizeof(made));
    untouched = made;
    assert_error(ofi_ops()->register_memory(state, request, &made), expected, word);
    assert_memory_equal(&made, &untouched, sizeof(made));
}

static void register__wrong_requests(void **test)
{
    struct mrp_register_request right, wrong;
    void *state;

    (void)test;
    assert_int_equal(ofi_open("sockets", "lo", &state), MRP_OK);
    right = ofi_request(memory, sizeof(memory), MRP_ACCESS_LOCAL);
    wrong = right;
    wrong.size = 0;
    assert_refused(state, &wrong, MRP_ERR_INVALID, "0 bytes");
    wrong = right;
    wrong.address = NULL;
    assert_refused(state, &wrong, MRP_ERR_INVALID, "nothing to register");
    wrong = right;
    wrong.access = 0;
    assert_refused(state, &wrong, MRP_ERR_INVALID, "mrp_access");
    wrong.access = 1 << 20;
    assert_refused(state, &wrong, MRP_ERR_INVALID, "mrp_access");
    wrong = right;
    wrong.kind = (enum mrp_memory_kind)9;
    assert_refused(state, &wrong, MRP_ERR_INVALID, "memory kind 9");
    wrong.kind = MRP_MEMORY_CUDA;
    assert_refused(state, &wrong, MRP_ERR_UNSUPPORTED, "MRPOOL_OFI_HMEM=on");
    wrong = right;
    wrong.has_dmabuf = true;
    assert_refused(state, &wrong, MRP_ERR_UNSUPPORTED, "1.20");
    ofi_ops()->close(state);
}

static void register__rights_beyond_the_caps(void **test)
{
    static const struct {
        uint64_t caps;
        uint32_t access;
    } cases[] = {
        {FI_MSG, MRP_ACCESS_LOCAL},
        {FI_MSG | FI_RMA | FI_READ | FI_WRITE, MRP_ACCESS_LOCAL},
        {FI_MSG | FI_RMA, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE},
        {FI_MSG | FI_RMA | FI_ATOMIC, MRP_ACCESS_ALL},
    };

    (void)test;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct own_domain own = open_own("sockets", cases[i].caps, 0, FI_THREAD_SAFE);
        struct mrp_ofi_wrap_params params = params_of(&own);
        struct mrp_register_request request;
        struct mrp_registration made;
        void *state;

        own.info->caps = cases[i].caps;
        assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
        assert_int_equal(ofi_query(state).access, cases[i].access);
        assert_int_equal(ofi_query(state).key_size,
            (cases[i].access & MRP_ACCESS_REMOTE) != 0 ? 8 : 0);
        assert_int_equal(
            ofi_register(state, memory, 4096, cases[i].access, &made), MRP_OK);
        assert_int_equal(ofi_deregister(state, &made), MRP_OK);
        request = ofi_request(memory, 4096, MRP_ACCESS_ALL);
        if (cases[i].access != MRP_ACCESS_ALL) {
            assert_refused(state, &request, MRP_ERR_UNSUPPORTED, "FI_RMA");
        }
        ofi_ops()->close(state);
        close_own(&own);
    }
}

/* -- keys
 * ---------------------------------------------------------------------------------- */

struct key_list {
    const uint64_t *keys;
    size_t n_keys, n_given;
};

static uint64_t give_next(void *argument)
{
    struct key_list *list = argument;
    size_t i = list->n_given++;

    return list->keys[i < list->n_keys ? i : list->n_keys - 1];
}

static struct fid_mr *take_key(struct own_domain *own, uint64_t key)
{
    struct fid_mr *mr;

    assert_int_equal(
        fi_mr_reg(own->domain, memory, 64, FI_REMOTE_READ, 0, key, 0, &mr, NULL), 0);
    assert_int_equal(fi_mr_key(mr), key);
    return mr;
}

static void register__taken_key_is_followed_by_another(void **test)
{
    static const uint64_t keys[] = {7, 8, 7, 9};
    struct key_list list = {keys, 4, 0};
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);
    struct fid_mr *taken[] = {take_key(&own, 7), take_key(&own, 8)};
    struct mrp_registration made;
    void *state;

    (void)test;
    params.next_key = give_next;
    params.next_key_arg = &list;
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    assert_int_equal(ofi_register(state, memory, 4096, MRP_ACCESS_REMOTE, &made), MRP_OK);
    assert_int_equal(made.remote_key, 9);
    assert_int_equal(list.n_given, 4);
    assert_int_equal(ofi_deregister(state, &made), MRP_OK);

    list = (struct key_list){keys, 2, 0};
    assert_error(ofi_register(state, memory, 4096, MRP_ACCESS_REMOTE, &made),
        MRP_ERR_REGISTER, "taken");
    assert_int_equal(mrp_error_last()->native, -FI_ENOKEY);
    assert_int_equal(list.n_given, 64);
    ofi_ops()->close(state);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(fi_close(&taken[i]->fid), 0);
    }
    close_own(&own);
}

/* One-byte keys, all taken by somebody else but one: it is found. None left: it fails. */
static void register__last_free_key_is_found(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);
    struct mrp_registration made, second;
    struct fid_mr *taken[256] = {NULL};
    void *state;

    (void)test;
    own.info->domain_attr->mr_key_size = 1;
    for (uint64_t key = 1; key < 256; key++) {
        taken[key] = key != 0xc5 ? take_key(&own, key) : NULL;
    }
    for (int round = 0; round < 20; round++) { /* random keys: not by luck */
        assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
        assert_int_equal(
            ofi_register(state, memory, 4096, MRP_ACCESS_REMOTE, &made), MRP_OK);
        assert_int_equal(made.remote_key, 0xc5);
        assert_error(ofi_register(state, memory, 4096, MRP_ACCESS_REMOTE, &second),
            MRP_ERR_REGISTER, "1 bytes each");
        assert_int_equal(ofi_deregister(state, &made), MRP_OK);
        ofi_ops()->close(state);
    }
    for (size_t key = 1; key < 256; key++) {
        if (taken[key] != NULL) {
            assert_int_equal(fi_close(&taken[key]->fid), 0);
        }
    }
    close_own(&own);
}

static void register__keys_stay_in_their_size(void **test)
{
    struct own_domain own = open_own("sockets", FI_MSG | FI_RMA, 0, FI_THREAD_SAFE);
    struct mrp_ofi_wrap_params params = params_of(&own);
    struct mrp_registration made;
    void *state;

    (void)test;
    for (size_t size = 1; size <= 8; size++) {
        own.info->domain_attr->mr_key_size = size;
        assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
        for (int i = 0; i < 300; i++) {
            assert_int_equal(
                ofi_register(state, memory, 4096, MRP_ACCESS_REMOTE, &made), MRP_OK);
            assert_true(made.remote_key != 0 && made.remote_key != FI_KEY_NOTAVAIL);
            assert_true(size == 8 || made.remote_key >> (8 * size) == 0);
            assert_int_equal(ofi_deregister(state, &made), MRP_OK);
        }
        ofi_ops()->close(state);
    }
    close_own(&own);
}

static void import_key__plain(void **test)
{
    const uint64_t key = 0x1122334455667788;
    struct mrp_import_request request = {sizeof(request), NULL, &key, sizeof(key), 0, 64};
    void *state, *handle = test;
    uint64_t imported = 0;

    assert_int_equal(ofi_open("sockets", "lo", &state), MRP_OK);
    assert_int_equal(ofi_ops()->import_key(state, &request, &imported, &handle), MRP_OK);
    assert_true(imported == key);
    ofi_ops()->release_key(state, handle, imported);
    request.key_size = 32;
    assert_error(ofi_ops()->import_key(state, &request, &imported, &handle),
        MRP_ERR_INVALID, "32 bytes");
    request.key_size = 0;
    assert_error(ofi_ops()->import_key(state, &request, &imported, &handle),
        MRP_ERR_INVALID, "empty");
    ofi_ops()->close(state);
}

/* -- threads
 * -------------------------------------------------------------------------------- */

#define N_ROUNDS 2000

static void *register_often(void *state)
{
    struct mrp_registration made[4];

    for (size_t i = 0; i < N_ROUNDS; i++) {
        size_t slot = i % 4;

        if (i >= 4 && ofi_deregister(state, &made[slot]) != MRP_OK) {
            return state;
        }
        if (ofi_register(state, memory, 4096, MRP_ACCESS_REMOTE, &made[slot]) != MRP_OK) {
            return state;
        }
    }
    for (size_t i = 0; i < 4; i++) {
        if (ofi_deregister(state, &made[i]) != MRP_OK) {
            return state;
        }
    }
    return NULL;
}

static void register_on_threads(struct own_domain *own, void *state)
{
    pthread_t threads[3];
    void *failed;

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, register_often, state), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    ofi_ops()->close(state);
    close_own(own);
}

/* libfabric leaves its lock out at FI_THREAD_DOMAIN, so the provider has to take one. */
static void register__on_threads_in_an_unlocked_domain(void **test)
{
    struct own_domain own = open_own("net", FI_MSG | FI_RMA, 0, FI_THREAD_DOMAIN);
    struct mrp_ofi_wrap_params params = params_of(&own);
    void *state;

    (void)test;
    assert_int_equal(own.info->domain_attr->threading, FI_THREAD_DOMAIN);
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    register_on_threads(&own, state);
}

static void take_mutex(void *mutex)
{
    pthread_mutex_lock(mutex);
}

static void drop_mutex(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

static void register__on_threads_with_the_callers_lock(void **test)
{
    struct own_domain own = open_own("net", FI_MSG | FI_RMA, 0, FI_THREAD_DOMAIN);
    struct mrp_ofi_wrap_params params = params_of(&own);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    void *state;

    (void)test;
    params.lock = take_mutex;
    params.unlock = drop_mutex;
    params.lock_arg = &mutex;
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    register_on_threads(&own, state);
}

/* -- devices
 * -------------------------------------------------------------------------------- */

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
        cmocka_unit_test(open__raw_key_provider), /* forks: before libfabric is used */
        cmocka_unit_test(open__unknown_provider_names_it),
        cmocka_unit_test(open__unknown_domain_names_it),
        cmocka_unit_test(open__software_providers),
        cmocka_unit_test(open__fabric_chooses_the_address),
        cmocka_unit_test(open__endpoint_type),
        cmocka_unit_test(open__device_memory),
        cmocka_unit_test(wrap__wrong_params),
        cmocka_unit_test(wrap__what_the_domain_needs),
        cmocka_unit_test(wrap__other_struct_sizes),
        cmocka_unit_test(wrap__info_is_copied_and_domain_stays_open),
        cmocka_unit_test(register__addresses_and_keys),
        cmocka_unit_test(register__local_only_has_no_key),
        cmocka_unit_test(register__wrong_requests),
        cmocka_unit_test(register__rights_beyond_the_caps),
        cmocka_unit_test(register__taken_key_is_followed_by_another),
        cmocka_unit_test(register__last_free_key_is_found),
        cmocka_unit_test(register__keys_stay_in_their_size),
        cmocka_unit_test(import_key__plain),
        cmocka_unit_test(register__on_threads_in_an_unlocked_domain),
        cmocka_unit_test(register__on_threads_with_the_callers_lock),
        cmocka_unit_test(devices__each_opens_by_its_options),
    };

    setenv("FI_OFI_MRAIL_ADDR", "127.0.0.1,127.0.0.1", 0); /* read by the first call */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
