/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A zero-copy sender: messages from pool regions go through a TCP socket with
 * IORING_OP_SEND_ZC, and another process verifies every byte.
 *
 * The program is a small transport with a ring of its own, in which pool chunks are the
 * fixed buffers. What to look at:
 *   - what a transport hands to mrpool: its ring                       memory_open
 *   - what its send path asks for: address and buffer index            sending_submit
 *   - when a region is free again: not when the send has completed, but when the kernel
 *     says that it needs the pages no more, its second completion      sending_complete
 *   - that nothing is registered after the warm-up                     run_sender
 *
 * Only one send is under way at a time, since io_uring keeps no order among several on one
 * socket; but of those before it the pages are still wanted, until they are acknowledged.
 * Over the loopback interface the kernel copies them on the way to the receiver; what it
 * copied is counted.
 */
#include "pattern.h"
#include "peer.h"
#include "pool_checks.h"
#include "uring_send_options.h"

#include "mrpool/mrpool.h"
#include "mrpool/uring.h"

#include <fcntl.h>
#include <liburing.h>

/* Linux 6.2: whether the pages were copied. Newer than Debian 12's liburing. */
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

/* Before each payload, in the pool's headroom: one send for both. Little-endian. */
struct header {
    uint64_t number, size;
};

/* What is known of a region while it is being sent: the region's user data. */
struct sending {
    struct mrp_region *region;
    unsigned char *next; /* the first byte not sent yet */
    size_t left;
    unsigned n_notices; /* completions that the kernel still owes us for the pages */
};

struct sender {
    struct options *options;
    struct peer peer; /* the receiver: what to do, and how it went */
    struct peer data; /* the messages */
    struct io_uring ring;
    bool has_ring;
    unsigned zc_flags;
    bool is_sending; /* a send has not told its result yet */

    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;

    size_t n_held; /* regions that the kernel may still read */
    size_t most_held;
    uint64_t n_sends, n_copied, n_bytes;
};

static bool uring_ok(const char *call, int code)
{
    return code >= 0 || complain("%s: %s", call, strerror(-code));
}

/* -- what is sent: follows from the seed on both sides -- */

static const size_t block_sizes[] = {256, 4096, 65536, 1048576};
#define N_BLOCK_SIZES (sizeof(block_sizes) / sizeof(block_sizes[0]))

static uint64_t message_seed(const struct plan *plan, uint64_t number)
{
    return pattern_word(plan->seed, number);
}

/* From 1 byte to max_size, small ones as often as large ones. */
static size_t message_size(const struct plan *plan, uint64_t number)
{
    uint64_t word = pattern_word(~plan->seed, number);
    uint64_t bits = word % 21; /* up to 1 MiB */
    size_t size = 1 + (size_t)((word >> 8) % ((uint64_t)1 << bits));

    return size < plan->max_size ? size : plan->max_size;
}

/* -- the receiver: an ordinary program that reads a socket -- */

static bool receive_message(
    struct peer *data, const struct plan *plan, uint64_t number, unsigned char *payload)
{
    size_t size = message_size(plan, number), wrong;
    struct header header;

    if (!peer_move(data, false, &header, sizeof(header))) {
        return false;
    }
    if (le64toh(header.number) != number || le64toh(header.size) != size) {
        return complain("message %" PRIu64 " of %" PRIu64 " bytes came instead of "
                        "message %" PRIu64 " of %zu bytes",
            le64toh(header.number), le64toh(header.size), number, size);
    }
    if (!peer_move(data, false, payload, size)) {
        return false;
    }
    wrong = pattern_check(payload, size, message_seed(plan, number));
    return wrong == size ||
        complain("message %" PRIu64 ": byte %zu of %zu is wrong: 0x%02x", number, wrong,
            size, payload[wrong]);
}

