/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table, the JSON, and the judgement.
 */
#include "parcelport_report.h"

#include "parcelport_network.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

void report_take(struct port *port, struct report_counts *counts)
{
    const struct port_counts *from = port_counts(port);

    *counts = (struct report_counts){.eager = from->n_eager,
        .scattered = from->n_scattered,
        .rendezvous = from->n_rendezvous,
        .entries = from->n_entries,
        .keys_packed = from->n_keys_packed,
        .handed = from->n_handed,
        .later = from->n_later,
        .nowait = from->n_nowait,
        .nowait_failed = from->n_nowait_failed,
        .keys_opened = from->n_keys_opened,
        .keys_closed = from->n_keys_closed,
        .keys_missing = from->n_keys_missing,
        .acks_repeated = from->n_acks_repeated,
        .acks_stale = from->n_acks_stale,
        .sleeps = from->n_sleeps};
}

/* -- one figure of each process -- */

/* What has been counted since the warm-up, or ever, or is so at the end. */
struct figure {
    const char *name; /* in JSON */
    const char *title; /* in the table */
    enum {
        SINCE,
        EVER
    } span;
    size_t offset; /* in struct report_counts, or in struct port_memory */
};

static const struct figure counts_table[] = {
    {"eager", "eager messages sent", SINCE, offsetof(struct report_counts, eager)},
    {"scattered", "  of them, as a scatter list", SINCE,
        offsetof(struct report_counts, scattered)},
    {"entries", "  entries resolved", SINCE, offsetof(struct report_counts, entries)},
    {"rendezvous", "rendezvous messages sent", SINCE,
        offsetof(struct report_counts, rendezvous)},
    {"acks_repeated", "  acknowledgements sent twice", EVER,
        offsetof(struct report_counts, acks_repeated)},
    {"acks_stale", "  stale tokens refused", EVER,
        offsetof(struct report_counts, acks_stale)},
    {"keys_packed", "keys of chunks sent to a peer", EVER,
        offsetof(struct report_counts, keys_packed)},
    {"keys_opened", "  of peers' chunks opened", EVER,
        offsetof(struct report_counts, keys_opened)},
    {"keys_closed", "  let go again", EVER, offsetof(struct report_counts, keys_closed)},
    {"keys_missing", "  asked for again", EVER,
        offsetof(struct report_counts, keys_missing)},
    {"nowait", "progress thread: regions taken", SINCE,
        offsetof(struct report_counts, nowait)},
    {"nowait_failed", "  in vain: none free", SINCE,
        offsetof(struct report_counts, nowait_failed)},
    {"handed", "  got from the main thread", SINCE,
        offsetof(struct report_counts, handed)},
    {"sleeps", "  went to sleep", SINCE, offsetof(struct report_counts, sleeps)},
    {"later", "main thread: sends put off", SINCE, offsetof(struct report_counts, later)},
};

static const struct figure memory_table[] = {
    {"registrations", "registrations", EVER,
        offsetof(struct port_memory, n_registrations)},
    {"registered_bytes", "registered, MiB", EVER,
        offsetof(struct port_memory, registered_size)},
    {"registered", "  made ever", EVER, offsetof(struct port_memory, n_registered)},
    {"deregistered", "  given back ever", EVER,
        offsetof(struct port_memory, n_deregistered)},
    {"chunks", "chunks", EVER, offsetof(struct port_memory, n_chunks)},
    {"growths", "growths", EVER, offsetof(struct port_memory, n_growths)},
    {"taken_up", "idle chunks taken up", EVER, offsetof(struct port_memory, n_taken_up)},
    {"released", "chunks given back", EVER, offsetof(struct port_memory, n_released)},
    {"waits", "requests that waited", EVER, offsetof(struct port_memory, n_waits)},
};
#define N_COUNTS (sizeof(counts_table) / sizeof(counts_table[0]))
#define N_MEMORY (sizeof(memory_table) / sizeof(memory_table[0]))

static uint64_t figure_at(const void *base, const struct figure *figure)
{
    return *(const uint64_t *)(const void *)((const char *)base + figure->offset);
}

