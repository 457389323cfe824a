/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory that some provider would not deregister: it stays mapped until the last of those
 * has closed. It may still be in use then, by a chunk whose rail has been removed.
 */
#ifndef MRP_CONTEXT_PARKING_H
#define MRP_CONTEXT_PARKING_H

#include "context/context.h"

struct mrp_parking;

/** Without holds of providers yet; the caller has one of his own, until he calls
 *  mrp_parking_enter or mrp_parking_discard. NULL without memory. */
struct mrp_parking *mrp_parking_create(struct mrp_backend_state *backend);

/** The provider holds it until it closes; false without memory. `size`: of the mapping. */
bool mrp_parking_hold(
    struct mrp_parking *parking, struct mrp_provider_state *provider, size_t size);

/** Whether a provider that has not closed yet holds it. */
bool mrp_parking_is_held(const struct mrp_parking *parking);

/** The mapping is in use no more: it is unmapped with the last hold. */
void mrp_parking_enter(
    struct mrp_parking *parking, const struct mrp_mapping *mapping, bool is_pinned);

/** Nobody else holds it, and the mapping is the caller's as before. */
void mrp_parking_discard(struct mrp_parking *parking);

/** Count a mapping for which there was no note to be had: it stays for good. */
void mrp_parking_lose(
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping);

/** Drop all holds of a provider that has closed. The caller serves who waits. */
void mrp_parking_release(struct mrp_provider_state *provider);

#endif
