/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The launcher's side and the processes' side of the star.
 */
#include "parcelport_launch.h"

#include "peer.h"

#include <pthread.h>

/* This process's link to the launcher. */
static struct peer launcher = PEER_INIT(30);

bool trouble(const char *format, ...)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&mutex);
    complain("%s", text);
    pthread_mutex_unlock(&mutex);
    return false;
}

/* -- the launcher -- */

struct child {
    struct peer peer;
    bool has_shared, has_reported;
    uint64_t n_done;
    struct peer_message shared;
};

struct star {
    const struct options *options;
    struct child children[PROCESSES_MAX];
    struct report *reports;
    uint64_t started;
};

/* One more of ourselves, which calls back; the next one is started after that, so that
 * ranks and sockets fit. */
static bool star_start(struct star *star, unsigned rank, int listener, unsigned port,
    char *const arguments[], int n_arguments)
{
    struct peer *peer = &star->children[rank].peer;
    char rank_text[16], port_text[16];
    char *extended[n_arguments + 5];
    struct peer_message hello;
    int n = 0;

    snprintf(rank_text, sizeof(rank_text), "%u", rank);
    snprintf(port_text, sizeof(port_text), "%u", port);
    for (n = 0; n < n_arguments; n++) {
        extended[n] = arguments[n];
    }
    extended[n++] = "--rank";
    extended[n++] = rank_text;
    extended[n++] = "--port";
    extended[n++] = port_text;
    extended[n] = NULL;
    return peer_spawn(peer, extended) && peer_accept(peer, listener) &&
        peer_receive(peer, PEER_PLAN, &hello) &&
        (strcmp((char *)hello.body, rank_text) == 0 ||
            complain("rank %s calls, rank %s was started", hello.body, rank_text));
}

/* All have told what they have to tell: pass it on. */
static bool star_share(struct star *star)
{
    unsigned n = star->options->n_processes;

    for (unsigned i = 0; i < n; i++) {
        if (!star->children[i].has_shared) {
            return true;
        }
    }
    for (unsigned to = 0; to < n; to++) {
        for (unsigned i = 0; i < n; i++) {
            struct peer_message *message = &star->children[i].shared;

            if (!peer_send(&star->children[to].peer, PEER_ADDRESS, message->body,
                    message->size)) {
                return false;
            }
        }
    }
    for (unsigned i = 0; i < n; i++) {
        star->children[i].has_shared = false;
    }
    return true;
}

static void star_progress(struct star *star, struct child *child, const char *text)
{
    uint64_t n_done = 0;

    child->n_done = strtoull(text, NULL, 10);
    for (unsigned i = 0; i < star->options->n_processes; i++) {
        n_done += star->children[i].n_done;
    }
    if (star->started == 0) {
        star->started = now_ns();
    }
    report_progress(star->options, n_done, star->started);
}

static bool star_take(struct star *star, unsigned rank)
{
    struct child *child = &star->children[rank];
    struct peer_message message;
    enum peer_kind kind;

    if (!peer_receive_any(&child->peer, &kind, &message)) {
        return complain("that was rank %u", rank);
    }
    if (kind == PEER_ADDRESS && !child->has_shared) {
        child->shared = message;
        child->has_shared = true;
        return star_share(star);
    }
    if (kind == PEER_PROGRESS) {
        star_progress(star, child, (char *)message.body);
        return true;
    }
    if (kind == PEER_RESULT && message.size == sizeof(struct report)) {
        memcpy(&star->reports[rank], message.body, sizeof(struct report));
        child->has_reported = true;
        return true;
    }
    return complain("rank %u sent message kind %d out of turn", rank, (int)kind);
}

/* Until all have reported, as long as at least one gives a sign of life in time. */
static bool star_serve(struct star *star)
{
    unsigned n = star->options->n_processes, n_reported = 0;
    struct pollfd waits[PROCESSES_MAX];
    uint64_t heard = now_ns();

    while (n_reported < n) {
        n_reported = 0;
        for (unsigned i = 0; i < n; i++) {
            bool has_reported = star->children[i].has_reported;

            n_reported += has_reported;
            waits[i].fd = has_reported ? -1 : star->children[i].peer.socket;
            waits[i].events = POLLIN;
            waits[i].revents = 0;
        }
        if (poll(waits, n, 100) > 0) {
            heard = now_ns();
        } else if (now_ns() - heard > star->children[0].peer.timeout) {
            return complain("no process has given a sign of life within the time limit");
        }
        for (unsigned i = 0; i < n; i++) {
            if (waits[i].revents != 0 && !star_take(star, i)) {
                return false;
            }
        }
    }
    return true;
}

bool launch_all(const struct options *options, char *const arguments[], int n_arguments,
    struct report *reports)
{
    static struct star star;
    unsigned port = 0;
    int listener = peer_listen("127.0.0.1", &port);
    bool good = listener >= 0;

    star.options = options;
    star.reports = reports;
    for (unsigned i = 0; i < options->n_processes; i++) {
        star.children[i].peer = (struct peer)PEER_INIT(options->timeout + 5);
        good = good && star_start(&star, i, listener, port, arguments, n_arguments);
    }
    good = good && star_serve(&star);
    for (unsigned i = 0; i < options->n_processes && !good; i++) {
        peer_give_up(&star.children[i].peer);
    }
    for (unsigned i = 0; i < options->n_processes; i++) {
        peer_close(&star.children[i].peer);
        good &= peer_reap(&star.children[i].peer);
    }
    if (listener >= 0) {
        close(listener);
    }
    return good;
}

/* -- a process -- */

bool launch_join(const struct options *options)
{
    char text[16];
    int size = snprintf(text, sizeof(text), "%d", options->rank);

    launcher.timeout = (uint64_t)options->timeout * 1000000000u;
    return peer_connect(&launcher, "127.0.0.1", options->port) &&
        peer_send(&launcher, PEER_PLAN, text, (size_t)size);
}

bool launch_node(char *text, size_t size)
{
    return peer_local_address(&launcher, text, size);
}

bool launch_share(const struct options *options, const void *bytes, size_t size,
    launch_visitor *visit, void *user)
{
    struct pollfd wait = {launcher.socket, POLLIN, 0};
    struct peer_message message;

    if (!peer_send(&launcher, PEER_ADDRESS, bytes, size)) {
        return false;
    }
    while (launcher.progress == NULL &&
        poll(&wait, 1, -1) != 1) { /* the launcher ends it when another one hangs */
    }
    for (unsigned i = 0; i < options->n_processes; i++) {
        if (!peer_receive(&launcher, PEER_ADDRESS, &message) ||
            (visit != NULL && !visit(user, i, message.body, message.size))) {
            return false;
        }
    }
    return true;
}

void launch_meanwhile(void (*progress)(void *), void *progress_arg)
{
    launcher.progress = progress;
    launcher.progress_arg = progress_arg;
}

bool launch_progress(uint64_t n_done)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%llu", (unsigned long long)n_done);

    return peer_send(&launcher, PEER_PROGRESS, text, (size_t)size);
}

bool launch_report(const struct report *report)
{
    return peer_send(&launcher, PEER_RESULT, report, sizeof(*report));
}

bool launch_lives(void)
{
    return peer_lives(&launcher);
}

void launch_leave(bool good)
{
    if (!good) {
        peer_give_up(&launcher);
    }
    peer_close(&launcher);
}
