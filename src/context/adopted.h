/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Adopted memory: outside memory that became a pool's. To a chunk it looks like memory of
 * a backend that cannot map and whose unmap calls the caller's release. So budgets,
 * retention and parking treat it like mapped memory.
 */
#ifndef MRP_CONTEXT_ADOPTED_H
#define MRP_CONTEXT_ADOPTED_H

#include "mrpool/backend.h"

struct mrp_backend_state;
struct mrp_context_state;

/** How adopted memory is given back: mapping.handle. NULL while it may still be refused:
 *  then unmapping leaves it alone. */
struct mrp_adopted {
    void (*release)(void *address, size_t size, void *user); /* or NULL */
    void *user;
};

/** The context's backend of adopted memory. In no list: nobody else finds it. */
enum mrp_status mrp_adopted_create(
    struct mrp_context_state *context, struct mrp_backend_state **backend);
void mrp_adopted_destroy(struct mrp_backend_state *backend);

/** Describe [address, address + size) as a mapping of it. */
void mrp_adopted_map(struct mrp_backend_state *backend, void *address, size_t size,
    struct mrp_mapping *mapping);

/** The memory is its former owner's again; nothing is called. */
void mrp_adopted_forget(
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping);

#endif
