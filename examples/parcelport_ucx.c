/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The network over UCX: tagged messages, all under one tag, and ucp_get_nbx. The only
 * things here that know of mrpool are ucx_wrap and the types of a region's handles: its
 * local descriptor is a ucp_mem_h, a peer's key an ucp_rkey_h of our endpoint to it.
 */
#include "parcelport_network.h"

#include "mrpool/ucx.h"

#include <ucp/api/ucp.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UCX_TAG 0x70617263u

/* Good-byes are given so long. */
#define UCX_CLOSE_NS UINT64_C(2000000000)

/* What an operation keeps while it is in flight, and while it is ready to be reported. */
union ucx_op {
    ucp_dt_iov_t iov[PIECES_MAX]; /* of a send: UCX reads it until the end */
    void *request; /* of a receive: to cancel it */
    struct {
        struct network_op *next;
        size_t size;
        enum network_result result;
    } ready;
};
_Static_assert(sizeof(union ucx_op) <= sizeof(((struct network_op *)0)->native),
    "kept in the operation");

struct network {
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_address_t *address;
    size_t address_size;
    ucp_ep_h peers[PROCESSES_MAX];
    /* UCX completes operations while they are started, too. All are put here, so that
     * `done` is called by progress alone. */
    struct network_op *ready, **ready_end;
    bool is_shared_memory;
    char text[256];
};

static bool ucx_check(const char *call, ucs_status_t status)
{
    return status == UCS_OK || trouble("%s: %s", call, ucs_status_string(status));
}

static union ucx_op *ucx_op_of(struct network_op *op)
{
    return (union ucx_op *)(void *)op->native;
}

/* -- opening -- */

/* As UCX_TLS would say it, so that nothing of the environment gets in between. */
static bool ucx_choose(ucp_config_t *config, const char *provider)
{
    char transports[256];

    snprintf(transports, sizeof(transports), "%s,self", provider);
    return ucx_check("ucp_config_modify", ucp_config_modify(config, "TLS", transports));
}

static bool ucx_open_context(struct network *network, const char *provider)
{
    ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED,
        .features = UCP_FEATURE_TAG | UCP_FEATURE_RMA,
        /* The main thread registers when the pool grows, while the progress thread has
         * the worker. Otherwise both would need a lock: mrp_ucx_wrap_params.lock. */
        .mt_workers_shared = 1,
    };
    ucp_config_t *config;
    bool good;

    if (!ucx_check("ucp_config_read", ucp_config_read(NULL, NULL, &config))) {
        return false;
    }
    good = ucx_choose(config, provider) &&
        ucx_check("ucp_init", ucp_init(&params, config, &network->context));
    ucp_config_release(config);
    return good ||
        trouble("UCX has no transports %s; `ucx_info -d` lists what there is", provider);
}

static void ucx_close(struct network *network);

static struct network *ucx_open(const char *provider, const char *node)
{
    /* one thread after another: who sets up, the progress thread, who takes down */
    const ucp_worker_params_t params = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED};
    struct network *network = calloc(1, sizeof(*network));

    (void)node; /* UCX finds the way by itself */
    if (network == NULL) {
        trouble("no memory");
        return NULL;
    }
    network->ready_end = &network->ready;
    network->is_shared_memory = strcmp(provider, "shm") == 0;
    if (!ucx_open_context(network, provider) ||
        !ucx_check("ucp_worker_create",
            ucp_worker_create(network->context, &params, &network->worker)) ||
        !ucx_check("ucp_worker_get_address",
            ucp_worker_get_address(
                network->worker, &network->address, &network->address_size))) {
        ucx_close(network);
        return NULL;
    }
    snprintf(network->text, sizeof(network->text), "UCX %s, transports %s",
        ucp_get_version_string(), provider);
    return network;
}

static const char *ucx_describe(struct network *network)
{
    return network->text;
}

/* All that it takes to have a pool register with a context that is ours. */
static enum mrp_status ucx_wrap(
    struct network *network, struct mrp_context *context, struct mrp_provider **provider)
{
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;

