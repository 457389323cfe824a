/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The libfabric side of an example, as a transport has it: fabric, domain, endpoint and
 * completion queue of its own, for connectionless (FI_EP_RDM) and connected (FI_EP_MSG)
 * endpoints, and one-sided transfers over them. Nothing here knows of mrpool: memory
 * comes in as address, descriptor and key.
 */
#ifndef EXAMPLES_OFI_ENDPOINT_H
#define EXAMPLES_OFI_ENDPOINT_H

#include "peer.h"

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <stdlib.h>

/* Operations in flight: a transfer of more pieces than this goes in several batches. */
#define OFI_BATCH 16

struct ofi_endpoint {
    struct fi_info *info; /* what was opened: mr_mode, addressing, limits */
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_eq *eq; /* FI_EP_MSG: events of the connection */
    struct fid_pep *passive; /* FI_EP_MSG: where the server listens */
    struct fid_av *av; /* FI_EP_RDM: addresses of peers */
    struct fid_cq *cq;
    struct fid_ep *ep;
    fi_addr_t peer; /* in av; unused with FI_EP_MSG */
    bool delivery_complete; /* a completed write has arrived in the peer's memory */
    size_t max_message; /* bytes of one operation */
    struct fi_context2
        contexts[OFI_BATCH]; /* the provider's while operations are in flight */

    /* the trace: calls that register memory with this domain, whoever makes them */
    struct fi_ops_mr *mr_ops;
    struct fi_ops_mr traced_ops;
    size_t n_registrations;
};

struct ofi_options {
    const char *provider;
    const char *domain; /* NULL: the first one */
    enum fi_ep_type type;
    size_t max_message; /* 0: the provider's */
};

static bool ofi_check(const char *call, int status)
{
    return status >= 0 || complain("%s: %s (%d)", call, fi_strerror(-status), status);
}

/* -- the trace -- */

/* Every registration goes through the domain's table of operations. We replace the table
 * by one that counts first: what fi_mr_reg, fi_mr_regv and fi_mr_regattr do, no matter
 * who calls. */

static int ofi_traced_reg(struct fid *fid, const void *address, size_t size,
    uint64_t access, uint64_t offset, uint64_t key, uint64_t flags, struct fid_mr **mr,
    void *context)
{
    struct ofi_endpoint *endpoint = fid->context;

    endpoint->n_registrations++;
    return endpoint->mr_ops->reg(
        fid, address, size, access, offset, key, flags, mr, context);
}

static int ofi_traced_regv(struct fid *fid, const struct iovec *iov, size_t count,
    uint64_t access, uint64_t offset, uint64_t key, uint64_t flags, struct fid_mr **mr,
    void *context)
{
    struct ofi_endpoint *endpoint = fid->context;

    endpoint->n_registrations++;
    return endpoint->mr_ops->regv(
        fid, iov, count, access, offset, key, flags, mr, context);
}

static int ofi_traced_regattr(
    struct fid *fid, const struct fi_mr_attr *attr, uint64_t flags, struct fid_mr **mr)
{
    struct ofi_endpoint *endpoint = fid->context;

    endpoint->n_registrations++;
    return endpoint->mr_ops->regattr(fid, attr, flags, mr);
}

static void ofi_trace(struct ofi_endpoint *endpoint)
{
    endpoint->mr_ops = endpoint->domain->mr;
    endpoint->traced_ops = *endpoint->mr_ops;
    endpoint->traced_ops.reg = ofi_traced_reg;
    endpoint->traced_ops.regv = ofi_traced_regv;
    endpoint->traced_ops.regattr = ofi_traced_regattr;
    endpoint->domain->fid.context = endpoint;
    endpoint->domain->mr = &endpoint->traced_ops;
}

/* -- choosing -- */

static struct fi_info *ofi_hints(const struct ofi_options *options)
{
    struct fi_info *hints = fi_allocinfo();

    if (hints == NULL) {
        return NULL;
    }
    hints->ep_attr->type = options->type;
    hints->caps = FI_RMA | FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
    if (options->type == FI_EP_MSG) {
        hints->caps |= FI_MSG;
    }
    hints->mode = FI_CONTEXT;
    /* Everything that mrpool takes care of. Leave a bit out, and providers that need it
     * do not answer. */
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_RAW | FI_MR_VIRT_ADDR |
        FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
    /* "Completed" should mean "in the peer's memory": it verifies what has arrived. */
    hints->tx_attr->op_flags = FI_DELIVERY_COMPLETE;
    hints->fabric_attr->prov_name = strdup(options->provider);
    if (options->domain != NULL) {
        hints->domain_attr->name = strdup(options->domain);
    }
    return hints;
}

