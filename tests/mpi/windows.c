/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What only MPI's windows do: attachments and their limit, overlaps, windows of the
 * caller's, memory carved from a window. Run in two ranks by
 * tests/integration/test_mpi_windows.sh, each of which runs all cases.
 */
#include "mrpool/mpi.h"
#include "mrpool/mrpool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE ((size_t)4096)

struct fixture {
    struct mrp_context *context;
    struct mrp_provider *provider;
    const struct mrp_mpi_native *native;
    struct mrp_pool *pool;
    unsigned char *memory; /* MEMORY_PAGES pages */
};
#define MEMORY_PAGES 512

static void wrap(struct fixture *f, MPI_Win win, const char *options)
{
    struct mrp_mpi_wrap_params params = MRP_MPI_WRAP_PARAMS_INIT;
    const void *native = NULL;

    params.win = win;
    params.options = options;
    assert_int_equal(
        mrp_mpi_provider_wrap(f->context, NULL, &params, &f->provider), MRP_OK);
    assert_int_equal(mrp_provider_native(f->provider, &native), MRP_OK);
    f->native = native;
}

static void create_pool(struct fixture *f, struct mrp_backend *backend)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.rails = &f->provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    params.backend = backend;
    params.max_registrations = 10000; /* so that the provider's own limit is met */
    assert_int_equal(mrp_pool_create(f->context, &params, &f->pool), MRP_OK);
}

static struct fixture set_up(MPI_Win win, const char *options)
{
    struct fixture f = {.pool = NULL};

    assert_int_equal(mrp_context_create(NULL, &f.context), MRP_OK);
    wrap(&f, win, options);
    create_pool(&f, NULL);
    f.memory = aligned_alloc(PAGE, MEMORY_PAGES * PAGE);
    assert_non_null(f.memory);
    memset(f.memory, 0, MEMORY_PAGES * PAGE);
    return f;
}

static void tear_down(struct fixture *f)
{
    assert_int_equal(mrp_context_destroy(f->context), MRP_OK);
    free(f->memory);
}

static enum mrp_status take(
    struct fixture *f, size_t first, size_t size, struct mrp_region **region)
{
    return mrp_region_register(f->pool, f->memory + first, size, NULL, region);
}

/* What the other rank has at the address that `own` has here; and nobody goes on before
 * all have looked. */
