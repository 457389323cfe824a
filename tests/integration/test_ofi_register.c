/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Registrations of the libfabric provider on real domains: addresses, keys, rights, and
 * what is refused.
 */
#include "ofi_domain.h"

/* Deprecated: every bit of basic registration, and none of them. */
#define MR_BASIC (1 << 0)
#define MR_SCALABLE (1 << 1)

static char memory[1 << 16] __attribute__((aligned(4096)));

/* -- register -- */

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

static void register__no_dmabuf(void **test)
{
    struct mrp_register_request wrong;
    void *state;

    (void)test;
    assert_int_equal(ofi_open("sockets", "lo", &state), MRP_OK);
    wrong = ofi_request(memory, sizeof(memory), MRP_ACCESS_LOCAL);
    wrong.has_dmabuf = true;
    assert_refused(state, &wrong, MRP_ERR_UNSUPPORTED, "1.20");
    ofi_ops()->close(state);
}

static void register__rights_are_those_of_the_caps(void **test)
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
        ofi_ops()->close(state);
        close_own(&own);
    }
}

/* -- keys -- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(register__addresses_and_keys),
        cmocka_unit_test(register__local_only_has_no_key),
        cmocka_unit_test(register__no_dmabuf),
        cmocka_unit_test(register__rights_are_those_of_the_caps),
        cmocka_unit_test(register__taken_key_is_followed_by_another),
        cmocka_unit_test(register__last_free_key_is_found),
        cmocka_unit_test(register__keys_stay_in_their_size),
        cmocka_unit_test(import_key__plain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
