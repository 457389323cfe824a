/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checks in a forked child, where CMocka's assertions do not reach.
 */
#ifndef MRP_TEST_CHILD_H
#define MRP_TEST_CHILD_H

#include "mrpool/base.h"

#include <stdio.h>
#include <unistd.h>

/** What is not as it should be is told on stderr, and by the exit status. Any thread. */
#define EXPECT(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "child, line %d: %s: %s\n", __LINE__, #condition, \
                mrp_error_last()->text); \
            _exit(1); \
        } \
    } while (0)

#endif