static uint64_t peek(const struct fixture *f, const void *own)
{
    int other = (f->native->rank + 1) % f->native->n_ranks;
    MPI_Aint here, there;
    uint64_t found = 0;

    MPI_Get_address(own, &here);
    MPI_Sendrecv(&here, 1, MPI_AINT, other, 0, &there, 1, MPI_AINT, other, 0,
        MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Win_lock(MPI_LOCK_SHARED, other, 0, f->native->win);
    assert_int_equal(
        MPI_Get(&found, 8, MPI_BYTE, other, there, 8, MPI_BYTE, f->native->win), 0);
    MPI_Win_unlock(other, f->native->win);
    MPI_Barrier(MPI_COMM_WORLD);
    return found;
}

static void store(void *address, uint64_t value)
{
    memcpy(address, &value, sizeof(value));
}

/* -- attachments -- */

static void register__the_limit_is_found_and_explained(void **state)
{
    struct fixture f = set_up(MPI_WIN_NULL, NULL);
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_region *regions[MEMORY_PAGES / 2], *one_more;
    size_t n = 0;

    (void)state;
    assert_int_equal(mrp_provider_query(f.provider, &info), MRP_OK);
    if (info.max_registrations == 0) { /* MPICH: many, and no end in sight */
        info.max_registrations = MEMORY_PAGES / 2 - 1;
    } else {
        assert_true(info.max_registrations < MEMORY_PAGES / 2);
    }
    for (; n < info.max_registrations; n++) { /* every other page, so that none touch */
        assert_int_equal(take(&f, 2 * n * PAGE, PAGE, &regions[n]), MRP_OK);
    }
    if (strcmp(MRP_MPI_MODULE, "mpi") == 0) {
        assert_int_equal(take(&f, 2 * n * PAGE, PAGE, &one_more), MRP_ERR_LIMIT);
        assert_non_null(strstr(mrp_error_last()->text, "osc_rdma_max_attach"));
        assert_non_null(strstr(mrp_error_last()->text, "few large chunks"));
        /* and the window is as good as before */
        assert_int_equal(mrp_region_free(regions[n - 1]), MRP_OK);
        assert_int_equal(take(&f, 2 * n * PAGE, PAGE, &regions[n - 1]), MRP_OK);
    }
    store(f.memory, 4711);
    MPI_Barrier(MPI_COMM_WORLD);
    assert_int_equal(peek(&f, f.memory), 4711);
    while (n > 0) {
        assert_int_equal(mrp_region_free(regions[--n]), MRP_OK);
    }
    tear_down(&f);
}

static void register__limit_by_option_is_of_attachments(void **state)
{
    struct mrp_region_register_params local = MRP_REGION_REGISTER_PARAMS_INIT;
    struct fixture f = set_up(MPI_WIN_NULL, "max_attach=3");
    struct mrp_region *regions[3], *one_more, *same, *unseen;
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    (void)state;
    assert_int_equal(mrp_provider_query(f.provider, &info), MRP_OK);
    assert_int_equal(info.max_registrations, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(take(&f, 2 * i * PAGE, PAGE, &regions[i]), MRP_OK);
    }
    assert_int_equal(take(&f, 6 * PAGE, PAGE, &one_more), MRP_ERR_LIMIT);
    assert_non_null(strstr(mrp_error_last()->text, "option max_attach"));
    /* what is attached already takes no more, nor does what nobody else may reach */
    assert_int_equal(take(&f, 100, 200, &same), MRP_OK);
    local.access = MRP_ACCESS_LOCAL;
    assert_int_equal(
        mrp_region_register(f.pool, f.memory + 8 * PAGE, PAGE, &local, &unseen), MRP_OK);
    assert_int_equal(mrp_region_free(unseen), MRP_OK);
    assert_int_equal(mrp_region_free(same), MRP_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
    tear_down(&f);
}

static size_t limit_of(const char *options)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct fixture f = set_up(MPI_WIN_NULL, options);

    assert_int_equal(mrp_provider_query(f.provider, &info), MRP_OK);
    tear_down(&f);
    return info.max_registrations;
}

/* Open MPI that is asked for one more than it takes never returns. */
static void register__limit_by_option_is_not_above_that_of_mpi(void **state)
{
    size_t known = limit_of(NULL), wanted = 2 * known + 7;
    char options[40];

    (void)state;
    snprintf(options, sizeof(options), "max_attach=%zu", wanted);
    assert_int_equal(limit_of(options), known != 0 ? known : wanted);
}

/* What is still registered stays attached, whoever attached it. */
static void register__overlaps_are_reached_until_the_last_goes(void **state)
{
    struct fixture f = set_up(MPI_WIN_NULL, NULL);
    struct mrp_region *first, *second, *third;

    (void)state;
    assert_int_equal(take(&f, 2 * PAGE, 2 * PAGE, &first), MRP_OK);
    assert_int_equal(take(&f, 3 * PAGE, 2 * PAGE, &second), MRP_OK);
    assert_int_equal(take(&f, PAGE, 8 * PAGE, &third), MRP_OK);
    for (size_t page = 1; page < 9; page++) {
        store(f.memory + page * PAGE, page);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    assert_int_equal(mrp_region_free(first), MRP_OK);
    for (size_t page = 1; page < 9; page++) {
        assert_int_equal(peek(&f, f.memory + page * PAGE), page);
    }
    assert_int_equal(mrp_region_free(third), MRP_OK);
    assert_int_equal(peek(&f, f.memory + 3 * PAGE), 3);
    assert_int_equal(peek(&f, f.memory + 4 * PAGE), 4);
    assert_int_equal(mrp_region_free(second), MRP_OK);
    tear_down(&f);
}

/* -- windows of the caller's -- */

static MPI_Win dynamic_window(void)
{
    MPI_Win win;

    assert_int_equal(
        MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &win), MPI_SUCCESS);
    return win;
}

static void wrap__two_providers_share_a_window(void **state)
{
    MPI_Win win = dynamic_window();
    struct fixture one = set_up(win, "max_attach=1"), other = one;
    struct mrp_region *first, *second;
    int rank;

    (void)state;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    assert_int_equal(one.native->win == win, 1);
    assert_int_equal(one.native->rank, rank);
    assert_true(one.native->comm == MPI_COMM_NULL && one.native->is_dynamic);
    wrap(&other, win, NULL);
    create_pool(&other, NULL);
    assert_int_equal(take(&one, 0, PAGE, &first), MRP_OK);
    assert_int_equal(take(&other, 0, PAGE, &second), MRP_OK); /* the same attachment */
    store(one.memory, 99);
    MPI_Barrier(MPI_COMM_WORLD);
    assert_int_equal(mrp_region_free(first), MRP_OK);
    assert_int_equal(peek(&other, one.memory), 99);
    assert_int_equal(mrp_region_free(second), MRP_OK);
    tear_down(&one);
    assert_int_equal(MPI_Win_free(&win), MPI_SUCCESS);
}

static void wrap__after_the_last_provider_the_window_is_as_before(void **state)
{
    MPI_Win win = dynamic_window();

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fixture f = set_up(win, NULL);
        struct mrp_region *region;

        assert_int_equal(take(&f, 0, PAGE, &region), MRP_OK);
        assert_int_equal(mrp_region_free(region), MRP_OK);
        tear_down(&f);
    }
    assert_int_equal(MPI_Win_free(&win), MPI_SUCCESS);
}

