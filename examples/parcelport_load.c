/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making the messages, verifying them, and the loop of the main thread.
 */
#include "parcelport_load.h"

#include "parcelport_launch.h"
#include "pattern.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>

/* Between entries that lie in one region. */
#define GAP 24

#define BURST 16 /* messages sent before arrivals are looked for */
#define IDLE_NS 100000u
#define TELL_NS 200000000u

struct message {
    unsigned to;
    size_t size;
    size_t n_entries;
    uint64_t seed; /* of its bytes */
};

/* -- what is sent -- */

/* Sizes: of a power of two, which comes by its weight, and anything up to the next one. */
struct band {
    unsigned per_mille;
    unsigned shift, n_shifts;
};
static const struct band mostly_small[] = {
    {800, 3, 7}, /* 8 B to 1 KiB */
    {150, 10, 4}, /* to 16 KiB */
    {40, 14, 2}, /* to 64 KiB */
    {8, 16, 2}, /* to 256 KiB */
    {2, 18, 2}, /* to 1 MiB */
};
static const struct band even[] = {
    {1000, 3, 17}, /* 8 B to 1 MiB */
};

static size_t message_size(const struct options *options, uint64_t random)
{
    const struct band *band = options->is_even ? even : mostly_small;
    unsigned place = (unsigned)(random % 1000);
    size_t least;

    while (place >= band->per_mille) {
        place -= band->per_mille;
        band++;
    }
    least = (size_t)1 << (band->shift + (random >> 16) % band->n_shifts);
    return least + (random >> 32) % (least + 1); /* both ends included */
}

/* Message `id` of process `from`. One in eight has two or three entries. */
static struct message message_of(
    const struct options *options, unsigned from, uint64_t id)
{
    uint64_t random = pattern_word(options->seed + from, id);
    unsigned distance = 1 + (unsigned)(random >> 11) % (options->n_processes - 1);
    struct message message = {.to = (from + distance) % options->n_processes,
        .n_entries = 1,
        .seed = pattern_word(~random, id)};

    random = message.seed;
    message.size = message_size(options, random);
    if ((random >> 12) % 8 == 0) {
        message.n_entries = 2 + (random >> 15) % 2;
    }
    return message;
}

/* Entries differ by a byte or two in size, and begin anywhere. */
static size_t entry_size(const struct message *message, size_t entry)
{
    size_t part = message->size / message->n_entries;

    return entry + 1 < message->n_entries
        ? part
        : message->size - part * (message->n_entries - 1);
}

static uint64_t entry_seed(const struct message *message, size_t entry)
{
    return pattern_word(message->seed, entry + 1);
}

/* Memory for it, by plain pointer. Of several entries the last has a region of its own,
 * the others share one. Each holds a reference, so that who is through with an entry
 * needs to know nothing of the others. */
static bool message_alloc(
    struct load *load, const struct message *message, struct iovec *entries)
{
    size_t last = message->n_entries - 1, shared = 0;
    struct mrp_region *region;
    char *next;

    entries[last].iov_len = entry_size(message, last);
    entries[last].iov_base = port_alloc(load->port, entries[last].iov_len);
    if (entries[last].iov_base == NULL) {
        return false;
    }
    for (size_t i = 0; i < last; i++) {
        shared += GAP + entry_size(message, i);
    }
    if (shared == 0) {
        return true;
    }
    next = port_alloc(load->port, shared);
    if (next == NULL) {
        (void)mrp_ptr_free(port_pool(load->port), entries[last].iov_base);
        return false;
    }
    region = mrp_region_find(port_pool(load->port), next);
    for (size_t i = 0; i < last; i++) {
        entries[i].iov_base = next + GAP;
        entries[i].iov_len = entry_size(message, i);
        next += GAP + entries[i].iov_len;
        if (i > 0) {
            (void)mrp_region_retain(region);
        }
    }
    return true;
}

static void message_fill(const struct message *message, const struct iovec *entries)
{
    for (size_t i = 0; i < message->n_entries; i++) {
        pattern_fill(entries[i].iov_base, entries[i].iov_len, entry_seed(message, i));
    }
}

/* On the progress thread. */
static void load_sent(void *load_arg, const struct iovec *entries, size_t n_entries)
{
    struct load *load = load_arg;

    for (size_t i = 0; i < n_entries; i++) {
        struct mrp_region *region =
            mrp_region_find(port_pool(load->port), entries[i].iov_base);

        if (mrp_region_release(region) != MRP_OK) {
            trouble("freeing an entry: %s", mrp_error_last()->text);
        }
    }
}

/* -- what arrives -- */

static bool message_verify(const struct message *message, const unsigned char *bytes)
{
    for (size_t i = 0; i < message->n_entries; i++) {
        size_t size = entry_size(message, i);
        size_t wrong = pattern_check(bytes, size, entry_seed(message, i));

        if (wrong != size) {
            return trouble("byte %zu of %zu is wrong: 0x%02x", wrong, size, bytes[wrong]);
        }
        bytes += size;
    }
    return true;
}

