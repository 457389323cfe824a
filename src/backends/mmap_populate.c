/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Prefaulting: one piece of the mapping per thread, the caller's own first.
 *
 * Where a page lies is settled by who touches it first, unless the mapping is bound. So
 * pages of an unbound one are told to prefer the caller's node while helpers touch them,
 * and the mapping then has no policy again, as if the caller had touched it all.
 */
#include "mmap_populate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14, glibc 2.35 */
#endif

#define HUGE_2M ((size_t)1 << 21)
#define THREADS_MAX 64
#define THREADS_DEFAULT_MAX 8 /* one node's memory is busy with fewer */
#define STACK_SIZE ((size_t)256 << 10) /* mlockall would lock all of the usual 8 MiB */
#define NODES_MAX 1024
#define LONG_BITS (8 * sizeof(unsigned long))

struct piece {
    char *address;
    size_t size, page_size;
    bool is_hugetlb;
    int native; /* of its failure, or 0 */
};

/* -- one piece -- */

/* Before Linux 5.14: a store would do for base pages, but where a huge page is missing it
 * raises SIGBUS; the kernel writing for us returns EFAULT. */
static int touch_hugetlb(const struct piece *piece)
{
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (zero < 0) {
        return errno;
    }
    int native = 0;
    for (size_t at = 0; at < piece->size && !native; at += piece->page_size) {
        native = read(zero, piece->address + at, 1) == 1 ? 0 : errno;
    }
    close(zero);
    return native;
}

static int touch_base(const struct piece *piece)
{
    for (size_t at = 0; at < piece->size; at += piece->page_size) {
        *(volatile char *)(piece->address + at) = 0;
    }
    return 0;
}

static void *populate_piece(void *user)
{
    struct piece *piece = user;
    piece->native =
        madvise(piece->address, piece->size, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    if (piece->native == EINVAL) {
        piece->native = piece->is_hugetlb ? touch_hugetlb(piece) : touch_base(piece);
    }
    return NULL;
}

/* -- several -- */

/* Signals stay with the program's own threads. */
static bool start(pthread_t *thread, struct piece *piece)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    sigset_t all, before;
    sigfillset(&all);
    bool started = pthread_attr_setstacksize(&attributes, STACK_SIZE) == 0 &&
        pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
    if (started) {
        started = pthread_create(thread, &attributes, populate_piece, piece) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return started;
}

/* A piece that gets no thread is the caller's. A caller that is cancelled must not leave
 * helpers behind that touch what is unmapped. */
static int run_pieces(struct piece *pieces, unsigned n)
{
    pthread_t threads[THREADS_MAX];
    bool started[THREADS_MAX];
    int cancel, native = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    for (unsigned i = 1; i < n; i++) {
        started[i] = start(&threads[i], &pieces[i]);
    }
    populate_piece(&pieces[0]);
    for (unsigned i = 1; i < n; i++) {
        if (started[i]) {
            pthread_join(threads[i], NULL);
        } else {
            populate_piece(&pieces[i]);
        }
    }
    pthread_setcancelstate(cancel, NULL);
    for (unsigned i = 0; i < n && !native; i++) {
        native = pieces[i].native;
    }
    return native;
}

/* Whole huge pages each: none is made by two threads, or by none. */
static unsigned divide(
    const struct mrp_populate *populate, struct piece *pieces, unsigned n)
{
    size_t unit = populate->page_size > HUGE_2M ? populate->page_size : HUGE_2M;
    size_t share = (populate->size / n + unit - 1) / unit * unit, done = 0;
    unsigned n_pieces = 0;
    for (; done < populate->size; n_pieces++) {
        size_t left = populate->size - done;
        pieces[n_pieces] = (struct piece){populate->address + done,
            left < share || n_pieces + 1 == n ? left : share, populate->page_size,
            populate->is_hugetlb, 0};
        done += pieces[n_pieces].size;
    }
    return n_pieces;
}

/* -- whose pages they are -- */

static bool has_nodes(void)
{
    FILE *file = fopen("/sys/devices/system/node/has_memory", "re");
    if (!file) {
        return false;
    }
    int first = getc(file), second = getc(file); /* "0", or "0-1", "0,2" */
    fclose(file);
    return first != EOF && second != EOF && second != '\n';
}

static bool set_policy(const struct mrp_populate *populate, int mode, unsigned node)
{
    unsigned long mask[NODES_MAX / LONG_BITS] = {0};
    bool is_empty = mode == MPOL_DEFAULT;
    mask[node / LONG_BITS] = 1UL << (node % LONG_BITS);
    /* The kernel takes one off the number of bits before it reads them. */
    return syscall(SYS_mbind, populate->address, populate->size, mode,
               is_empty ? NULL : mask, is_empty ? 0UL : node + 2UL, 0) == 0;
}

/* Whether helpers may touch what is the caller's. *prefers: the mapping has been told to
 * prefer its node. A policy of the caller's own is passed on to the threads it makes. */
static bool prefer_own_node(const struct mrp_populate *populate, bool *prefers)
{
    int mode = MPOL_DEFAULT;
    unsigned cpu, node;
    *prefers = false;
    if (populate->is_bound || !has_nodes()) {
        return true;
    }
    if (syscall(SYS_get_mempolicy, &mode, NULL, 0UL, NULL, 0UL) != 0) {
        return false;
    }
    if (mode != MPOL_DEFAULT) {
        return true;
    }
    *prefers = syscall(SYS_getcpu, &cpu, &node, NULL) == 0 && node < NODES_MAX &&
        set_policy(populate, MPOL_PREFERRED, node);
    return *prefers;
}

/* -- how many -- */

static unsigned count_processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) { /* helpers inherit it */
        return (unsigned)CPU_COUNT(&set);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more than a set can hold */
    return online > 0 ? (unsigned)online : 1;
}

static unsigned count_threads(const struct mrp_populate *populate)
{
    size_t n = populate->size / MRP_POPULATE_PIECE;
    size_t most = populate->n_threads;
    if (n <= 1) {
        return 1;
    }
    if (most == 0) {
        most = count_processors();
        most = most > THREADS_DEFAULT_MAX ? THREADS_DEFAULT_MAX : most;
    }
    most = most > THREADS_MAX ? THREADS_MAX : most;
    return (unsigned)(n < most ? n : most);
}

int mrp_populate(const struct mrp_populate *populate)
{
    struct piece pieces[THREADS_MAX];
    unsigned n = count_threads(populate);
    bool prefers = false;
    if (n > 1 && !prefer_own_node(populate, &prefers)) {
        n = 1;
    }
    int native = run_pieces(pieces, divide(populate, pieces, n));
    if (prefers) {
        set_policy(populate, MPOL_DEFAULT, 0);
    }
    return native;
}
