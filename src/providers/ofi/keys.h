/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Remote keys: choosing those that libfabric leaves to us, and importing a peer's.
 */
#ifndef MRP_OFI_KEYS_H
#define MRP_OFI_KEYS_H

#include "domain.h"

/* Where a domain's keys begin: different in each process and each domain. */
uint64_t mrp_ofi_key_seed(void);

/* How many keys to try before a registration fails: 1 where the provider chooses them. */
size_t mrp_ofi_key_attempts(const struct mrp_ofi_domain *domain);

/* The key to request at the given attempt, from 0. */
uint64_t mrp_ofi_key_choose(struct mrp_ofi_domain *domain, size_t attempt);

/* Slots of the ops table. */
enum mrp_status mrp_ofi_import_key(
    void *state, const struct mrp_import_request *request, uint64_t *key, void **handle);
void mrp_ofi_release_key(void *state, void *handle, uint64_t key);

#endif