static bool receive_all(struct peer *peer, struct peer *data)
{
    struct peer_message message;
    uint64_t n_bytes = 0;
    struct plan plan;
    unsigned char *payload;
    char text[64];
    bool good = true;

    if (!peer_receive(peer, PEER_PLAN, &message) ||
        !plan_read(&plan, (char *)message.body)) {
        return false;
    }
    payload = malloc(plan.max_size);
    if (payload == NULL) {
        return complain("no memory for %zu bytes", plan.max_size);
    }
    for (uint64_t i = 0; good && i < plan.n_messages; i++) {
        good = receive_message(data, &plan, i, payload);
        n_bytes += message_size(&plan, i);
    }
    free(payload);
    snprintf(text, sizeof(text), "%" PRIu64 " bytes", n_bytes);
    return good && peer_send(peer, PEER_RESULT, text, strlen(text));
}

static bool run_receiver(const struct options *options)
{
    struct peer peer = PEER_INIT(options->timeout), data = PEER_INIT(options->timeout);
    bool good = peer_connect(&peer, "127.0.0.1", options->port) &&
        peer_connect(&data, "127.0.0.1", options->port) && receive_all(&peer, &data);

    if (!good) {
        peer_give_up(&peer);
    }
    peer_close(&data);
    peer_close(&peer);
    return good;
}

/* -- the sender's memory: chunks of the pool are fixed buffers of our ring -- */

static bool memory_open(struct sender *sender)
{
    struct mrp_uring_wrap_params wrap_params = MRP_URING_WRAP_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;

    wrap_params.ring = &sender->ring;
    wrap_params.count = 64; /* chunks of a pool are few */

    pool_params.name = "messages";
    pool_params.rails = &sender->provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_LOCAL_READ;
    pool_params.never_free = true; /* what has been registered stays: idle or not */
    pool_params.headroom = sizeof(struct header);
    pool_params.user_size = sizeof(struct sending);
    pool_params.block_sizes = block_sizes;
    pool_params.n_block_sizes = N_BLOCK_SIZES;

    return mrp_ok("context", mrp_context_create(NULL, &sender->context)) &&
        mrp_ok("provider",
            mrp_uring_provider_wrap(
                sender->context, NULL, &wrap_params, &sender->provider)) &&
        mrp_ok("pool", mrp_pool_create(sender->context, &pool_params, &sender->pool));
}

/* As many regions of each size as will ever be held at once; of those that no message
 * takes, none. */
static bool memory_warm_up(struct sender *sender)
{
    static struct mrp_region *regions[WINDOW_MAX];
    size_t window = sender->options->window, n;
    bool good = true;

    for (size_t i = 0; good && i < N_BLOCK_SIZES &&
         (i == 0 || block_sizes[i - 1] < sender->options->plan.max_size);
         i++) {
        for (n = 0; n < window; n++) {
            regions[n] = mrp_region_alloc(sender->pool, block_sizes[i]);
            if (regions[n] == NULL) {
                good = complain("region: %s", mrp_error_last()->text);
                break;
            }
        }
        while (n > 0) {
            good &= mrp_ok("free", mrp_region_free(regions[--n]));
        }
    }
    return good;
}

/* -- sending -- */

static struct sending *sending_prepare(struct sender *sender, uint64_t number)
{
    const struct plan *plan = &sender->options->plan;
    size_t size = message_size(plan, number);
    struct mrp_region *region = mrp_region_alloc(sender->pool, size);
    struct header header = {htole64(number), htole64(size)};
    struct sending *sending;
    unsigned char *payload;

    if (region == NULL) {
        complain("region of %zu bytes: %s", size, mrp_error_last()->text);
        return NULL;
    }
    payload = mrp_region_address(region);
    memcpy(payload - sizeof(header), &header, sizeof(header));
    pattern_fill(payload, size, message_seed(plan, number));
    sending = mrp_region_user(region);
    *sending = (struct sending){.region = region,
        .next = payload - sizeof(header),
        .left = sizeof(header) + size};
    sender->n_bytes += size;
    sender->n_held++;
    if (sender->n_held > sender->most_held) {
        sender->most_held = sender->n_held;
    }
    return sending;
}

