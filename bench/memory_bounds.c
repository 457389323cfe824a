/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What memory has to stay within, and holding the results to it.
 */
#include "memory.h"

#include <string.h>

const struct memory_bound memory_bounds[] = {
    {"held-steady-most", "mrpool", 1.35, false, SECTION_LOAD,
        "steady mixed load: held for each live byte, at its most"},
    {"held-small-most", "mrpool", 1.35, false, SECTION_LOAD,
        "the same with other sizes, on what the first have left"},
    {"trimmed-beyond-live", "mrpool", 2, false, SECTION_LOAD,
        "after the load's peak and a trim: chunks beyond what is live"},
    {"missed-refused", "mrpool", 0, true, SECTION_MISSED,
        "requests refused while the memory for them is in a trim's hands"},
    {"missed-registered", "mrpool", 0, true, SECTION_MISSED,
        "registrations made for that reason"},
    {"missed-nogrow-refused", "mrpool", 0, true, SECTION_MISSED,
        "requests that may not grow, refused for that reason"},
    {"missed-idle-refused", "mrpool", 0, true, SECTION_MISSED,
        "the same where a trim leaves a chunk idle"},
    {"longest-over-mean", "mrpool", 3, false, SECTION_WAITING,
        "eight equal threads wait: the longest of their waits over the mean"},
    {"same-size-registrations", "mrpool", 1, true, SECTION_COUNTS,
        "1,000 times 1 MiB + 1: registrations"},
    {"layouts-deregistered", "mrpool", 6, true, SECTION_COUNTS,
        "an LRU of 4, 10 layouts released: deregistered (6 and 4 kept, exactly)"},
    {"layouts-kept", "mrpool", 4, true, SECTION_COUNTS, "the others, kept"},
    {"layouts-leaked", "mrpool", 0, true, SECTION_COUNTS, "of all ten leaked in the end"},
    {"after-peak-beyond-live", "mrpool", 2, true, SECTION_COUNTS,
        "a peak that goes as a whole, then a trim: chunks beyond what is live"},
    {"after-peak-beyond-reserve", "mrpool", 2, true, SECTION_COUNTS,
        "the same, keeping a reserve: chunks beyond both"},
};
const size_t memory_n_bounds = sizeof memory_bounds / sizeof memory_bounds[0];

bool memory_hold_all(struct bench *bench)
{
    bool is_reached = true;

    for (size_t i = 0; i < memory_n_bounds; i++) {
        const struct memory_bound *bound = &memory_bounds[i];

        for (size_t k = 0; k < bench->n_results; k++) {
            const struct bench_result *result = bench->results[k];
            size_t length = strlen(bound->name);

            if (strncmp(result->name, bound->name, length) == 0 &&
                result->name[length] == '/' &&
                strcmp(result->name + length + 1, bound->subject) == 0) {
                const struct bench_goal *goal =
                    bench_hold(bench, result, NULL, bound->at_most);

                is_reached = is_reached && (!bound->is_count || bench_is_reached(goal));
            }
        }
    }
    return is_reached;
}
