/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Keys of UCX as they come from a peer: cut, changed, of memory that has gone, or leading
 * to where the peer has no business. The module itself is asked: mrp_remote_open lets none
 * that was cut get so far.
 */
#include "context/context.h"
#include "ucx_station.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

static void assert_error(enum mrp_status got, enum mrp_status wanted, const char *text)
{
    if (got != wanted || strstr(mrp_error_last()->text, text) == NULL) {
        fail_msg("%s, not %s with \"%s\": %s", mrp_status_name(got),
            mrp_status_name(wanted), text, mrp_error_last()->text);
    }
}

/* One mapping of the provider's own memory, registered; a station connected to itself. */
struct shared {
    struct mrp_context *context;
    struct mrp_provider *handle;
    struct mrp_backend *backend;
    struct mrp_provider_state *provider;
    struct mrp_mapping mapping;
    struct mrp_registration registration;
    struct station station;
};

static void share(struct shared *shared, const char *options)
{
    struct mrp_map_request map = {
        .struct_size = sizeof map, .size = 4096, .alignment = 4096};
    struct mrp_register_request request = {
        .struct_size = sizeof request, .size = 4096, .access = MRP_ACCESS_ALL};

    memset(shared, 0, sizeof *shared);
    assert_int_equal(mrp_context_create(NULL, &shared->context), MRP_OK);
    if (station_provider(shared->context, NULL, options, &shared->handle) != MRP_OK) {
        fail_msg("%s: %s", options, mrp_error_last()->text);
    }
    shared->mapping.struct_size = sizeof shared->mapping;
    shared->registration.struct_size = sizeof shared->registration;
    assert_int_equal(
        mrp_provider_backend(shared->handle, NULL, &shared->backend), MRP_OK);
    assert_int_equal(mrp_provider_get(shared->handle, &shared->provider), MRP_OK);
    assert_int_equal(shared->provider->ops.backend->map(
                         shared->provider->state, &map, &shared->mapping),
        MRP_OK);
    request.address = shared->mapping.address;
    assert_int_equal(shared->provider->ops.register_memory(
                         shared->provider->state, &request, &shared->registration),
        MRP_OK);
    station_open(&shared->station, station_native(shared->handle)->context);
    station_connect(&shared->station, shared->station.address);
}

static void take_back(struct shared *shared)
{
    const struct mrp_provider_ops *ops = &shared->provider->ops;
    void *state = shared->provider->state;

    assert_int_equal(ops->deregister_memory(state, &shared->registration), MRP_OK);
    assert_int_equal(ops->backend->unmap(state, &shared->mapping), MRP_OK);
}

static void end_share(struct shared *shared)
{
    station_close(&shared->station);
    assert_int_equal(mrp_backend_destroy(shared->backend), MRP_OK);
    assert_int_equal(mrp_provider_close(shared->handle), MRP_OK);
    assert_int_equal(mrp_context_destroy(shared->context), MRP_OK);
}

static enum mrp_status import_for(const struct shared *shared, void *endpoint,
    const void *key, size_t key_size, uint64_t base, ucp_rkey_h *rkey)
{
    const struct mrp_import_request request = {
        sizeof request, endpoint, key, key_size, base, 4096};
    void *handle = NULL;
    uint64_t number = 0;
    enum mrp_status status = shared->provider->ops.import_key(
        shared->provider->state, &request, &number, &handle);

    *rkey = handle;
    return status;
}

static enum mrp_status import_at(const struct shared *shared, const void *key,
    size_t key_size, uint64_t base, ucp_rkey_h *rkey)
{
    return import_for(shared, shared->station.ep, key, key_size, base, rkey);
}

static ucp_rkey_h import_whole(const struct shared *shared, uint64_t base)
{
    ucp_rkey_h rkey;

    assert_int_equal(import_at(shared, shared->registration.key_blob,
                         shared->registration.key_size, base, &rkey),
        MRP_OK);
    return rkey;
}

static void release(const struct shared *shared, ucp_rkey_h rkey)
{
    shared->provider->ops.release_key(shared->provider->state, rkey, 0);
}

/* Whether UCX has mapped what the key names, and where it would write. */
static bool is_mapped(ucp_rkey_h rkey, uint64_t address, unsigned char **local)
{
    void *found = NULL;
    bool is_found = ucp_rkey_ptr(rkey, address, &found) == UCS_OK;

    *local = found;
    return is_found;
}

/* The segment of the key is gone, as after the end of a peer. UCX before 1.19 takes the
 * address to unmap from memory that it has not written: here that of an import closed
 * before, where another one's lies by then. */
static void import__of_a_segment_that_is_gone_harms_no_other(const char *options)
{
    struct shared living, gone;
    ucp_rkey_h first, second, third, stale;
    unsigned char *local, *key;
    uint64_t base;
    size_t size;

    share(&living, options);
    share(&gone, options);
    size = gone.registration.key_size;
    key = malloc(size);
    memcpy(key, gone.registration.key_blob, size);
    base = gone.registration.remote_base;
    take_back(&gone);

    memset(living.mapping.address, 0x5a, 4096);
    first = import_whole(&living, living.registration.remote_base);
    second = import_whole(&living, living.registration.remote_base);
    release(&living, first);
    release(&living, second);
    third = import_whole(&living, living.registration.remote_base);
    assert_int_equal(import_at(&living, key, size, base, &stale), MRP_OK); /* unmapped */
    assert_false(is_mapped(stale, base, &local));
    release(&living, stale);
    assert_true(is_mapped(third, living.registration.remote_base, &local));
    assert_int_equal(local[4095], 0x5a);
    release(&living, third);
    free(key);
    end_share(&gone);
    take_back(&living);
    end_share(&living);
}