/* MPI_ERRORS_ARE_FATAL is what windows begin with. */
static void wrap__a_refusal_of_mpi_is_a_status(void **state)
{
    MPI_Win win = dynamic_window();
    struct fixture f = set_up(win, NULL);
    struct mrp_region *region;
    MPI_Errhandler handler;

    (void)state;
    if (strcmp(MRP_MPI_MODULE, "mpi") == 0) {
        assert_int_equal(MPI_Win_attach(win, f.memory, (MPI_Aint)PAGE), MPI_SUCCESS);
        assert_int_equal(take(&f, 100, 200, &region), MRP_ERR_REGISTER);
        assert_non_null(strstr(mrp_error_last()->text, "MPI_Win_attach"));
        assert_int_equal(take(&f, 4 * PAGE, PAGE, &region), MRP_OK);
        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_int_equal(MPI_Win_detach(win, f.memory), MPI_SUCCESS);
    } else {
        print_message("SKIP: a refusal of mpi: MPICH refuses no attachment\n");
    }
    assert_int_equal(MPI_Win_get_errhandler(win, &handler), MPI_SUCCESS);
    assert_true(handler == MPI_ERRORS_ARE_FATAL);
    MPI_Errhandler_free(&handler);
    tear_down(&f);
    assert_int_equal(MPI_Win_free(&win), MPI_SUCCESS);
}

static void wrap__a_window_freed_first_is_noticed(void **state)
{
    MPI_Win win = dynamic_window();
    struct fixture f = set_up(win, NULL);
    struct mrp_rail_info rail = MRP_RAIL_INFO_INIT;
    struct mrp_region *region, *late;

    (void)state;
    assert_int_equal(take(&f, 0, PAGE, &region), MRP_OK);
    MPI_Barrier(MPI_COMM_WORLD);
    assert_int_equal(MPI_Win_free(&win), MPI_SUCCESS);
    late = mrp_region_alloc(f.pool, 1000); /* on a rail that has failed */
    assert_non_null(late);
    assert_int_equal(mrp_pool_rail_query(f.pool, 0, &rail), MRP_OK);
    assert_int_equal(rail.state, MRP_RAIL_FAILED);
    assert_non_null(strstr(rail.reason, "MPI_Win_free"));
    assert_int_equal(mrp_region_free(late), MRP_OK);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f.pool), MRP_OK);
    assert_int_equal(mrp_provider_close(f.provider), MRP_OK);
    tear_down(&f);
}

/* A window does not inherit the handler of its communicator. */
static void window__of_its_own_returns_errors(void **state)
{
    static const char *const options[] = {NULL, "window=allocated,size=4M"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f = set_up(MPI_WIN_NULL, options[i]);
        MPI_Errhandler handler;

        assert_int_equal(MPI_Win_get_errhandler(f.native->win, &handler), MPI_SUCCESS);
        assert_true(handler == MPI_ERRORS_RETURN);
        MPI_Errhandler_free(&handler);
        tear_down(&f);
    }
}

