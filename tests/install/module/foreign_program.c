/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opens the provider of foreign.c by name and holds the key of a region against what that
 * provider gives.
 */
#include <mrpool/mrpool.h>

#include <inttypes.h>
#include <stdio.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, mrp_error_last()->text);
    return 1;
}

static int check_region(struct mrp_pool *pool)
{
    struct mrp_region *region = mrp_region_alloc(pool, 1000);
    uint64_t key = 0;
    void *native = NULL;
    size_t offset = 0;

    if (region == NULL || mrp_region_remote_key(region, 0, &key) != MRP_OK ||
        mrp_region_registration(region, 0, &native, &offset) != MRP_OK) {
        return fail("region");
    }
    printf("key %#" PRIx64 ", offset %zu\n", key, offset);
    if (key != ~(uint64_t)(uintptr_t)native ||
        (char *)native + offset != (char *)mrp_region_address(region)) {
        fprintf(stderr, "not what the provider gave\n");
        return 1;
    }
    return mrp_region_free(region) == MRP_OK ? 0 : fail("free");
}

int main(void)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;

    if (mrp_context_create(NULL, &context) != MRP_OK) {
        return fail("context");
    }
    if (mrp_provider_open(context, "foreign", NULL, &provider) != MRP_OK) {
        return fail("provider");
    }
    params.rails = &provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    if (mrp_pool_create(context, &params, &pool) != MRP_OK) {
        return fail("pool");
    }
    if (check_region(pool) != 0) {
        return 1;
    }
    return mrp_context_destroy(context) == MRP_OK ? 0 : fail("destroy");
}
