/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The network over libfabric: connectionless endpoints (FI_EP_RDM), plain messages, and
 * one-sided reads. The only thing here that knows of mrpool is ofi_wrap.
 */
#include "parcelport_network.h"

#include "mrpool/ofi.h"

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <stdlib.h>
#include <string.h>

/* Completions taken at a time. */
#define OFI_BATCH 32

_Static_assert(sizeof(((struct network_op *)0)->native) >= sizeof(struct fi_context2),
    "an operation is the provider's while it is in flight");

struct network {
    struct fi_info *info; /* what was opened: mr_mode, addressing, limits */
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av; /* addresses of peers */
    struct fid_cq *cq;
    struct fid_ep *ep;
    fi_addr_t peers[PROCESSES_MAX];
    char text[256];
};

static bool ofi_check(const char *call, ssize_t status)
{
    return status >= 0 ||
        trouble("%s: %s (%zd)", call, fi_strerror((int)-status), status);
}

/* -- choosing -- */

static struct fi_info *ofi_hints(const char *provider)
{
    struct fi_info *hints = fi_allocinfo();

    if (hints == NULL) {
        return NULL;
    }
    hints->ep_attr->type = FI_EP_RDM;
    hints->caps = FI_MSG | FI_RMA | FI_SEND | FI_RECV | FI_READ | FI_REMOTE_READ;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    /* Everything that mrpool takes care of. Leave a bit out, and providers that need it
     * do not answer. */
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_RAW | FI_MR_VIRT_ADDR |
        FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
    /* The main thread registers when the pool grows, the progress thread has all else.
     * Otherwise both would need a lock: mrp_ofi_wrap_params.lock. */
    hints->domain_attr->threading = FI_THREAD_SAFE;
    /* A peer that has not posted enough is waited for. */
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->fabric_attr->prov_name = strdup(provider);
    return hints;
}

static bool ofi_is_ip(const struct fi_info *info)
{
    return info->addr_format == FI_SOCKADDR_IN || info->addr_format == FI_SOCKADDR_IN6;
}

/* The provider's first answer, on the interface with that address where addresses are IP
 * addresses. */
static bool ofi_choose(struct network *network, const char *provider, const char *node)
{
    struct fi_info *hints = ofi_hints(provider);
    int status = hints != NULL ? 0 : -FI_ENOMEM;

    if (status == 0) {
        status = fi_getinfo(FI_VERSION(1, 17), NULL, NULL, 0, hints, &network->info);
    }
    if (status == 0 && ofi_is_ip(network->info)) {
        fi_freeinfo(network->info);
        network->info = NULL;
        status =
            fi_getinfo(FI_VERSION(1, 17), node, NULL, FI_SOURCE, hints, &network->info);
    }
    fi_freeinfo(hints);
    if (status != 0) {
        return trouble(
            "provider %s offers no messages and one-sided reads over "
            "connectionless endpoints at %s: %s; `fi_info` lists what there is",
            provider, node, fi_strerror(-status));
    }
    if (network->info->tx_attr->iov_limit < PIECES_MAX ||
        network->info->ep_attr->max_msg_size < MESSAGE_MAX) {
        return trouble("provider %s takes %zu pieces in a message and %zu bytes, %d and "
                       "%zu are needed",
            provider, network->info->tx_attr->iov_limit,
            network->info->ep_attr->max_msg_size, PIECES_MAX, MESSAGE_MAX);
    }
    return true;
}

/* -- opening -- */

static void ofi_close(struct network *network);

static bool ofi_open_all(struct network *network)
{
    struct fi_cq_attr cq_attr = {.format = FI_CQ_FORMAT_MSG, .wait_obj = FI_WAIT_NONE};
    struct fi_av_attr av_attr = {.type = FI_AV_TABLE, .count = PROCESSES_MAX};
    struct fi_info *info = network->info;

    return ofi_check("fi_fabric", fi_fabric(info->fabric_attr, &network->fabric, NULL)) &&
        ofi_check(
            "fi_domain", fi_domain(network->fabric, info, &network->domain, NULL)) &&
        ofi_check(
            "fi_endpoint", fi_endpoint(network->domain, info, &network->ep, NULL)) &&
        ofi_check(
            "fi_cq_open", fi_cq_open(network->domain, &cq_attr, &network->cq, NULL)) &&
        ofi_check(
            "fi_av_open", fi_av_open(network->domain, &av_attr, &network->av, NULL)) &&
        ofi_check("fi_ep_bind, completion queue",
            fi_ep_bind(network->ep, &network->cq->fid, FI_TRANSMIT | FI_RECV)) &&
        ofi_check("fi_ep_bind, address vector",
            fi_ep_bind(network->ep, &network->av->fid, 0)) &&
        ofi_check("fi_enable", fi_enable(network->ep));
}

static struct network *ofi_open(const char *provider, const char *node)
{
    struct network *network = calloc(1, sizeof(*network));

    if (network == NULL) {
        trouble("no memory");
        return NULL;
    }
    if (!ofi_choose(network, provider, node) || !ofi_open_all(network)) {
        ofi_close(network);
        return NULL;
    }
    snprintf(network->text, sizeof(network->text), "libfabric %s on %s, fabric %s",
        network->info->fabric_attr->prov_name, network->info->domain_attr->name,
        network->info->fabric_attr->name);
    return network;
}

static const char *ofi_describe(struct network *network)
{
    return network->text;
}

/* All that it takes to have a pool register with a domain that is ours. */
static enum mrp_status ofi_wrap(
    struct network *network, struct mrp_context *context, struct mrp_provider **provider)
{
    struct mrp_ofi_wrap_params params = MRP_OFI_WRAP_PARAMS_INIT;

