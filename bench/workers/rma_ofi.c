/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench rma over libfabric: options provider, domain, endpoint (rdm or msg).
 */
#include "rma.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../examples/ofi_endpoint.h"
#pragma GCC diagnostic pop

#include "mrpool/ofi.h"

static struct ofi_endpoint endpoint;
static char provider[64], domain[64], type[8];
static uint64_t next_key =
    1; /* where keys are the caller's to choose; mrpool's are random */

static const char *unregistered(void)
{
    return (endpoint.info->domain_attr->mr_mode & FI_MR_LOCAL) == 0
        ? "copies from and to any buffer"
        : NULL; /* fi_mr_reg has the cache, where the provider has one: `register` */
}

static bool open_ofi(struct rma *rma)
{
    struct mrp_ofi_wrap_params params = MRP_OFI_WRAP_PARAMS_INIT;
    struct ofi_options options = {
        .provider =
            worker_option(rma->options, "provider", "tcp", provider, sizeof provider),
        .domain = worker_option(rma->options, "domain", NULL, domain, sizeof domain),
        .type = FI_EP_RDM,
    };
    bool is_verbs = strncmp(options.provider, "verbs", 5) == 0;
    const char *wanted = worker_option(
        rma->options, "endpoint", is_verbs ? "msg" : "rdm", type, sizeof type);

    if (strcmp(wanted, "msg") == 0) {
        options.type = FI_EP_MSG;
    }
    if (!ofi_open(&endpoint, &options, &rma->peer, rma->is_server)) {
        return false;
    }
    params.domain = endpoint.domain;
    params.info = endpoint.info;
    if ((endpoint.info->domain_attr->mr_mode & FI_MR_ENDPOINT) != 0) {
        params.endpoints = &endpoint.ep;
        params.n_endpoints = 1;
    }
    return mrp_ofi_provider_wrap(rma->context, NULL, &params, &rma->provider) == MRP_OK ||
        complain("provider: %s", mrp_error_last()->text);
}

/* One operation of libfabric: what is larger than it takes at once is left out. */
static bool post(
    struct rma *rma, bool is_get, const struct rma_buffer *buffer, size_t size)
{
    static unsigned next;
    const struct ofi_transfer transfer = {
        .operation = is_get ? OFI_READ : OFI_WRITE,
        .local = buffer->address,
        .local_desc = buffer->local_desc,
        .remote_address = rma->target.address,
        .remote_key = rma->target.key,
        .size = size,
    };

    if (size > endpoint.max_message) {
        return complain("%zu bytes in one message: the network takes %zu", size,
            endpoint.max_message);
    }
    return ofi_start(
        &endpoint, &rma->peer, &transfer, &endpoint.contexts[next++ % OFI_BATCH]);
}

static bool finish(struct rma *rma, size_t n_posted, bool is_get)
{
    (void)is_get;
    return ofi_complete(&endpoint, &rma->peer, n_posted);
}

static bool register_buffer(struct rma *rma, struct rma_buffer *buffer, size_t size)
{
    struct fid_mr *mr = NULL;
    bool chooses = (endpoint.info->domain_attr->mr_mode & FI_MR_PROV_KEY) == 0;

    (void)rma;
    if (!ofi_check("fi_mr_reg",
            fi_mr_reg(endpoint.domain, buffer->address, size, FI_READ | FI_WRITE, 0,
                chooses ? next_key++ : 0, 0, &mr, NULL))) {
        return false;
    }
    if ((endpoint.info->domain_attr->mr_mode & FI_MR_ENDPOINT) != 0 &&
        (!ofi_check("fi_mr_bind", fi_mr_bind(mr, &endpoint.ep->fid, 0)) ||
            !ofi_check("fi_mr_enable", fi_mr_enable(mr)))) {
        fi_close(&mr->fid);
        return false;
    }
    buffer->registration = mr;
    buffer->local_desc = fi_mr_desc(mr);
    return true;
}

static bool deregister_buffer(struct rma *rma, struct rma_buffer *buffer)
{
    struct fid_mr *mr = buffer->registration;

    (void)rma;
    return ofi_check("fi_close", fi_close(&mr->fid));
}

static void quiet(struct rma *rma)
{
    (void)rma;
    ofi_quiet(&endpoint);
}

static void close_ofi(struct rma *rma)
{
    (void)rma;
    ofi_close(&endpoint);
}

static void describe(char *text, size_t size)
{
    uint32_t version = fi_version();

    snprintf(text, size, "libfabric %u.%u, %s on %s", FI_MAJOR(version),
        FI_MINOR(version), endpoint.info->fabric_attr->prov_name,
        endpoint.info->domain_attr->name);
}

static const struct rma_network rma_network = {
    .unregistered = unregistered,
    .open = open_ofi,
    .post = post,
    .finish = finish,
    .register_buffer = register_buffer,
    .deregister_buffer = deregister_buffer,
    .quiet = quiet,
    .close = close_ofi,
    .describe = describe,
};

#include "rma_main.h"