static uint64_t count_of(const struct report *report, const struct figure *figure)
{
    return figure_at(&report->counts, figure) -
        (figure->span == SINCE ? figure_at(&report->warm_counts, figure) : 0);
}

/* -- the table -- */

struct totals {
    uint64_t sent, received, bytes, nanoseconds; /* of the slowest */
    uint64_t registrations_warm, registrations_after;
    uint64_t acks_repeated, acks_stale;
};

static struct totals totals_of(
    const struct options *options, const struct report *reports)
{
    struct totals totals = {0, 0, 0, 0, 0, 0, 0, 0};

    for (unsigned i = 0; i < options->n_processes; i++) {
        const struct report *report = &reports[i];

        totals.sent += report->sent;
        totals.received += report->received;
        totals.bytes += report->bytes;
        if (report->nanoseconds > totals.nanoseconds) {
            totals.nanoseconds = report->nanoseconds;
        }
        totals.registrations_warm += report->warm.n_registered;
        totals.registrations_after +=
            report->end.n_registered - report->warm.n_registered;
        totals.acks_repeated += report->counts.acks_repeated;
        totals.acks_stale += report->counts.acks_stale;
    }
    return totals;
}

static double per_second(uint64_t count, uint64_t nanoseconds)
{
    return nanoseconds > 0 ? (double)count * 1e9 / (double)nanoseconds : 0;
}

static void print_ranks(const struct options *options)
{
    printf("\n  %-32s", "");
    for (unsigned i = 0; i < options->n_processes; i++) {
        printf("      rank %u", i);
    }
}

static void print_row(const struct options *options, const char *title)
{
    (void)options;
    printf("\n  %-32s", title);
}

static void print_traffic(const struct options *options, const struct report *reports)
{
    print_ranks(options);
    print_row(options, "messages sent");
    for (unsigned i = 0; i < options->n_processes; i++) {
        printf(" %11" PRIu64, reports[i].sent);
    }
    print_row(options, "messages received, verified");
    for (unsigned i = 0; i < options->n_processes; i++) {
        printf(" %11" PRIu64, reports[i].received);
    }
    print_row(options, "MiB sent");
    for (unsigned i = 0; i < options->n_processes; i++) {
        printf(" %11" PRIu64, reports[i].bytes >> 20);
    }
    for (size_t f = 0; f < N_COUNTS; f++) {
        print_row(options, counts_table[f].title);
        for (unsigned i = 0; i < options->n_processes; i++) {
            printf(" %11" PRIu64, count_of(&reports[i], &counts_table[f]));
        }
    }
}

static void print_memory(const struct options *options, const struct report *reports)
{
    printf("\n\n  %-32s", "memory: after warm-up > at the end");
    for (size_t f = 0; f < N_MEMORY; f++) {
        bool is_bytes =
            memory_table[f].offset == offsetof(struct port_memory, registered_size);

        print_row(options, memory_table[f].title);
        for (unsigned i = 0; i < options->n_processes; i++) {
            uint64_t warm = figure_at(&reports[i].warm, &memory_table[f]);
            uint64_t end = figure_at(&reports[i].end, &memory_table[f]);

            printf(" %5" PRIu64 ">%5" PRIu64, is_bytes ? warm >> 20 : warm,
                is_bytes ? end >> 20 : end);
        }
    }
}

static void print_table(const struct options *options, const struct report *reports,
    const struct totals *totals)
{
    printf("Parcels between %u processes over %s\n", options->n_processes,
        reports[0].network);
    printf("  8 B to 1 MiB, eager up to %zu; window of %u; a pool of %zu MiB each\n",
        options->eager_max, options->window, options->pool_size >> 20);
    print_traffic(options, reports);
    print_memory(options, reports);
    printf("\n\nparcelport: %" PRIu64 " messages, %" PRIu64 " MiB, all bytes verified, "
           "%.0f messages/s, %.0f MiB/s, %" PRIu64 " registrations in warm-up, %" PRIu64
           " after\n",
        totals->received, totals->bytes >> 20,
        per_second(totals->received, totals->nanoseconds),
        per_second(totals->bytes, totals->nanoseconds) / 1048576.0,
        totals->registrations_warm, totals->registrations_after);
}

