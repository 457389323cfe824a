/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Two processes, one of which writes where and when the other, whose memory it is, tells
 * it to: also with keys that mean nothing any more.
 */
#ifndef MRP_TEST_OFI_WRITER_H
#define MRP_TEST_OFI_WRITER_H

#include "ofi_peer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <glob.h>
#include <signal.h>
#include <sys/wait.h>

#define WRITER_SIZE (32 << 20) /* at most */
#define WRITER_LOCALHOST "127.0.0.1"
#define WRITER_MR_BASIC (1 << 0)
#define WRITER_MR_SCALABLE (1 << 1)
#define WRITER_MR_ALL \
    (FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_RAW | \
        FI_MR_HMEM | FI_MR_RMA_EVENT | FI_MR_ENDPOINT)

enum writer_result {
    WRITER_DONE, /* it has completed, as far as the writer knows */
    WRITER_REFUSED, /* it has failed */
    WRITER_UNKNOWN /* neither, within a second */
};

/* Write `size` bytes of this value; size 0: the end. */
struct writer_order {
    uint64_t address, key;
    size_t size;
    unsigned char value;
};

static inline double writer_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void writer_pump_for(struct peer *peer, double seconds)
{
    double end = writer_seconds() + seconds;

    while (writer_seconds() < end) {
        peer_pump(peer);
    }
}

static inline enum writer_result writer_obey(struct peer *peer,
    const struct writer_order *order, unsigned char *memory, void *desc)
{
    static struct fi_context2 contexts[64];
    static size_t n_writes;
    size_t completed = peer->n_completed, failed = peer->n_failed;
    double end = writer_seconds() + (order->size > 65536 ? 10 : 1);
    ssize_t code;

    memset(memory, order->value, order->size);
    do {
        code = fi_write(peer->endpoint, memory, order->size, desc, peer->other,
            order->address, order->key, &contexts[n_writes % 64]);
        if (code == -FI_EAGAIN) {
            peer_pump(peer);
        }
    } while (code == -FI_EAGAIN && writer_seconds() < end);
    n_writes++;
    if (code != 0) {
        return code == -FI_EAGAIN ? WRITER_UNKNOWN : WRITER_REFUSED;
    }
    while (peer->n_completed == completed && peer->n_failed == failed &&
        writer_seconds() < end) {
        peer_pump(peer);
    }
    return peer->n_failed > failed      ? WRITER_REFUSED
        : peer->n_completed > completed ? WRITER_DONE
                                        : WRITER_UNKNOWN;
}

/* The process that writes. */
static inline void writer_run(struct peer *peer)
{
    unsigned char *memory = aligned_alloc(4096, WRITER_SIZE);
    struct mrp_registration made;
    struct writer_order order;
    pid_t pid = getpid();

    peer->may_fail = true;
    peer_open_domain(peer);
    PEER_CHECK(ofi_register(peer->state, memory, WRITER_SIZE, MRP_ACCESS_LOCAL, &made) ==
        MRP_OK);
    peer_connect(peer);
    peer_send(peer, &pid, sizeof(pid));
    while (peer_receive(peer, &order, sizeof(order)) == sizeof(order) && order.size > 0) {
        enum writer_result result = writer_obey(peer, &order, memory, made.local_desc);

        peer_send(peer, &result, sizeof(result));
    }
    ofi_exit_unchecked(); /* endpoints with failed transfers do not all close */
}

/* -- in the process whose memory it is -- */

static inline void writer_start(
    struct peer *peer, uint64_t address, uint64_t key, size_t size, unsigned char value)
{
    struct writer_order order = {address, key, size, value};

    peer_send(peer, &order, sizeof(order));
}

static inline enum writer_result writer_wait(struct peer *peer)
{
    enum writer_result result;

    PEER_CHECK(peer_receive(peer, &result, sizeof(result)) == sizeof(result));
    return result;
}

static inline enum writer_result writer_write(
    struct peer *peer, uint64_t address, uint64_t key, size_t size, unsigned char value)
{
    writer_start(peer, address, key, size, value);
    return writer_wait(peer);
}

static inline bool writer_holds(const void *memory, size_t size, unsigned char value)
{
    const volatile unsigned char *bytes = memory;

    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

/* Whether the memory comes to hold the value. */
static inline bool writer_sees(
    struct peer *peer, const void *memory, size_t size, unsigned char value)
{
    double end = writer_seconds() + 5;

    while (!writer_holds(memory, size, value)) {
        if (writer_seconds() > end) {
            return false;
        }
        peer_pump(peer);
    }
    return true;
}

static inline void writer_end(struct peer *peer)
{
    writer_start(peer, 0, 0, 0, 0);
    ofi_exit_unchecked();
}

/* -- in the test -- */

/* The shm provider's segments of a process that ended without closing them are called
 * "<pid>:<number>:<number>". */
static inline void writer_remove_segments(pid_t child)
{
    char pattern[64];
    glob_t found;

    snprintf(pattern, sizeof(pattern), "/dev/shm/%d:*", (int)child);
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            unlink(found.gl_pathv[i]);
        }
        globfree(&found);
    }
}

static inline int writer_exit_of(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    writer_remove_segments(child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Both processes: `target` in the one whose memory it is, which ends with writer_end().
 * libfabric is first touched in the children: it does not survive a fork. */
static inline void writer_test(
    const struct peer_case *test, void (*target)(struct peer *, pid_t writer))
{
    int channels[2], codes[2];
    pid_t children[2];

    fflush(NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channels), 0);
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct peer peer = {
                .test = test, .channel = channels[i], .is_target = i == 0};
            pid_t writer;

            close(channels[1 - i]);
            if (i == 1) {
                writer_run(&peer);
            }
            peer.may_fail = true;
            peer_open_domain(&peer);
            peer_connect(&peer);
            PEER_CHECK(peer_receive(&peer, &writer, sizeof(writer)) == sizeof(writer));
            target(&peer, writer);
        }
    }
    close(channels[0]);
    close(channels[1]);
    codes[0] = writer_exit_of(children[0]);
    codes[1] = writer_exit_of(children[1]);
    if (codes[0] == 77 && codes[1] == 77) {
        printf("SKIP: %s: no device of libfabric's %s\n", test->name, test->provider);
        skip();
    }
    assert_int_equal(codes[0], 0);
    assert_int_equal(codes[1], 0);
}

#endif
