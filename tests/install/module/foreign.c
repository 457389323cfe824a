/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A provider written outside the tree: the key of a registration is its address turned
 * over, its remote addresses are offsets.
 */
#include <mrpool/provider.h>

MRP_API extern const struct mrp_provider_ops mrp_provider_foreign;

static int opened;

static enum mrp_status foreign_open(
    const struct mrp_provider_open_request *request, void **state)
{
    (void)request;
    *state = &opened;
    return MRP_OK;
}

static enum mrp_status foreign_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    if (state != &opened) {
        return mrp_fail(MRP_ERR_REGISTER, 0, "not the state that open gave");
    }
    registration->native = request->address;
    registration->remote_key = ~(uint64_t)(uintptr_t)request->address;
    registration->key_size = sizeof(registration->remote_key);
    return MRP_OK;
}

static enum mrp_status foreign_deregister(
    void *state, const struct mrp_registration *registration)
{
    (void)state;
    (void)registration;
    return MRP_OK;
}

const struct mrp_provider_ops mrp_provider_foreign = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "foreign",
    .purpose = "shows that a provider needs no more than the installed headers",
    .register_memory = foreign_register,
    .deregister_memory = foreign_deregister,
    .open = foreign_open,
};