static bool sending_submit(struct sender *sender, struct sending *sending)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&sender->ring);
    void *desc;

    if (sqe == NULL) {
        return complain("the submission queue is full");
    }
    if (!mrp_ok("descriptor", mrp_region_local_desc(sending->region, 0, &desc))) {
        return false;
    }
    io_uring_prep_send_zc_fixed(sqe, sender->data.socket, sending->next, sending->left,
        MSG_NOSIGNAL, sender->zc_flags, (unsigned)mrp_uring_index(desc));
    io_uring_sqe_set_data(sqe, sending);
    sender->is_sending = true;
    sender->n_sends++;
    return uring_ok("io_uring_submit", io_uring_submit(&sender->ring));
}

/* Nobody reads the region any more. What it held is spoilt, so that a region which came
 * back too early would be noticed by the receiver. */
static bool sending_finish(struct sender *sender, struct sending *sending)
{
    struct mrp_region *region = sending->region;

    memset(mrp_region_address(region), 0xdb, mrp_region_size(region));
    sender->n_held--;
    return mrp_ok("free", mrp_region_free(region));
}

/* Kernels before 6.2 do not know the flag: once more without it. */
static bool is_flag_unknown(struct sender *sender, int result)
{
    bool unknown = result == -EINVAL && sender->zc_flags != 0;

    sender->zc_flags = unknown ? 0 : sender->zc_flags;
    return unknown;
}

/* A send has two completions: one with its result, marked F_MORE if a second follows, and
 * that second one when the pages are no longer needed. */
static bool sending_complete(struct sender *sender, const struct io_uring_cqe *cqe)
{
    struct sending *sending = io_uring_cqe_get_data(cqe);

    if ((cqe->flags & IORING_CQE_F_NOTIF) != 0) {
        sending->n_notices--;
        sender->n_copied += ((uint32_t)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED) != 0;
    } else {
        sender->is_sending = false;
        sending->n_notices += (cqe->flags & IORING_CQE_F_MORE) != 0;
        if (cqe->res > 0) {
            sending->next += cqe->res;
            sending->left -= (size_t)cqe->res;
        } else if (!is_flag_unknown(sender, cqe->res)) {
            return complain("sending %zu bytes: %s%s", sending->left, strerror(-cqe->res),
                cqe->res == -EOPNOTSUPP || cqe->res == -EINVAL
                    ? " (IORING_OP_SEND_ZC needs Linux 6.0)"
                    : "");
        }
        if (sending->left > 0) { /* a part has gone, or nothing yet */
            return sending_submit(sender, sending);
        }
    }
    return sending->left > 0 || sending->n_notices > 0 || sending_finish(sender, sending);
}

/* Take one completion; the receiver's end or silence ends the wait. */
static bool progress(struct sender *sender)
{
    uint64_t deadline = now_ns() + sender->peer.timeout;
    struct __kernel_timespec pause = {.tv_nsec = 50000000};
    struct io_uring_cqe *cqe;
    int code;
    bool good;

    while ((code = io_uring_wait_cqe_timeout(&sender->ring, &cqe, &pause)) == -ETIME ||
        code == -EINTR) {
        if (!peer_lives(&sender->peer)) {
            return false;
        }
        if (now_ns() > deadline) {
            return complain("no completion within the time limit");
        }
    }
    if (!uring_ok("io_uring_wait_cqe", code)) {
        return false;
    }
    good = sending_complete(sender, cqe);
    io_uring_cqe_seen(&sender->ring, cqe);
    return good;
}

static bool send_all(struct sender *sender)
{
    for (uint64_t i = 0; i < sender->options->plan.n_messages; i++) {
        struct sending *sending;

        while (sender->is_sending || sender->n_held == sender->options->window) {
            if (!progress(sender)) {
                return false;
            }
        }
        sending = sending_prepare(sender, i);
        if (sending == NULL || !sending_submit(sender, sending)) {
            return false;
        }
    }
    while (sender->n_held > 0) {
        if (!progress(sender)) {
            return false;
        }
    }
    return true;
}

/* -- both -- */