    params.context = network->context;
    params.features = UCP_FEATURE_TAG | UCP_FEATURE_RMA;
    return mrp_ucx_provider_wrap(context, NULL, &params, provider);
}

/* Shared-memory transports reach another process's memory if they have made it, or if the
 * kernel lets them (process_vm_readv), which it often does not. */
static bool ucx_makes_memory(struct network *network)
{
    return network->is_shared_memory;
}

static bool ucx_address(struct network *network, void *address, size_t *size)
{
    if (network->address_size > *size) {
        return trouble(
            "an address of %zu bytes: at most %zu", network->address_size, *size);
    }
    memcpy(address, network->address, network->address_size);
    *size = network->address_size;
    return true;
}

static bool ucx_connect(
    struct network *network, unsigned rank, const void *address, size_t size)
{
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS, .address = address};

    (void)size; /* an address knows its own size */
    return ucx_check(
        "ucp_ep_create", ucp_ep_create(network->worker, &params, &network->peers[rank]));
}

static void *ucx_endpoint(struct network *network, unsigned rank)
{
    return network->peers[rank]; /* keys are imported for one endpoint */
}

/* -- the data path -- */

static void ucx_ready(struct network *network, struct network_op *op,
    enum network_result result, size_t size)
{
    union ucx_op *own = ucx_op_of(op);

    own->ready.next = NULL;
    own->ready.size = size;
    own->ready.result = result;
    *network->ready_end = op;
    network->ready_end = &own->ready.next;
}

static enum network_result ucx_result(ucs_status_t status)
{
    if (status == UCS_OK) {
        return NETWORK_DONE;
    }
    if (status == UCS_ERR_CANCELED) {
        return NETWORK_CANCELLED;
    }
    trouble("an operation failed: %s", ucs_status_string(status));
    return NETWORK_FAILED;
}

static void ucx_sent(void *request, ucs_status_t status, void *op)
{
    ucx_ready(((struct network_op *)op)->network, op, ucx_result(status), 0);
    ucp_request_free(request);
}

static void ucx_received(
    void *request, ucs_status_t status, const ucp_tag_recv_info_t *info, void *op)
{
    enum network_result result = ucx_result(status);

    ucx_ready(((struct network_op *)op)->network, op, result,
        result == NETWORK_DONE ? info->length : 0);
    ucp_request_free(request);
}

/* `size`: what has been received, if it was done at once. */
static enum network_start ucx_started(struct network *network, const char *call,
    ucs_status_ptr_t request, struct network_op *op, size_t size)
{
    if (request == NULL) {
        ucx_ready(network, op, NETWORK_DONE, size);
        return NETWORK_STARTED;
    }
    return !UCS_PTR_IS_ERR(request) || ucx_check(call, UCS_PTR_STATUS(request))
        ? NETWORK_STARTED
        : NETWORK_REFUSED;
}

/* A buffer that has been registered says so: nobody has to look it up. */
static void ucx_tell_handle(ucp_request_param_t *param, const struct network_piece *piece)
{
    if (piece->local_desc != NULL) {
        param->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
        param->memh = piece->local_desc;
    }
}

static enum network_start ucx_send(struct network *network, unsigned to,
    const struct network_piece *pieces, size_t n_pieces, struct network_op *op)
{
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = ucx_sent,
        .user_data = op};
    union ucx_op *own = ucx_op_of(op);
    const void *buffer = pieces[0].address;
    size_t count = pieces[0].size;

    op->network = network;
    if (n_pieces > 1) { /* UCX takes a handle for a single buffer only */
        for (size_t i = 0; i < n_pieces; i++) {
            own->iov[i].buffer = pieces[i].address;
            own->iov[i].length = pieces[i].size;
        }
        param.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
        param.datatype = ucp_dt_make_iov();
        buffer = own->iov;
        count = n_pieces;
    } else {
        ucx_tell_handle(&param, &pieces[0]);
    }
    return ucx_started(network, "ucp_tag_send_nbx",
        ucp_tag_send_nbx(network->peers[to], buffer, count, UCX_TAG, &param), op, 0);
}

