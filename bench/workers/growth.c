/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth of a pool from empty, registered with provider host, and the same by hand: the
 * mappings and registrations that the pool made, repeated with mmap, prefaulting and
 * mlock2.
 */
#include "support.h"

#include "mrpool/mrpool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define REGION_SIZE ((size_t)64 << 10)
#define CHUNKS_MAX 256
#define HUGE_SIZE ((size_t)2 << 20)

/* What the pool mapped and registered, by the last growth. */
static struct {
    size_t sizes[CHUNKS_MAX];
    size_t n;
    bool huge; /* on transparent huge pages */
} plan;

static void note_registration(const struct mrp_registration_info *info, void *user)
{
    (void)user;
    if (plan.n < CHUNKS_MAX) {
        plan.sizes[plan.n++] = info->size;
    }
}

static enum mrp_status open_pool(
    struct mrp_context **context, struct mrp_pool **pool, size_t size)
{
    struct mrp_backend_params memory = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *host;
    enum mrp_status status = mrp_context_create(NULL, context);

    /* a kind of page is named, so that both have the same */
    memory.pages = plan.huge ? MRP_PAGES_THP : MRP_PAGES_4K;
    memory.prefault = 1;
    params.max_bytes = 2 * size;
    params.rails = &host;
    params.n_rails = 1;
    if (status == MRP_OK) {
        status = mrp_backend_create(*context, "mmap", &memory, &params.backend);
    }
    if (status == MRP_OK) {
        status = mrp_provider_open(*context, "host", NULL, &host);
    }
    if (status == MRP_OK) {
        status = mrp_pool_create(*context, &params, pool);
    }
    return status;
}

static void grow(const struct worker_request *request, struct worker_reply *reply)
{
    size_t n = (size_t)request->size / REGION_SIZE, got = 0;
    struct mrp_region **regions = calloc(n, sizeof(struct mrp_region *));
    struct mrp_system system = MRP_SYSTEM_INIT;
    struct mrp_context *context = NULL;
    struct mrp_pool *pool;
    double cpu, wall;

    mrp_system_query(&system);
    plan.huge = system.transparent_huge;
    if (regions == NULL || open_pool(&context, &pool, (size_t)request->size) != MRP_OK) {
        worker_fail(reply, "%s", mrp_error_last()->text);
        mrp_context_destroy(context);
        free(regions);
        return;
    }
    memset(regions, 0, n * sizeof(struct mrp_region *)); /* not its pages' first touch */
    cpu = worker_cpu_ns();
    wall = worker_wall_ns();
    while (got < n && (regions[got] = mrp_region_alloc(pool, REGION_SIZE)) != NULL) {
        got++;
    }
    reply->cpu_ns = worker_cpu_ns() - cpu;
    reply->wall_ns = worker_wall_ns() - wall;
    reply->n_ops = got;
    if (got < n) {
        worker_fail(reply, "%s", mrp_error_last()->text);
    } else {
        plan.n = 0;
        mrp_registration_visit(context, note_registration, NULL);
    }
    mrp_region_free_many(regions, got, NULL);
    mrp_context_destroy(context);
    free(regions);
}

/* Aligned to a huge page, or the kernel could not use them. */
static bool map_chunk(size_t size, char **begin, size_t *mapped)
{
    char *address, *aligned;

    *mapped = size + HUGE_SIZE;
    address =
        mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
        return false;
    }
    *begin = address;
    aligned = address + (-(uintptr_t)address & (HUGE_SIZE - 1));
    if (madvise(aligned, size, plan.huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) != 0 &&
        errno != EINVAL) {
        return false;
    }
    if (madvise(aligned, size, MADV_POPULATE_WRITE) != 0) {
        for (size_t i = 0; i < size; i += 4096) {
            ((volatile char *)aligned)[i] = 0;
        }
    }
    return mlock2(aligned, size, 0) == 0;
}

static void grow_by_hand(struct worker_reply *reply)
{
    char *begins[CHUNKS_MAX];
    size_t mapped[CHUNKS_MAX], n = 0;
    double cpu = worker_cpu_ns(), wall = worker_wall_ns();

    memset(begins, 0, sizeof begins);
    while (n < plan.n && map_chunk(plan.sizes[n], &begins[n], &mapped[n])) {
        n++;
    }
    reply->cpu_ns = worker_cpu_ns() - cpu;
    reply->wall_ns = worker_wall_ns() - wall;
    reply->n_ops = n;
    if (n < plan.n || n == 0) {
        worker_fail(reply, "mapping and pinning by hand: %s", strerror(errno));
        n += n < CHUNKS_MAX && begins[n] != NULL;
    }
    while (n > 0) {
        n--;
        munmap(begins[n], mapped[n]);
    }
}

void subject_growth(const struct worker_request *request, struct worker_reply *reply);

void subject_growth(const struct worker_request *request, struct worker_reply *reply)
{
    worker_pin(request, 0);
    if (request->pattern == PATTERN_GROWTH) {
        grow(request, reply);
    } else {
        grow_by_hand(reply);
    }
}