static int ofi_getinfo(const char *node, struct fi_info *hints, struct fi_info **info)
{
    uint64_t flags = node != NULL ? FI_SOURCE : 0;
    int status = fi_getinfo(FI_VERSION(1, 17), node, NULL, flags, hints, info);

    if (status == -FI_ENODATA && hints->tx_attr->op_flags != 0) {
        hints->tx_attr->op_flags = 0; /* verbs, for one: see delivery_complete */
        status = fi_getinfo(FI_VERSION(1, 17), node, NULL, flags, hints, info);
    }
    return status;
}

static bool ofi_is_ip(const struct fi_info *info)
{
    return info->addr_format == FI_SOCKADDR_IN || info->addr_format == FI_SOCKADDR_IN6;
}

/* Keep the answer for the domain asked for: not every provider minds the name. */
static bool ofi_pick(struct fi_info **info, const char *domain)
{
    struct fi_info *match = *info;

    while (match != NULL && domain != NULL &&
        strcmp(match->domain_attr->name, domain) != 0) {
        match = match->next;
    }
    if (match != NULL && match != *info) {
        match = fi_dupinfo(match);
        fi_freeinfo(*info);
        *info = match;
    }
    return match != NULL;
}

/* Choose the provider's first answer, on the interface of our address `node` where
 * addresses are IP addresses, or on the way to `target`, the address of a listening
 * endpoint. */
static bool ofi_choose(struct ofi_endpoint *endpoint, const struct ofi_options *options,
    const char *node, const struct peer_message *target)
{
    struct fi_info *hints = ofi_hints(options);
    int status = hints != NULL ? 0 : -FI_ENOMEM;

    if (status == 0 && target != NULL) {
        hints->dest_addr = malloc(target->size);
        if (hints->dest_addr == NULL) {
            status = -FI_ENOMEM;
        } else {
            memcpy(hints->dest_addr, target->body, target->size);
            hints->dest_addrlen = target->size;
        }
    }
    if (status == 0) {
        status = ofi_getinfo(NULL, hints, &endpoint->info);
    }
    if (status == 0 && target == NULL && ofi_is_ip(endpoint->info)) {
        fi_freeinfo(endpoint->info);
        endpoint->info = NULL;
        status = ofi_getinfo(node, hints, &endpoint->info);
    }
    fi_freeinfo(hints);
    if (status == 0 && !ofi_pick(&endpoint->info, options->domain)) {
        status = -FI_ENODATA;
    }
    if (status != 0) {
        return complain(
            "provider %s%s%s offers no one-sided operations over %s endpoints at "
            "%s: %s; `fi_info` lists what there is",
            options->provider, options->domain != NULL ? ", domain " : "",
            options->domain != NULL ? options->domain : "",
            options->type == FI_EP_MSG ? "connected" : "connectionless", node,
            fi_strerror(-status));
    }
    return true;
}

/* -- opening -- */

static bool ofi_open_domain(
    struct ofi_endpoint *endpoint, const struct ofi_options *options)
{
    struct fi_cq_attr cq_attr = {
        .format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_NONE};
    struct fi_info *info = endpoint->info;

    endpoint->delivery_complete = (info->tx_attr->op_flags & FI_DELIVERY_COMPLETE) != 0;
    endpoint->max_message = info->ep_attr->max_msg_size;
    if (options->max_message != 0 && options->max_message < endpoint->max_message) {
        endpoint->max_message = options->max_message;
    }
    if (!ofi_check("fi_domain",
            fi_domain(endpoint->fabric, info, &endpoint->domain, endpoint))) {
        return false;
    }
    ofi_trace(endpoint);
    return ofi_check(
               "fi_endpoint", fi_endpoint(endpoint->domain, info, &endpoint->ep, NULL)) &&
        ofi_check(
            "fi_cq_open", fi_cq_open(endpoint->domain, &cq_attr, &endpoint->cq, NULL)) &&
        ofi_check("fi_ep_bind, completion queue",
            fi_ep_bind(endpoint->ep, &endpoint->cq->fid, FI_TRANSMIT | FI_RECV));
}