static void import__of_a_sysv_segment_that_is_gone(void **state)
{
    (void)state;
    import__of_a_segment_that_is_gone_harms_no_other("tls=sysv+self");
}

static void import__of_a_posix_segment_that_is_gone(void **state)
{
    (void)state;
    import__of_a_segment_that_is_gone_harms_no_other("tls=posix+self");
}

static void import__of_a_posix_file_that_is_gone(void **state)
{
    (void)state;
    import__of_a_segment_that_is_gone_harms_no_other(
        "tls=posix+self,config=USE_PROC_LINK=n");
    import__of_a_segment_that_is_gone_harms_no_other(
        "tls=posix+self,config=USE_PROC_LINK=n;DIR=/tmp");
}

/* Else what is written to the peer lands in memory of ours beside the segment. */
static void import__maps_no_segment_that_does_not_hold_the_chunk(void **state)
{
    static const char *const options[] = {"tls=sysv+self", "tls=posix+self",
        "tls=posix+self,config=USE_PROC_LINK=n",
        "tls=posix+self,config=USE_PROC_LINK=n;DIR=/tmp"};
    static const int64_t distances[] = {-4096, -1, 1, 1 << 24, (int64_t)1 << 40};
    (void)state;

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        struct shared shared;
        unsigned char *local;
        uint64_t base;

        share(&shared, options[i]);
        base = shared.registration.remote_base;
        for (size_t j = 0; j < sizeof distances / sizeof distances[0]; j++) {
            uint64_t wrong = base + (uint64_t)distances[j];
            ucp_rkey_h rkey = import_whole(&shared, wrong);
            bool is_outside = wrong < base || wrong - base > shared.mapping.size - 4096;

            assert_true(is_mapped(rkey, wrong, &local) == !is_outside);
            release(&shared, rkey);
        }
        take_back(&shared);
        end_share(&shared);
    }
}

/* One byte less than UCX reads, at the end of what may be read. */
static void import__reads_nothing_behind_the_key(void **state)
{
    struct shared shared;
    unsigned char *page =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *cut;
    ucp_rkey_h rkey;
    size_t size;

    (void)state;
    assert_ptr_not_equal(page, MAP_FAILED);
    assert_int_equal(mprotect(page + 4096, 4096, PROT_NONE), 0);
    share(&shared, "tls=sysv+self");
    size = shared.registration.key_size - 1;
    cut = memcpy(page + 4096 - size, shared.registration.key_blob, size);
    assert_int_equal(cut[size - 12], 12); /* the last domain's key */
    cut[size - 12] = 11;
    if (import_at(&shared, cut, size, shared.registration.remote_base, &rkey) == MRP_OK) {
        release(&shared, rkey);
    }
    take_back(&shared);
    end_share(&shared);
    assert_int_equal(munmap(page, 8192), 0);
}

static void import__refuses_keys_that_were_cut_or_changed(void **state)
{
    struct shared shared;
    const struct mrp_registration *made = &shared.registration;
    unsigned char changed[512];
    ucp_rkey_h rkey;

    (void)state;
    share(&shared, "tls=posix+sysv+self");
    assert_int_equal(
        shared.provider->ops.backend->unmap(shared.provider->state, &shared.mapping),
        MRP_ERR_BUSY);
    for (size_t cut = 0; cut < made->key_size; cut++) {
        unsigned char *exact = malloc(cut + 1); /* for AddressSanitizer */

        memcpy(exact, made->key_blob, cut);
        assert_error(import_at(&shared, exact, cut, made->remote_base, &rkey),
            MRP_ERR_INVALID, cut == 0 ? "empty" : "cut");
        free(exact);
    }
    assert_true(made->key_size <= sizeof changed);
    memcpy(changed, made->key_blob, made->key_size);
    changed[sizeof(uint64_t)] = 200; /* the kind of memory: an index for UCX */
    assert_error(import_at(&shared, changed, made->key_size, made->remote_base, &rkey),
        MRP_ERR_INVALID, "changed");
    assert_error(import_for(&shared, NULL, made->key_blob, made->key_size,
                     made->remote_base, &rkey),
        MRP_ERR_INVALID, "ucp_ep_h");
    rkey = import_whole(&shared, made->remote_base);
    assert_non_null(rkey);
    release(&shared, rkey);
    take_back(&shared);
    end_share(&shared);
}

/* What is sent with local rights alone has no key to compare others with. */
static void import__without_rights_of_its_own_reads_no_cut_key_either(void **state)
{
    struct shared shared;
    const unsigned char one_domain[9] = {1};
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_provider_state *tag;
    struct mrp_import_request request = {
        sizeof request, NULL, one_domain, sizeof one_domain, 0, 4096};
    uint64_t number;
    void *handle;

    (void)state;
    share(&shared, "tls=sysv+self");
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(
        station_provider(context, NULL, "tls=sysv+self,features=tag", &provider), MRP_OK);
    assert_int_equal(mrp_provider_get(provider, &tag), MRP_OK);
    request.endpoint = shared.station.ep;
    assert_error(tag->ops.import_key(tag->state, &request, &number, &handle),
        MRP_ERR_INVALID, "cut");
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    take_back(&shared);
    end_share(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(import__refuses_keys_that_were_cut_or_changed),
        cmocka_unit_test(import__without_rights_of_its_own_reads_no_cut_key_either),
        cmocka_unit_test(import__of_a_sysv_segment_that_is_gone),
        cmocka_unit_test(import__of_a_posix_segment_that_is_gone),
        cmocka_unit_test(import__of_a_posix_file_that_is_gone),
        cmocka_unit_test(import__maps_no_segment_that_does_not_hold_the_chunk),
        cmocka_unit_test(import__reads_nothing_behind_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