/* -- JSON -- */

static void print_json_process(const struct report *report)
{
    printf("{\"pid\": %" PRIu64 ", \"sent\": %" PRIu64 ", \"received\": %" PRIu64
           ", \"bytes\": %" PRIu64 ", \"nanoseconds\": %" PRIu64,
        report->pid, report->sent, report->received, report->bytes, report->nanoseconds);
    for (size_t f = 0; f < N_COUNTS; f++) {
        printf(", \"%s_warm_up\": %" PRIu64 ", \"%s\": %" PRIu64, counts_table[f].name,
            figure_at(&report->warm_counts, &counts_table[f]), counts_table[f].name,
            count_of(report, &counts_table[f]));
    }
    for (size_t f = 0; f < N_MEMORY; f++) {
        printf(", \"%s_warm_up\": %" PRIu64 ", \"%s\": %" PRIu64, memory_table[f].name,
            figure_at(&report->warm, &memory_table[f]), memory_table[f].name,
            figure_at(&report->end, &memory_table[f]));
    }
    printf("}");
}

static void print_json(const struct options *options, const struct report *reports,
    const struct totals *totals)
{
    printf("{\"network\": \"%s\", \"provider\": \"%s\", \"opened\": \"%s\", "
           "\"messages\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"nanoseconds\": %" PRIu64
           ", \"registrations_warm_up\": %" PRIu64 ", \"registrations_after\": %" PRIu64
           ", \"processes\": [",
        options->network->name, options->provider, reports[0].network, totals->received,
        totals->bytes, totals->nanoseconds, totals->registrations_warm,
        totals->registrations_after);
    for (unsigned i = 0; i < options->n_processes; i++) {
        printf("%s\n  ", i > 0 ? "," : "");
        print_json_process(&reports[i]);
    }
    printf("\n]}\n");
}

/* -- the judgement -- */

static bool report_judge(const struct options *options, const struct report *reports,
    const struct totals *totals)
{
    for (unsigned i = 0; i < options->n_processes; i++) {
        const struct port_memory *warm = &reports[i].warm, *end = &reports[i].end;

        if (end->n_registered != warm->n_registered ||
            end->n_deregistered != warm->n_deregistered) {
            return trouble("rank %u after the warm-up: %" PRIu64
                           " registrations made, and %" PRIu64 " given back",
                i, end->n_registered - warm->n_registered,
                end->n_deregistered - warm->n_deregistered);
        }
    }
    if (totals->sent != options->n_messages || totals->received != totals->sent) {
        return trouble("of %" PRIu64 " messages %" PRIu64 " were sent and %" PRIu64
                       " received",
            options->n_messages, totals->sent, totals->received);
    }
    return totals->acks_stale == totals->acks_repeated ||
        trouble("%" PRIu64 " acknowledgements were sent twice, %" PRIu64
                " were refused as stale",
            totals->acks_repeated, totals->acks_stale);
}

bool report_print(const struct options *options, const struct report *reports)
{
    struct totals totals = totals_of(options, reports);

    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%60s\r", "");
    }
    if (options->json) {
        print_json(options, reports, &totals);
    } else if (!options->quiet) {
        print_table(options, reports, &totals);
    }
    return report_judge(options, reports, &totals);
}

void report_progress(const struct options *options, uint64_t n_done, uint64_t since)
{
    uint64_t n_all = options->n_warm_up + options->n_messages;

    if (options->quiet || !isatty(STDERR_FILENO)) {
        return;
    }
    fprintf(stderr, "\r%3" PRIu64 " %%  %" PRIu64 " of %" PRIu64 " messages, %.0f/s   ",
        n_done * 100 / n_all, n_done, n_all, per_second(n_done, clock_ns() - since));
    fflush(stderr);
}
