/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The other process of an example: a TCP socket beside the network, over which the two
 * agree what to do and exchange addresses, keys and tokens; and the child, when we
 * started the peer ourselves. Nothing here knows of mrpool or of libfabric.
 *
 * Whatever comes out of the socket is a stranger's: kinds and sizes are checked here,
 * contents by who asked for them. Every wait ends: with what was waited for, with the
 * peer's end, or at the deadline.
 *
 * The examples' helpers are headers, so that an example is one call of the compiler.
 */
#ifndef EXAMPLES_PEER_H
#define EXAMPLES_PEER_H

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Longest message; an endpoint's address and the packed keys of a chunk take some 100
 * bytes. */
#define PEER_MESSAGE_MAX 4096

enum peer_kind {
    PEER_PLAN = 1, /* text: what both are about to do */
    PEER_ADDRESS, /* where an endpoint is reached, in the network's own format */
    PEER_TOKEN, /* a region, MRP_TOKEN_SIZE bytes */
    PEER_KEYS_WANTED, /* "I hold no keys for that token" */
    PEER_KEYS, /* mrp_region_key_pack of the token's chunk */
    PEER_DONE, /* text: nanoseconds the transfer took */
    PEER_VERIFIED, /* "every byte is right on my side" */
    PEER_RESULT, /* text: counts of one side */
    PEER_FAILED, /* text: why the sender gives up */
    PEER_PROGRESS /* text: how far the sender has come */
};

struct peer_message {
    size_t size;
    unsigned char body[PEER_MESSAGE_MAX + 1]; /* one more, so that a text is terminated */
};

struct peer {
    int socket;
    uint64_t timeout; /* nanoseconds that any single wait may take */
    pid_t child; /* the peer, when it is our child; else 0 */
    void (*progress)(void *); /* called while waiting; NULL: nothing to drive */
    void *progress_arg;
};
#define PEER_INIT(seconds) \
    { \
        -1, (uint64_t)(seconds)*1000000000u, 0, NULL, NULL \
    }

/* -- complaints: the first one is also what the peer is told -- */

static char peer_complaint[256];

/* Say what went wrong. Always false: `return complain("...")`. */
__attribute__((format(printf, 1, 2))) static bool complain(const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s[%d]: %s\n", program_invocation_short_name, (int)getpid(), text);
    if (peer_complaint[0] == '\0') {
        snprintf(peer_complaint, sizeof(peer_complaint), "%.255s", text);
    }
    return false;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* -- the child -- */

/* Run this program again as our peer. It goes when we go, however we go. */
static bool peer_spawn(struct peer *peer, char *const arguments[])
{
    pid_t parent = getpid();
    pid_t child = fork();

    if (child < 0) {
        return complain("fork: %s", strerror(errno));
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) { /* else it went before we asked */
            execv("/proc/self/exe", arguments);
        }
        _exit(127);
    }
    peer->child = child;
    return true;
}

static bool complain_of_end(const char *what, int status)
{
    return WIFSIGNALED(status)
        ? complain("the peer process %s (signal %d)", what, WTERMSIG(status))
        : complain("the peer process %s (exit status %d)", what, WEXITSTATUS(status));
}

/* True while the child, if there is one, has not ended. */
static bool peer_child_runs(struct peer *peer)
{
    int status;

    if (peer->child == 0 || waitpid(peer->child, &status, WNOHANG) != peer->child) {
        return true;
    }
    peer->child = 0;
    return complain_of_end("has ended", status);
}

/* Wait for the child to end by itself, and end it when the time is over.
 * @return whether it ended with success. */
static bool peer_reap(struct peer *peer)
{
    uint64_t deadline = now_ns() + peer->timeout;
    const struct timespec pause = {0, 1000000};
    pid_t child = peer->child;
    int status = 0;
    pid_t ended;

    if (child == 0) {
        return true;
    }
    peer->child = 0;
    while ((ended = waitpid(child, &status, WNOHANG)) == 0 && now_ns() < deadline) {
        nanosleep(&pause, NULL);
    }
    if (ended == 0) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        return complain("the peer process did not end: killed");
    }
    if (ended != child || status != 0) {
        return complain_of_end("failed", status);
    }
    return true;
}

/* -- making the connection -- */