    params.domain = network->domain;
    params.info = network->info;
    if (network->info->domain_attr->mr_mode & FI_MR_ENDPOINT) {
        params.endpoints = &network->ep;
        params.n_endpoints = 1;
    }
    return mrp_ofi_provider_wrap(context, NULL, &params, provider);
}

static bool ofi_address(struct network *network, void *address, size_t *size)
{
    return ofi_check("fi_getname", fi_getname(&network->ep->fid, address, size));
}

static bool ofi_connect(
    struct network *network, unsigned rank, const void *address, size_t size)
{
    (void)size; /* an address is a struct whose size the network knows */
    return fi_av_insert(network->av, address, 1, &network->peers[rank], 0, NULL) == 1 ||
        trouble("fi_av_insert refuses the address of rank %u", rank);
}

static void *ofi_endpoint(struct network *network, unsigned rank)
{
    (void)network;
    (void)rank;
    return NULL; /* keys are good for every endpoint of the domain */
}

/* -- the data path -- */

static enum network_start ofi_started(const char *call, ssize_t status)
{
    if (status == -FI_EAGAIN) {
        return NETWORK_BUSY;
    }
    return ofi_check(call, status) ? NETWORK_STARTED : NETWORK_REFUSED;
}

static enum network_start ofi_send(struct network *network, unsigned to,
    const struct network_piece *pieces, size_t n_pieces, struct network_op *op)
{
    struct iovec iov[PIECES_MAX];
    void *desc[PIECES_MAX];

    for (size_t i = 0; i < n_pieces; i++) {
        iov[i] = (struct iovec){pieces[i].address, pieces[i].size};
        desc[i] = pieces[i].local_desc;
    }
    return ofi_started("fi_sendv",
        n_pieces == 1
            ? fi_send(network->ep, iov[0].iov_base, iov[0].iov_len, desc[0],
                  network->peers[to], op)
            : fi_sendv(network->ep, iov, desc, n_pieces, network->peers[to], op));
}

static enum network_start ofi_receive(
    struct network *network, const struct network_piece *piece, struct network_op *op)
{
    return ofi_started("fi_recv",
        fi_recv(network->ep, piece->address, piece->size, piece->local_desc,
            FI_ADDR_UNSPEC, op));
}

static enum network_start ofi_read(struct network *network, unsigned from,
    const struct network_piece *piece, const struct mrp_remote_region *source,
    struct network_op *op)
{
    return ofi_started("fi_read",
        fi_read(network->ep, piece->address, piece->size, piece->local_desc,
            network->peers[from], source->address, source->key, op));
}

static void ofi_cancel(struct network *network, struct network_op *op)
{
    (void)fi_cancel(&network->ep->fid, op);
}

static void ofi_take_error(struct network *network)
{
    struct fi_cq_err_entry error = {.err = 0};
    struct network_op *op;

    if (fi_cq_readerr(network->cq, &error, 0) != 1 || error.op_context == NULL) {
        trouble("the completion queue has failed");
        return;
    }
    op = error.op_context;
    if (error.err == FI_ECANCELED) {
        op->done(op, NETWORK_CANCELLED, 0);
        return;
    }
    trouble("an operation failed: %s (provider code %d)", fi_strerror(error.err),
        error.prov_errno);
    op->done(op, NETWORK_FAILED, 0);
}

static bool ofi_progress(struct network *network)
{
    struct fi_cq_msg_entry entries[OFI_BATCH];
    ssize_t n_entries = fi_cq_read(network->cq, entries, OFI_BATCH);

    for (ssize_t i = 0; i < n_entries; i++) {
        struct network_op *op = entries[i].op_context;

        op->done(op, NETWORK_DONE, entries[i].len);
    }
    if (n_entries == -FI_EAVAIL) {
        ofi_take_error(network);
    }
    return n_entries > 0 || n_entries == -FI_EAVAIL;
}

/* -- closing -- */

static void ofi_close_fid(struct fid *fid)
{
    if (fid != NULL) {
        (void)ofi_check("fi_close", fi_close(fid));
    }
}

/* Close the endpoint, so that nothing touches memory any more that is about to go.
 * Registrations bound to it have to go first; taking them back ends their access too. */
static void ofi_disconnect(struct network *network)
{
    if (network->ep != NULL &&
        (network->info->domain_attr->mr_mode & FI_MR_ENDPOINT) == 0) {
        ofi_close_fid(&network->ep->fid);
        network->ep = NULL;
    }
}

static void ofi_close(struct network *network)
{
    ofi_close_fid(network->ep != NULL ? &network->ep->fid : NULL);
    ofi_close_fid(network->cq != NULL ? &network->cq->fid : NULL);
    ofi_close_fid(network->av != NULL ? &network->av->fid : NULL);
    ofi_close_fid(network->domain != NULL ? &network->domain->fid : NULL);
    ofi_close_fid(network->fabric != NULL ? &network->fabric->fid : NULL);
    fi_freeinfo(network->info);
    free(network);
}

const struct network_ops network_ofi = {
    .name = "ofi",
    .default_provider = "tcp",
    .open = ofi_open,
    .describe = ofi_describe,
    .wrap = ofi_wrap,
    .address = ofi_address,
    .connect = ofi_connect,
    .endpoint = ofi_endpoint,
    .send = ofi_send,
    .receive = ofi_receive,
    .read = ofi_read,
    .cancel = ofi_cancel,
    .progress = ofi_progress,
    .disconnect = ofi_disconnect,
    .close = ofi_close,
};
