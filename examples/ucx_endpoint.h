/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The UCX side of an example, as a transport has it: a context, a worker and an endpoint
 * of its own, and one-sided transfers and atomics over them. Nothing here knows of
 * mrpool: memory comes in as address, memory handle and unpacked key.
 */
#ifndef EXAMPLES_UCX_ENDPOINT_H
#define EXAMPLES_UCX_ENDPOINT_H

#include "peer.h"

#include <ucp/api/ucp.h>

#include <stdlib.h>

struct ucx_endpoint {
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_ep_h ep;
    ucs_status_t failure; /* of the endpoint, when its peer has gone */
};

struct ucx_options {
    const char *tls; /* NULL: as UCX_TLS says */
    const char *devices; /* NULL: as UCX_NET_DEVICES says */
};

enum ucx_operation {
    UCX_PUT,
    UCX_GET,
    UCX_ADD, /* atomic, 8 bytes: add to the remote word, fetch what it was */
    UCX_SWAP /* atomic, 8 bytes: compare with the remote word, swap, fetch what it was */
};

struct ucx_transfer {
    enum ucx_operation operation;
    void *local; /* UCX_ADD and UCX_SWAP: where what was fetched goes */
    ucp_mem_h local_memh; /* spares UCX the search for it, from 1.13 on */
    size_t size;
    uint64_t remote_address;
    ucp_rkey_h remote_key;
    uint64_t operand, compare; /* of atomics */
};

static bool ucx_check(const char *call, ucs_status_t status)
{
    return status == UCS_OK || complain("%s: %s", call, ucs_status_string(status));
}

/* -- opening -- */

static bool ucx_configure(ucp_config_t *config, const struct ucx_options *options)
{
    return (options->tls == NULL ||
               ucx_check("UCX_TLS", ucp_config_modify(config, "TLS", options->tls))) &&
        (options->devices == NULL ||
            ucx_check("UCX_NET_DEVICES",
                ucp_config_modify(config, "NET_DEVICES", options->devices)));
}

/* Shared memory reports a peer that dies only when told to, and without that no endpoint
 * with UCP_ERR_HANDLING_MODE_PEER goes over it. UCX complains of settings that are of no
 * use. */
static bool ucx_has_shared_memory(const struct ucx_options *options)
{
    static const char *const names[] = {"all", "mm", "sm", "shm", "posix", "sysv"};
    const char *tls = options->tls != NULL ? options->tls : getenv("UCX_TLS");
    bool has = tls == NULL || tls[0] == '\0';

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !has; i++) {
        has = strstr(tls, names[i]) != NULL;
    }
    return has;
}

static bool ucx_open_context(
    struct ucx_endpoint *endpoint, const struct ucx_options *options)
{
    const ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
        .features = UCP_FEATURE_RMA | UCP_FEATURE_AMO64};
    ucp_config_t *config;
    bool good;

    if (ucx_has_shared_memory(options)) {
        setenv("UCX_MM_ERROR_HANDLING", "y", 0);
    }
    if (!ucx_check("ucp_config_read", ucp_config_read(NULL, NULL, &config))) {
        return false;
    }
    good = ucx_configure(config, options) &&
        ucx_check("ucp_init", ucp_init(&params, config, &endpoint->context));
    ucp_config_release(config);
    return good;
}

/* Drive the network. The peer's operations are served in here too where UCX emulates
 * them: a process that waits for anything has to keep calling this. */
static void ucx_progress(void *endpoint_arg)
{
    struct ucx_endpoint *endpoint = endpoint_arg;

    if (endpoint->worker != NULL) {
        ucp_worker_progress(endpoint->worker);
    }
}

static void ucx_failed(void *endpoint_arg, ucp_ep_h ep, ucs_status_t status)
{
    struct ucx_endpoint *endpoint = endpoint_arg;

    (void)ep;
    endpoint->failure = status;
}

static bool ucx_exchange_addresses(
    struct ucx_endpoint *endpoint, struct peer *peer, struct peer_message *other)
{
    ucp_address_t *address;
    size_t size;
    bool good;

    if (!ucx_check("ucp_worker_get_address",
            ucp_worker_get_address(endpoint->worker, &address, &size))) {
        return false;
    }
    good = peer_send(peer, PEER_ADDRESS, address, size) &&
        peer_receive(peer, PEER_ADDRESS, other);
    ucp_worker_release_address(endpoint->worker, address);
    return good;
}

/* Open an endpoint that leads to the peer's worker. On failure ucx_quiet and ucx_close
 * have to be called all the same. The endpoint must stay where it is. */
