/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The client of mrpool-bench rma: messages, and what they cost, subject against subject.
 *
 * What is compared is compared in pairs. A round is one batch of each subject, in an order
 * drawn anew each time, so that what drifts or disturbs hits all alike; the statistic is
 * the median of the rounds' ratios, with its interval (../interval.h). Rounds go on until
 * each interval lies on one side of the bound, or time is up.
 *
 * All but the subject's way to a registration is the same for all: memory of a pool (the
 * same pages, alignment and distances; of a pool without a rail for those that bring their
 * own), as many buffers, taken last in, first out.
 */
#ifndef BENCH_WORKERS_RMA_CLIENT_H
#define BENCH_WORKERS_RMA_CLIENT_H

#include "../interval.h"
#include "rma.h"

/* Of a batch: shorter than the time for which a scheduler lets another program run. */
#define TARGET_NS 5e5
#define TARGET_NS_QUICK 2e5
#define BATCH_MAX 4096
#define WINDOW_BYTES ((size_t)16 << 20) /* under way at once, at most */
/* Rounds before the intervals are looked at; then at each doubling. Six looks, each wrong
 * with 1 %, are wrong with 6 % at most. */
#define FIRST_LOOK 16
#define LAST_LOOK 512
#define ROUNDS_MAX 1000
#define HUGE_PAGE ((size_t)2 << 20)
#define SIGN_NS 1e10 /* how often the client says that it is at work */

enum subject {
    SUBJECT_POOL, /* a region of the pool, taken for the message */
    SUBJECT_ONCE, /* buffers registered once by hand: nothing is left to save */
    SUBJECT_REGISTER, /* a buffer registered for the message */
    SUBJECT_CACHE, /* a buffer that the library registers as it thinks best */
    SUBJECT_CONTROL, /* the same as ONCE, on other memory: what equals differ by */
    SUBJECT_REGISTRATION, /* registering and deregistering, and nothing sent */
    SUBJECTS
};

static const char *const subject_names[SUBJECTS] = {
    "pool", "once", "register", "cache", "control", "registration"};

struct options {
    struct rma rma;
    bool is_client, is_quick;
    const char *host, *address, *sizes;
    size_t port, repetitions; /* repetitions 0: as many as it takes */
    double at_most; /* the bound of the ratios */
    double limit_s; /* of one case */
};

/* Buffers of a subject with memory of its own. */
struct shelf {
    struct mrp_region *slab;
    struct rma_buffer whole; /* registered, for ONCE and CONTROL */
    struct rma_buffer buffers[RMA_WINDOW];
    size_t n; /* that are not in use; the last one is taken next */
};

struct client {
    struct rma *rma;
    const struct options *options;
    const char *cache; /* NULL: no such subject */
    struct mrp_pool *plain; /* without a rail */
    struct shelf shelves[SUBJECTS];
    bool has_desc; /* a message needs its buffer's local descriptor */
    bool is_get;
    size_t size, window;
    unsigned seed; /* of the order: each run has the same */
};

/* One operation, size and figure. */
struct cell {
    const char *figure;
    size_t window, n; /* messages under way, and of a batch */
    enum subject subjects[SUBJECTS]; /* those that there are */
    size_t n_subjects, n_rounds;
    double ns[SUBJECTS][ROUNDS_MAX];
};

static bool has_subject(const struct client *client, size_t subject)
{
    return subject != SUBJECT_CACHE || client->cache != NULL;
}

static bool mrp_ok(const char *what, enum mrp_status status)
{
    return status == MRP_OK || complain("%s: %s", what, mrp_error_last()->text);
}

/* -- a message ------------------------------------------------------------------------
 */

static bool acquire(struct client *client, enum subject subject, struct rma_buffer *with)
{
    struct shelf *shelf = &client->shelves[subject];
    struct rma *rma = client->rma;

    if (subject != SUBJECT_POOL) {
        *with = shelf->buffers[--shelf->n];
        return subject != SUBJECT_REGISTER ||
            rma_network.register_buffer(rma, with, client->size);
    }
    with->region = mrp_region_alloc(rma->pool, client->size);
    if (with->region == NULL) {
        return complain("region: %s", mrp_error_last()->text);
    }
    with->address = mrp_region_address(with->region);
    with->local_desc = NULL;
    return !client->has_desc ||
        mrp_ok("descriptor", mrp_region_local_desc(with->region, 0, &with->local_desc));
}

static bool release(struct client *client, enum subject subject, struct rma_buffer *with)
{
    struct shelf *shelf = &client->shelves[subject];

    if (subject == SUBJECT_POOL) {
        return mrp_ok("free", mrp_region_free(with->region));
    }
    if (subject == SUBJECT_REGISTER &&
        !rma_network.deregister_buffer(client->rma, with)) {
        return false;
    }
    shelf->buffers[shelf->n++] = *with;
    return true;
}