/* Drive the network. The peer's reads and writes are served in here too where progress is
 * manual: a process that waits for anything has to keep calling this. So do we always, as
 * connected tcp endpoints of libfabric 1.17 say FI_PROGRESS_AUTO and need it too. */
static void ofi_progress(void *endpoint_arg)
{
    struct ofi_endpoint *endpoint = endpoint_arg;

    if (endpoint->cq != NULL) {
        (void)fi_cq_read(endpoint->cq, NULL, 0);
    }
}

/* FI_EP_RDM: enable, tell the peer our address, insert the peer's. */
static bool ofi_open_rdm(
    struct ofi_endpoint *endpoint, const struct ofi_options *options, struct peer *peer)
{
    struct fi_av_attr av_attr = {.type = FI_AV_TABLE, .count = 1};
    unsigned char address[PEER_MESSAGE_MAX];
    struct peer_message message;
    size_t size = sizeof(address);

    if (!ofi_open_domain(endpoint, options) ||
        !ofi_check(
            "fi_av_open", fi_av_open(endpoint->domain, &av_attr, &endpoint->av, NULL)) ||
        !ofi_check("fi_ep_bind, address vector",
            fi_ep_bind(endpoint->ep, &endpoint->av->fid, 0)) ||
        !ofi_check("fi_enable", fi_enable(endpoint->ep)) ||
        !ofi_check("fi_getname", fi_getname(&endpoint->ep->fid, address, &size)) ||
        !peer_send(peer, PEER_ADDRESS, address, size) ||
        !peer_receive(peer, PEER_ADDRESS, &message)) {
        return false;
    }
    /* An address is a struct whose size the network knows, except names: text. */
    if (message.size != size && endpoint->info->addr_format != FI_ADDR_STR) {
        return complain("the peer's address has %zu bytes, ours %zu", message.size, size);
    }
    return fi_av_insert(endpoint->av, message.body, 1, &endpoint->peer, 0, NULL) == 1 ||
        complain("fi_av_insert refuses the peer's address");
}

/* FI_EP_MSG: wait for one event. A connection request brings the fi_info to open with. */
static bool ofi_wait_event(
    struct ofi_endpoint *endpoint, struct peer *peer, uint32_t wanted)
{
    uint64_t started = now_ns();
    struct fi_eq_cm_entry entry = {.info = NULL};
    struct fi_eq_err_entry error = {.err = 0};
    uint32_t event = 0;
    ssize_t status;

    while ((status = fi_eq_read(endpoint->eq, &event, &entry, sizeof(entry), 0)) ==
        -FI_EAGAIN) {
        ofi_progress(endpoint);
        if (now_ns() > started + peer->timeout) {
            return complain("no connection between the endpoints within the time limit");
        }
        if (!peer_lives(peer)) {
            return false;
        }
        sched_yield();
    }
    if (status == -FI_EAVAIL && fi_eq_readerr(endpoint->eq, &error, 0) > 0) {
        return complain("connecting the endpoints: %s", fi_strerror(error.err));
    }
    if (status < 0 || event != wanted) {
        return complain("connecting the endpoints: event %u, status %zd", event, status);
    }
    if (wanted == FI_CONNREQ) {
        fi_freeinfo(endpoint->info);
        endpoint->info = entry.info;
    }
    return true;
}

static bool ofi_listen(
    struct ofi_endpoint *endpoint, const struct ofi_options *options, struct peer *peer)
{
    unsigned char address[PEER_MESSAGE_MAX];
    size_t size = sizeof(address);

    return ofi_check("fi_passive_ep",
               fi_passive_ep(
                   endpoint->fabric, endpoint->info, &endpoint->passive, NULL)) &&
        ofi_check("fi_pep_bind", fi_pep_bind(endpoint->passive, &endpoint->eq->fid, 0)) &&
        ofi_check("fi_listen", fi_listen(endpoint->passive)) &&
        ofi_check("fi_getname", fi_getname(&endpoint->passive->fid, address, &size)) &&
        peer_send(peer, PEER_ADDRESS, address, size) &&
        ofi_wait_event(endpoint, peer, FI_CONNREQ) &&
        ofi_open_domain(endpoint, options) &&
        ofi_check(
            "fi_ep_bind, event queue", fi_ep_bind(endpoint->ep, &endpoint->eq->fid, 0)) &&
        ofi_check("fi_enable", fi_enable(endpoint->ep)) &&
        ofi_check("fi_accept", fi_accept(endpoint->ep, NULL, 0)) &&
        ofi_wait_event(endpoint, peer, FI_CONNECTED);
}

