/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the fast path has to reach, and holding the results to it.
 */
#include "pool.h"

#include <string.h>

/* "mrpool" is the shared library with its default checks, "none" stands for
 * check=none. */
const struct pool_target pool_targets[] = {
    {CASE_PAIR, "mrpool", 1, SIZES_SMALL, .of_dpdk = 1.1, .of_malloc = 1},
    {CASE_PAIR, "mrpool-inline", 1, SIZES_SMALL, .of_dpdk = 0.65},
    {CASE_PAIR, "mrpool-static", 1, SIZES_SMALL, .of_dpdk = 0.65},
    {CASE_PAIR, "mrpool", 2, SIZES_SMALL, .of_other = 1.1},
    {CASE_PAIR, "mrpool", 4, SIZES_SMALL, .of_other = 1.2},
    {CASE_PAIR, "mrpool", 0, SIZES_LARGE, .of_malloc = 1},
    {CASE_BATCH, "mrpool", 1, SIZES_SMALL, .of_dpdk = 1.5},
    {CASE_BATCH, "mrpool-inline", 1, SIZES_SMALL, .of_dpdk = 1.1},
    {CASE_BATCH, "mrpool", 0, SIZES_LARGE, .of_malloc = 1},
    {CASE_BULK, "mrpool", 1, SIZES_SMALL, .of_dpdk = 4},
    {CASE_BULK, "mrpool", 0, SIZES_LARGE, .of_malloc = 1},
    {CASE_HANDOVER, "mrpool-none", 2, SIZES_SMALL, .of_dpdk = 1.2, .of_malloc = 1},
    {CASE_HANDOVER, "mrpool", 2, SIZES_SMALL, .of_dpdk = 4.5, .of_malloc = 1},
    {CASE_HANDOVER, "mrpool", 0, SIZES_LARGE, .of_malloc = 1},
    {CASE_RANDOM, "mrpool", 0, SIZES_ALL, .of_malloc = 1},
    {CASE_LARSON, "mrpool", 0, SIZES_ALL, .of_malloc = 1},
    {CASE_P9999, "mrpool", 0, SIZES_ALL, .at_most = 2000},
    {CASE_INSTRUCTIONS, "mrpool", 1, SIZES_SMALL, .at_most = 56},
    {CASE_INSTRUCTIONS, "mrpool-inline", 1, SIZES_SMALL, .at_most = 44},
    {CASE_GROWTH, "mrpool", 1, SIZES_ALL, .of_other = 1.1, .other = CASE_BY_HAND},
    /* shown beside them, held to nothing */
    {CASE_FIRST_TOUCH, "mrpool", 1, SIZES_ALL, .of_dpdk = 0},
    {CASE_REFUSED, "mrpool", 1, SIZES_ALL, .of_dpdk = 0},
    {CASE_RECOVER, "mrpool", 1, SIZES_ALL, .of_dpdk = 0},
};
const size_t pool_n_targets = sizeof pool_targets / sizeof pool_targets[0];

static bool is_case_of(const struct bench_result *result, const char *name)
{
    size_t length = strlen(name);

    return strncmp(result->name, name, length) == 0 && result->name[length] == '/';
}

bool pool_target_applies(
    const struct pool_target *target, const struct bench_result *result)
{
    bool is_large = result->size >= POOL_LARGE;

    return is_case_of(result, target->name) &&
        strcmp(pool_subject_of(result), target->subject) == 0 &&
        (target->threads == 0 || target->threads == result->threads) &&
        (target->sizes == SIZES_ALL || is_large == (target->sizes == SIZES_LARGE));
}

static const struct bench_result *other_of(const struct bench *bench,
    const struct pool_target *target, const struct bench_result *result)
{
    return target->other != NULL
        ? pool_find(bench, target->other, "mrpool", result->size, result->threads)
        : pool_find(bench, target->name, target->subject, result->size, 1);
}

static void hold(struct bench *bench, const struct pool_target *target,
    const struct bench_result *result)
{
    const struct {
        double at_most;
        const struct bench_result *against;
    } bounds[] = {
        {target->of_dpdk,
            pool_find(bench, target->name, "dpdk", result->size, result->threads)},
        {target->of_malloc,
            pool_fastest_malloc(bench, target->name, result->size, result->threads)},
        {target->of_other, other_of(bench, target, result)},
    };

    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].at_most > 0 && bounds[i].against != NULL) {
            bench_hold(bench, result, bounds[i].against, bounds[i].at_most);
        }
    }
    if (target->at_most > 0) {
        bench_hold(bench, result, NULL, target->at_most);
    }
}

void pool_hold_all(struct bench *bench)
{
    for (size_t i = 0; i < pool_n_targets; i++) {
        for (size_t k = 0; k < bench->n_results; k++) {
            if (pool_target_applies(&pool_targets[i], bench->results[k])) {
                hold(bench, &pool_targets[i], bench->results[k]);
            }
        }
    }
}
