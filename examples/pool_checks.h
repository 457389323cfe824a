/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the examples ask of every call to mrpool, and of a pool: that nothing has been
 * registered since a certain time, and that all is in order at the end.
 */
#ifndef EXAMPLES_POOL_CHECKS_H
#define EXAMPLES_POOL_CHECKS_H

#include "peer.h"

#include "mrpool/mrpool.h"

#include <inttypes.h>

static bool mrp_ok(const char *what, enum mrp_status status)
{
    return status == MRP_OK || complain("%s: %s", what, mrp_error_last()->text);
}

/* Registrations so far, as the provider and the pool count them. */
struct trace {
    size_t n_live;
    uint64_t n_growths; /* chunks the pool has ever made */
};

static bool trace_take(
    struct mrp_provider *provider, struct mrp_pool *pool, struct trace *trace)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_pool_stats stats = {.struct_size = sizeof(stats)};

    if (!mrp_ok("provider", mrp_provider_query(provider, &info)) ||
        !mrp_ok("statistics", mrp_pool_stats(pool, &stats))) {
        return false;
    }
    *trace = (struct trace){info.n_registrations, stats.n_growths};
    return true;
}

/* Nothing has been registered since, nor has been given up and made again. */
static bool trace_compare(
    struct mrp_provider *provider, struct mrp_pool *pool, const struct trace *warm)
{
    struct trace end;

    return trace_take(provider, pool, &end) &&
        ((end.n_live == warm->n_live && end.n_growths == warm->n_growths) ||
            complain("after the warm-up: %zu registrations live instead of %zu, pool "
                     "grown %" PRIu64 " times",
                end.n_live, warm->n_live, end.n_growths - warm->n_growths));
}

/* The context takes pool and provider along, and the regions that a failed step has left
 * behind: no news then. */
static bool context_close(struct mrp_context *context, struct mrp_pool *pool)
{
    bool has_failed = peer_complaint[0] != '\0';
    bool closed = pool == NULL || mrp_ok("pool check", mrp_pool_check(pool));

    if (context != NULL) {
        enum mrp_status status = mrp_context_destroy(context);

        closed &= (status == MRP_ERR_LEAKED && has_failed) || mrp_ok("closing", status);
    }
    return closed;
}

#endif
