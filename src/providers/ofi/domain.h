/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A libfabric domain that registrations are made in: one of our own (domain.c) or the
 * caller's (wrap.c).
 */
#ifndef MRP_OFI_DOMAIN_H
#define MRP_OFI_DOMAIN_H

#include "mrpool/ofi.h"
#include "mrpool/provider.h"

#include <pthread.h>
#include <stdatomic.h>

/* The API we ask libfabric for: the first with FI_HMEM, whose structures those of the
 * headers since still begin with. */
#define MRP_OFI_API FI_VERSION(1, 9)

/* By the word's place in the choices of MRPOOL_OFI_REVOKES. */
enum mrp_ofi_revokes {
    MRP_OFI_REVOKES_AUTO,
    MRP_OFI_REVOKES_ON,
    MRP_OFI_REVOKES_OFF
};

struct mrp_ofi_domain {
    struct fid_fabric *fabric; /* NULL when the domain is the caller's */
    struct fid_domain *domain;
    struct fi_info *info; /* a copy, always ours */
    int mr_mode; /* of info, the two deprecated values resolved */
    struct fid_ep *endpoint;
    struct fid_cntr *rma_counter;

    void (*lock)(void *lock_arg); /* NULL where libfabric locks */
    void (*unlock)(void *lock_arg);
    void *lock_arg;
    pthread_mutex_t mutex;

    uint64_t (*next_key)(void *next_key_arg);
    void *next_key_arg;
    _Atomic uint64_t key_counter; /* see keys.c */
    enum mrp_ofi_revokes revokes;

    struct mrp_ofi_refused
        *refused; /* registrations that fi_close refused; under `mutex` */

    char device[192]; /* "tcp;ofi_rxm on lo" */
    struct mrp_ofi_native native; /* what the user is shown */
};

/* A registration that stayed open: closing the domain tries once more. */
struct mrp_ofi_refused {
    struct fid_mr *mr;
    struct mrp_ofi_refused *next;
};

static inline void mrp_ofi_lock(struct mrp_ofi_domain *domain)
{
    if (domain->lock != NULL) {
        domain->lock(domain->lock_arg);
    }
}

static inline void mrp_ofi_unlock(struct mrp_ofi_domain *domain)
{
    if (domain->unlock != NULL) {
        domain->unlock(domain->lock_arg);
    }
}

/* A domain without a libfabric handle yet; NULL with the reason recorded. */
struct mrp_ofi_domain *mrp_ofi_domain_create(const struct fi_info *info);

/* Frees what create and open made; a wrapped domain stays open. */
void mrp_ofi_domain_destroy(struct mrp_ofi_domain *domain);

/* What no registration can be made with, whoever opened the domain. */
enum mrp_status mrp_ofi_domain_check(const struct mrp_ofi_domain *domain);

/* Which domain to open; NULL, "" and FI_EP_UNSPEC leave the choice to libfabric. */
struct mrp_ofi_choice {
    const char *provider, *domain, *fabric;
    enum fi_ep_type endpoint_type;
    bool device_memory;
};

/* Open a domain of our own. */
enum mrp_status mrp_ofi_domain_open(
    const struct mrp_ofi_choice *choice, struct mrp_ofi_domain **domain);

/* Use the caller's domain. */
enum mrp_status mrp_ofi_domain_wrap(
    const struct mrp_ofi_wrap_params *params, struct mrp_ofi_domain **domain);

/* The rights a registration can carry, enum mrp_access. */
uint32_t mrp_ofi_domain_access(const struct mrp_ofi_domain *domain);

/* Whether libfabric keeps registrations that were closed, with their keys, for the next
 * one of the same memory: some of its providers do, unless told to keep none. */
bool mrp_ofi_has_cache(const struct fi_info *info);

/* fi_getinfo for one kind of endpoint; 0 or a libfabric code. */
int mrp_ofi_getinfo(const struct mrp_ofi_choice *choice, enum fi_ep_type type,
    uint64_t caps, int mr_mode, struct fi_info **list);

/* Every bit of mr_mode that we know how to serve; explained in domain.c. */
extern const int mrp_ofi_mr_modes;

/* Why there is nothing to open, with what is there instead. */
enum mrp_status mrp_ofi_fail_none(const struct mrp_ofi_choice *choice, int code);

#endif