static enum network_start ucx_receive(
    struct network *network, const struct network_piece *piece, struct network_op *op)
{
    ucp_tag_recv_info_t info = {.length = 0};
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
            UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_RECV_INFO,
        .cb.recv = ucx_received,
        .user_data = op,
        .recv_info.tag_info = &info};
    ucs_status_ptr_t request;

    op->network = network;
    ucx_tell_handle(&param, piece);
    request = ucp_tag_recv_nbx(
        network->worker, piece->address, piece->size, UCX_TAG, UINT64_MAX, &param);
    if (UCS_PTR_IS_PTR(request)) {
        ucx_op_of(op)->request = request;
    }
    return ucx_started(network, "ucp_tag_recv_nbx", request, op, info.length);
}

static enum network_start ucx_read(struct network *network, unsigned from,
    const struct network_piece *piece, const struct mrp_remote_region *source,
    struct network_op *op)
{
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = ucx_sent,
        .user_data = op};

    op->network = network;
    ucx_tell_handle(&param, piece);
    return ucx_started(network, "ucp_get_nbx",
        ucp_get_nbx(network->peers[from], piece->address, piece->size, source->address,
            source->handle, &param),
        op, 0);
}

static void ucx_cancel(struct network *network, struct network_op *op)
{
    ucp_request_cancel(network->worker, ucx_op_of(op)->request);
}

static bool ucx_progress(struct network *network)
{
    bool was_busy = ucp_worker_progress(network->worker) != 0;
    struct network_op *op = network->ready;

    network->ready = NULL; /* what is started meanwhile is for the next time */
    network->ready_end = &network->ready;
    while (op != NULL) {
        union ucx_op *own = ucx_op_of(op);
        struct network_op *next = own->ready.next;

        op->done(op, own->ready.result, own->ready.size); /* may start it again */
        op = next;
        was_busy = true;
    }
    return was_busy;
}

/* -- closing -- */

/* Flushed, so that the peers see an end and no error; bounded, as they may have gone. */
static void ucx_close_peer(struct network *network, ucp_ep_h peer)
{
    const ucp_request_param_t param = {.op_attr_mask = 0};
    uint64_t deadline = clock_ns() + UCX_CLOSE_NS;
    ucs_status_ptr_t request = ucp_ep_close_nbx(peer, &param);

    while (UCS_PTR_IS_PTR(request) &&
        ucp_request_check_status(request) == UCS_INPROGRESS && clock_ns() < deadline) {
        if (ucp_worker_progress(network->worker) == 0) {
            sched_yield();
        }
    }
    if (UCS_PTR_IS_PTR(request)) {
        ucp_request_free(request);
    }
}

static void ucx_disconnect(struct network *network)
{
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        if (network->peers[i] != NULL) {
            ucx_close_peer(network, network->peers[i]);
            network->peers[i] = NULL;
        }
    }
}

static void ucx_close(struct network *network)
{
    if (network->worker != NULL) {
        ucx_disconnect(network);
        if (network->address != NULL) {
            ucp_worker_release_address(network->worker, network->address);
        }
        ucp_worker_destroy(network->worker);
    }
    if (network->context != NULL) {
        ucp_cleanup(network->context);
    }
    free(network);
}

const struct network_ops network_ucx = {
    .name = "ucx",
    .default_provider = "tcp",
    .open = ucx_open,
    .describe = ucx_describe,
    .wrap = ucx_wrap,
    .makes_memory = ucx_makes_memory,
    .address = ucx_address,
    .connect = ucx_connect,
    .endpoint = ucx_endpoint,
    .send = ucx_send,
    .receive = ucx_receive,
    .read = ucx_read,
    .cancel = ucx_cancel,
    .progress = ucx_progress,
    .disconnect = ucx_disconnect,
    .close = ucx_close,
};
