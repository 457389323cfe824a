/* SPDX-License-Identifier: BSD-3-Clause */
#include "thread_models.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#define STACK_SIZE ((size_t)256 << 10)

struct user_thread {
    ucontext_t context;
    struct user_thread *next; /* in the queue */
    struct scheduler *scheduler;
    size_t number;
    bool has_ended;
    void *stack;
};

struct scheduler {
    pthread_mutex_t mutex;
    struct user_thread *first, **end; /* those that are ready, oldest first */
    size_t n_live;
    test_user_work *work;
    void *shared;
};

/* One OS thread: where it is in its loop, and whom it runs. */
struct worker {
    ucontext_t context;
    struct user_thread *running;
};

static _Thread_local struct worker *worker_here;

/* A user thread moves at each switch, but compilers keep addresses of thread-local data:
 * so it is looked up in a call that they cannot see through. */
__attribute__((noinline)) static struct worker *this_worker(void)
{
    __asm__ volatile("" ::: "memory");
    return worker_here;
}

static void run_user_thread(void)
{
    struct user_thread *thread = this_worker()->running;

    thread->scheduler->work(thread->scheduler->shared, thread->number);
    thread->has_ended = true;
    setcontext(&this_worker()->context);
}

static void enqueue(struct scheduler *scheduler, struct user_thread *thread)
{
    thread->next = NULL;
    *scheduler->end = thread;
    scheduler->end = &thread->next;
}

static void prepare(struct user_thread *thread, struct scheduler *scheduler)
{
    thread->scheduler = scheduler;
    thread->stack = malloc(STACK_SIZE);
    getcontext(&thread->context);
    thread->context.uc_stack.ss_sp = thread->stack;
    thread->context.uc_stack.ss_size = STACK_SIZE;
    makecontext(&thread->context, run_user_thread, 0);
    enqueue(scheduler, thread);
}

/* The oldest that is ready; NULL when others run the rest. */
static struct user_thread *dequeue(struct scheduler *scheduler, bool *is_over)
{
    struct user_thread *thread;

    pthread_mutex_lock(&scheduler->mutex);
    thread = scheduler->first;
    if (thread != NULL) {
        scheduler->first = thread->next;
        if (scheduler->first == NULL) {
            scheduler->end = &scheduler->first;
        }
    }
    *is_over = scheduler->n_live == 0;
    pthread_mutex_unlock(&scheduler->mutex);
    return thread;
}

static void *run_worker(void *argument)
{
    struct scheduler *scheduler = argument;
    struct worker worker = {.running = NULL};
    bool is_over = false;

    worker_here = &worker;
    while (!is_over) {
        worker.running = dequeue(scheduler, &is_over);
        if (worker.running == NULL) {
            sched_yield();
            continue;
        }
        swapcontext(&worker.context, &worker.running->context);
        /* only now is its stack at rest and may another worker have it */
        pthread_mutex_lock(&scheduler->mutex);
        if (worker.running->has_ended) {
            scheduler->n_live--;
        } else {
            enqueue(scheduler, worker.running);
        }
        pthread_mutex_unlock(&scheduler->mutex);
    }
    worker_here = NULL;
    return NULL;
}

void test_user_threads_run(
    size_t n_workers, size_t n_threads, test_user_work *work, void *shared)
{
    struct user_thread *threads = calloc(n_threads, sizeof *threads);
    pthread_t *workers = calloc(n_workers, sizeof *workers);
    struct scheduler scheduler = {
        .end = &scheduler.first, .n_live = n_threads, .work = work, .shared = shared};

    pthread_mutex_init(&scheduler.mutex, NULL);
    for (size_t i = 0; i < n_threads; i++) {
        threads[i].number = i;
        prepare(&threads[i], &scheduler);
    }
    for (size_t i = 0; i < n_workers; i++) {
        if (pthread_create(&workers[i], NULL, run_worker, &scheduler) != 0) {
            abort();
        }
    }
    for (size_t i = 0; i < n_workers; i++) {
        pthread_join(workers[i], NULL);
    }
    for (size_t i = 0; i < n_threads; i++) {
        free(threads[i].stack);
    }
    pthread_mutex_destroy(&scheduler.mutex);
    free(threads);
    free(workers);
}

bool test_lacks_user_threads(void)
{
    const char *watched = getenv("MRP_TEST_UNDER");

    return watched != NULL &&
        (strcmp(watched, "thread") == 0 || strcmp(watched, "valgrind") == 0);
}

/* -- the model -- */

static uint64_t user_id(void)
{
    struct worker *worker = this_worker();

    return worker != NULL ? (uint64_t)(uintptr_t)worker->running
                          : (uint64_t)pthread_self();
}

static void user_yield(void)
{
    struct worker *worker = this_worker();

    if (worker == NULL) {
        sched_yield();
    } else {
        swapcontext(&worker->running->context, &worker->context);
    }
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void user_sleep(uint64_t nanoseconds)
{
    uint64_t end = now() + nanoseconds;

    do {
        user_yield();
    } while (now() < end);
}

const struct mrp_thread_model test_user_threads = {
    .struct_size = sizeof test_user_threads,
    .name = "user threads",
    .id = user_id,
    .yield = user_yield,
    .sleep = user_sleep,
};
