/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What trimming does to others: how long an alloc and a free take while a thread trims
 * without a pause, and whether requests miss memory that is in its hands.
 */
#include "histogram.h"
#include "memory_mrpool.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_SLOTS 256
#define N_SCATTERED 8192 /* free regions among live ones: work for the trimmer */
#define WINDOW 64
#define OPS 400000
#define OPS_QUICK 6400
#define MISSED_BYTES ((size_t)32 << 20)
#define MISSED_SIZE ((size_t)4 << 10)
#define MISSED_ROUNDS 300
#define MISSED_ROUNDS_QUICK 5

struct trimmer {
    struct mrp_pool *pool;
    size_t keep;
    size_t n_trims;
    atomic_bool stops;
    pthread_t thread;
};

static void *run_trimmer(void *argument)
{
    struct trimmer *trimmer = argument;

    while (!atomic_load_explicit(&trimmer->stops, memory_order_relaxed)) {
        mrp_pool_trim(trimmer->pool, trimmer->keep, NULL);
        trimmer->n_trims++;
    }
    return NULL;
}

static bool start_trimmer(struct trimmer *trimmer, struct mrp_pool *pool, size_t keep)
{
    *trimmer = (struct trimmer){.pool = pool, .keep = keep};
    return pthread_create(&trimmer->thread, NULL, run_trimmer, trimmer) == 0;
}

static void stop_trimmer(struct trimmer *trimmer)
{
    atomic_store(&trimmer->stops, true);
    pthread_join(trimmer->thread, NULL);
}

/* -- latency -- */

static struct worker_histogram histogram;

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random >> 11;
}

/* 64 B to 64 KiB, as many of each doubling. */
static size_t size_of(uint64_t random)
{
    size_t least = (size_t)64 << (random % 10);

    return least + (random >> 8) % least;
}

/* Samples in which the thread lost its processor do not count: another thread's time. */
static bool time_pairs(struct mrp_pool *pool, size_t n_ops)
{
    static struct mrp_region *slots[N_SLOTS];
    uint64_t random = 88172645463325252u, ticks[WINDOW];
    long switches = worker_switches(), now;
    bool is_done = true;

    memset(&histogram, 0, sizeof histogram);
    memset(slots, 0, sizeof slots);
    for (size_t i = 0; is_done && i < n_ops; i += WINDOW) {
        for (size_t k = 0; is_done && k < WINDOW; k++) {
            struct mrp_region **slot = &slots[next_random(&random) % N_SLOTS];
            size_t size = size_of(next_random(&random));
            struct mrp_region *old = *slot;
            uint64_t start = worker_ticks();

            *slot = mrp_region_alloc(pool, size);
            if (old != NULL) {
                mrp_region_free(old);
            }
            ticks[k] = worker_ticks() - start;
            is_done = *slot != NULL;
        }
        now = worker_switches();
        for (size_t k = 0; is_done && k < WINDOW && now == switches; k++) {
            histogram_add(&histogram, ticks[k]);
        }
        switches = now;
    }
    for (size_t i = 0; i < N_SLOTS; i++) {
        if (slots[i] != NULL) {
            mrp_region_free(slots[i]);
        }
    }
    return is_done;
}

static void tell_quantiles(
    const char *name, unsigned threads, const struct worker_histogram *times)
{
    static const struct {
        const char *name;
        double share;
    } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    char full[48];

    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        snprintf(full, sizeof full, "%s-%s", name, quantiles[i].name);
        memory_tell_value(full, threads, "ns",
            histogram_quantile(times, quantiles[i].share) * worker_tick_ns());
    }
}

/* Every second of them is freed, so that a trim has many regions to look at and little to
 * give. */
static size_t scatter(struct mrp_pool *pool, struct mrp_region **regions)
{
    uint64_t random = 362436069;
    size_t n = 0;

    while (n < N_SCATTERED &&
        (regions[n] = mrp_region_alloc(pool, size_of(next_random(&random)))) != NULL) {
        n++;
    }
    for (size_t i = 0; i < n; i += 2) {
        mrp_region_free(regions[i]);
        regions[i] = NULL;
    }
    mrp_thread_flush(pool);
    return n;
}