/* Each has to arrive once, whole, at the right place. */
static bool load_arrived(
    void *load_arg, unsigned from, uint64_t id, const unsigned char *bytes, size_t size)
{
    struct load *load = load_arg;
    uint64_t place = id - load->first;
    struct message message = message_of(load->options, from, id);

    if (place >= load->n_from[from] || message.to != load->rank || message.size != size) {
        return trouble("message %" PRIu64
                       " of rank %u with %zu bytes was never sent here",
            id, from, size);
    }
    if (load->seen[from][place / 8] & 1 << place % 8) {
        return trouble("message %" PRIu64 " of rank %u has come twice", id, from);
    }
    load->seen[from][place / 8] |= (uint8_t)(1 << place % 8);
    load->n_received++;
    return message_verify(&message, bytes) ||
        trouble("in message %" PRIu64 " of rank %u", id, from);
}

const struct port_events load_events = {.sent = load_sent, .arrived = load_arrived};

/* -- the main thread -- */

static bool phase_begin(struct load *load, uint64_t first, uint64_t n_messages)
{
    unsigned n = load->options->n_processes;

    load->first = first;
    load->n_expected = load->n_sent = load->n_received = load->bytes_sent = 0;
    for (unsigned from = 0; from < n; from++) {
        load->n_from[from] = n_messages / n + (from < n_messages % n);
        load->seen[from] = calloc(1, load->n_from[from] / 8 + 1);
        if (load->seen[from] == NULL) {
            return trouble("no memory");
        }
        for (uint64_t i = 0; i < load->n_from[from] && from != load->rank; i++) {
            load->n_expected +=
                message_of(load->options, from, first + i).to == load->rank;
        }
    }
    return true;
}

static void phase_end(struct load *load)
{
    load->n_done_before += load->n_sent;
    for (unsigned from = 0; from < load->options->n_processes; from++) {
        free(load->seen[from]);
        load->seen[from] = NULL;
    }
}

/* The next message, ready to go; kept while the port has no room. */
struct draft {
    bool is_ready;
    struct message message;
    struct iovec entries[ENTRIES_MAX];
};

/* Send a few. False: the port has failed. */
static bool load_send(struct load *load, struct draft *draft, bool *busy)
{
    for (unsigned i = 0; i < BURST && load->n_sent < load->n_from[load->rank]; i++) {
        uint64_t id = load->first + load->n_sent;
        enum port_result result;

        if (!draft->is_ready) {
            draft->message = message_of(load->options, load->rank, id);
            if (!message_alloc(load, &draft->message, draft->entries)) {
                return true;
            }
            message_fill(&draft->message, draft->entries);
            draft->is_ready = true;
        }
        result = port_send(
            load->port, draft->message.to, id, draft->entries, draft->message.n_entries);
        if (result != PORT_OK) {
            return result == PORT_LATER;
        }
        load->n_sent++;
        load->bytes_sent += draft->message.size;
        draft->is_ready = false;
        *busy = true;
    }
    return true;
}

static bool load_is_through(const struct load *load)
{
    return load->n_sent == load->n_from[load->rank] &&
        load->n_received == load->n_expected && port_unfinished(load->port) == 0;
}

/* How far we are, now and then; and whether it still goes on. */
struct watch {
    uint64_t told, moved, n_moved;
};

static bool load_watch(struct load *load, struct watch *watch)
{
    uint64_t now = clock_ns(), n_moved = load->n_sent + load->n_received;

    if (now - watch->told < TELL_NS) {
        return true;
    }
    watch->told = now;
    if (n_moved != watch->n_moved || watch->moved == 0) {
        watch->n_moved = n_moved;
        watch->moved = now;
    } else if (now - watch->moved > (uint64_t)load->options->timeout * 1000000000u) {
        return trouble("nothing moves any more: sent %" PRIu64 " of %" PRIu64
                       ", received %" PRIu64 " of %" PRIu64 ", %" PRIu64 " under way",
            load->n_sent, load->n_from[load->rank], load->n_received, load->n_expected,
            port_unfinished(load->port));
    }
    return launch_progress(load->n_done_before + load->n_sent) && launch_lives();
}

static bool load_loop(struct load *load)
{
    struct watch watch = {0, 0, 0};
    struct draft draft = {.is_ready = false};
    uint64_t idle_since = 0;

    while (!load_is_through(load)) {
        bool took = false, sent = false;

        if (!port_poll(load->port, &took) || !load_send(load, &draft, &sent) ||
            !load_watch(load, &watch)) {
            return false;
        }
        if (took || sent) {
            idle_since = 0;
        } else if (idle_since == 0) {
            idle_since = clock_ns();
        } else if (clock_ns() - idle_since < IDLE_NS) {
            sched_yield();
        } else {
            port_wait(load->port);
        }
    }
    return true;
}

bool load_run(struct load *load, uint64_t first, uint64_t n_messages)
{
    uint64_t started;
    bool good;

    good = phase_begin(load, first, n_messages) &&
        launch_share(load->options, NULL, 0, NULL, NULL);
    started = clock_ns();
    good = good && load_loop(load);
    load->nanoseconds = clock_ns() - started;
    phase_end(load);
    return good;
}