static void wrap__refuses_what_does_not_fit(void **state)
{
    struct mrp_mpi_wrap_params params = MRP_MPI_WRAP_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    MPI_Win win;
    void *base;

    (void)state;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(
        mrp_mpi_provider_wrap(context, NULL, NULL, &provider), MRP_ERR_INVALID);
    params.lock = free;
    assert_int_equal(
        mrp_mpi_provider_wrap(context, NULL, &params, &provider), MRP_ERR_INVALID);
    assert_non_null(strstr(mrp_error_last()->text, "lock without unlock"));
    params.lock = NULL;
    params.struct_size = 3;
    assert_int_equal(
        mrp_mpi_provider_wrap(context, NULL, &params, &provider), MRP_ERR_INVALID);
    params.struct_size = sizeof(params);

    MPI_Win_allocate(64, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    params.win = win;
    assert_int_equal(
        mrp_mpi_provider_wrap(context, NULL, &params, &provider), MRP_ERR_UNSUPPORTED);
    assert_non_null(strstr(mrp_error_last()->text, "units of 8 bytes"));
    MPI_Win_free(&win);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

static void wrap__refuses_an_intercommunicator(void **state)
{
    struct mrp_mpi_wrap_params params = MRP_MPI_WRAP_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    MPI_Comm half;
    int rank;

    (void)state;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half);
    MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - rank % 2, 0, &params.comm);
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(
        mrp_mpi_provider_wrap(context, NULL, &params, &provider), MRP_ERR_INVALID);
    assert_non_null(strstr(mrp_error_last()->text, "MPI_Intercomm_merge"));
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    MPI_Comm_free(&params.comm);
    MPI_Comm_free(&half);
}

/* -- windows with memory -- */

static void allocated__only_its_memory_is_registered_for_others(void **state)
{
    struct mrp_region_register_params local = MRP_REGION_REGISTER_PARAMS_INIT;
    struct fixture f = set_up(MPI_WIN_NULL, "window=allocated,size=4M");
    struct mrp_region *region;

    (void)state;
    assert_false(f.native->is_dynamic);
    assert_int_equal(take(&f, 0, PAGE, &region), MRP_ERR_UNSUPPORTED);
    assert_non_null(strstr(mrp_error_last()->text, "mrp_provider_backend"));
    local.access = MRP_ACCESS_LOCAL; /* sends and puts from it need no window */
    assert_int_equal(
        mrp_region_register(f.pool, f.memory, PAGE, &local, &region), MRP_OK);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    tear_down(&f);
}

static void *carve(struct fixture *f, struct mrp_backend *backend, size_t size)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;

    info.size = size;
    info.backend = backend;
    info.alignment = PAGE;
    info.flags = MRP_MEMORY_UNZEROED;
    return mrp_memory_alloc(f->context, &info);
}

/* Given back in any order, it is one piece again. */
static void allocated__memory_given_back_is_used_again(void **state)
{
    struct fixture f = set_up(MPI_WIN_NULL, "window=allocated,size=4M");
    const size_t whole = ((size_t)4 << 20) - PAGE;
    struct mrp_backend *backend;
    void *parts[16], *all;

    (void)state;
    assert_int_equal(mrp_provider_backend(f.provider, NULL, &backend), MRP_OK);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 16; i++) {
            parts[i] = carve(&f, backend, (i + 1) * PAGE);
            assert_non_null(parts[i]);
            assert_true((char *)parts[i] >= (char *)f.native->base &&
                (char *)parts[i] + (i + 1) * PAGE <=
                    (char *)f.native->base + f.native->size);
            memset(parts[i], (int)i, (i + 1) * PAGE);
        }
        for (size_t i = 0; i < 16; i++) { /* nobody has written into another's */
            const unsigned char *part = parts[i];

            for (size_t j = 0; j < (i + 1) * PAGE; j++) {
                assert_int_equal(part[j], i);
            }
        }
        assert_null(carve(&f, backend, (size_t)4 << 20));
        assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
        assert_non_null(strstr(mrp_error_last()->text, "option size"));
        for (size_t i = 0; i < 16; i++) {
            assert_int_equal(
                mrp_memory_free(f.context, parts[(i * (2 * round + 1)) % 16]), MRP_OK);
        }
        all = carve(&f, backend, whole);
        assert_non_null(all);
        assert_int_equal(mrp_memory_free(f.context, all), MRP_OK);
    }
    tear_down(&f);
}

