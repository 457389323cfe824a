/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MPI: the module's table. Compiled twice, as module "mpi" for Open MPI and as "mpich" for
 * MPICH. window.c makes or wraps a window, attach.c and carve.c manage its memory,
 * register.c and memory.c fill the tables, calls.c knows when MPI may be called.
 */
#include "limit.h"
#include "provider.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SETTING_WINDOW,
    SETTING_SIZE,
    SETTING_MAX_ATTACH,
    N_SETTINGS
};

static const struct mrp_setting_spec settings[N_SETTINGS] = {
    [SETTING_WINDOW] = {MRP_MPI_SETTING("WINDOW"), MRP_SETTING_CHOICE, 0, 0,
        "dynamic|allocated", "dynamic",
        "dynamic: attach and detach any memory, addressed by virtual address; allocated: "
        "one MPI_Win_allocate that a pool takes its memory from, addressed by "
        "displacement"},
    [SETTING_SIZE] = {MRP_MPI_SETTING("SIZE"), MRP_SETTING_SIZE, 4096, (uint64_t)1 << 46,
        NULL, "64M", "bytes that this rank brings to an allocated window"},
    [SETTING_MAX_ATTACH] = {MRP_MPI_SETTING("MAX_ATTACH"), MRP_SETTING_COUNT, 0, 1u << 30,
        NULL, "0",
        "most attachments of a dynamic window, where MPI itself does not take fewer "
        "(" MRP_MPI_LIMIT_VARIABLE " of Open MPI); 0: as many as MPI takes"},
};

/* -- open -- */

/* A handle of zero is none, in Open MPI and in MPICH: nobody has set the member. */
static enum mrp_status take_window(struct mrp_mpi_provider *provider,
    const struct mrp_mpi_wrap_params *params, const struct mrp_mpi_choice *choice)
{
    bool has_comm = params->comm != (MPI_Comm)0 && params->comm != MPI_COMM_NULL;
    bool has_window = params->win != (MPI_Win)0 && params->win != MPI_WIN_NULL;
    MPI_Comm comm = has_comm ? params->comm : MPI_COMM_WORLD;
    enum mrp_status status = mrp_mpi_check_thread(&provider->calls, "opening a provider");

    if (status != MRP_OK) {
        return status;
    }
    mrp_mpi_lock(&provider->calls);
    status = has_window ? mrp_mpi_window_wrap(params->win, choice, &provider->window)
                        : mrp_mpi_window_create(comm, choice, &provider->window);
    mrp_mpi_unlock(&provider->calls);
    return status;
}

static void describe(struct mrp_mpi_provider *provider)
{
    const struct mrp_mpi_window *window = provider->window;
    char library[80];

    mrp_mpi_library_name(library, sizeof(library));
    snprintf(provider->device, sizeof(provider->device), "%s, %s window, rank %d of %d",
        library, window->is_dynamic ? "dynamic" : "allocated", window->rank,
        window->n_ranks);
    provider->native = (struct mrp_mpi_native){sizeof(provider->native), window->comm,
        window->win, window->rank, window->n_ranks, window->is_dynamic, window->base,
        window->size};
}

static enum mrp_status open_provider(
    const struct mrp_provider_open_request *request, void **state)
{
    const struct mrp_mpi_choice choice = {request->numbers[SETTING_WINDOW] == 0,
        request->numbers[SETTING_SIZE], request->numbers[SETTING_MAX_ATTACH]};
    struct mrp_mpi_wrap_params params;
    struct mrp_mpi_provider *provider;
    enum mrp_status status = mrp_mpi_check_library();

    if (status == MRP_OK) {
        status = mrp_mpi_check_up();
    }
    if (status == MRP_OK) {
        status = mrp_params_read(
            &params, sizeof(params), request->native, "mrp_mpi_wrap_params");
    }
    if (status == MRP_OK) {
        status = mrp_params_check_lock(params.lock, params.unlock, "mrp_mpi_wrap_params");
    }
    if (status != MRP_OK) {
        return status;
    }
    provider = calloc(1, sizeof(*provider));
    if (provider == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a provider failed",
            sizeof(*provider));
    }
    mrp_mpi_calls_init(&provider->calls);
    provider->calls.lock = params.lock;
    provider->calls.unlock = params.unlock;
    provider->calls.lock_arg = params.lock_arg;
    status = take_window(provider, &params, &choice);
    if (status != MRP_OK) {
        free(provider);
        return status;
    }
    describe(provider);
    *state = provider;
    return MRP_OK;
}

