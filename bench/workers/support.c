/* SPDX-License-Identifier: BSD-3-Clause */
#include "support.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define OPS_FIRST 256
#define OPS_MAX ((uint64_t)1 << 26)
#define WARM_UP_SHARE 8 /* an eighth of the loop runs before it is measured */

/* -- options of a network -- */

const char *worker_option(
    const char *options, const char *key, const char *otherwise, char *value, size_t size)
{
    size_t length = strlen(key);

    for (const char *next = options; next != NULL && *next != '\0';) {
        if (strncmp(next, key, length) == 0 && next[length] == '=') {
            next += length + 1;
            snprintf(value, size, "%.*s", (int)strcspn(next, ","), next);
            return value;
        }
        next = strchr(next, ',');
        next += next != NULL;
    }
    return otherwise;
}

const char *worker_option_list(
    const char *options, const char *key, char *value, size_t size)
{
    const char *list = worker_option(options, key, NULL, value, size);

    for (char *next = value; list != NULL && *next != '\0'; next++) {
        *next = *next == '+' ? ',' : *next;
    }
    return list;
}

/* -- clocks -- */

static double read_clock(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

double worker_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

double worker_process_ns(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

double worker_wall_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

long worker_switches(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

static int compare_values(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

double worker_median(double *values, size_t n)
{
    qsort(values, n, sizeof values[0], compare_values);
    return n == 0    ? 0
        : n % 2 == 1 ? values[n / 2]
                     : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* -- instructions -- */

int worker_counter_open(void)
{
    struct perf_event_attr attributes;

    memset(&attributes, 0, sizeof attributes);
    attributes.type = PERF_TYPE_HARDWARE;
    attributes.size = sizeof attributes;
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}

double worker_counter_read(int counter)
{
    uint64_t count;

    return counter >= 0 && read(counter, &count, sizeof count) == sizeof count
        ? (double)count
        : -1;
}

void worker_counter_close(int counter)
{
    if (counter >= 0) {
        close(counter);
    }
}

/* -- choices -- */

void worker_choices(struct worker_thread *thread, size_t n_items, size_t size)
{
    static uint32_t slots[WORKER_CHOICES], sizes[WORKER_CHOICES];
    uint64_t random = 88172645463325252u; /* xorshift64 */
    double octaves = log2((double)size / 16);

    for (size_t i = 0; i < WORKER_CHOICES; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        slots[i] = (uint32_t)((random >> 20) % n_items);
        sizes[i] = (uint32_t)(16 * exp2(octaves * (double)(random >> 40) / 0xffffff));
    }
    thread->slots = slots;
    thread->sizes = sizes;
}

/* -- threads -- */

void worker_pin(const struct worker_request *request, size_t index)
{
    cpu_set_t set;

    if (request->n_cpus == 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET((unsigned)request->cpus[index % request->n_cpus], &set);
    sched_setaffinity(0, sizeof set, &set);
}

void worker_on_threads(size_t n, void *(*body)(void *argument), void *const *arguments)
{
    pthread_t threads[WORKER_THREADS_MAX];
    size_t n_made = 0;

    while (n_made < n && n_made < WORKER_THREADS_MAX &&
        pthread_create(&threads[n_made], NULL, body, arguments[n_made]) == 0) {
        n_made++;
    }
    if (n_made < n) {
        _exit(EXIT_FAILURE);
    }
    for (size_t i = 0; i < n_made; i++) {
        pthread_join(threads[i], NULL);
    }
}

static pthread_barrier_t barrier;
static double stranded;

/* Not inlined: callgrind counts what happens inside of it. */
bool worker_measured(struct worker_thread *thread, size_t n);

__attribute__((noinline)) bool worker_measured(struct worker_thread *thread, size_t n)
{
    return thread->loop->run(thread, n);
}

/* Whoever made this thread may still be on its way to waiting for it, on the same
 * processor: it would take that away in the middle of the loop. */
static void let_others_sleep(void)
{
    const struct timespec moment = {.tv_nsec = 50000};

    nanosleep(&moment, NULL);
}

static void *run_thread(void *argument)
{
    struct worker_thread *thread = argument;
    const struct worker_loop *loop = thread->loop;
    double cpu, wall, count;
    int counter = worker_counter_open();

    worker_pin(thread->request, thread->index);
    let_others_sleep();
    loop->begin();
    thread->failed = loop->prepare != NULL && !loop->prepare(thread);
    pthread_barrier_wait(&barrier);
    thread->failed = thread->failed ||
        !loop->run(thread, thread->n_ops / WARM_UP_SHARE + WORKER_BATCH);
    pthread_barrier_wait(&barrier);
    thread->n_switches = worker_switches();
    wall = worker_wall_ns();
    count = worker_counter_read(counter);
    cpu = worker_cpu_ns();
    thread->failed = thread->failed || !worker_measured(thread, thread->n_ops);
    thread->cpu_ns = worker_cpu_ns() - cpu;
    thread->instructions = counter >= 0 ? worker_counter_read(counter) - count : -1;
    thread->wall_ns = worker_wall_ns() - wall;
    thread->n_switches = worker_switches() - thread->n_switches;
    pthread_barrier_wait(&barrier);
    if (thread->index == 0) {
        stranded = loop->stranded != NULL ? loop->stranded() : -1;
    }
    pthread_barrier_wait(&barrier);
    if (loop->finish != NULL) {
        loop->finish(thread);
    }
    loop->end();
    worker_counter_close(counter);
    return NULL;
}

static void add_up(const struct worker_thread *threads,
    const struct worker_request *request, unsigned threads_per_op,
    struct worker_reply *reply)
{
    double n_ops = (double)threads[0].n_ops * request->n_threads / threads_per_op;
    double cpu_ns = 0, instructions = 0;

    for (uint32_t i = 0; i < request->n_threads; i++) {
        double wall_ns = threads[i].wall_ns / (double)threads[i].n_ops;

        cpu_ns += threads[i].cpu_ns;
        instructions += threads[i].instructions;
        reply->n_switches += (uint64_t)threads[i].n_switches;
        reply->wall_ns = wall_ns > reply->wall_ns ? wall_ns : reply->wall_ns;
        if (threads[i].failed && reply->status == WORKER_OK) {
            worker_fail(reply, "%s",
                threads[i].problem != NULL ? threads[i].problem
                                           : "it had no region to give: all are in use, "
                                             "or in other threads' caches");
        }
    }
    reply->cpu_ns = cpu_ns / n_ops;
    reply->instructions = threads[0].instructions < 0 ? -1 : instructions / n_ops;
    reply->n_ops = threads[0].n_ops;
    reply->stranded = stranded;
}

static void run_once(const struct worker_request *request, const struct worker_loop *loop,
    struct worker_thread *threads, uint64_t n_ops, struct worker_reply *reply)
{
    void *arguments[WORKER_THREADS_MAX];

    for (uint32_t i = 0; i < request->n_threads; i++) {
        threads[i].n_ops = n_ops;
        arguments[i] = &threads[i];
    }
    pthread_barrier_init(&barrier, NULL, request->n_threads);
    worker_on_threads(request->n_threads, run_thread, arguments);
    pthread_barrier_destroy(&barrier);
    memset(reply, 0, sizeof *reply);
    add_up(threads, request, loop->threads_per_op, reply);
}

/* Steps of at most eight times: the first operations cost more than the later ones. */
static uint64_t next_ops(uint64_t n_ops, double ns, double target_ns)
{
    double factor = ns > 0 ? target_ns / ns : 8;
    uint64_t next = (uint64_t)((double)n_ops * (factor > 8 ? 8 : factor));

    next = next < WORKER_BATCH ? WORKER_BATCH : next > OPS_MAX ? OPS_MAX : next;
    return next / WORKER_BATCH * WORKER_BATCH;
}

static void run_all(const struct worker_request *request, const struct worker_loop *loop,
    struct worker_thread *threads, struct worker_reply *reply)
{
    uint64_t n_ops = request->n_ops != 0 ? request->n_ops : OPS_FIRST;

    run_once(request, loop, threads, n_ops, reply);
    if (request->n_ops != 0) {
        return;
    }
    for (int step = 0; step < 16 && reply->status == WORKER_OK; step++) {
        double ns = reply->cpu_ns * (double)n_ops / loop->threads_per_op;

        if (ns >= request->target_ns / 2) {
            break;
        }
        n_ops = next_ops(n_ops, ns, request->target_ns);
        run_once(request, loop, threads, n_ops, reply);
    }
}

void worker_run(const struct worker_request *request, const struct worker_loop *loop,
    struct worker_reply *reply)
{
    static struct worker_thread threads[WORKER_THREADS_MAX];

    for (uint32_t i = 0; i < request->n_threads; i++) {
        memset(&threads[i], 0, sizeof threads[i]);
        threads[i].request = request;
        threads[i].loop = loop;
        threads[i].index = i;
        threads[i].n_items = loop->n_items;
        if (loop->n_items > 0) {
            worker_choices(&threads[i], loop->n_items, request->size);
        }
    }
    run_all(request, loop, threads, reply);
}

/* -- the pipe -- */

uint32_t worker_fail(struct worker_reply *reply, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reply->text, sizeof reply->text, format, arguments);
    va_end(arguments);
    return reply->status = WORKER_FAILED;
}

static bool read_all(int file, void *data, size_t size)
{
    char *to = data;

    while (size > 0) {
        ssize_t got = read(file, to, size);

        if (got == 0 || (got < 0 && errno != EINTR)) {
            return false;
        }
        to += got > 0 ? got : 0;
        size -= got > 0 ? (size_t)got : 0;
    }
    return true;
}

static int answer_once(char **argv,
    void (*answer)(const struct worker_request *request, struct worker_reply *reply))
{
    struct worker_request request;
    struct worker_reply reply;

    memset(&request, 0, sizeof request);
    memset(&reply, 0, sizeof reply);
    request.n_threads = 1;
    request.pattern = (uint32_t)strtoul(argv[0], NULL, 10);
    request.size = strtoul(argv[1], NULL, 10);
    request.n_ops = strtoul(argv[2], NULL, 10);
    answer(&request, &reply);
    fprintf(stderr, "%g ns %s\n", reply.cpu_ns, reply.text);
    return reply.status == WORKER_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int worker_serve(int argc, char **argv,
    void (*answer)(const struct worker_request *request, struct worker_reply *reply))
{
    struct worker_request request;
    struct worker_reply reply;
    int out;

    for (int i = 1; i + 3 < argc; i++) {
        if (strcmp(argv[i], "--once") == 0) {
            return answer_once(argv + i + 1, answer);
        }
    }
    /* libraries that print must not print into the replies */
    out = dup(STDOUT_FILENO);
    if (out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        return EXIT_FAILURE;
    }
    while (read_all(STDIN_FILENO, &request, sizeof request)) {
        memset(&reply, 0, sizeof reply);
        reply.instructions = reply.stranded = -1;
        if (request.n_threads == 0 || request.n_threads > WORKER_THREADS_MAX) {
            worker_fail(&reply, "%u threads", request.n_threads);
        } else {
            answer(&request, &reply);
        }
        if (write(out, &reply, sizeof reply) != sizeof reply) {
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}
