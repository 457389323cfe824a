/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Stands for a provider module: records a failure in whatever core its calls reach.
 */
#include <mrpool/base.h>

MRP_API void probe_fail(void);

void probe_fail(void)
{
    mrp_fail(MRP_ERR_REGISTER, 7, "from the module");
}
