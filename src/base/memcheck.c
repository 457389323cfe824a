/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/memcheck.h"

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif

/* Of <sanitizer/asan_interface.h>, weak: NULL in a process without AddressSanitizer. */
void __asan_poison_memory_region(const volatile void *address, size_t size)
    __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void *address, size_t size)
    __attribute__((weak));

/* Not RUNNING_ON_VALGRIND: its other tools do not care who may read what, and callgrind
 * should count what runs without them. */
static bool is_memcheck(void)
{
#ifdef VALGRIND_GET_VBITS
    char byte = 0, bits = 0;

    return VALGRIND_GET_VBITS(&byte, &bits, 1) != 0;
#else
    return false;
#endif
}

bool mrp_memcheck_is_present(void)
{
    return __asan_poison_memory_region != NULL || is_memcheck();
}

void mrp_memcheck_hide(const void *address, size_t size)
{
    if (__asan_poison_memory_region != NULL) {
        __asan_poison_memory_region(address, size);
    }
#ifdef VALGRIND_MAKE_MEM_NOACCESS
    (void)VALGRIND_MAKE_MEM_NOACCESS(address, size);
#endif
}

/* Valgrind: defined, not undefined, since a network writes where Valgrind cannot see it,
 * and what was received would count as never written. */
void mrp_memcheck_show(const void *address, size_t size)
{
    if (__asan_unpoison_memory_region != NULL) {
        __asan_unpoison_memory_region(address, size);
    }
#ifdef VALGRIND_MAKE_MEM_DEFINED
    (void)VALGRIND_MAKE_MEM_DEFINED(address, size);
#endif
}
