/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool: a pool of pinned, registered memory regions for networking stacks.
 *
 *     struct mrp_context *context;        owns everything below
 *       struct mrp_backend *backend;      where memory comes from
 *       struct mrp_provider *provider;    who registers it and gives keys
 *       struct mrp_pool *pool;            regions over both, tiered by size
 *         struct mrp_region *region;      what the user holds: memory with its keys
 *
 * Libraries that bring their own handle (a fid_domain, say) include mrpool/ofi.h too.
 */
#ifndef MRPOOL_MRPOOL_H
#define MRPOOL_MRPOOL_H

#include "mrpool/backend.h"
#include "mrpool/base.h"
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "mrpool/provider.h"
#include "mrpool/region.h"
#include "mrpool/thread.h"

#endif