static bool ofi_connect(struct ofi_endpoint *endpoint, const struct ofi_options *options,
    struct peer *peer, const struct peer_message *target)
{
    return ofi_open_domain(endpoint, options) &&
        ofi_check(
            "fi_ep_bind, event queue", fi_ep_bind(endpoint->ep, &endpoint->eq->fid, 0)) &&
        ofi_check("fi_enable", fi_enable(endpoint->ep)) &&
        ofi_check("fi_connect", fi_connect(endpoint->ep, target->body, NULL, 0)) &&
        ofi_wait_event(endpoint, peer, FI_CONNECTED);
}

/* Open an endpoint that can reach the peer's. On failure ofi_close has to be called all
 * the same. The endpoint must stay where it is: the domain points back to it. */
static bool ofi_open(struct ofi_endpoint *endpoint, const struct ofi_options *options,
    struct peer *peer, bool is_server)
{
    struct fi_eq_attr eq_attr = {.wait_obj = FI_WAIT_UNSPEC};
    bool connects = options->type == FI_EP_MSG && !is_server;
    struct peer_message target;
    char node[128];

    memset(endpoint, 0, sizeof(*endpoint));
    endpoint->peer = FI_ADDR_UNSPEC;
    if (!peer_local_address(peer, node, sizeof(node)) ||
        (connects && !peer_receive(peer, PEER_ADDRESS, &target)) ||
        !ofi_choose(endpoint, options, node, connects ? &target : NULL) ||
        !ofi_check("fi_fabric",
            fi_fabric(endpoint->info->fabric_attr, &endpoint->fabric, NULL))) {
        return false;
    }
    peer->progress = ofi_progress;
    peer->progress_arg = endpoint;
    if (options->type == FI_EP_RDM) {
        return ofi_open_rdm(endpoint, options, peer);
    }
    return ofi_check("fi_eq_open",
               fi_eq_open(endpoint->fabric, &eq_attr, &endpoint->eq, NULL)) &&
        (is_server ? ofi_listen(endpoint, options, peer)
                   : ofi_connect(endpoint, options, peer, &target));
}

static void ofi_close_fid(struct fid *fid)
{
    if (fid != NULL) {
        (void)ofi_check("fi_close", fi_close(fid));
    }
}

/* Close the endpoint, so that nothing in flight touches memory any more and the memory
 * may go. Endpoint-bound registrations have to go first; taking them back ends their
 * access as well. */
static void ofi_quiet(struct ofi_endpoint *endpoint)
{
    if (endpoint->ep != NULL &&
        (endpoint->info->domain_attr->mr_mode & FI_MR_ENDPOINT) == 0) {
        ofi_close_fid(&endpoint->ep->fid);
        endpoint->ep = NULL;
    }
}

/* Close all that is open. The provider round the domain must be gone. */
static void ofi_close(struct ofi_endpoint *endpoint)
{
    if (endpoint->domain != NULL) {
        endpoint->domain->mr = endpoint->mr_ops;
    }
    ofi_close_fid(endpoint->ep != NULL ? &endpoint->ep->fid : NULL);
    ofi_close_fid(endpoint->passive != NULL ? &endpoint->passive->fid : NULL);
    ofi_close_fid(endpoint->cq != NULL ? &endpoint->cq->fid : NULL);
    ofi_close_fid(endpoint->av != NULL ? &endpoint->av->fid : NULL);
    ofi_close_fid(endpoint->eq != NULL ? &endpoint->eq->fid : NULL);
    ofi_close_fid(endpoint->domain != NULL ? &endpoint->domain->fid : NULL);
    ofi_close_fid(endpoint->fabric != NULL ? &endpoint->fabric->fid : NULL);
    fi_freeinfo(endpoint->info);
    memset(endpoint, 0, sizeof(*endpoint));
}

/* -- transfers -- */

enum ofi_operation {
    OFI_WRITE,
    OFI_READ
};

