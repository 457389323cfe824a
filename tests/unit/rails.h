/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of rails share.
 */
#ifndef RAILS_H
#define RAILS_H

#include "support/pool_fixture.h"

static inline struct mrp_rail_info query(struct pool_fixture *f, unsigned rail)
{
    struct mrp_rail_info info = MRP_RAIL_INFO_INIT;

    assert_int_equal(mrp_pool_rail_query(f->pool, rail, &info), MRP_OK);
    return info;
}

static inline unsigned add(
    struct pool_fixture *f, struct mrp_provider *provider, enum mrp_rail_policy policy)
{
    unsigned rail = 99;

    if (mrp_pool_rail_add(f->pool, provider, policy, &rail) != MRP_OK) {
        fail_msg("mrp_pool_rail_add: %s", mrp_error_last()->text);
    }
    return rail;
}

static inline void remove_rail(struct pool_fixture *f, unsigned rail)
{
    if (mrp_pool_rail_remove(f->pool, rail) != MRP_OK) {
        fail_msg("mrp_pool_rail_remove: %s", mrp_error_last()->text);
    }
}

/* The region's keys on the rail are what the network gave for its chunk. */
static inline void check_keys(struct pool_fixture *f, const struct mrp_region *region,
    unsigned rail, struct mrp_provider *provider)
{
    struct mrp_registration_info info = {.struct_size = sizeof info};
    struct mrp_wire wire = MRP_WIRE_INIT;
    uint64_t key = 0, address = 0;
    size_t offset;
    void *native;

    assert_int_equal(mrp_region_remote_key(region, rail, &key), MRP_OK);
    assert_int_equal(mrp_region_remote_addr(region, rail, &address), MRP_OK);
    assert_int_equal(mrp_region_registration(region, rail, &native, &offset), MRP_OK);
    assert_int_equal(
        mrp_registration_query(f->context, provider, mrp_region_address(region), &info),
        MRP_OK);
    assert_int_equal(key, info.native.remote_key);
    assert_ptr_equal(native, info.native.native);
    assert_int_equal(address, (uintptr_t)mrp_region_address(region));
    assert_int_equal(
        mrp_resolve(f->pool, mrp_region_address(region), 1, rail, &wire), MRP_OK);
    assert_int_equal(wire.remote_key, key);
    assert_ptr_equal(wire.native, native);
}

static inline void refuse_keys(struct pool_fixture *f, const struct mrp_region *region,
    unsigned rail, enum mrp_status status, const char *words)
{
    unsigned char buffer[4096];
    size_t size = sizeof buffer;
    struct mrp_wire wire = MRP_WIRE_INIT;
    uint64_t number;
    void *pointer;

    assert_refused(mrp_region_remote_key(region, rail, &number), status, words);
    assert_refused(mrp_region_remote_addr(region, rail, &number), status, words);
    assert_refused(mrp_region_local_desc(region, rail, &pointer), status, words);
    assert_refused(mrp_region_registration(region, rail, &pointer, &size), status, words);
    assert_refused(
        mrp_resolve(f->pool, mrp_region_address(region), 1, rail, &wire), status, words);
    size = sizeof buffer;
    assert_refused(mrp_region_native_key(region, rail, buffer, &size), status, words);
}

#endif