/* A window that the caller has allocated, and one that two pools share. */
static void allocated__wrapped_window_serves_two_pools(void **state)
{
    struct fixture f = {.pool = NULL};
    struct mrp_backend *backend;
    struct mrp_pool *pools[2];
    MPI_Win win;
    void *base;

    (void)state;
    MPI_Win_allocate((MPI_Aint)16 << 20, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    assert_int_equal(mrp_context_create(NULL, &f.context), MRP_OK);
    wrap(&f, win, NULL);
    assert_ptr_equal(f.native->base, base);
    assert_int_equal(f.native->size, (size_t)16 << 20);
    assert_int_equal(mrp_provider_backend(f.provider, NULL, &backend), MRP_OK);
    for (size_t i = 0; i < 2; i++) {
        struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
        struct mrp_region *region;
        uint64_t address;

        params.rails = &f.provider;
        params.n_rails = 1;
        params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
        params.backend = backend;
        params.max_bytes = (size_t)4 << 20;
        assert_int_equal(mrp_pool_create(f.context, &params, &pools[i]), MRP_OK);
        region = mrp_region_alloc(pools[i], 10000);
        assert_non_null(region);
        assert_int_equal(mrp_region_remote_addr(region, 0, &address), MRP_OK);
        assert_ptr_equal((char *)base + address, mrp_region_address(region));
        assert_int_equal(mrp_region_free(region), MRP_OK);
    }
    tear_down(&f);
    assert_int_equal(MPI_Win_free(&win), MPI_SUCCESS);
}

/* Its memory went with it. */
static void allocated__a_window_freed_first_has_no_memory_left(void **state)
{
    struct fixture f = {.pool = NULL};
    struct mrp_backend *backend;
    MPI_Win win;
    void *base, *before;

    (void)state;
    MPI_Win_allocate((MPI_Aint)4 << 20, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    assert_int_equal(mrp_context_create(NULL, &f.context), MRP_OK);
    wrap(&f, win, NULL);
    assert_int_equal(mrp_provider_backend(f.provider, NULL, &backend), MRP_OK);
    before = carve(&f, backend, PAGE);
    assert_non_null(before);
    assert_int_equal(MPI_Win_free(&win), MPI_SUCCESS);
    assert_null(carve(&f, backend, PAGE));
    assert_non_null(strstr(mrp_error_last()->text, "MPI_Win_free"));
    assert_int_equal(mrp_memory_free(f.context, before), MRP_OK);
    tear_down(&f);
}

static void alloc_mem__is_a_backend_of_a_dynamic_window(void **state)
{
    struct fixture f = {.pool = NULL};
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    struct mrp_backend *backend;
    struct mrp_region *regions[20];

    (void)state;
    assert_int_equal(mrp_context_create(NULL, &f.context), MRP_OK);
    wrap(&f, MPI_WIN_NULL, NULL);
    assert_int_equal(mrp_provider_backend(f.provider, NULL, &backend), MRP_OK);
    create_pool(&f, backend);
    for (size_t i = 0; i < 20; i++) {
        regions[i] = mrp_region_alloc(f.pool, i * 50000);
        assert_non_null(regions[i]);
        memset(mrp_region_address(regions[i]), 1, mrp_region_capacity(regions[i]));
        store(mrp_region_address(regions[i]), i);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(peek(&f, mrp_region_address(regions[i])), i);
    }
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
    assert_int_equal(mrp_thread_flush(f.pool), MRP_OK);
    assert_int_equal(mrp_pool_trim(f.pool, 0, NULL), MRP_OK);
    assert_int_equal(mrp_backend_query(backend, &info), MRP_OK);
    assert_int_equal(info.mapped_size, 0);
    assert_int_equal(mrp_provider_close(f.provider), MRP_ERR_BUSY); /* the backend */
    tear_down(&f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(register__the_limit_is_found_and_explained),
        cmocka_unit_test(register__limit_by_option_is_of_attachments),
        cmocka_unit_test(register__limit_by_option_is_not_above_that_of_mpi),
        cmocka_unit_test(register__overlaps_are_reached_until_the_last_goes),
        cmocka_unit_test(wrap__two_providers_share_a_window),
        cmocka_unit_test(wrap__after_the_last_provider_the_window_is_as_before),
        cmocka_unit_test(wrap__a_refusal_of_mpi_is_a_status),
        cmocka_unit_test(wrap__a_window_freed_first_is_noticed),
        cmocka_unit_test(window__of_its_own_returns_errors),
        cmocka_unit_test(wrap__refuses_what_does_not_fit),
        cmocka_unit_test(wrap__refuses_an_intercommunicator),
        cmocka_unit_test(allocated__only_its_memory_is_registered_for_others),
        cmocka_unit_test(allocated__memory_given_back_is_used_again),
        cmocka_unit_test(allocated__wrapped_window_serves_two_pools),
        cmocka_unit_test(allocated__a_window_freed_first_has_no_memory_left),
        cmocka_unit_test(alloc_mem__is_a_backend_of_a_dynamic_window),
    };
    int level, n_failed;

    MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level);
    n_failed = cmocka_run_group_tests_name("windows", tests, NULL, NULL);
    if (n_failed > 0) { /* the other rank may be waiting for this one */
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Finalize();
    return 0;
}
