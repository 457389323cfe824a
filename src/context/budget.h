/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What all pools of a context may use together: bytes, bytes that are pinned, and
 * registrations. Charged before the system is asked, lifted when it is over.
 */
#ifndef MRP_CONTEXT_BUDGET_H
#define MRP_CONTEXT_BUDGET_H

#include "base/atomic.h"
#include "mrpool/base.h"

#include <pthread.h>

/** What a chunk takes of it. */
struct mrp_charge {
    size_t bytes, pinned, n_registrations;
};

struct mrp_budget {
    pthread_mutex_t mutex; /* leaf lock */
    struct mrp_charge used, max;
    /* constant: how a refusal ends, where the limits come from */
    _Atomic uint64_t n_refusals;
    const char *bytes_remedy, *pinned_remedy;
    const char *bytes_source, *pinned_source, *registrations_source;
};

struct mrp_context_params;

/** Resolve the limits: what the params say, else settings, else what the machine has. */
enum mrp_status mrp_budget_create(
    struct mrp_budget *budget, const struct mrp_context_params *params);
void mrp_budget_destroy(struct mrp_budget *budget);

/** MRP_ERR_LIMIT names the budget, its use and the remedy; nothing is charged then. */
enum mrp_status mrp_budget_charge(
    struct mrp_budget *budget, const struct mrp_charge *charge);

/** Charge what has been taken already: a backend has rounded up. */
void mrp_budget_force(struct mrp_budget *budget, const struct mrp_charge *charge);
void mrp_budget_lift(struct mrp_budget *budget, const struct mrp_charge *charge);

/** What is missing for the charge at this moment; false: nothing. */
bool mrp_budget_lacks(struct mrp_budget *budget, const struct mrp_charge *charge,
    struct mrp_charge *lacking);

/** Use and limits at one moment. */
void mrp_budget_read(
    struct mrp_budget *budget, struct mrp_charge *used, struct mrp_charge *max);

#endif