static bool ucx_open(
    struct ucx_endpoint *endpoint, const struct ucx_options *options, struct peer *peer)
{
    const ucp_worker_params_t worker_params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucp_ep_params_t ep_params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
            UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {ucx_failed, endpoint}};
    struct peer_message other;

    memset(endpoint, 0, sizeof(*endpoint));
    if (!ucx_open_context(endpoint, options) ||
        !ucx_check("ucp_worker_create",
            ucp_worker_create(endpoint->context, &worker_params, &endpoint->worker))) {
        return false;
    }
    peer->progress = ucx_progress;
    peer->progress_arg = endpoint;
    if (!ucx_exchange_addresses(endpoint, peer, &other)) {
        return false;
    }
    ep_params.address = (const ucp_address_t *)other.body;
    return ucx_check(
        "ucp_ep_create", ucp_ep_create(endpoint->worker, &ep_params, &endpoint->ep));
}

/* -- operations -- */

/* Drive the network until a request is done. Not for good: a peer that has gone does not
 * answer. */
static bool ucx_wait(struct ucx_endpoint *endpoint, struct peer *peer, const char *call,
    ucs_status_ptr_t request)
{
    uint64_t started = now_ns();
    ucs_status_t status = UCS_INPROGRESS;

    if (!UCS_PTR_IS_PTR(request)) {
        return ucx_check(call, UCS_PTR_STATUS(request));
    }
    while (status == UCS_INPROGRESS) {
        for (unsigned i = 0; i < 256 && status == UCS_INPROGRESS; i++) {
            ucp_worker_progress(endpoint->worker);
            status = ucp_request_check_status(request);
        }
        if (status == UCS_INPROGRESS &&
            (endpoint->failure != UCS_OK || !peer_lives(peer) ||
                now_ns() > started + peer->timeout)) {
            return complain("%s: %s", call,
                endpoint->failure != UCS_OK ? ucs_status_string(endpoint->failure)
                                            : "no answer from the peer in time");
        }
        if (status == UCS_INPROGRESS) {
            sched_yield();
        }
    }
    ucp_request_free(request);
    return ucx_check(call, status);
}

static ucs_status_ptr_t ucx_start(
    const struct ucx_endpoint *endpoint, const struct ucx_transfer *transfer)
{
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_MEMH, .memh = transfer->local_memh};
    bool is_swap = transfer->operation == UCX_SWAP;
    uint64_t operand = is_swap ? transfer->compare : transfer->operand;

    switch (transfer->operation) {
    case UCX_PUT:
        return ucp_put_nbx(endpoint->ep, transfer->local, transfer->size,
            transfer->remote_address, transfer->remote_key, &param);
    case UCX_GET:
        return ucp_get_nbx(endpoint->ep, transfer->local, transfer->size,
            transfer->remote_address, transfer->remote_key, &param);
    default:
        break;
    }
    /* What is swapped in stands where what was there is fetched to. */
    *(uint64_t *)transfer->local = transfer->operand;
    param.op_attr_mask = UCP_OP_ATTR_FIELD_DATATYPE | UCP_OP_ATTR_FIELD_REPLY_BUFFER;
    param.datatype = ucp_dt_make_contig(sizeof(uint64_t));
    param.reply_buffer = transfer->local;
    return ucp_atomic_op_nbx(endpoint->ep,
        is_swap ? UCP_ATOMIC_OP_CSWAP : UCP_ATOMIC_OP_ADD, &operand, 1,
        transfer->remote_address, transfer->remote_key, &param);
}

/* One transfer, complete at both ends when this returns true: what was put has arrived. */
static bool ucx_transfer(
    struct ucx_endpoint *endpoint, struct peer *peer, const struct ucx_transfer *transfer)
{
    static const char *const calls[] = {
        "ucp_put_nbx", "ucp_get_nbx", "ucp_atomic_op_nbx", "ucp_atomic_op_nbx"};
    const ucp_request_param_t param = {.op_attr_mask = 0};

    return ucx_wait(endpoint, peer, calls[transfer->operation],
               ucx_start(endpoint, transfer)) &&
        ucx_wait(
            endpoint, peer, "ucp_ep_flush_nbx", ucp_ep_flush_nbx(endpoint->ep, &param));
}

/* -- closing -- */

/* Close the endpoint and the worker, so that nothing in flight touches memory any more
 * and the memory may go. Keys unpacked for it must be gone, and whoever is to answer us
 * has done so: there is no need to wait for anything. */
static void ucx_quiet(struct ucx_endpoint *endpoint)
{
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};

    if (endpoint->ep != NULL) {
        ucs_status_ptr_t request = ucp_ep_close_nbx(endpoint->ep, &param);

        while (UCS_PTR_IS_PTR(request) &&
            ucp_request_check_status(request) == UCS_INPROGRESS) {
            ucp_worker_progress(endpoint->worker);
        }
        if (UCS_PTR_IS_PTR(request)) {
            ucp_request_free(request);
        }
    }
    if (endpoint->worker != NULL) {
        ucp_worker_destroy(endpoint->worker);
    }
    endpoint->ep = NULL;
    endpoint->worker = NULL;
}

/* The provider round the context must be gone. */
static void ucx_close(struct ucx_endpoint *endpoint)
{
    if (endpoint->context != NULL) {
        ucp_cleanup(endpoint->context);
    }
    endpoint->context = NULL;
}

#endif
