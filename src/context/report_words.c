/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a report says in words, the same as text and as JSON: what things are called, and
 * what to do about those that need attention.
 */
#include "context/report.h"

#include "base/align.h"

bool mrp_report_is_tight(const struct mrp_report_budget *budget)
{
    return budget->max != 0 && budget->max != MRP_UNLIMITED &&
        (double)budget->used > 0.9 * (double)budget->max;
}

const char *mrp_report_mapped_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (mrp_report_is_tight(&report->mapped)) {
        snprintf(text, MRP_REMEDY_SIZE,
            "growth of any pool may be refused soon: mrp_context_trim gives back %s of "
            "idle memory, mrp_pool_trim more; or free regions, or %s",
            mrp_size_words(report->stats.retained_size).text, report->mapped_remedy);
    }
    return text;
}

const char *mrp_report_pinned_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (mrp_report_is_tight(&report->pinned)) {
        snprintf(text, MRP_REMEDY_SIZE,
            "growth of any pool whose rail pins may be refused soon: mrp_context_trim "
            "gives back %s of idle memory, mrp_pool_trim more; or free regions, or %s",
            mrp_size_words(report->stats.retained_size).text, report->pinned_remedy);
    }
    return text;
}

const char *mrp_report_registrations_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (mrp_report_is_tight(&report->registrations)) {
        snprintf(text, MRP_REMEDY_SIZE,
            "growth of any pool may be refused soon: use larger chunks (chunk_min, "
            "MRPOOL_CHUNK_MIN), free registered buffers, or raise the context's "
            "max_registrations (MRPOOL_CONTEXT_MAX_REGISTRATIONS)");
    }
    return text;
}

const char *mrp_report_provider_remedy(
    const struct mrp_report_provider *provider, char text[MRP_REMEDY_SIZE])
{
    const struct mrp_report_budget budget = {
        provider->n_registrations, provider->max_registrations, NULL};

    text[0] = '\0';
    if (mrp_report_is_tight(&budget)) {
        snprintf(text, MRP_REMEDY_SIZE,
            "%s of the %s registrations the network is made for: use larger chunks "
            "(chunk_min, MRPOOL_CHUNK_MIN), or free registered buffers",
            mrp_count_words(budget.used).text, mrp_count_words(budget.max).text);
    }
    return text;
}

const char *mrp_report_parked_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (report->stats.n_parked > 0) {
        snprintf(text, MRP_REMEDY_SIZE,
            "a network would not take its registration back, so this memory can be "
            "neither used nor unmapped: close that provider, once no pool uses it");
    }
    return text;
}

const char *mrp_chunk_use_words(enum mrp_chunk_use use)
{
    static const char *const words[] = {[MRP_CHUNK_SLABS] = "slabs",
        [MRP_CHUNK_REGION] = "one region",
        [MRP_CHUNK_USER] = "user memory",
        [MRP_CHUNK_PRIVATE] = "in the making",
        [MRP_CHUNK_REST] = "others"};

    return words[use];
}

const char *mrp_pages_words(enum mrp_pages pages)
{
    static const char *const words[] = {[MRP_PAGES_DEFAULT] = "",
        [MRP_PAGES_AUTO] = "auto",
        [MRP_PAGES_4K] = "base",
        [MRP_PAGES_THP] = "THP",
        [MRP_PAGES_2M] = "2 MiB",
        [MRP_PAGES_1G] = "1 GiB"};

    return (size_t)pages < sizeof words / sizeof words[0] ? words[pages] : "?";
}

const char *mrp_memory_kind_words(enum mrp_memory_kind kind)
{
    static const char *const words[] = {[MRP_MEMORY_HOST] = "host",
        [MRP_MEMORY_CUDA] = "CUDA",
        [MRP_MEMORY_ROCM] = "ROCm"};

    return (size_t)kind < sizeof words / sizeof words[0] ? words[kind] : "?";
}
