/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory that UCX allocates (UCP_MEM_MAP_ALLOCATE), as a backend: what its shared memory
 * transports can hand to a peer is memory of theirs alone.
 */
#ifndef MRP_UCX_MEMORY_H
#define MRP_UCX_MEMORY_H

#include "context.h"

extern const struct mrp_backend_ops mrp_ucx_backend;

/* One registration more of a block that the request lies in; its memory handle.
 * @return false: the memory is not of our blocks. */
bool mrp_ucx_block_retain(struct mrp_ucx_context *context,
    const struct mrp_register_request *request, void **memh);

/* One less; @return false: the handle is none of a block. */
bool mrp_ucx_block_release(struct mrp_ucx_context *context, void *memh);

/* All of them, before the context goes. */
void mrp_ucx_blocks_free(struct mrp_ucx_context *context);

#endif