/* `n` messages, `window` of them under way at once. */
static bool move(struct client *client, enum subject subject, size_t n, size_t window)
{
    struct rma *rma = client->rma;
    struct rma_buffer with[RMA_WINDOW];

    while (n > 0) {
        size_t n_posted = n < window ? n : window;

        for (size_t i = 0; i < n_posted; i++) {
            if (!acquire(client, subject, &with[i]) ||
                !rma_network.post(rma, client->is_get, &with[i], client->size)) {
                return false;
            }
        }
        if (!rma_network.finish(rma, n_posted, client->is_get)) {
            return false;
        }
        for (size_t i = 0; i < n_posted; i++) {
            if (!release(client, subject, &with[i])) {
                return false;
            }
        }
        n -= n_posted;
    }
    return true;
}

/* What `per message` does beside sending. */
static bool register_only(struct client *client, size_t n, size_t window)
{
    struct rma_buffer with[RMA_WINDOW];

    while (n > 0) {
        size_t n_held = n < window ? n : window;

        for (size_t i = 0; i < n_held; i++) {
            if (!acquire(client, SUBJECT_REGISTER, &with[i])) {
                return false;
            }
        }
        for (size_t i = 0; i < n_held; i++) {
            if (!release(client, SUBJECT_REGISTER, &with[i])) {
                return false;
            }
        }
        n -= n_held;
    }
    return true;
}

/* -- buffers --------------------------------------------------------------------------
 */

/* Where the pool has its regions of this size: how far from the beginning of a huge page,
 * and from each other. They are written to, as are those of the others. */
static bool look_at_pool(struct client *client, size_t *offset, size_t *stride)
{
    struct rma_buffer with[RMA_WINDOW] = {{NULL, NULL, NULL, NULL}};
    uintptr_t first = UINTPTR_MAX;

    client->has_desc = true; /* until it is seen that the network has none */
    for (size_t i = 0; i < client->window; i++) {
        if (!acquire(client, SUBJECT_POOL, &with[i])) {
            return false;
        }
        memset(with[i].address, 1, client->size);
        first = (uintptr_t)with[i].address < first ? (uintptr_t)with[i].address : first;
    }
    client->has_desc = with[0].local_desc != NULL;
    *offset = first % HUGE_PAGE;
    *stride = (mrp_region_capacity(with[0].region) + 63) & ~(size_t)63;
    for (size_t i = 0; i < client->window; i++) {
        if (!release(client, SUBJECT_POOL, &with[i])) {
            return false;
        }
    }
    return true;
}

/* Buffers at the pool's distances. What is registered for each message has pages of its
 * own: MPI refuses to attach two buffers of a page. They begin at different lines of it,
 * as the pool's do, or they would share few lines of a cache. */
static bool fill_shelf(
    struct client *client, enum subject subject, size_t offset, size_t stride)
{
    struct shelf *shelf = &client->shelves[subject];
    size_t page = 4096, each = stride;
    unsigned char *first;

    if (subject == SUBJECT_REGISTER && stride < page) {
        each = 2 * page;
        offset -= offset % page;
    }
    shelf->slab =
        mrp_region_alloc(client->plain, HUGE_PAGE + offset + client->window * each);
    if (shelf->slab == NULL) {
        return complain("buffers: %s", mrp_error_last()->text);
    }
    first = mrp_region_address(shelf->slab);
    first += (HUGE_PAGE - (uintptr_t)first % HUGE_PAGE) % HUGE_PAGE + offset;
    shelf->whole = (struct rma_buffer){.address = first};
    if ((subject == SUBJECT_ONCE || subject == SUBJECT_CONTROL) &&
        !rma_network.register_buffer(client->rma, &shelf->whole, client->window * each)) {
        (void)mrp_region_free(shelf->slab);
        shelf->slab = NULL;
        return false;
    }
    for (shelf->n = 0; shelf->n < client->window; shelf->n++) {
        struct rma_buffer *buffer = &shelf->buffers[shelf->n];

        *buffer = shelf->whole;
        buffer->address =
            first + shelf->n * each + (each == stride ? 0 : shelf->n * stride % page);
        memset(buffer->address, 1, client->size);
    }
    return true;
}

static bool prepare_buffers(struct client *client)
{
    size_t offset, stride;

    client->window = WINDOW_BYTES / client->size;
    client->window = client->window > RMA_WINDOW ? RMA_WINDOW
        : client->window == 0                    ? 1
                                                 : client->window;
    return look_at_pool(client, &offset, &stride) &&
        fill_shelf(client, SUBJECT_ONCE, offset, stride) &&
        fill_shelf(client, SUBJECT_REGISTER, offset, stride) &&
        (client->cache == NULL || fill_shelf(client, SUBJECT_CACHE, offset, stride)) &&
        fill_shelf(client, SUBJECT_CONTROL, offset, stride);
}

