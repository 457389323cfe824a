/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One of two processes that transfer data through libfabric: a domain and an endpoint of
 * its own, the ofi provider wrapped round the domain, and a socket to the other process.
 *
 * Errors end the process with a message; a device that is missing ends it with 77.
 */
#ifndef MRP_TEST_OFI_PEER_H
#define MRP_TEST_OFI_PEER_H

#include "ofi_module.h"

#include <rdma/fi_cm.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <sys/socket.h>
#include <time.h>

#define PEER_SECONDS 60

#define PEER_CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: not so: %s (%s)\n", __FILE__, __LINE__, \
                __func__, #condition, mrp_error_last()->text); \
            exit(1); \
        } \
    } while (0)

#define PEER_CALL(call) \
    do { \
        int peer_code = (int)(call); \
        if (peer_code != 0) { \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, __func__, #call, \
                fi_strerror(-peer_code)); \
            exit(1); \
        } \
    } while (0)

/* What to open. */
struct peer_case {
    const char *name, *provider, *node;
    enum fi_ep_type type;
    int mr_mode; /* hints */
    int mr_mode_wanted; /* what fi_getinfo must make of it */
    bool counts; /* bind a counter of remote writes */
    bool leaks; /* libfabric 1.17 itself leaks there: no leak check */
};

struct peer {
    const struct peer_case *test;
    int channel;
    bool is_target;
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_eq *eq;
    struct fid_pep *listener;
    struct fid_ep *endpoint;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_cntr *counter;
    fi_addr_t other;
    size_t n_completed;
    bool may_fail; /* a transfer that fails counts, too, and ends nothing */
    size_t n_failed;
    void *state; /* the provider's */
};

struct peer_message {
    size_t size;
    unsigned char bytes[256];
};

static inline time_t peer_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Drive the progress of a provider without threads, and count completions. */
static inline void peer_pump(struct peer *peer)
{
    struct fi_cq_entry entry;
    ssize_t code = peer->cq != NULL ? fi_cq_read(peer->cq, &entry, 1) : -FI_EAGAIN;

    if (code == 1) {
        peer->n_completed++;
    } else if (code == -FI_EAVAIL) {
        struct fi_cq_err_entry error = {0};

        fi_cq_readerr(peer->cq, &error, 0);
        if (peer->may_fail) {
            peer->n_failed++;
            return;
        }
        fprintf(stderr, "transfer failed: %s\n", fi_strerror(error.err));
        exit(1);
    } else {
        PEER_CHECK(code == -FI_EAGAIN);
    }
}

static inline void peer_send(struct peer *peer, const void *bytes, size_t size)
{
    struct peer_message message = {size, {0}};

    PEER_CHECK(size <= sizeof(message.bytes));
    memcpy(message.bytes, bytes, size);
    PEER_CHECK(
        send(peer->channel, &message, sizeof(message), MSG_NOSIGNAL) == sizeof(message));
}

/* Wait for the other process, driving progress meanwhile; -> bytes received. */
static inline size_t peer_receive(struct peer *peer, void *bytes, size_t room)
{
    struct peer_message message;
    time_t start = peer_now();
    ssize_t received;

    while (
        (received = recv(peer->channel, &message, sizeof(message), MSG_DONTWAIT)) < 0) {
        PEER_CHECK(peer_now() - start < PEER_SECONDS);
        peer_pump(peer);
    }
    PEER_CHECK(received == sizeof(message)); /* 0: the other one is gone */
    PEER_CHECK(message.size <= room);
    memcpy(bytes, message.bytes, message.size);
    return message.size;
}

static inline void peer_wait_completion(struct peer *peer)
{
    size_t wanted = peer->n_completed + 1;
    time_t start = peer_now();

    while (peer->n_completed < wanted) {
        PEER_CHECK(peer_now() - start < PEER_SECONDS);
        peer_pump(peer);
    }
}

static inline void peer_get_info(struct peer *peer)
{
    const struct peer_case *test = peer->test;
    struct fi_info *hints = fi_allocinfo();
    int code;

    hints->fabric_attr->prov_name = strdup(test->provider);
    hints->caps = FI_MSG | FI_RMA;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = test->type;
    hints->domain_attr->mr_mode = test->mr_mode;
    hints->domain_attr->threading = FI_THREAD_SAFE;
    code = fi_getinfo(FI_VERSION(1, 9), test->node, NULL,
        test->node != NULL ? FI_SOURCE : 0, hints, &peer->info);
    fi_freeinfo(hints);
    if (code == -FI_ENODATA) {
        exit(77);
    }
    PEER_CALL(code);
    if (peer->info->domain_attr->mr_mode != test->mr_mode_wanted) {
        fprintf(stderr, "mr_mode is %#x, not %#x\n", peer->info->domain_attr->mr_mode,
            test->mr_mode_wanted);
        exit(1);
    }
}