bool section_latency(const struct memory_arguments *arguments)
{
    static const struct {
        const char *name;
        bool trims;
        size_t keep;
    } cases[] = {{"pair-alone", false, 0}, {"pair-regrouping", true, SIZE_MAX},
        {"pair-trimming", true, 0}};
    static struct mrp_region *regions[N_SCATTERED];
    size_t n_ops = arguments->quick ? OPS_QUICK : OPS, n;
    struct mrp_context *context = NULL;
    struct mrp_pool *pool;
    bool is_done = true;

    if (mrp_context_create(NULL, &context) != MRP_OK ||
        mrp_pool_create(context, NULL, &pool) != MRP_OK) {
        return sections_fail(context, "latency");
    }
    n = scatter(pool, regions);
    for (unsigned i = 0; is_done && i < arguments->repetitions; i++) {
        for (size_t k = 0; is_done && k < sizeof cases / sizeof cases[0]; k++) {
            struct trimmer trimmer = {.n_trims = 0};

            if (cases[k].trims && !start_trimmer(&trimmer, pool, cases[k].keep)) {
                return sections_fail(context, "latency, a thread");
            }
            is_done = time_pairs(pool, n_ops);
            if (cases[k].trims) {
                stop_trimmer(&trimmer);
            }
            tell_quantiles(cases[k].name, 1, &histogram);
        }
    }
    for (size_t i = 1; i < n; i += 2) {
        mrp_region_free(regions[i]);
    }
    if (!is_done) {
        return sections_fail(context, "latency");
    }
    mrp_context_destroy(context);
    return true;
}

/* -- is anything missed in the trimmer's hands? ----------------------------------------
 */

struct taker {
    struct mrp_pool *pool;
    struct mrp_region **regions;
    uint32_t flags;
    size_t n, n_rounds, n_asked, n_refused;
    char problem[512]; /* why the first was refused */
};

/* All of them, then none of them, while the trimmer has some in its hands. */
static void *run_taker(void *argument)
{
    struct taker *taker = argument;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    request.flags = taker->flags;
    for (size_t round = 0; round < taker->n_rounds; round++) {
        for (size_t i = 0; i < taker->n; i++) {
            taker->regions[i] = mrp_region_alloc_with(taker->pool, MISSED_SIZE, &request);
            taker->n_asked++;
            if (taker->regions[i] == NULL && taker->n_refused++ == 0) {
                snprintf(
                    taker->problem, sizeof taker->problem, "%s", mrp_error_last()->text);
            }
        }
        for (size_t i = 0; i < taker->n; i++) {
            if (taker->regions[i] != NULL) {
                mrp_region_free(taker->regions[i]);
            }
        }
    }
    mrp_thread_flush(taker->pool);
    return NULL;
}

struct missed_case {
    const char *name;
    uint32_t flags, preset;
    unsigned n_takers;
    /* a live region in each MiB: no chunk is ever idle, though most slabs are free */
    bool is_anchored;
};

/* Every second one of the first half stays live, so that some slabs can be regrouped and
 * others cannot. @return how many of them; the others are free, and follow in the list */
static size_t free_most(
    struct mrp_region **regions, size_t n, const struct missed_case *missed)
{
    size_t n_live = 0, per_mib = ((size_t)1 << 20) / MISSED_SIZE;

    for (size_t i = 0; i < n; i++) {
        if ((i < n / 2 && i % 2 == 0) || (missed->is_anchored && i % per_mib == 0)) {
            regions[n_live++] = regions[i];
        } else {
            mrp_region_free(regions[i]);
        }
    }
    return n_live;
}

