/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which pages the host provider has locked, and how often.
 *
 * The kernel does not count: one munlock undoes any number of mlocks. So the process
 * keeps one account for all host providers in it, and a page is unlocked by whoever
 * leaves last. Pages that the application locks itself are unknown here: if it also
 * registers them, the last deregistration unlocks them.
 */
#ifndef MRP_HOST_PINS_H
#define MRP_HOST_PINS_H

#include <stdbool.h>
#include <stdint.h>

/* Count the pages start..end (both page-aligned) once more. Call it before mlock: from
 * here on nobody else's mrp_host_pins_remove unlocks them. False when there is no memory
 * for the account; nothing is counted then. */
bool mrp_host_pins_add(uintptr_t start, uintptr_t end);

/* Undo one mrp_host_pins_add of exactly this range, and unlock the pages that nobody else
 * counts. Needs no memory. Returns 0, or the errno of munlock: the range leaves the
 * account all the same. */
int mrp_host_pins_remove(uintptr_t start, uintptr_t end);

#endif