/* The receiver connects twice: to hear what to do, and for the messages. */
static bool meet(struct sender *sender)
{
    unsigned port = 0;
    int listener = peer_listen("127.0.0.1", &port), flags;
    bool met = listener >= 0 && options_spawn(sender->options, port, &sender->peer) &&
        peer_accept(&sender->peer, listener) && peer_accept(&sender->data, listener);

    if (listener >= 0) {
        close(listener);
    }
    if (!met) {
        return false;
    }
    /* else io_uring would not wait for room in the socket, but say EAGAIN */
    flags = fcntl(sender->data.socket, F_GETFL);
    return fcntl(sender->data.socket, F_SETFL, flags & ~O_NONBLOCK) == 0 ||
        complain("fcntl: %s", strerror(errno));
}

static bool ring_open(struct sender *sender)
{
    /* room for two completions of all that is held */
    int code = io_uring_queue_init(WINDOW_MAX, &sender->ring, 0);

    sender->has_ring = code == 0;
    return uring_ok("io_uring_queue_init", code);
}

/* What the receiver says it has verified is what we sent. */
static bool compare_result(struct sender *sender)
{
    struct peer_message message;
    uint64_t n_bytes;

    if (!peer_receive(&sender->peer, PEER_RESULT, &message)) {
        return false;
    }
    n_bytes = strtoull((char *)message.body, NULL, 10);
    return n_bytes == sender->n_bytes ||
        complain("the receiver has verified %" PRIu64 " bytes of %" PRIu64, n_bytes,
            sender->n_bytes);
}

static void print_result(
    const struct sender *sender, const struct trace *warm, uint64_t nanoseconds)
{
    const struct plan *plan = &sender->options->plan;

    if (sender->options->quiet) {
        return;
    }
    printf("Zero-copy sends from pool regions to another process, over TCP\n\n");
    printf("  messages   1 to %zu bytes, %" PRIu64 " sends, %.1f MiB/s\n", plan->max_size,
        sender->n_sends, (double)sender->n_bytes / (double)nanoseconds * 1e9 / 1048576.0);
    printf("  regions    up to %zu held for the kernel at once\n", sender->most_held);
    if (sender->zc_flags == 0) {
        printf("  copied     not known: the kernel does not tell (Linux 6.2 does)\n");
    } else {
        printf("  copied     %" PRIu64 " of %" PRIu64
               " sends, by the kernel on the way\n",
            sender->n_copied, sender->n_sends);
    }
    printf("\nuring_send: %" PRIu64 " messages, %" PRIu64
           " MiB, all bytes verified, %" PRIu64 " registrations in warm-up, 0 after\n",
        plan->n_messages, sender->n_bytes >> 20, warm->n_made);
}

static bool run_sender(struct sender *sender)
{
    struct trace warm;
    uint64_t started;

    if (!meet(sender) || !ring_open(sender) || !memory_open(sender) ||
        !memory_warm_up(sender) || !trace_take(sender->provider, &warm) ||
        !plan_send(&sender->options->plan, &sender->peer)) {
        return false;
    }
    started = now_ns();
    if (!send_all(sender) || !compare_result(sender)) {
        return false;
    }
    started = now_ns() - started;
    if (!trace_compare(sender->provider, &warm)) {
        return false;
    }
    print_result(sender, &warm, started);
    return true;
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct sender sender = {.zc_flags = IORING_SEND_ZC_REPORT_USAGE};
    bool good;

    options_parse(&options, argc, argv);
    if (options.is_receiver) {
        return run_receiver(&options) ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    sender.options = &options;
    sender.peer = (struct peer)PEER_INIT(options.timeout);
    sender.data = (struct peer)PEER_INIT(options.timeout);
    good = run_sender(&sender);
    if (!good) {
        peer_give_up(&sender.peer);
        if (sender.data.socket >= 0) { /* sends under way end, for which closing waits */
            (void)shutdown(sender.data.socket, SHUT_RDWR);
        }
    }
    alarm((unsigned)options.timeout); /* closing is a wait like any other */
    /* The provider first, then the ring, then the memory would be the order of a program
     * that goes on; at the end the context takes provider and memory along. */
    good &= context_close(sender.context, sender.pool);
    if (sender.has_ring) {
        io_uring_queue_exit(&sender.ring);
    }
    alarm(0); /* what follows keeps to the limit by itself */
    peer_close(&sender.data);
    peer_close(&sender.peer);
    good &= peer_reap(&sender.peer);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