/* Of what MPI may not be called for any more, MPI_Finalize has disposed or will. */
static void close_provider(void *state)
{
    struct mrp_mpi_provider *provider = state;
    bool may_call;

    mrp_mpi_enter_anyway(provider, &may_call);
    mrp_mpi_free_all(provider, may_call); /* what was owed is detached by now */
    pthread_mutex_unlock(&provider->window->mutex);
    mrp_mpi_window_release(provider->window, may_call);
    if (may_call) {
        mrp_mpi_unlock(&provider->calls);
    }
    free(provider);
}

/* -- what there is -- */

static void query_provider(void *state, struct mrp_provider_info *info)
{
    const struct mrp_mpi_provider *provider = state;
    const struct mrp_mpi_window *window = provider->window;

    info->device = provider->device;
    info->traits = MRP_PROVIDER_REMOTE_KEY |
        (window->is_dynamic ? (uint32_t)MRP_PROVIDER_VIRTUAL_ADDRESS : 0u);
    info->access = MRP_ACCESS_ALL;
    info->memory_kinds = 1u << MRP_MEMORY_HOST;
    info->max_registrations = window->is_dynamic ? window->max_attachments : 0;
    info->max_size = 0;
    info->key_size = sizeof(uint64_t);
    info->node = 0;
}

#ifdef OPEN_MPI
#define DYNAMIC_LIMITS \
    "; takes 64 attachments (" MRP_MPI_LIMIT_VARIABLE ") and wants two ranks"
#else
#define DYNAMIC_LIMITS ""
#endif

/* The two kinds of window, for which MPI need not be initialised. */
static enum mrp_status list_devices(mrp_device_visitor *visit, void *user)
{
    struct mrp_device device = {.struct_size = sizeof(device)};
    enum mrp_status status = mrp_mpi_check_library();
    char library[80];

    if (status != MRP_OK) {
        return status;
    }
    mrp_mpi_library_name(library, sizeof(library));
    device.domain = library;
    device.name = "dynamic";
    device.options = "window=dynamic";
    device.detail = "any memory, attached and detached" DYNAMIC_LIMITS;
    visit(&device, user);
    device.name = "allocated";
    device.options = "window=allocated";
    device.detail = "memory of one MPI_Win_allocate, as much as option size says";
    visit(&device, user);
    return MRP_OK;
}

static const void *show_native(void *state)
{
    return &((struct mrp_mpi_provider *)state)->native;
}

#ifdef OPEN_MPI
#define PURPOSE "Open MPI: windows for MPI_Put, MPI_Get and MPI_Accumulate"
#define TABLE mrp_provider_mpi
#else
#define PURPOSE "MPICH: windows for MPI_Put, MPI_Get and MPI_Accumulate"
#define TABLE mrp_provider_mpich
#endif

MRP_API const struct mrp_provider_ops TABLE = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = MRP_MPI_MODULE,
    .purpose = PURPOSE,
    .settings = settings,
    .n_settings = N_SETTINGS,

    .register_memory = mrp_mpi_register_memory,
    .deregister_memory = mrp_mpi_deregister_memory,
    .open = open_provider,

    .close = close_provider,
    .query = query_provider,
    .devices = list_devices,
    .native = show_native,
    .backend = &mrp_mpi_backend,
};
