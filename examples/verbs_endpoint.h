/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One connected queue pair to one peer, over verbs: made in a protection domain that
 * somebody else has opened, connected over the socket beside it, one operation at a time.
 * Nothing here knows of mrpool.
 */
#ifndef EXAMPLES_VERBS_ENDPOINT_H
#define EXAMPLES_VERBS_ENDPOINT_H

#include "peer.h"

#include <infiniband/verbs.h>
#include <inttypes.h>

/* Operations that may be under way at once. Of reads and atomics no more than both devices
 * have room for. */
#define VERBS_BATCH 16

struct verbs_endpoint {
    struct ibv_pd *pd;
    uint8_t port;
    int gid_index;
    struct ibv_port_attr attr; /* of the port */
    uint8_t reads_asked, reads_served; /* under way at once: ours, and the peer's */
    struct ibv_cq *cq;
    struct ibv_qp *qp;
};

/* What the two tell each other of their queue pairs. */
struct verbs_address {
    unsigned qp, lid, mtu, reads; /* reads: how many of the other's it serves at once */
    union ibv_gid gid;
};

/* -- opening -- */

static bool verbs_check(const char *call, int code)
{
    return code == 0 || complain("%s: %s", call, strerror(code));
}

/* Of which one at least is small: a queue pair takes up to 255. */
static uint8_t verbs_lesser(unsigned one, unsigned other)
{
    return (uint8_t)(one < other ? one : other);
}

static bool verbs_learn(struct verbs_endpoint *endpoint)
{
    struct ibv_device_attr device;
    struct ibv_context *context = endpoint->pd->context;

    if (!verbs_check("ibv_query_device", ibv_query_device(context, &device)) ||
        !verbs_check(
            "ibv_query_port", ibv_query_port(context, endpoint->port, &endpoint->attr))) {
        return false;
    }
    endpoint->reads_asked =
        verbs_lesser(VERBS_BATCH, (unsigned)device.max_qp_init_rd_atom);
    endpoint->reads_served = verbs_lesser(VERBS_BATCH, (unsigned)device.max_qp_rd_atom);
    return true;
}

static bool verbs_to_init(struct verbs_endpoint *endpoint)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT,
        .port_num = endpoint->port,
        .qp_access_flags =
            IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC};

    return verbs_check("ibv_modify_qp to INIT",
        ibv_modify_qp(endpoint->qp, &attr,
            IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS));
}

static bool verbs_open(
    struct verbs_endpoint *endpoint, struct ibv_pd *pd, uint8_t port, int gid_index)
{
    struct ibv_qp_init_attr init = {.cap = {.max_send_wr = VERBS_BATCH,
                                        .max_recv_wr = 1,
                                        .max_send_sge = 1,
                                        .max_recv_sge = 1},
        .qp_type = IBV_QPT_RC};

    if (gid_index < 0 || gid_index > UINT8_MAX) {
        return complain("GID index %d: a queue pair takes 0 to 255", gid_index);
    }
    endpoint->pd = pd;
    endpoint->port = port;
    endpoint->gid_index = gid_index;
    if (!verbs_learn(endpoint)) {
        return false;
    }
    endpoint->cq = ibv_create_cq(pd->context, VERBS_BATCH, NULL, NULL, 0);
    if (endpoint->cq == NULL) {
        return complain("ibv_create_cq: %s", strerror(errno));
    }
    init.send_cq = init.recv_cq = endpoint->cq;
    endpoint->qp = ibv_create_qp(pd, &init);
    if (endpoint->qp == NULL) {
        return complain("ibv_create_qp: %s", strerror(errno));
    }
    return verbs_to_init(endpoint);
}

/* Before the domain goes. */
static void verbs_close(struct verbs_endpoint *endpoint)
{
    if (endpoint->qp != NULL) {
        ibv_destroy_qp(endpoint->qp);
    }
    if (endpoint->cq != NULL) {
        ibv_destroy_cq(endpoint->cq);
    }
}

/* -- connecting -- */

static bool verbs_exchange(
    const struct verbs_endpoint *endpoint, struct peer *peer, struct verbs_address *other)
{
    struct peer_message message;
    union ibv_gid gid;
    char text[128];
    int size;

    if (!verbs_check("ibv_query_gid",
            ibv_query_gid(
                endpoint->pd->context, endpoint->port, endpoint->gid_index, &gid))) {
        return false;
    }
    size = snprintf(text, sizeof(text), "qp %u lid %u mtu %u reads %u gid ",
        endpoint->qp->qp_num, endpoint->attr.lid, (unsigned)endpoint->attr.active_mtu,
        endpoint->reads_served);
    for (size_t i = 0; i < sizeof(gid.raw); i++) {
        size += snprintf(text + size, sizeof(text) - (size_t)size, "%02x", gid.raw[i]);
    }
    if (!peer_send(peer, PEER_ADDRESS, text, (size_t)size) ||
        !peer_receive(peer, PEER_ADDRESS, &message)) {
        return false;
    }
    size = 0;
    if (sscanf((char *)message.body, "qp %u lid %u mtu %u reads %u gid %n", &other->qp,
            &other->lid, &other->mtu, &other->reads, &size) != 4 ||
        size == 0 || other->mtu < IBV_MTU_256 || other->mtu > IBV_MTU_4096) {
        return complain("the peer's address is not understood");
    }
    if (strlen((char *)message.body + size) != 2 * sizeof(other->gid.raw)) {
        return complain("the peer's GID is not understood");
    }
    for (size_t i = 0; i < sizeof(other->gid.raw); i++) {
        unsigned byte;

        if (sscanf((char *)message.body + size + 2 * i, "%2x", &byte) != 1) {
            return complain("the peer's GID is not understood");
        }
        other->gid.raw[i] = (uint8_t)byte;
    }
    return true;
}

