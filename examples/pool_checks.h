/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the examples ask of every call to mrpool, of a provider: that nothing has been
 * registered since a certain time, and of a pool: that all is in order at the end.
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

/* Registrations that the provider has ever made, and given back. */
struct trace {
    uint64_t n_made, n_given_back;
};

static bool trace_take(struct mrp_provider *provider, struct trace *trace)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    if (!mrp_ok("provider", mrp_provider_query(provider, &info))) {
        return false;
    }
    *trace = (struct trace){info.n_registered, info.n_deregistered};
    return true;
}

/* Nothing has been registered since, nor given back. */
static bool trace_compare(struct mrp_provider *provider, const struct trace *warm)
{
    struct trace end;

    return trace_take(provider, &end) &&
        ((end.n_made == warm->n_made && end.n_given_back == warm->n_given_back) ||
            complain("after the warm-up: %" PRIu64 " registrations made, and %" PRIu64
                     " given back",
                end.n_made - warm->n_made, end.n_given_back - warm->n_given_back));
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
