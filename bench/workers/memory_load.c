/* SPDX-License-Identifier: BSD-3-Clause */
#include "memory_load.h"

#include "support.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define N_THREADS 2
#define PAGE 4096
#define SET_MAX ((size_t)1 << 18)
#define N_BRIEF 64 /* regions of a thread that live for so many steps */
#define INBOX_MAX 64 /* few: what lies in them is live */
#define HANDED_OVER 0.25 /* share of the regions that the other thread frees */
#define LARGE_SHARE 0.005 /* of the requests, one to eight MiB */

/* -- what happens ----------------------------------------------------------------------
 */

struct mix {
    double least, most; /* bytes; even on a logarithmic scale */
    double large_share;
};

static const struct mix mixed = {64, 1 << 20, LARGE_SHARE}, small = {64, 32 << 10, 0};

/* Steps are those of one thread; amounts are shares of the plan's live bytes, and change
 * evenly from the phase before. */
static const struct phase {
    const char *name;
    const struct mix *mix;
    size_t n_steps;
    size_t n_samples;
    double live; /* of what comes and goes */
    double burst; /* of what comes on top, in the peak, and goes as a whole */
    enum {
        WORKING,
        BURSTING, /* meanwhile only what is brief comes and goes */
        TRIMMING, /* before each sample; the same */
        IDLING
    } kind;
} phases[] = {
    {"ramp", &mixed, 4000, 16, 1, 0, WORKING},
    {"steady", &mixed, 20000, 64, 1, 0, WORKING},
    {"peak", &mixed, 4000, 24, 1, 2, BURSTING},
    {"hold", &mixed, 1000, 8, 1, 2, BURSTING},
    {"drop", &mixed, 4000, 24, 1, 0, BURSTING},
    {"trim", &mixed, 2000, 8, 1, 0, TRIMMING},
    {"small", &small, 120000, 64, 1, 0, WORKING},
    {"less", &small, 16000, 16, 0.25, 0, WORKING},
    {"idle", &mixed, 640, 40, 0.25, 0, IDLING},
    {"end", &mixed, 0, 4, 0, 0, TRIMMING},
};
#define N_PHASES (sizeof phases / sizeof phases[0])

struct item {
    void *item;
    size_t size;
};

struct set {
    struct item *items;
    size_t n, size, target; /* regions; bytes */
};

enum {
    SET_MEDIUM,
    SET_LONG,
    SET_BURST,
    SETS
};
static const double shares[] = {0.35, 0.65}; /* of the live bytes */

struct load_thread {
    pthread_mutex_t mutex; /* of the inbox */
    struct item inbox[INBOX_MAX];
    atomic_size_t n_inbox;
    atomic_size_t taken, freed; /* bytes asked for, since the beginning; its own */
    uint64_t random;
    struct item brief[N_BRIEF];
    size_t next_brief;
    struct set sets[SETS];
    unsigned index;
    bool failed;
} __attribute__((aligned(128)));

static struct load_thread threads[N_THREADS];
static const struct memory_subject *subject;
static const struct memory_plan *plan;
static pthread_barrier_t barrier;
static size_t resident_before;
static double began;
static atomic_bool stopped;

/* -- choices -- */

static double draw(struct load_thread *thread)
{
    uint64_t random = thread->random; /* xorshift64 */

    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    thread->random = random;
    return (double)(random >> 11) * 0x1p-53;
}

static size_t draw_size(struct load_thread *thread, const struct mix *mix)
{
    double least = mix->least, most = mix->most;

    if (draw(thread) < mix->large_share) {
        least = 1 << 20;
        most = 8 << 20;
    }
    return (size_t)(least * exp2(log2(most / least) * draw(thread)));
}

/* -- taking and freeing -- */

static bool take(struct load_thread *thread, const struct mix *mix, struct item *item)
{
    size_t size = draw_size(thread, mix);
    volatile char *bytes;

    item->item = subject->alloc(size);
    item->size = size;
    if (item->item == NULL) {
        thread->failed = true;
        atomic_store(&stopped, true);
        return false;
    }
    bytes = subject->address(item->item);
    for (size_t i = 0; i < size; i += PAGE) {
        bytes[i] = 1;
    }
    bytes[size - 1] = 1;
    atomic_fetch_add_explicit(&thread->taken, size, memory_order_relaxed);
    return true;
}

static void give(struct load_thread *thread, const struct item *item)
{
    subject->free(item->item);
    atomic_fetch_add_explicit(&thread->freed, item->size, memory_order_relaxed);
}

