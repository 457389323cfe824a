/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench rma over UCX: options tls ("tcp+self") and devices.
 */
#include "rma.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../examples/ucx_endpoint.h"
#pragma GCC diagnostic pop

#include "mrpool/ucx.h"

static struct ucx_endpoint endpoint;
static ucs_status_ptr_t requests[RMA_WINDOW];
static size_t n_requests;

static const char *unregistered(void)
{
    return "registers what it needs to, and keeps it (UCX_RCACHE)";
}

static bool open_ucx(struct rma *rma)
{
    static char tls[64], devices[64];
    const struct ucx_options options = {
        .tls = worker_option_list(rma->options, "tls", tls, sizeof tls),
        .devices = worker_option_list(rma->options, "devices", devices, sizeof devices),
    };
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;

    if (!ucx_open(&endpoint, &options, &rma->peer)) {
        return false;
    }
    params.context = endpoint.context;
    params.features = UCP_FEATURE_RMA | UCP_FEATURE_AMO64;
    return mrp_ucx_provider_wrap(rma->context, NULL, &params, &rma->provider) == MRP_OK ||
        complain("provider: %s", mrp_error_last()->text);
}

static void *endpoint_of(struct rma *rma)
{
    (void)rma;
    return endpoint.ep;
}

static bool post(
    struct rma *rma, bool is_get, const struct rma_buffer *buffer, size_t size)
{
    ucp_request_param_t param = {.op_attr_mask = 0};
    ucs_status_ptr_t request;

    if (buffer->local_desc != NULL) {
        param.op_attr_mask = UCP_OP_ATTR_FIELD_MEMH;
        param.memh = buffer->local_desc;
    }
    request = is_get ? ucp_get_nbx(endpoint.ep, buffer->address, size,
                           rma->target.address, rma->target.handle, &param)
                     : ucp_put_nbx(endpoint.ep, buffer->address, size,
                           rma->target.address, rma->target.handle, &param);
    if (UCS_PTR_IS_PTR(request)) {
        requests[n_requests++] = request;
    }
    return ucx_check(is_get ? "ucp_get_nbx" : "ucp_put_nbx",
        UCS_PTR_IS_PTR(request) ? UCS_OK : UCS_PTR_STATUS(request));
}

static bool finish(struct rma *rma, size_t n_posted, bool is_get)
{
    const ucp_request_param_t param = {.op_attr_mask = 0};

    (void)n_posted;
    while (n_requests > 0) {
        if (!ucx_wait(&endpoint, &rma->peer, "a transfer", requests[--n_requests])) {
            return false;
        }
    }
    return is_get ||
        ucx_wait(&endpoint, &rma->peer, "ucp_ep_flush_nbx",
            ucp_ep_flush_nbx(endpoint.ep, &param));
}

static bool register_buffer(struct rma *rma, struct rma_buffer *buffer, size_t size)
{
    const ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
        .address = buffer->address,
        .length = size};
    ucp_mem_h memory;

    (void)rma;
    if (!ucx_check("ucp_mem_map", ucp_mem_map(endpoint.context, &params, &memory))) {
        return false;
    }
    buffer->registration = buffer->local_desc = memory;
    return true;
}

static bool deregister_buffer(struct rma *rma, struct rma_buffer *buffer)
{
    (void)rma;
    return ucx_check(
        "ucp_mem_unmap", ucp_mem_unmap(endpoint.context, buffer->registration));
}

static void quiet(struct rma *rma)
{
    (void)rma;
    ucx_quiet(&endpoint);
}

static void close_ucx(struct rma *rma)
{
    (void)rma;
    ucx_close(&endpoint);
}

static void describe(char *text, size_t size)
{
    snprintf(text, size, "UCX %s", ucp_get_version_string());
}

static const struct rma_network rma_network = {
    .unregistered = unregistered,
    .open = open_ucx,
    .endpoint = endpoint_of,
    .post = post,
    .finish = finish,
    .register_buffer = register_buffer,
    .deregister_buffer = deregister_buffer,
    .quiet = quiet,
    .close = close_ucx,
    .describe = describe,
};

#include "rma_main.h"
