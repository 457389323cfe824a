/* SPDX-License-Identifier: BSD-3-Clause */
#include <mrpool/mrpool.h>

#include <stdio.h>
#include <stdlib.h>

static void check(bool good)
{
    if (!good) {
        fprintf(stderr, "%s\n", mrp_error_last()->text);
        exit(EXIT_FAILURE);
    }
}

int main(void)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct mrp_region *region;

    check(mrp_context_create(NULL, &context) == MRP_OK);
    check(mrp_provider_open(context, "host", NULL, &provider) == MRP_OK); /* or "ofi" */
    params.rails = &provider;
    params.n_rails = 1;
    check(mrp_pool_create(context, &params, &pool) == MRP_OK);

    region = mrp_region_alloc(pool, 4096); /* pinned and registered already */
    check(region != NULL);
    snprintf(mrp_region_address(region), 4096, "hello, network");
    puts(mrp_region_address(region));
    check(mrp_region_free(region) == MRP_OK);

    check(mrp_context_destroy(context) == MRP_OK); /* the pool and the provider as well */
    return EXIT_SUCCESS;
}