struct ofi_transfer {
    enum ofi_operation operation;
    char *local;
    void *local_desc;
    uint64_t remote_address;
    uint64_t remote_key;
    size_t size;
};

/* Wait until `count` operations have completed. The peer's end and the deadline end it
 * too. */
static bool ofi_complete(struct ofi_endpoint *endpoint, struct peer *peer, size_t count)
{
    uint64_t started = now_ns();
    uint64_t look_again = started + 10000000;
    struct fi_cq_entry entries[OFI_BATCH];

    while (count > 0) {
        ssize_t n_read = fi_cq_read(endpoint->cq, entries, count);

        if (n_read > 0) {
            count -= (size_t)n_read;
        } else if (n_read == -FI_EAVAIL) {
            struct fi_cq_err_entry error = {.err = 0};

            (void)fi_cq_readerr(endpoint->cq, &error, 0);
            (void)peer_lives(peer); /* says so if that is why */
            return complain("a transfer failed: %s (provider code %d)",
                fi_strerror(error.err), error.prov_errno);
        } else if (n_read != -FI_EAGAIN) {
            return ofi_check("fi_cq_read", (int)n_read);
        } else if (now_ns() > look_again) {
            if (now_ns() > started + peer->timeout) {
                return complain("a transfer did not complete within the time limit");
            }
            if (!peer_lives(peer)) {
                return false;
            }
            look_again = now_ns() + 10000000;
        } else {
            sched_yield();
        }
    }
    return true;
}

/* fi_write would do, but not every provider minds the flags of its fi_info then: tcp and
 * net of libfabric 1.17 complete such writes before they have arrived. */
static ssize_t ofi_start_write(
    struct ofi_endpoint *endpoint, const struct ofi_transfer *piece, void *context)
{
    uint64_t flags = endpoint->delivery_complete ? FI_DELIVERY_COMPLETE : 0;
    struct iovec local = {piece->local, piece->size};
    struct fi_rma_iov remote = {piece->remote_address, piece->size, piece->remote_key};
    void *local_desc = piece->local_desc;
    struct fi_msg_rma message = {
        .msg_iov = &local,
        .desc = &local_desc,
        .iov_count = 1,
        .addr = endpoint->peer,
        .rma_iov = &remote,
        .rma_iov_count = 1,
        .context = context,
    };

    return fi_writemsg(endpoint->ep, &message, flags);
}

static ssize_t ofi_start_read(
    struct ofi_endpoint *endpoint, const struct ofi_transfer *piece, void *context)
{
    return fi_read(endpoint->ep, piece->local, piece->size, piece->local_desc,
        endpoint->peer, piece->remote_address, piece->remote_key, context);
}

/* Start one piece, as soon as the network has room for it. */
static bool ofi_start(struct ofi_endpoint *endpoint, struct peer *peer,
    const struct ofi_transfer *piece, void *context)
{
    uint64_t deadline = now_ns() + peer->timeout;
    bool writes = piece->operation == OFI_WRITE;
    ssize_t status;

    while ((status = (writes ? ofi_start_write : ofi_start_read)(
                endpoint, piece, context)) == -FI_EAGAIN) {
        ofi_progress(endpoint);
        if (now_ns() > deadline) {
            return complain("the network takes no operation within the time limit");
        }
        if (!peer_lives(peer)) {
            return false;
        }
    }
    return ofi_check(writes ? "fi_writemsg" : "fi_read", (int)status);
}

/* Write to or read from the peer's memory, in pieces that the network can take. On
 * failure operations may still be in flight: their memory must not be given out again. */
static bool ofi_transfer(
    struct ofi_endpoint *endpoint, struct peer *peer, const struct ofi_transfer *transfer)
{
    struct ofi_transfer piece = *transfer;
    size_t left = transfer->size;
    size_t n_posted = 0;

    while (left > 0) {
        piece.size = left < endpoint->max_message ? left : endpoint->max_message;
        if (!ofi_start(endpoint, peer, &piece, &endpoint->contexts[n_posted])) {
            return false;
        }
        n_posted++;
        piece.local += piece.size;
        piece.remote_address += piece.size;
        left -= piece.size;
        if (n_posted == OFI_BATCH || left == 0) {
            if (!ofi_complete(endpoint, peer, n_posted)) {
                return false;
            }
            n_posted = 0;
        }
    }
    return true;
}

#endif