static bool release_buffers(struct client *client)
{
    bool done = true;

    for (size_t i = 0; i < SUBJECTS; i++) {
        struct shelf *shelf = &client->shelves[i];

        if (shelf->slab != NULL && (i == SUBJECT_ONCE || i == SUBJECT_CONTROL)) {
            done = rma_network.deregister_buffer(client->rma, &shelf->whole) && done;
        }
        if (shelf->slab != NULL) {
            done = mrp_ok("buffers", mrp_region_free(shelf->slab)) && done;
        }
        shelf->slab = NULL;
    }
    return done;
}

/* -- rounds -----------------------------------------------------------------------------
 */

/* Which of the buffers are used first is drawn anew: 256 KiB of one place may cost 5 % more
 * than of another, pages being what they are, and that is nobody's merit. */
static bool shuffle(struct client *client, enum subject subject)
{
    struct shelf *shelf = &client->shelves[subject];
    struct rma_buffer taken[RMA_WINDOW],
        *buffers = subject == SUBJECT_POOL ? taken : shelf->buffers;
    bool done = true;

    for (size_t i = 0; i < client->window && subject == SUBJECT_POOL; i++) {
        if (!acquire(client, subject, &taken[i])) {
            return false;
        }
    }
    for (size_t n = client->window; n > 1; n--) { /* Fisher and Yates */
        size_t chosen = (size_t)rand_r(&client->seed) % n;
        struct rma_buffer buffer = buffers[chosen];

        buffers[chosen] = buffers[n - 1];
        buffers[n - 1] = buffer;
    }
    for (size_t i = 0; i < client->window && subject == SUBJECT_POOL; i++) {
        done = release(client, subject, &taken[i]) && done;
    }
    return done;
}

/* The window that is not counted finds the caches as this subject leaves them. */
static bool run_batch(
    struct client *client, const struct cell *cell, enum subject subject, double *ns)
{
    bool is_alone = subject == SUBJECT_REGISTRATION;
    bool done = shuffle(client, is_alone ? SUBJECT_REGISTER : subject);
    double started;

    if (!client->options->is_quick) {
        done = done &&
            (is_alone ? register_only(client, cell->window, cell->window)
                      : move(client, subject, cell->window, cell->window));
    }
    started = worker_wall_ns();
    done = done &&
        (is_alone ? register_only(client, cell->n, cell->window)
                  : move(client, subject, cell->n, cell->window));
    *ns = (worker_wall_ns() - started) / (double)cell->n;
    return done;
}

/* So many messages that a batch lasts, twice: the first ones connect, and warm up. All
 * subjects have as many. */
static bool size_batch(struct client *client, struct cell *cell)
{
    double target = client->options->is_quick ? TARGET_NS_QUICK : TARGET_NS;
    double ns, again;

    for (cell->n = cell->window; cell->n < BATCH_MAX; cell->n *= 2) {
        if (!run_batch(client, cell, SUBJECT_ONCE, &ns) ||
            !run_batch(client, cell, SUBJECT_ONCE, &again)) {
            return false;
        }
        if ((ns < again ? ns : again) * (double)cell->n >= target) {
            break;
        }
    }
    for (size_t i = 0; i < cell->n_subjects; i++) {
        if (!run_batch(client, cell, cell->subjects[i], &ns)) {
            return false;
        }
    }
    return true;
}

static bool run_round(struct client *client, struct cell *cell)
{
    for (size_t n = cell->n_subjects; n > 0; n--) { /* Fisher and Yates */
        size_t chosen = (size_t)rand_r(&client->seed) % n;
        enum subject subject = cell->subjects[chosen];

        cell->subjects[chosen] = cell->subjects[n - 1];
        cell->subjects[n - 1] = subject;
        if (!run_batch(client, cell, subject, &cell->ns[subject][cell->n_rounds])) {
            return false;
        }
    }
    cell->n_rounds++;
    return true;
}

/* What is compared. Where a message from the pool costs what it does `once` by hand, the
 * whole registration is saved; registering alone would not tell: with many under way it
 * goes on while the peer works. */
static const struct pair {
    const char *name;
    enum subject is, against;
    bool has_bound;
} pairs[] = {
    {"pool/cache", SUBJECT_POOL, SUBJECT_CACHE, true},
    {"pool/once", SUBJECT_POOL, SUBJECT_ONCE, true},
    {"control/once", SUBJECT_CONTROL, SUBJECT_ONCE, false},
};
#define PAIRS (sizeof pairs / sizeof pairs[0])

