/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What AddressSanitizer and Valgrind's Memcheck are told about memory, whichever of them
 * the process runs under: a program built with -fsanitize=address need not have a library
 * that is. Nothing happens under neither.
 */
#ifndef MRP_BASE_MEMCHECK_H
#define MRP_BASE_MEMCHECK_H

#include <stdbool.h>
#include <stddef.h>

/** Whether somebody listens. Fixed for the life of the process. */
bool mrp_memcheck_is_present(void);

/** Reading or writing these bytes is an error from now on. */
void mrp_memcheck_hide(const void *address, size_t size);

/** They may be used, and count as written. */
void mrp_memcheck_show(const void *address, size_t size);

#endif
