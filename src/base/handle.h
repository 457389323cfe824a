/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Handles of contexts, backends, providers and imports: numbers dressed as pointers,
 * never dereferenced. A table maps them to objects, so that NULL, garbage and destroyed
 * handles are recognised without reading freed memory, even after the slot has been used
 * again.
 *
 *     63            32 31          8 7    4 3    0
 *     | generation    | slot index  | kind | mark |
 */
#ifndef MRP_BASE_HANDLE_H
#define MRP_BASE_HANDLE_H

#include "mrpool/base.h"

enum mrp_handle_kind {
    MRP_HANDLE_CONTEXT = 1,
    MRP_HANDLE_BACKEND,
    MRP_HANDLE_PROVIDER,
    MRP_HANDLE_REMOTE,
    MRP_HANDLE_THREAD
};

/** A handle for `object`, or NULL with an error record when 1,048,576 are live. */
void *mrp_handle_create(enum mrp_handle_kind kind, void *object);

/** The object behind a handle. MRP_ERR_STALE; MRP_ERR_FORKED in a child of its process.
 *  Lock-free. The caller keeps the object from being destroyed meanwhile. */
enum mrp_status mrp_handle_get(
    enum mrp_handle_kind kind, const void *handle, void **object);

/** Take the handle out of use. Only one of several racing calls gets MRP_OK. */
enum mrp_status mrp_handle_destroy(enum mrp_handle_kind kind, const void *handle);

#endif