static double ratio_of(const struct cell *cell, const struct pair *pair, size_t round)
{
    return cell->ns[pair->is][round] / cell->ns[pair->against][round];
}

static bool is_settled(const struct client *client, const struct cell *cell)
{
    double ratios[ROUNDS_MAX], at_most = client->options->at_most;

    for (size_t i = 0; i < PAIRS; i++) {
        struct interval interval;

        if (!pairs[i].has_bound || !has_subject(client, pairs[i].against)) {
            continue;
        }
        for (size_t round = 0; round < cell->n_rounds; round++) {
            ratios[round] = ratio_of(cell, &pairs[i], round);
        }
        interval = interval_of(ratios, cell->n_rounds);
        if (interval.low <= at_most && interval.high > at_most) {
            return false;
        }
    }
    return true;
}

static bool run_rounds(struct client *client, struct cell *cell)
{
    size_t wanted = client->options->repetitions, look = FIRST_LOOK;
    double started = worker_wall_ns(), limit = client->options->limit_s * 1e9;
    double signed_at = started;

    while (wanted > 0
            ? cell->n_rounds < wanted
            : cell->n_rounds < FIRST_LOOK || worker_wall_ns() - started < limit) {
        if (!run_round(client, cell)) {
            return false;
        }
        if (worker_wall_ns() - signed_at > SIGN_NS) { /* else we are taken for dead */
            signed_at = worker_wall_ns();
            puts("working");
            fflush(stdout);
        }
        if (wanted == 0 && cell->n_rounds == look) {
            if (look == LAST_LOOK || is_settled(client, cell)) {
                break;
            }
            look *= 2;
        }
    }
    return true;
}

/* Only now: who reads it runs on the same processors. */
static void tell(const struct client *client, const struct cell *cell)
{
    const char *operation = client->is_get ? "get" : "put";

    for (size_t i = 0; i < SUBJECTS; i++) {
        for (size_t round = 0; has_subject(client, i) && round < cell->n_rounds;
             round++) {
            printf("value %s/%s/%s %zu %.1f\n", operation, cell->figure, subject_names[i],
                client->size, cell->ns[i][round]);
        }
    }
    for (size_t i = 0; i < PAIRS; i++) {
        for (size_t round = 0;
             has_subject(client, pairs[i].against) && round < cell->n_rounds; round++) {
            printf("value %s/%s/%s %zu %.6f\n", operation, cell->figure, pairs[i].name,
                client->size, ratio_of(cell, &pairs[i], round));
        }
    }
    fflush(stdout);
}

static bool measure(struct client *client, const char *figure, size_t window)
{
    static struct cell cell;

    cell = (struct cell){.figure = figure, .window = window};
    for (size_t i = 0; i < SUBJECTS; i++) {
        if (has_subject(client, i)) {
            cell.subjects[cell.n_subjects++] = (enum subject)i;
        }
    }
    if (!size_batch(client, &cell) || !run_rounds(client, &cell)) {
        return false;
    }
    tell(client, &cell);
    return true;
}

static bool measure_sizes(struct client *client)
{
    const char *next = client->options->sizes;

    while (*next != '\0') {
        char *end;
        bool done;

        client->size = strtoull(next, &end, 10);
        next = end + (*end == ',');
        done = prepare_buffers(client);
        for (unsigned is_get = 0; is_get < 2 && done; is_get++) {
            client->is_get = is_get != 0;
            done = measure(client, "latency", 1) &&
                measure(client, "message", client->window);
        }
        done = release_buffers(client) && done;
        if (!done) {
            return false;
        }
    }
    return true;
}

/* The bytes get there and back before anything is measured. */
static bool verify(struct client *client)
{
    struct rma_buffer with[2] = {{NULL, NULL, NULL, NULL}};
    size_t size = client->rma->max_size;
    unsigned char *mine = malloc(size), *back = calloc(1, size);
    bool done =
        (mine != NULL && back != NULL) || complain("no memory for %zu bytes", size);

    for (size_t i = 0; i < size && done; i++) {
        mine[i] = (unsigned char)(i * 31 + (i >> 12) + 7);
    }
    with[0].address = mine;
    with[1].address = back;
    client->size = size;
    for (unsigned is_get = 0; is_get < 2 && done; is_get++) {
        done = rma_network.register_buffer(client->rma, &with[is_get], size) &&
            rma_network.post(client->rma, is_get != 0, &with[is_get], size) &&
            rma_network.finish(client->rma, 1, is_get != 0) &&
            rma_network.deregister_buffer(client->rma, &with[is_get]);
    }
    done = done &&
        (memcmp(mine, back, size) == 0 ||
            complain("what was put is not what was got back"));
    free(mine);
    free(back);
    return done;
}

#endif
