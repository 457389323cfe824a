/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Provider modules: built in, or shared objects libmrpool-<name>.so that are never
 * unloaded.
 */
#ifndef MRP_CONTEXT_MODULE_H
#define MRP_CONTEXT_MODULE_H

#include "mrpool/provider.h"

/** Whether a table has an optional slot: that of an older header may end before it. */
#define MRP_PROVIDER_HAS(ops, slot) \
    ((ops)->struct_size >= \
            offsetof(struct mrp_provider_ops, slot) + sizeof((ops)->slot) && \
        (ops)->slot != NULL)

/** The ops table of a module, loaded and checked. MRP_ERR_INVALID for a name that cannot
 * be one, MRP_ERR_UNAVAILABLE with what is wrong and what to do. */
enum mrp_status mrp_module_load(const char *name, const struct mrp_provider_ops **ops);

/** Resolve the settings of a module: options text first, then the environment, then
 *  defaults. values and numbers have ops->n_settings entries; the texts point into
 *  *storage, which the caller frees. */
enum mrp_status mrp_module_settings(const struct mrp_provider_ops *ops,
    const char *options, const char **values, uint64_t *numbers, char **storage);

/** Whether an environment variable "MRPOOL_<MODULE>_..." is named after a module that
 * exists. */
bool mrp_module_owns_variable(const char *variable, size_t length);

/** Required slots and ABI of an ops table; `is_module` asks for `open` too. */
enum mrp_status mrp_provider_ops_check(
    const struct mrp_provider_ops *ops, const char *name, bool is_module);

#endif