static bool verbs_to_receive(
    const struct verbs_endpoint *endpoint, const struct verbs_address *other)
{
    unsigned mtu = (unsigned)endpoint->attr.active_mtu;
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTR,
        .path_mtu = (enum ibv_mtu)(other->mtu < mtu ? other->mtu : mtu),
        .dest_qp_num = other->qp,
        .max_dest_rd_atomic = endpoint->reads_served,
        .min_rnr_timer = 12};

    attr.ah_attr.port_num = endpoint->port;
    attr.ah_attr.dlid = (uint16_t)other->lid;
    attr.ah_attr.is_global = endpoint->attr.link_layer == IBV_LINK_LAYER_ETHERNET;
    attr.ah_attr.grh.dgid = other->gid;
    attr.ah_attr.grh.sgid_index = (uint8_t)endpoint->gid_index;
    attr.ah_attr.grh.hop_limit = 64;
    return verbs_check("ibv_modify_qp to RTR",
        ibv_modify_qp(endpoint->qp, &attr,
            IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER));
}

static bool verbs_to_send(
    const struct verbs_endpoint *endpoint, const struct verbs_address *other)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS,
        .timeout = 18, /* 4.096 us x 2^18: a second */
        .retry_cnt = 7,
        .rnr_retry = 7,
        .max_rd_atomic = verbs_lesser(other->reads, endpoint->reads_asked)};

    return verbs_check("ibv_modify_qp to RTS",
        ibv_modify_qp(endpoint->qp, &attr,
            IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC));
}

/* Both call this; when it has returned on both sides either may begin. */
static bool verbs_connect(struct verbs_endpoint *endpoint, struct peer *peer)
{
    struct verbs_address other;
    struct peer_message ready;

    return verbs_exchange(endpoint, peer, &other) && verbs_to_receive(endpoint, &other) &&
        verbs_to_send(endpoint, &other) && peer_send(peer, PEER_VERIFIED, NULL, 0) &&
        peer_receive(peer, PEER_VERIFIED, &ready);
}

/* -- one operation -- */

struct verbs_operation {
    enum ibv_wr_opcode opcode; /* IBV_WR_RDMA_WRITE, _READ, IBV_WR_ATOMIC_CMP_AND_SWP */
    unsigned char *local;
    size_t size;
    uint32_t lkey;
    uint64_t remote_address;
    uint32_t rkey;
    uint64_t expected, desired; /* of a compare-and-swap */
};

/* A completion, while the peer lives and for as long as its patience. */
static bool verbs_wait(const struct verbs_endpoint *endpoint, struct peer *peer)
{
    uint64_t deadline = now_ns() + peer->timeout;
    struct ibv_wc done;
    int n_done;

    while ((n_done = ibv_poll_cq(endpoint->cq, 1, &done)) == 0) {
        if (!peer_lives(peer)) {
            return false;
        }
        if (now_ns() > deadline) {
            return complain("no completion within the time limit");
        }
        sched_yield();
    }
    return n_done == 1 && done.status == IBV_WC_SUCCESS
        ? true
        : complain("the operation failed: %s",
              n_done < 0 ? "ibv_poll_cq" : ibv_wc_status_str(done.status));
}

static bool verbs_start(
    const struct verbs_endpoint *endpoint, const struct verbs_operation *operation)
{
    struct ibv_sge sge = {
        (uintptr_t)operation->local, (uint32_t)operation->size, operation->lkey};
    struct ibv_send_wr request = {
        .sg_list = &sge,
        .num_sge = 1,
        .opcode = operation->opcode,
        .send_flags = IBV_SEND_SIGNALED,
    };
    struct ibv_send_wr *bad;

    if (operation->opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
        request.wr.atomic.remote_addr = operation->remote_address;
        request.wr.atomic.rkey = operation->rkey;
        request.wr.atomic.compare_add = operation->expected;
        request.wr.atomic.swap = operation->desired;
    } else {
        request.wr.rdma.remote_addr = operation->remote_address;
        request.wr.rdma.rkey = operation->rkey;
    }
    return verbs_check("ibv_post_send", ibv_post_send(endpoint->qp, &request, &bad));
}

/* Of any size, in pieces of what the port takes at once. */
static bool verbs_transfer(const struct verbs_endpoint *endpoint, struct peer *peer,
    const struct verbs_operation *whole)
{
    struct verbs_operation piece = *whole;

    for (size_t done = 0; done < whole->size; done += piece.size) {
        size_t left = whole->size - done;

        piece.size = left < endpoint->attr.max_msg_sz ? left : endpoint->attr.max_msg_sz;
        piece.local = whole->local + done;
        piece.remote_address = whole->remote_address + done;
        if (!verbs_start(endpoint, &piece) || !verbs_wait(endpoint, peer)) {
            return false;
        }
    }
    return true;
}

#endif
