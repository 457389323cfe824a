/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/budget.h"

#include "base/align.h"
#include "base/settings.h"
#include "mrpool/context.h"

#define PINNED_LEAST (256 * MRP_KIB) /* so that a pool can be made, and then refused */

/* Seven eighths of what the machine, or the cgroup, has. */
static size_t default_bytes(const struct mrp_system *system)
{
    return system->memory_size == 0 ? MRP_UNLIMITED
                                    : mrp_max(system->memory_size / 8 * 7, PINNED_LEAST);
}

static size_t default_pinned(const struct mrp_system *system, size_t max_bytes)
{
    size_t limit = system->memlock_limit;

    if (limit == MRP_UNLIMITED) {
        return max_bytes;
    }
    return mrp_max(limit - mrp_min(system->locked_size, limit), PINNED_LEAST);
}

enum mrp_status mrp_budget_create(
    struct mrp_budget *budget, const struct mrp_context_params *params)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    uint64_t max_bytes, max_registrations;
    enum mrp_status status = mrp_setting_number(
        MRP_SET_CONTEXT_MAX_BYTES, "max_bytes", params->max_bytes, &max_bytes);

    if (status == MRP_OK) {
        status = mrp_setting_number(MRP_SET_CONTEXT_MAX_REGISTRATIONS,
            "max_registrations", params->max_registrations, &max_registrations);
    }
    if (status != MRP_OK) {
        return status;
    }
    mrp_system_query(&system);
    *budget = (struct mrp_budget){
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .bytes_remedy = "raise the context's max_bytes (MRPOOL_CONTEXT_MAX_BYTES)",
        .pinned_remedy = "raise the context's max_pinned",
        .bytes_source = params->max_bytes != 0 ? "max_bytes" : "MRPOOL_CONTEXT_MAX_BYTES",
        .pinned_source = "max_pinned",
        .registrations_source = params->max_registrations != 0
            ? "max_registrations"
            : "MRPOOL_CONTEXT_MAX_REGISTRATIONS",
    };
    budget->max.bytes = (size_t)max_bytes;
    if (max_bytes == 0) {
        budget->max.bytes = default_bytes(&system);
        budget->bytes_source = "seven eighths of the memory there is";
    }
    budget->max.n_registrations = (size_t)max_registrations;
    budget->max.pinned = params->max_pinned;
    if (params->max_pinned == 0) {
        budget->max.pinned = default_pinned(&system, budget->max.bytes);
        budget->pinned_source =
            system.memlock_limit == MRP_UNLIMITED ? "all that may be mapped" : "memlock";
        budget->pinned_remedy = "raise memlock (ulimit -l, LimitMEMLOCK=), of which that "
                                "was left when the context was created";
    }
    if (budget->max.pinned > budget->max.bytes && params->max_pinned != 0 &&
        params->max_bytes != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "max_pinned is %zu, but max_bytes %zu: pinned memory is a part of all memory",
            budget->max.pinned, budget->max.bytes);
    }
    return MRP_OK;
}

void mrp_budget_destroy(struct mrp_budget *budget)
{
    pthread_mutex_destroy(&budget->mutex);
}

static bool fits(size_t used, size_t charge, size_t max)
{
    return charge == 0 || (used <= max && charge <= max - used);
}

static enum mrp_status refuse(const struct mrp_charge *used, const struct mrp_charge *max,
    const struct mrp_charge *charge, const struct mrp_budget *budget)
{
    if (!fits(used->bytes, charge->bytes, max->bytes)) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "the context's pools have mapped %zu of at most %zu bytes, and %zu more are "
            "wanted: trim pools (mrp_pool_trim), free regions, or %s",
            used->bytes, max->bytes, charge->bytes, budget->bytes_remedy);
    }
    if (!fits(used->pinned, charge->pinned, max->pinned)) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "the context's pools have pinned %zu of at most %zu bytes, and %zu more are "
            "wanted: trim pools (mrp_pool_trim), free regions, or %s",
            used->pinned, max->pinned, charge->pinned, budget->pinned_remedy);
    }
    return mrp_fail(MRP_ERR_LIMIT, 0,
        "the context's pools have %zu of at most %zu registrations, and %zu more are "
        "wanted: use larger chunks (chunk_min), fewer rails, or raise the context's "
        "max_registrations (MRPOOL_CONTEXT_MAX_REGISTRATIONS)",
        used->n_registrations, max->n_registrations, charge->n_registrations);
}

static void add(struct mrp_charge *sum, const struct mrp_charge *charge)
{
    sum->bytes += charge->bytes;
    sum->pinned += charge->pinned;
    sum->n_registrations += charge->n_registrations;
}

enum mrp_status mrp_budget_charge(
    struct mrp_budget *budget, const struct mrp_charge *charge)
{
    struct mrp_charge used;
    bool is_allowed;

    pthread_mutex_lock(&budget->mutex);
    used = budget->used;
    is_allowed = fits(used.bytes, charge->bytes, budget->max.bytes) &&
        fits(used.pinned, charge->pinned, budget->max.pinned) &&
        fits(used.n_registrations, charge->n_registrations, budget->max.n_registrations);
    if (is_allowed) {
        add(&budget->used, charge);
    } else {
        mrp_add_relaxed(&budget->n_refusals, 1);
    }
    pthread_mutex_unlock(&budget->mutex);
    return is_allowed ? MRP_OK : refuse(&used, &budget->max, charge, budget);
}

void mrp_budget_force(struct mrp_budget *budget, const struct mrp_charge *charge)
{
    pthread_mutex_lock(&budget->mutex);
    add(&budget->used, charge);
    pthread_mutex_unlock(&budget->mutex);
}

void mrp_budget_lift(struct mrp_budget *budget, const struct mrp_charge *charge)
{
    pthread_mutex_lock(&budget->mutex);
    budget->used.bytes -= charge->bytes;
    budget->used.pinned -= charge->pinned;
    budget->used.n_registrations -= charge->n_registrations;
    pthread_mutex_unlock(&budget->mutex);
}

void mrp_budget_read(
    struct mrp_budget *budget, struct mrp_charge *used, struct mrp_charge *max)
{
    pthread_mutex_lock(&budget->mutex);
    *used = budget->used;
    *max = budget->max;
    pthread_mutex_unlock(&budget->mutex);
}

static size_t lack(size_t used, size_t charge, size_t max)
{
    return fits(used, charge, max) ? 0 : used + charge - max;
}

bool mrp_budget_lacks(struct mrp_budget *budget, const struct mrp_charge *charge,
    struct mrp_charge *lacking)
{
    struct mrp_charge used, max;

    mrp_budget_read(budget, &used, &max);
    lacking->bytes = lack(used.bytes, charge->bytes, max.bytes);
    lacking->pinned = lack(used.pinned, charge->pinned, max.pinned);
    lacking->n_registrations =
        lack(used.n_registrations, charge->n_registrations, max.n_registrations);
    return lacking->bytes > 0 || lacking->pinned > 0 || lacking->n_registrations > 0;
}