/* A share of the regions is freed by the other thread, at its next step. */
static void end_life(struct load_thread *thread, const struct item *item)
{
    struct load_thread *other = &threads[(thread->index + 1) % N_THREADS];
    bool is_over = false;

    if (draw(thread) < HANDED_OVER) {
        pthread_mutex_lock(&other->mutex);
        if (other->n_inbox < INBOX_MAX) {
            other->inbox[other->n_inbox++] = *item;
            is_over = true;
        }
        pthread_mutex_unlock(&other->mutex);
    }
    if (!is_over) {
        give(thread, item);
    }
}

static void empty_inbox(struct load_thread *thread)
{
    struct item items[INBOX_MAX];
    size_t n = 0;

    if (atomic_load_explicit(&thread->n_inbox, memory_order_relaxed) == 0) {
        return;
    }
    pthread_mutex_lock(&thread->mutex);
    while (thread->n_inbox > 0 && n < INBOX_MAX) {
        items[n++] = thread->inbox[--thread->n_inbox];
    }
    pthread_mutex_unlock(&thread->mutex);
    for (size_t i = 0; i < n; i++) {
        give(thread, &items[i]);
    }
}

static void put(struct set *set, const struct item *item)
{
    set->items[set->n++] = *item;
    set->size += item->size;
}

/* Any of them: lifetimes are exponential. */
static void shrink(struct load_thread *thread, struct set *set)
{
    while (set->n > 0 && (set->size > set->target || set->n == SET_MAX)) {
        size_t i = (size_t)(draw(thread) * (double)set->n);
        struct item item = set->items[i];

        set->items[i] = set->items[--set->n];
        set->size -= item.size;
        end_life(thread, &item);
    }
}

/* -- steps -- */

/* Six of ten live for 64 steps, three for some thousands, one for ten thousands; while
 * there are too few of the latter, every second one goes there. */
static void come_and_go(struct load_thread *thread, const struct phase *phase)
{
    struct set *medium = &thread->sets[SET_MEDIUM], *lasting = &thread->sets[SET_LONG];
    double choice = phase->kind == BURSTING || phase->kind == TRIMMING ? 1 : draw(thread);
    struct item item;

    if (!take(thread, phase->mix, &item)) {
        return;
    }
    if (choice < 0.1 || (choice < 0.35 && lasting->size < lasting->target)) {
        put(lasting, &item);
    } else if (choice < 0.4 || (choice < 0.6 && medium->size < medium->target)) {
        put(medium, &item);
    } else {
        struct item *slot = &thread->brief[thread->next_brief++ % N_BRIEF];

        if (slot->item != NULL) {
            end_life(thread, slot);
        }
        *slot = item;
    }
    shrink(thread, medium);
    shrink(thread, lasting);
}

static void burst(struct load_thread *thread, const struct mix *mix)
{
    struct set *set = &thread->sets[SET_BURST];
    struct item item;

    while (set->size < set->target && set->n < SET_MAX && take(thread, mix, &item)) {
        put(set, &item);
    }
    if (set->size > set->target + (2 << 20)) { /* not at its edge, where it would churn */
        shrink(thread, set);
    }
}

static void aim(struct load_thread *thread, double live, double burst_live)
{
    double all = (double)plan->live / N_THREADS;

    for (int i = 0; i < SET_BURST; i++) {
        thread->sets[i].target = (size_t)(live * shares[i] * all);
    }
    thread->sets[SET_BURST].target = (size_t)(burst_live * all);
}

static size_t live_size(void)
{
    size_t live = 0;

    for (size_t i = 0; i < N_THREADS; i++) {
        live += atomic_load_explicit(&threads[i].taken, memory_order_relaxed);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        live -= atomic_load_explicit(&threads[i].freed, memory_order_relaxed);
    }
    return live;
}

static void sample(void)
{
    size_t resident = memory_resident();

    resident = resident > resident_before ? resident - resident_before : 0;
    printf("sample %.1f %zu %zu %zu %zu\n", (worker_wall_ns() - began) / 1e6, live_size(),
        subject->held != NULL ? subject->held() : resident, resident,
        subject->registrations != NULL ? subject->registrations() : 0);
}

static void pause_ms(double ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1000)};

    time.tv_nsec = (long)(fmod(ms, 1000) * 1e6);
    nanosleep(&time, NULL);
}

static void free_all(struct load_thread *thread)
{
    for (size_t i = 0; i < N_BRIEF; i++) {
        if (thread->brief[i].item != NULL) {
            give(thread, &thread->brief[i]);
            thread->brief[i].item = NULL;
        }
    }
    for (size_t i = 0; i < SETS; i++) {
        while (thread->sets[i].n > 0) {
            give(thread, &thread->sets[i].items[--thread->sets[i].n]);
        }
        thread->sets[i].size = 0;
    }
}

/* One after the other; what the first could not, because the second kept some of it, the
 * next call may. */