static inline void peer_open_domain(struct peer *peer)
{
    struct mrp_ofi_wrap_params params = MRP_OFI_WRAP_PARAMS_INIT;
    struct fi_cntr_attr counter_attr = {.events = FI_CNTR_EVENTS_COMP};

    peer_get_info(peer);
    PEER_CALL(fi_fabric(peer->info->fabric_attr, &peer->fabric, NULL));
    PEER_CALL(fi_domain(peer->fabric, peer->info, &peer->domain, NULL));
    if (peer->test->counts) {
        PEER_CALL(fi_cntr_open(peer->domain, &counter_attr, &peer->counter, NULL));
    }
    params.domain = peer->domain;
    params.info = peer->info;
    params.rma_counter = peer->counter;
    PEER_CHECK(ofi_wrap(&params, &peer->state) == MRP_OK);
}

static inline void peer_open_endpoint(struct peer *peer, struct fi_info *info)
{
    struct fi_cq_attr cq_attr = {.format = FI_CQ_FORMAT_CONTEXT, .size = 64};
    struct fi_av_attr av_attr = {.type = info->domain_attr->av_type, .count = 4};

    PEER_CALL(fi_endpoint(peer->domain, info, &peer->endpoint, NULL));
    PEER_CALL(fi_cq_open(peer->domain, &cq_attr, &peer->cq, NULL));
    PEER_CALL(fi_ep_bind(peer->endpoint, &peer->cq->fid, FI_TRANSMIT | FI_RECV));
    if (peer->test->type == FI_EP_RDM) {
        PEER_CALL(fi_av_open(peer->domain, &av_attr, &peer->av, NULL));
        PEER_CALL(fi_ep_bind(peer->endpoint, &peer->av->fid, 0));
    } else {
        PEER_CALL(fi_ep_bind(peer->endpoint, &peer->eq->fid, 0));
    }
    PEER_CALL(fi_enable(peer->endpoint));
}

static inline void peer_exchange_addresses(struct peer *peer)
{
    unsigned char own[256], other[256];
    size_t size = sizeof(own);

    PEER_CALL(fi_getname(&peer->endpoint->fid, own, &size));
    peer_send(peer, own, size);
    peer_receive(peer, other, sizeof(other));
    PEER_CHECK(fi_av_insert(peer->av, other, 1, &peer->other, 0, NULL) == 1);
}

static inline struct fi_info *peer_wait_event(struct peer *peer, uint32_t wanted)
{
    struct fi_eq_cm_entry entry;
    time_t start = peer_now();
    uint32_t event;

    while (fi_eq_read(peer->eq, &event, &entry, sizeof(entry), 0) < 0) {
        PEER_CHECK(peer_now() - start < PEER_SECONDS);
        peer_pump(peer);
    }
    PEER_CHECK(event == wanted);
    return entry.info;
}

static inline void peer_accept(struct peer *peer)
{
    unsigned char name[256];
    size_t size = sizeof(name);
    struct fi_info *request;

    PEER_CALL(fi_passive_ep(peer->fabric, peer->info, &peer->listener, NULL));
    PEER_CALL(fi_pep_bind(peer->listener, &peer->eq->fid, 0));
    PEER_CALL(fi_listen(peer->listener));
    PEER_CALL(fi_getname(&peer->listener->fid, name, &size));
    peer_send(peer, name, size);
    request = peer_wait_event(peer, FI_CONNREQ);
    peer_open_endpoint(peer, request);
    PEER_CALL(fi_accept(peer->endpoint, NULL, 0));
    fi_freeinfo(request);
    peer_wait_event(peer, FI_CONNECTED);
}

static inline void peer_connect(struct peer *peer)
{
    struct fi_eq_attr eq_attr = {.size = 16, .wait_obj = FI_WAIT_UNSPEC};

    if (peer->test->type == FI_EP_RDM) {
        peer_open_endpoint(peer, peer->info);
        peer_exchange_addresses(peer);
        return;
    }
    PEER_CALL(fi_eq_open(peer->fabric, &eq_attr, &peer->eq, NULL));
    if (peer->is_target) {
        peer_accept(peer);
        return;
    }
    /* verbs wants to know the other side when the endpoint is made */
    free(peer->info->dest_addr);
    peer->info->dest_addr = calloc(1, 256);
    peer->info->dest_addrlen = peer_receive(peer, peer->info->dest_addr, 256);
    peer_open_endpoint(peer, peer->info);
    PEER_CALL(fi_connect(peer->endpoint, peer->info->dest_addr, NULL, 0));
    peer_wait_event(peer, FI_CONNECTED);
}

static inline void peer_close_fid(struct fid *fid)
{
    PEER_CALL(fi_close(fid));
}

/* The domain closes only when no registration was left in it. */
static inline void peer_close(struct peer *peer)
{
    ofi_ops()->close(peer->state);
    peer_close_fid(&peer->endpoint->fid);
    if (peer->listener != NULL) {
        peer_close_fid(&peer->listener->fid);
    }
    peer_close_fid(&peer->cq->fid);
    if (peer->av != NULL) {
        peer_close_fid(&peer->av->fid);
    }
    if (peer->counter != NULL) {
        peer_close_fid(&peer->counter->fid);
    }
    peer_close_fid(&peer->domain->fid);
    if (peer->eq != NULL) {
        peer_close_fid(&peer->eq->fid);
    }
    peer_close_fid(&peer->fabric->fid);
    fi_freeinfo(peer->info);
}

#endif