static bool peer_lookup(
    const char *address, unsigned port, int flags, struct addrinfo **results)
{
    struct addrinfo hints = {.ai_flags = flags, .ai_socktype = SOCK_STREAM};
    char service[16];
    int failed;

    snprintf(service, sizeof(service), "%u", port);
    failed = getaddrinfo(address, service, &hints, results);
    return failed == 0 || complain("%s: %s", address, gai_strerror(failed));
}

/* @return a listening socket, or -1. Port 0 takes a free one; *port says which. */
static int peer_listen(const char *address, unsigned *port)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    struct addrinfo *found;
    char service[16];
    int on = 1;
    int listener;

    if (!peer_lookup(address, *port, AI_PASSIVE, &found)) {
        return -1;
    }
    listener = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(listener, found->ai_addr, found->ai_addrlen) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, NULL, 0, service, sizeof(service),
            NI_NUMERICSERV) != 0) {
        complain("listen on %s port %u: %s", address, *port, strerror(errno));
        if (listener >= 0) {
            close(listener);
        }
        listener = -1;
    } else {
        *port = (unsigned)strtoul(service, NULL, 10);
    }
    freeaddrinfo(found);
    return listener;
}

/* A peer whose machine has vanished is given up after a minute, even by who waits longer
 * than that for its word. */
