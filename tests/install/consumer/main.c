/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The smallest user of an installed mrpool.
 */
#include <mrpool/mrpool.h>

#include <stdio.h>

int main(void)
{
    struct mrp_context *context;

    if (mrp_context_create(NULL, &context) != MRP_OK) {
        fprintf(stderr, "%s\n", mrp_error_last()->text);
        return 1;
    }
    return mrp_context_destroy(context) == MRP_OK ? 0 : 1;
}
