/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A peer's keys, imported for one endpoint.
 */
#ifndef MRP_UCX_KEYS_H
#define MRP_UCX_KEYS_H

#include "mrpool/provider.h"

/* Whether the bytes are a packed key as far as its outline goes: nothing is missing,
 * and the kind of memory is one. */
bool mrp_ucx_key_is_whole(const void *key, size_t size);

/* Whether it is whole and some domain has put a key of its own into it. */
bool mrp_ucx_key_has_bytes(const void *key, size_t size);

/* Slots of the ops table. */
enum mrp_status mrp_ucx_import_key(
    void *state, const struct mrp_import_request *request, uint64_t *key, void **handle);
void mrp_ucx_release_key(void *state, void *handle, uint64_t key);

#endif
