/* SPDX-License-Identifier: BSD-3-Clause */
#include "buffer.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BASE_PAGE ((size_t)4 << 10)
#define HUGE_PAGE ((size_t)2 << 20)
#define MAP_2M (21 << 26) /* MAP_HUGE_2MB of linux/mman.h */

const struct bench_pages bench_pages_all[] = {
    {"4k", MRP_PAGES_4K, BASE_PAGE},
    {"thp", MRP_PAGES_THP, HUGE_PAGE},
    {"2m", MRP_PAGES_2M, HUGE_PAGE},
};

bool bench_pages_available(
    const struct bench_pages *pages, const struct mrp_system *system, size_t size)
{
    switch (pages->pages) {
    case MRP_PAGES_THP:
        return system->transparent_huge;
    case MRP_PAGES_2M:
        return system->huge_2m_free >= (size + HUGE_PAGE - 1) / HUGE_PAGE;
    default:
        return true;
    }
}

enum mrp_status bench_buffer_map(
    const struct bench_pages *pages, size_t size, struct bench_buffer *buffer)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uintptr_t first;

    *buffer = (struct bench_buffer){.size = size, .mapping_size = size};
    if (pages->pages == MRP_PAGES_2M) {
        flags |= MAP_HUGETLB | MAP_2M;
    } else if (pages->pages == MRP_PAGES_THP) {
        buffer->mapping_size += HUGE_PAGE; /* room to align it */
    }
    buffer->mapping =
        mmap(NULL, buffer->mapping_size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (buffer->mapping == MAP_FAILED) {
        return mrp_fail(MRP_ERR_MEMORY, errno, "mmap of %zu bytes on %s pages: %s", size,
            pages->name, strerror(errno));
    }
    first = (uintptr_t)buffer->mapping;
    if (pages->pages == MRP_PAGES_THP) {
        first = (first + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
        madvise((void *)first, size, MADV_HUGEPAGE);
    } else if (pages->pages == MRP_PAGES_4K) {
        madvise((void *)first, size, MADV_NOHUGEPAGE);
    }
    buffer->address = (void *)first;
    return MRP_OK;
}

void bench_buffer_touch(const struct bench_buffer *buffer)
{
    volatile char *bytes = buffer->address;

    for (size_t i = 0; i < buffer->size; i += BASE_PAGE) {
        bytes[i] = 1;
    }
}

void bench_buffer_unmap(const struct bench_buffer *buffer)
{
    munmap(buffer->mapping, buffer->mapping_size);
}
