/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Is a value what its row of a settings table allows? For the tables of provider modules:
 * the library judges its own (mrp_setting_visit).
 */
#ifndef TOOL_SETTING_CHECK_H
#define TOOL_SETTING_CHECK_H

#include "mrpool/mrpool.h"

/** Write why `value` will be refused, or "" if it will not. */
void tool_setting_check(const struct mrp_setting_spec *spec, const char *value,
    char *problem, size_t problem_size);

#endif
