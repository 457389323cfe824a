/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A protection domain that registrations are made in: on a device that we opened
 * (device.c) or the caller's (wrap.c), and what its device can do.
 */
#ifndef MRP_VERBS_DEVICE_H
#define MRP_VERBS_DEVICE_H

#include "mrpool/provider.h"
#include "mrpool/verbs.h"

#include <pthread.h>
#include <stdatomic.h>

struct mrp_verbs_device {
    struct mrp_verbs_native native; /* context, domain, port; what the user is shown */
    bool is_own; /* context and domain are ours to close */
    bool relaxed_ordering, on_demand;

    /* of the device */
    uint32_t access; /* enum mrp_access it can grant */
    bool is_iwarp;
    bool has_dmabuf;
    size_t max_mr, max_mr_size; /* 0: no known limit */
    int node;
    char name[IBV_SYSFS_NAME_MAX + 16]; /* "rxe0 port 1" */

    atomic_size_t n_live; /* registrations of this provider */
    atomic_bool is_lost; /* IBV_EVENT_DEVICE_FATAL, or a call that said so */
    pthread_mutex_t mutex;
    struct mrp_verbs_refused *refused; /* under `mutex` */
};

/* A registration that ibv_dereg_mr refused: closing the provider tries once more. */
struct mrp_verbs_refused {
    struct ibv_mr *mr;
    struct mrp_verbs_refused *next;
};

/* What to open, as the settings say. */
struct mrp_verbs_choice {
    const char *device; /* "": the first with an active port */
    unsigned port; /* 0: the first active one */
    int gid_index; /* -1: the best of the port */
    bool relaxed_ordering, on_demand, fork;
};

/* Open a device, or use the caller's domain. */
enum mrp_status mrp_verbs_device_open(
    const struct mrp_verbs_choice *choice, struct mrp_verbs_device **opened);
enum mrp_status mrp_verbs_device_wrap(const struct mrp_verbs_wrap_params *params,
    const struct mrp_verbs_choice *choice, struct mrp_verbs_device **wrapped);

/* Frees what open and wrap made; a wrapped domain stays. */
void mrp_verbs_device_close(struct mrp_verbs_device *device);

/* Whether the device has gone for good; `code` is the errno of a call that failed. */
bool mrp_verbs_device_is_lost(struct mrp_verbs_device *device, int code);

/* -- for device.c and wrap.c -- */

/* With the domain, not asked for anything yet; NULL without memory, and that recorded. */
struct mrp_verbs_device *mrp_verbs_device_create(
    struct ibv_pd *pd, uint8_t port, int gid_index);

/* Ask the device what it can do, and whether that fits the choice. */
enum mrp_status mrp_verbs_device_describe(
    struct mrp_verbs_device *device, const struct mrp_verbs_choice *choice);

/* Make forking safe where the choice asks for it: before anything is opened. */
enum mrp_status mrp_verbs_fork_prepare(bool wanted);

#endif