static bool peer_adopt(struct peer *peer, int connected)
{
    int on = 1, idle = 30, between = 10, n_probes = 3;

    peer->socket = connected;
    setsockopt(connected, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(connected, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(connected, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(connected, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof(between));
    setsockopt(connected, IPPROTO_TCP, TCP_KEEPCNT, &n_probes, sizeof(n_probes));
    return true;
}

/* Take one connection. A child that ends instead of connecting ends the wait. */
static bool peer_accept(struct peer *peer, int listener)
{
    uint64_t deadline = now_ns() + peer->timeout;
    struct pollfd wait = {listener, POLLIN, 0};

    while (peer_child_runs(peer)) {
        int connected = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (connected >= 0) {
            return peer_adopt(peer, connected);
        }
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            return complain("accept: %s", strerror(errno));
        }
        if (now_ns() > deadline) {
            return complain("no peer connected within the time limit");
        }
        poll(&wait, 1, 50);
    }
    return false;
}

/* One try. @return the socket, or -1 with errno. */
static int peer_try(const struct addrinfo *target, uint64_t deadline)
{
    int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int tried = socket(target->ai_family, type, 0);
    struct pollfd wait = {tried, POLLOUT, 0};
    uint64_t now = now_ns();
    socklen_t size = sizeof(int);
    int error = 0;

    if (tried < 0) {
        return -1;
    }
    if (connect(tried, target->ai_addr, target->ai_addrlen) != 0) {
        error = errno;
        if (error == EINPROGRESS) {
            int limit = now < deadline ? (int)((deadline - now) / 1000000u) : 0;

            if (poll(&wait, 1, limit) != 1) {
                error = ETIMEDOUT;
            } else if (getsockopt(tried, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
                error = errno;
            }
        }
    }
    if (error != 0) {
        close(tried);
        errno = error;
        return -1;
    }
    return tried;
}

/* Connect, trying again while nobody listens there yet. */
static bool peer_connect(struct peer *peer, const char *host, unsigned port)
{
    uint64_t deadline = now_ns() + peer->timeout;
    const struct timespec pause = {0, 50000000};
    struct addrinfo *found;
    int connected = -1;

    if (!peer_lookup(host, port, 0, &found)) {
        return false;
    }
    do {
        for (struct addrinfo *each = found; connected < 0 && each != NULL;
             each = each->ai_next) {
            connected = peer_try(each, deadline);
        }
    } while (connected < 0 && now_ns() < deadline && nanosleep(&pause, NULL) == 0);
    freeaddrinfo(found);
    if (connected < 0) {
        return complain("connect to %s port %u: %s", host, port, strerror(errno));
    }
    return peer_adopt(peer, connected);
}

/* Our own address on this connection: the interface that reaches the peer. */
static inline bool peer_local_address(const struct peer *peer, char *text, size_t size)
{
    struct sockaddr_storage address = {0};
    socklen_t address_size = sizeof(address);
    int failed;

    if (getsockname(peer->socket, (struct sockaddr *)&address, &address_size) != 0) {
        return complain("getsockname: %s", strerror(errno));
    }
    failed = getnameinfo((struct sockaddr *)&address, address_size, text, (socklen_t)size,
        NULL, 0, NI_NUMERICHOST);
    return failed == 0 || complain("getnameinfo: %s", gai_strerror(failed));
}

/* -- messages: kind and size, 4 bytes each in network order, then the body -- */

/* Move all of `size` bytes in or out in time, driving the network meanwhile. */
static bool peer_move(struct peer *peer, bool out, void *bytes, size_t size)
{
    uint64_t started = now_ns();
    char *next = bytes;

    while (size > 0) {
        ssize_t moved = out ? send(peer->socket, next, size, MSG_NOSIGNAL)
                            : recv(peer->socket, next, size, 0);

        if (moved > 0) {
            next += moved;
            size -= (size_t)moved;
        } else if (moved == 0) {
            return complain("the peer has closed the connection");
        } else if (errno != EAGAIN && errno != EINTR) {
            return complain("connection to the peer: %s", strerror(errno));
        } else if (now_ns() > started + peer->timeout) {
            return complain("no word from the peer within the time limit");
        } else if (peer->progress != NULL) {
            peer->progress(peer->progress_arg);
            sched_yield();
        } else {
            struct pollfd wait = {peer->socket, out ? POLLOUT : POLLIN, 0};

            poll(&wait, 1, 50);
        }
    }
    return true;
}

static bool peer_send(
    struct peer *peer, enum peer_kind kind, const void *body, size_t size)
{
    unsigned char frame[8 + PEER_MESSAGE_MAX];
    uint32_t head[2] = {htonl((uint32_t)kind), htonl((uint32_t)size)};

    if (size > PEER_MESSAGE_MAX) {
        return complain("a message of %zu bytes: at most %d", size, PEER_MESSAGE_MAX);
    }
    memcpy(frame, head, sizeof(head));
    if (size > 0) {
        memcpy(frame + sizeof(head), body, size);
    }
    return peer_move(peer, true, frame, sizeof(head) + size);
}

/* The next message, whatever it is, except that a peer that gives up ends it here. */
static bool peer_receive_any(
    struct peer *peer, enum peer_kind *kind, struct peer_message *message)
{
    uint32_t head[2];

    if (!peer_move(peer, false, head, sizeof(head))) {
        return false;
    }
    message->size = ntohl(head[1]);
    if (message->size > PEER_MESSAGE_MAX) {
        return complain("the peer announces a message of %zu bytes: at most %d",
            message->size, PEER_MESSAGE_MAX);
    }
    if (!peer_move(peer, false, message->body, message->size)) {
        return false;
    }
    message->body[message->size] = '\0';
    *kind = (enum peer_kind)ntohl(head[0]);
    if (*kind == PEER_FAILED) {
        for (unsigned char *c = message->body; *c != '\0'; c++) {
            *c = isprint(*c) ? *c : '?';
        }
        return complain("the peer gave up: %.200s", (char *)message->body);
    }
    return true;
}

static bool peer_receive(
    struct peer *peer, enum peer_kind wanted, struct peer_message *message)
{
    enum peer_kind kind;

    if (!peer_receive_any(peer, &kind, message)) {
        return false;
    }
    return kind == wanted ||
        complain(
            "the peer sent message kind %d where %d was due", (int)kind, (int)wanted);
}

/* False, with the reason said, when the peer has gone or given up. For loops that wait
 * for the network: a message that is early stays where it is. */
static bool peer_lives(struct peer *peer)
{
    struct peer_message message;
    enum peer_kind kind;
    uint32_t head[2];
    ssize_t seen = recv(peer->socket, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);

    if (seen < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (seen == sizeof(head) && ntohl(head[0]) != PEER_FAILED) {
        return true;
    }
    return peer_receive_any(peer, &kind, &message);
}

/* Tell the peer why we stop, if it still listens. */
static void peer_give_up(struct peer *peer)
{
    uint32_t size = (uint32_t)strlen(peer_complaint);
    uint32_t head[2] = {htonl(PEER_FAILED), htonl(size)};

    if (peer->socket >= 0 &&
        send(peer->socket, head, sizeof(head), MSG_NOSIGNAL) == sizeof(head)) {
        (void)!send(peer->socket, peer_complaint, size, MSG_NOSIGNAL);
    }
}

static void peer_close(struct peer *peer)
{
    if (peer->socket >= 0) {
        close(peer->socket);
    }
    peer->socket = -1;
}

#endif
