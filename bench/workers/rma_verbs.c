/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench rma over verbs, which caches nothing: options of the provider (device, port,
 * gid_index).
 */
#include "rma.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../examples/verbs_endpoint.h"
#pragma GCC diagnostic pop

#include "mrpool/verbs.h"

_Static_assert(VERBS_BATCH >= RMA_WINDOW, "the queue pair has room for the window");

static struct verbs_endpoint endpoint;

static bool open_verbs(struct rma *rma)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    const struct mrp_verbs_native *opened;
    const void *native;

    params.options = rma->options;
    if (mrp_provider_open(rma->context, "verbs", &params, &rma->provider) != MRP_OK ||
        mrp_provider_native(rma->provider, &native) != MRP_OK) {
        return complain("provider: %s", mrp_error_last()->text);
    }
    opened = native;
    return verbs_open(&endpoint, opened->pd, opened->port, opened->gid_index) &&
        verbs_connect(&endpoint, &rma->peer);
}

static bool post(
    struct rma *rma, bool is_get, const struct rma_buffer *buffer, size_t size)
{
    const struct verbs_operation operation = {
        .opcode = is_get ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
        .local = buffer->address,
        .size = size,
        .lkey = (uint32_t)(uintptr_t)buffer->local_desc,
        .remote_address = rma->target.address,
        .rkey = (uint32_t)rma->target.key,
    };

    return verbs_start(&endpoint, &operation);
}

static bool finish(struct rma *rma, size_t n_posted, bool is_get)
{
    (void)is_get;
    for (; n_posted > 0; n_posted--) {
        if (!verbs_wait(&endpoint, &rma->peer)) {
            return false;
        }
    }
    return true;
}

static bool register_buffer(struct rma *rma, struct rma_buffer *buffer, size_t size)
{
    struct ibv_mr *mr =
        ibv_reg_mr(endpoint.pd, buffer->address, size, IBV_ACCESS_LOCAL_WRITE);

    (void)rma;
    if (mr == NULL) {
        return complain("ibv_reg_mr: %s", strerror(errno));
    }
    buffer->registration = mr;
    buffer->local_desc = (void *)(uintptr_t)mr->lkey;
    return true;
}

static bool deregister_buffer(struct rma *rma, struct rma_buffer *buffer)
{
    (void)rma;
    return verbs_check("ibv_dereg_mr", ibv_dereg_mr(buffer->registration));
}

static void quiet(struct rma *rma)
{
    (void)rma;
    verbs_close(&endpoint); /* before the provider's domain */
}

static void close_verbs(struct rma *rma)
{
    (void)rma;
}

static void describe(char *text, size_t size)
{
    snprintf(
        text, size, "libibverbs, %s", ibv_get_device_name(endpoint.pd->context->device));
}

static const struct rma_network rma_network = {
    .open = open_verbs,
    .post = post,
    .finish = finish,
    .register_buffer = register_buffer,
    .deregister_buffer = deregister_buffer,
    .quiet = quiet,
    .close = close_verbs,
    .describe = describe,
};

#include "rma_main.h"