static void tell_missed(const struct missed_case *missed, const struct taker *takers,
    size_t n_trims, size_t n_registered)
{
    size_t n_refused = 0, n_asked = 0;
    char name[48];

    for (unsigned i = 0; i < missed->n_takers; i++) {
        n_refused += takers[i].n_refused;
        n_asked += takers[i].n_asked;
        if (takers[i].n_refused > 0) {
            memory_tell_problem("%s, %u thread%s: %s", missed->name, missed->n_takers,
                missed->n_takers == 1 ? "" : "s", takers[i].problem);
        }
    }
    snprintf(name, sizeof name, "%s-asked", missed->name);
    memory_tell_value(name, missed->n_takers, "count", (double)n_asked);
    snprintf(name, sizeof name, "%s-trims", missed->name);
    memory_tell_value(name, missed->n_takers, "count", (double)n_trims);
    snprintf(name, sizeof name, "%s-refused", missed->name);
    memory_tell_value(name, missed->n_takers, "count", (double)n_refused);
    snprintf(name, sizeof name, "%s-registered", missed->name);
    memory_tell_value(name, missed->n_takers, "count", (double)n_registered);
}

/* The pool holds exactly what the takers ask for. */
static bool count_missed(const struct missed_case *missed, size_t n_rounds)
{
    static struct mrp_region *regions[MISSED_BYTES / MISSED_SIZE];
    static struct counting_rail counts;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context = NULL;
    struct mrp_provider *rail;
    struct taker takers[2];
    void *arguments[2] = {&takers[0], &takers[1]};
    struct trimmer trimmer;
    struct mrp_pool *pool;
    size_t n, n_live, n_registered;

    params.max_bytes = MISSED_BYTES;
    params.preset = missed->preset;
    params.rails = &rail;
    params.n_rails = 1;
    params.decay_ms = UINT32_MAX;
    if (mrp_context_create(NULL, &context) != MRP_OK ||
        counting_rail_create(context, &counts, &rail) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK) {
        return sections_fail(context, "trim, missed");
    }
    n = sections_fill(pool, MISSED_SIZE, sizeof regions / sizeof regions[0], regions);
    n_live = free_most(regions, n, missed);
    mrp_thread_flush(pool);
    n_registered = atomic_load(&counts.n_registered);
    for (unsigned i = 0; i < missed->n_takers; i++) {
        size_t each = (n - n_live) / missed->n_takers;

        takers[i] = (struct taker){.pool = pool,
            .regions = regions + n_live + i * each,
            .flags = missed->flags,
            .n = each,
            .n_rounds = n_rounds};
    }
    if (!start_trimmer(&trimmer, pool, SIZE_MAX)) {
        return sections_fail(context, "trim, a thread");
    }
    worker_on_threads(missed->n_takers, run_taker, arguments);
    stop_trimmer(&trimmer);
    tell_missed(missed, takers, trimmer.n_trims,
        atomic_load(&counts.n_registered) - n_registered);
    mrp_region_free_many(regions, n_live, NULL);
    mrp_context_destroy(context);
    return true;
}

/* One thread with caches; two that keep nothing, or each would miss what the other has. */
bool section_missed(const struct memory_arguments *arguments)
{
    static const struct missed_case cases[] = {
        {"missed", 0, MRP_PRESET_THREAD_LOCAL, 1, false},
        {"missed", 0, MRP_PRESET_SHARED, 2, false},
        {"missed-nogrow", MRP_REQUEST_NOGROW, MRP_PRESET_THREAD_LOCAL, 1, true},
        {"missed-nogrow", MRP_REQUEST_NOGROW, MRP_PRESET_SHARED, 2, true},
        {"missed-idle", MRP_REQUEST_NOGROW, MRP_PRESET_THREAD_LOCAL, 1, false},
    };
    size_t n_rounds = arguments->quick ? MISSED_ROUNDS_QUICK : MISSED_ROUNDS;
    bool is_done = true;

    for (size_t i = 0; is_done && i < sizeof cases / sizeof cases[0]; i++) {
        is_done = count_missed(&cases[i], n_rounds);
    }
    return is_done;
}