static void trim_in_turn(struct load_thread *thread)
{
    for (unsigned turn = 0; turn < 2 * N_THREADS; turn++) {
        pthread_barrier_wait(&barrier);
        if (turn % N_THREADS == thread->index) {
            subject->trim();
        }
    }
}

/* Both threads are there, so that a sample is of the same state in each run. */
static void sample_together(struct load_thread *thread, const struct phase *phase)
{
    if (phase->kind == IDLING) {
        pause_ms((double)plan->idle_ms / (double)phase->n_samples);
    }
    if (phase->kind == TRIMMING) {
        trim_in_turn(thread);
    }
    pthread_barrier_wait(&barrier);
    if (thread->index == 0) {
        sample();
    }
    pthread_barrier_wait(&barrier);
}

static void run_steps(
    struct load_thread *thread, const struct phase *phase, const struct phase *before)
{
    size_t n_steps = (size_t)ceil((double)phase->n_steps * plan->scale);
    double per_sample = (double)n_steps / (double)phase->n_samples;
    size_t n_samples = 0;

    for (size_t i = 0; i < n_steps; i++) {
        double share = (double)(i + 1) / (double)n_steps;

        if (!atomic_load_explicit(&stopped, memory_order_relaxed)) {
            aim(thread, before->live + share * (phase->live - before->live),
                before->burst + share * (phase->burst - before->burst));
            empty_inbox(thread);
            come_and_go(thread, phase);
            burst(thread, phase->mix);
        }
        while (n_samples < phase->n_samples &&
            (double)(i + 1) >= (double)(n_samples + 1) * per_sample) {
            n_samples++;
            sample_together(thread, phase);
        }
    }
}

static void tell_end(const struct phase *phase, double cpu_ns)
{
    double n_steps = ceil((double)phase->n_steps * plan->scale) * N_THREADS;
    char name[32];

    if (phase->kind == WORKING || phase->kind == BURSTING) {
        snprintf(name, sizeof name, "%s-cost", phase->name);
        memory_tell_value(name, N_THREADS, "ns", cpu_ns / n_steps);
    }
    if (subject->detail != NULL) {
        subject->detail(phase->name);
    }
}

static void run_phase(
    struct load_thread *thread, const struct phase *phase, const struct phase *before)
{
    double cpu;

    pthread_barrier_wait(&barrier);
    cpu = worker_process_ns();
    if (thread->index == 0) {
        printf("phase %s\n", phase->name);
    }
    run_steps(thread, phase, before);
    if (phase == &phases[N_PHASES - 1]) {
        free_all(thread);
    }
    pthread_barrier_wait(&barrier);
    while (thread->n_inbox > 0) { /* what the other has handed over since */
        empty_inbox(thread);
    }
    for (size_t i = 0; phase->n_steps == 0 && i < phase->n_samples; i++) {
        sample_together(thread, phase);
    }
    pthread_barrier_wait(&barrier);
    if (thread->index == 0) {
        tell_end(phase, worker_process_ns() - cpu);
    }
}

static void *run_thread(void *argument)
{
    static const struct phase nothing = {.name = "nothing"};
    struct load_thread *thread = argument;

    for (size_t i = 0; i < N_PHASES; i++) {
        run_phase(thread, &phases[i], i > 0 ? &phases[i - 1] : &nothing);
    }
    return NULL;
}

/* The load's own tables are there before anything is measured, and not malloc's. */
static bool make_threads(void)
{
    size_t size = SET_MAX * sizeof(struct item);

    for (unsigned i = 0; i < N_THREADS; i++) {
        struct load_thread *thread = &threads[i];

        memset(thread, 0, sizeof *thread);
        pthread_mutex_init(&thread->mutex, NULL);
        thread->index = i;
        thread->random = 88172645463325252u + i * 0x9e3779b97f4a7c15u;
        for (size_t k = 0; k < SETS; k++) {
            thread->sets[k].items = mmap(NULL, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
            if (thread->sets[k].items == MAP_FAILED) {
                return false;
            }
        }
    }
    return true;
}

bool memory_load(
    const struct memory_subject *new_subject, const struct memory_plan *new_plan)
{
    void *arguments[N_THREADS] = {&threads[0], &threads[1]};

    subject = new_subject;
    plan = new_plan;
    if (!make_threads()) {
        memory_tell_problem("no memory for the load's own tables");
        return false;
    }
    pthread_barrier_init(&barrier, NULL, N_THREADS);
    resident_before = memory_resident();
    began = worker_wall_ns();
    worker_on_threads(N_THREADS, run_thread, arguments);
    pthread_barrier_destroy(&barrier);
    if (atomic_load(&stopped)) {
        memory_tell_problem("%s", subject->problem());
        return false;
    }
    return true;
}
