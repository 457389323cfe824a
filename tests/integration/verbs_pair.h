/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Two connected queue pairs in one process, one to act and one to be acted upon: what a
 * peer with a key may do, and what its device refuses.
 */
#ifndef MRP_TEST_VERBS_PAIR_H
#define MRP_TEST_VERBS_PAIR_H

#include "verbs_module.h"

#include <time.h>

/* Where a queue pair is made; from mrp_verbs_native, or the test's own. */
struct verbs_end {
    struct ibv_pd *pd;
    uint8_t port;
    int gid_index;
};

struct verbs_pair {
    struct ibv_cq *cq; /* of the active side */
    struct ibv_cq *other_cq;
    struct ibv_qp *active, *passive;
};

static inline struct verbs_end verbs_end_of(struct mrp_provider *provider)
{
    const void *native = NULL;
    const struct mrp_verbs_native *opened;

    assert_int_equal(mrp_provider_native(provider, &native), MRP_OK);
    opened = native;
    return (struct verbs_end){opened->pd, opened->port, opened->gid_index};
}

static inline struct ibv_qp *verbs_make_queue(
    const struct verbs_end *end, struct ibv_cq *cq)
{
    struct ibv_qp_init_attr init = {.send_cq = cq,
        .recv_cq = cq,
        .cap = {.max_send_wr = 8, .max_recv_wr = 8, .max_send_sge = 1, .max_recv_sge = 1},
        .qp_type = IBV_QPT_RC};
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT,
        .port_num = end->port,
        .qp_access_flags =
            IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC};
    struct ibv_qp *queue = ibv_create_qp(end->pd, &init);

    assert_non_null(queue);
    assert_int_equal(
        ibv_modify_qp(queue, &attr,
            IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS),
        0);
    return queue;
}

/* Ready to receive from, and to send to, the other queue pair. */
static inline void verbs_connect(struct ibv_qp *queue, const struct verbs_end *end,
    const struct ibv_qp *other, const struct verbs_end *other_end)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTR,
        .path_mtu = IBV_MTU_1024,
        .dest_qp_num = other->qp_num,
        .max_dest_rd_atomic = 1,
        .min_rnr_timer = 12};

    attr.ah_attr.is_global = 1;
    attr.ah_attr.port_num = end->port;
    attr.ah_attr.grh.hop_limit = 64;
    attr.ah_attr.grh.sgid_index = (uint8_t)end->gid_index;
    assert_int_equal(ibv_query_gid(other->context, other_end->port, other_end->gid_index,
                         &attr.ah_attr.grh.dgid),
        0);
    assert_int_equal(
        ibv_modify_qp(queue, &attr,
            IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER),
        0);
    attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS,
        .timeout = 14,
        .retry_cnt = 7,
        .rnr_retry = 7,
        .max_rd_atomic = 1};
    assert_int_equal(ibv_modify_qp(queue, &attr,
                         IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                             IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC),
        0);
}

static inline struct verbs_pair verbs_pair_open(
    const struct verbs_end *active, const struct verbs_end *passive)
{
    struct verbs_pair pair;

    pair.cq = ibv_create_cq(active->pd->context, 16, NULL, NULL, 0);
    pair.other_cq = ibv_create_cq(passive->pd->context, 16, NULL, NULL, 0);
    assert_non_null(pair.cq);
    assert_non_null(pair.other_cq);
    pair.active = verbs_make_queue(active, pair.cq);
    pair.passive = verbs_make_queue(passive, pair.other_cq);
    verbs_connect(pair.active, active, pair.passive, passive);
    verbs_connect(pair.passive, passive, pair.active, active);
    return pair;
}

static inline void verbs_pair_close(struct verbs_pair *pair)
{
    assert_int_equal(ibv_destroy_qp(pair->active), 0);
    assert_int_equal(ibv_destroy_qp(pair->passive), 0);
    assert_int_equal(ibv_destroy_cq(pair->cq), 0);
    assert_int_equal(ibv_destroy_cq(pair->other_cq), 0);
}

/* One operation between local memory and a peer's, to its end. */
struct verbs_operation {
    enum ibv_wr_opcode opcode;
    void *local;
    uint32_t size, lkey;
    uint64_t remote_address;
    uint32_t rkey;
    uint64_t expected, desired; /* of a compare-and-swap */
};

/* Its status; a queue pair is good for one that is refused. */
static inline enum ibv_wc_status verbs_run(
    const struct verbs_pair *pair, const struct verbs_operation *operation)
{
    struct ibv_sge sge = {(uintptr_t)operation->local, operation->size, operation->lkey};
    struct ibv_send_wr request = {.sg_list = &sge,
                           .num_sge = 1,
                           .opcode = operation->opcode,
                           .send_flags = IBV_SEND_SIGNALED},
                       *bad = NULL;
    struct timespec now, begin;
    struct ibv_wc done;
    int n_done;

    if (operation->opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
        request.wr.atomic.remote_addr = operation->remote_address;
        request.wr.atomic.rkey = operation->rkey;
        request.wr.atomic.compare_add = operation->expected;
        request.wr.atomic.swap = operation->desired;
    } else {
        request.wr.rdma.remote_addr = operation->remote_address;
        request.wr.rdma.rkey = operation->rkey;
    }
    assert_int_equal(ibv_post_send(pair->active, &request, &bad), 0);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        n_done = ibv_poll_cq(pair->cq, 1, &done);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > begin.tv_sec + 30) {
            fail_msg("no completion within 30 s");
        }
    } while (n_done == 0);
    assert_int_equal(n_done, 1);
    return done.status;
}

/* The same between fresh queue pairs. */
static inline enum ibv_wc_status verbs_try(const struct verbs_end *active,
    const struct verbs_end *passive, const struct verbs_operation *operation)
{
    struct verbs_pair pair = verbs_pair_open(active, passive);
    enum ibv_wc_status status = verbs_run(&pair, operation);

    verbs_pair_close(&pair);
    return status;
}

#endif
