/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What is one per process: the lock for rare global changes, and the epoch that tells a
 * forked child from its parent.
 */
#ifndef MRP_BASE_PROCESS_H
#define MRP_BASE_PROCESS_H

#include <stdint.h>

/** Serialises changes of process-wide tables (handles, reserved ranges, loaded modules).
 * Leaf lock: nothing else is locked and no callback runs under it. Held across fork, so
 * that a child finds the tables whole. */
void mrp_process_lock(void);
void mrp_process_unlock(void);

/** Grows by one in each forked child. Objects keep the value they were made under; a
 * different one now means that this process is a child of theirs. */
extern uint32_t mrp_process_epoch;

#endif
