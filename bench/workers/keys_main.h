/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Keys exchanged by many processes; see keys.h. A network's file defines keys_network and
 * includes this last.
 */
#ifndef BENCH_WORKERS_KEYS_MAIN_H
#define BENCH_WORKERS_KEYS_MAIN_H

#include "keys.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNKS_MAX 64 /* of a process; more than its buffers need */
#define PATIENCE_NS 60e9
#define POOL_BYTES_LEAST ((size_t)256 << 10) /* a pool takes no smaller max_bytes */

enum figure {
    FIGURE_BYTES,
    FIGURE_IMPORTS,
    FIGURE_IMPORT,
    FIGURE_RESOLVE,
    FIGURE_REGISTRATIONS,
    FIGURE_MEMORY,
    FIGURES
};
static const char *const figure_names[FIGURES] = {
    "bytes", "imports", "import", "resolve", "registrations", "memory"};
static const char *const figure_units[FIGURES] = {
    "bytes", "count", "ns", "ns", "count", "bytes"};

enum variant {
    VARIANT_CHUNKS,
    VARIANT_BUFFERS,
    VARIANTS
};
static const char *const variant_names[VARIANTS] = {"chunks", "buffers"};

/* What a process shows to all others. */
struct box {
    size_t address_size;
    unsigned char address[KEYS_SIZE_MAX];
    size_t size;
    double figures[VARIANTS][FIGURES];
    unsigned char bytes[];
};

struct shared {
    atomic_uint n_arrived, n_failed;
    size_t n_processes, n_buffers, buffer_size, box_size;
    char problem[256];
    _Alignas(64) unsigned char boxes[];
};

static struct shared *shared;
static size_t self;

static struct box *box_of(size_t process)
{
    return (struct box *)(void *)(shared->boxes + process * shared->box_size);
}

static bool fail_because(const char *what, const char *why)
{
    if (atomic_fetch_add(&shared->n_failed, 1) == 0) {
        snprintf(shared->problem, sizeof shared->problem, "%.100s%s%.150s", what,
            why[0] != '\0' ? ": " : "", why);
    }
    return false;
}

static bool fail(const char *what)
{
    return fail_because(what, "");
}

/* A call of mrpool's did. */
static bool fail_mrpool(const char *what)
{
    return fail_because(what, mrp_error_last()->text);
}

/* All are here, or somebody has failed; the network goes on meanwhile. */
static bool meet(void)
{
    unsigned n = (unsigned)shared->n_processes;
    unsigned mine = atomic_fetch_add(&shared->n_arrived, 1);
    double started = worker_wall_ns();

    while (atomic_load(&shared->n_arrived) < (mine / n + 1) * n) {
        keys_network.progress();
        if (atomic_load(&shared->n_failed) > 0) {
            return false;
        }
        if (worker_wall_ns() > started + PATIENCE_NS) {
            return fail("a process did not come");
        }
        sched_yield();
    }
    return true;
}

/* Bytes of the process's own: not of files, nor of what all share. */
static double resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    double total, pages = 0, of_files = 0;

    if (file != NULL) {
        if (fscanf(file, "%lf %lf %lf", &total, &pages, &of_files) != 3) {
            pages = of_files = 0;
        }
        fclose(file);
    }
    return (pages - of_files) * (double)sysconf(_SC_PAGESIZE);
}

static void put(struct box *box, const void *bytes, size_t size)
{
    memcpy(box->bytes + box->size, bytes, size);
    box->size += size;
}

/* -- with mrpool: keys once per chunk, a token per buffer ----------------------------------
 */

struct chunk_world {
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct mrp_region **regions;
    struct mrp_remote **remotes; /* CHUNKS_MAX for each process */
    size_t *n_remotes;
};

/* The box: how many chunks; for each the size of its packed keys, and they; the tokens. */
static bool chunks_offer(struct chunk_world *world)
{
    struct box *box = box_of(self);
    void *seen[CHUNKS_MAX];
    uint32_t n_chunks = 0;

    box->size = 0;
    put(box, &n_chunks, sizeof n_chunks);
    for (size_t i = 0; i < shared->n_buffers; i++) {
        struct mrp_region_info info = MRP_REGION_INFO_INIT;
        unsigned char keys[KEYS_SIZE_MAX];
        size_t size = sizeof keys;
        bool known = false;
        uint32_t packed;

        if (mrp_region_query(world->regions[i], &info) != MRP_OK) {
            return fail_mrpool("query");
        }
        for (uint32_t k = 0; k < n_chunks; k++) {
            known = known || seen[k] == info.chunk_address;
        }
        if (known) {
            continue;
        }
        if (n_chunks == CHUNKS_MAX) {
            return fail("the buffers lie in more chunks than there is room for");
        }
        if (mrp_region_key_pack(world->regions[i], 1, keys, &size) != MRP_OK) {
            return fail_mrpool("packing keys");
        }
        seen[n_chunks++] = info.chunk_address;
        packed = (uint32_t)size;
        put(box, &packed, sizeof packed);
        put(box, keys, size);
    }
    memcpy(box->bytes, &n_chunks, sizeof n_chunks);
    for (size_t i = 0; i < shared->n_buffers; i++) {
        struct mrp_token token;

        if (mrp_region_token(world->regions[i], &token) != MRP_OK) {
            return fail_mrpool("token");
        }
        put(box, token.bytes, sizeof token.bytes);
    }
    return true;
}

static bool chunks_import(struct chunk_world *world, size_t process, double *figures)
{
    const struct box *box = box_of(process);
    const unsigned char *next = box->bytes;
    struct mrp_remote **remotes = world->remotes + process * CHUNKS_MAX;
    void *endpoint =
        keys_network.endpoint != NULL ? keys_network.endpoint(process) : NULL;
    double started = worker_cpu_ns(), imported; /* more processes than processors */
    struct mrp_chunk_id chunks[CHUNKS_MAX], wanted;
    uint32_t n_chunks, size;

    memcpy(&n_chunks, next, sizeof n_chunks);
    next += sizeof n_chunks;
    for (uint32_t i = 0; i < n_chunks; i++) {
        memcpy(&size, next, sizeof size);
        next += sizeof size;
        if (mrp_remote_open(world->provider, endpoint, 0, next, size, &remotes[i]) !=
                MRP_OK ||
            mrp_remote_chunk(remotes[i], &chunks[i]) != MRP_OK) {
            return fail_mrpool("importing keys");
        }
        world->n_remotes[process]++;
        next += size;
        figures[FIGURE_IMPORTS]++;
    }
    imported = worker_cpu_ns();
    for (size_t i = 0; i < shared->n_buffers; i++, next += MRP_TOKEN_SIZE) {
        struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
        struct mrp_token token;
        uint32_t k = 0;

        memcpy(token.bytes, next, MRP_TOKEN_SIZE);
        if (mrp_token_chunk(&token, &wanted) != MRP_OK) {
            return fail_mrpool("a token");
        }
        while (k < n_chunks && chunks[k].chunk != wanted.chunk) {
            k++;
        }
        if (k == n_chunks) {
            return fail("a token of a chunk whose keys have not come");
        }
        if (mrp_remote_resolve(remotes[k], &token, &found) != MRP_OK) {
            return fail_mrpool("resolving a token");
        }
        if (found.size != shared->buffer_size) {
            return fail("a token names a buffer of another size");
        }
    }
    figures[FIGURE_IMPORT] += imported - started;
    figures[FIGURE_RESOLVE] += worker_cpu_ns() - imported;
    return true;
}

static bool chunks_open(struct chunk_world *world, double *figures)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    world->regions = calloc(shared->n_buffers, sizeof(struct mrp_region *));
    world->remotes =
        calloc(shared->n_processes * CHUNKS_MAX, sizeof(struct mrp_remote *));
    world->n_remotes = calloc(shared->n_processes, sizeof(size_t));
    if (world->regions == NULL || world->remotes == NULL || world->n_remotes == NULL) {
        return fail("no memory");
    }
    if (mrp_context_create(NULL, &world->context) != MRP_OK ||
        !keys_network.provide(world->context, &world->provider)) {
        return fail_mrpool("opening");
    }
    params.rails = &world->provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    /* the first chunk is an eighth of it: so there are a few */
    params.max_bytes = 4 * shared->n_buffers * shared->buffer_size;
    if (params.max_bytes < POOL_BYTES_LEAST) {
        params.max_bytes = POOL_BYTES_LEAST;
    }
    if (mrp_pool_create(world->context, &params, &world->pool) != MRP_OK) {
        return fail_mrpool("pool");
    }
    for (size_t i = 0; i < shared->n_buffers; i++) {
        world->regions[i] = mrp_region_alloc(world->pool, shared->buffer_size);
        if (world->regions[i] == NULL) {
            return fail_mrpool("region");
        }
    }
    if (mrp_provider_query(world->provider, &info) != MRP_OK) {
        return fail_mrpool("provider");
    }
    figures[FIGURE_REGISTRATIONS] = (double)info.n_registrations;
    return true;
}

static void chunks_close(struct chunk_world *world)
{
    for (size_t p = 0; p < shared->n_processes && world->n_remotes != NULL; p++) {
        for (size_t i = 0; i < world->n_remotes[p]; i++) {
            (void)mrp_remote_close(world->remotes[p * CHUNKS_MAX + i]);
        }
    }
    for (size_t i = 0; i < shared->n_buffers && world->regions != NULL; i++) {
        if (world->regions[i] != NULL) {
            (void)mrp_region_free(world->regions[i]);
        }
    }
    if (world->context != NULL) {
        (void)mrp_context_destroy(world->context);
    }
    free(world->regions);
    free(world->remotes);
    free(world->n_remotes);
}

static bool run_chunks(double *figures)
{
    struct chunk_world world = {.context = NULL};
    bool done = chunks_open(&world, figures) && chunks_offer(&world) && meet();
    double before = resident();

    for (size_t i = 0; i < shared->n_processes && done; i++) {
        if (i != self) {
            figures[FIGURE_BYTES] += (double)box_of(i)->size;
            done = chunks_import(&world, i, figures);
        }
    }
    figures[FIGURE_MEMORY] = resident() - before;
    done = done && meet(); /* nobody's memory goes while others hold its keys */
    chunks_close(&world);
    return done;
}

/* -- without: a key for each buffer -----------------------------------------------------
 */

/* The box: for each buffer its address, its size, the key's size and the key. */
static bool buffers_offer(struct keys_buffer *buffers)
{
    struct box *box = box_of(self);

    box->size = 0;
    for (size_t i = 0; i < shared->n_buffers; i++) {
        uint64_t head[2] = {(uintptr_t)buffers[i].address, shared->buffer_size};
        uint16_t size = (uint16_t)buffers[i].key_size;

        put(box, head, sizeof head);
        put(box, &size, sizeof size);
        put(box, buffers[i].key, size);
    }
    return true;
}

static bool buffers_import(size_t process, void **imported)
{
    const unsigned char *next = box_of(process)->bytes;

    for (size_t i = 0; i < shared->n_buffers; i++) {
        uint16_t size;

        next += 2 * sizeof(uint64_t);
        memcpy(&size, next, sizeof size);
        next += sizeof size;
        imported[i] = keys_network.import_key(process, next, size);
        if (imported[i] == NULL) {
            return fail("importing a buffer's key");
        }
        next += size;
    }
    return true;
}

static bool buffers_register(struct keys_buffer *buffers, double *figures)
{
    for (size_t i = 0; i < shared->n_buffers; i++) {
        if (posix_memalign(&buffers[i].address, 4096, shared->buffer_size) != 0) {
            return fail("no memory for the buffers");
        }
        memset(buffers[i].address, 1, shared->buffer_size);
    }
    for (size_t i = 0; i < shared->n_buffers; i++) {
        if (!keys_network.register_buffer(&buffers[i], shared->buffer_size)) {
            return fail("registering a buffer");
        }
    }
    figures[FIGURE_REGISTRATIONS] = (double)shared->n_buffers;
    return true;
}

static bool run_buffers(double *figures)
{
    size_t n = shared->n_buffers, n_all = n * shared->n_processes;
    struct keys_buffer *buffers = calloc(n, sizeof *buffers);
    void **imported = calloc(n_all, sizeof *imported);
    bool done = buffers != NULL && imported != NULL &&
        buffers_register(buffers, figures) && buffers_offer(buffers) && meet();
    double before = resident(), started = worker_cpu_ns();

    for (size_t i = 0; i < shared->n_processes && done; i++) {
        if (i != self) {
            figures[FIGURE_BYTES] += (double)box_of(i)->size;
            figures[FIGURE_IMPORTS] += (double)n;
            done = buffers_import(i, imported + i * n);
        }
    }
    figures[FIGURE_IMPORT] = worker_cpu_ns() - started;
    figures[FIGURE_MEMORY] = resident() - before;
    done = done && meet();
    for (size_t i = 0; i < n_all && imported != NULL; i++) {
        if (imported[i] != NULL && keys_network.release_key != NULL) {
            keys_network.release_key(imported[i]);
        }
    }
    for (size_t i = 0; i < n && buffers != NULL; i++) {
        if (buffers[i].registration != NULL) {
            keys_network.deregister_buffer(&buffers[i]);
        }
        free(buffers[i].address);
    }
    free(imported);
    free(buffers);
    return done;
}

/* -- processes -- */

static bool connect_all(const char *options)
{
    const unsigned char *addresses[KEYS_PROCESSES_MAX];
    size_t sizes[KEYS_PROCESSES_MAX];
    struct box *box = box_of(self);

    box->address_size = keys_network.open(options, box->address, sizeof box->address);
    if (box->address_size == 0) {
        return fail_because("opening the network", keys_why);
    }
    if (!meet()) {
        return false;
    }
    for (size_t i = 0; i < shared->n_processes; i++) {
        addresses[i] = box_of(i)->address;
        sizes[i] = box_of(i)->address_size;
    }
    return (keys_network.connect == NULL ||
               keys_network.connect(addresses, sizes, shared->n_processes) ||
               fail("connecting")) &&
        meet();
}

static bool run_process(const char *options)
{
    bool done = connect_all(options) &&
        run_chunks(box_of(self)->figures[VARIANT_CHUNKS]) && meet() &&
        run_buffers(box_of(self)->figures[VARIANT_BUFFERS]) && meet();

    if (self == 0 && done) {
        char text[256];

        keys_network.describe(text, sizeof text);
        printf("text %s\n", text);
        fflush(stdout);
    }
    keys_network.close();
    return done;
}

static void tell_all(void)
{
    for (size_t v = 0; v < VARIANTS; v++) {
        for (size_t f = 0; f < FIGURES; f++) {
            double sum = 0;

            for (size_t i = 0; i < shared->n_processes; i++) {
                sum += box_of(i)->figures[v][f];
            }
            printf("value %s/%s %zu %s %.1f\n", figure_names[f], variant_names[v],
                shared->n_processes, figure_units[f], sum / (double)shared->n_processes);
        }
    }
}

/* keys PROCESSES BUFFERS SIZE OPTIONS */
int main(int argc, char **argv)
{
    size_t n = argc == 5 ? strtoul(argv[1], NULL, 10) : 0;
    size_t n_buffers = argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
    size_t box_size = sizeof(struct box) + n_buffers * (KEYS_SIZE_MAX + MRP_TOKEN_SIZE) +
        CHUNKS_MAX * KEYS_SIZE_MAX;
    pid_t parent = getpid();

    if (n < 2 || n > KEYS_PROCESSES_MAX || n_buffers == 0) {
        fputs("mrpool-bench keys starts this\n", stderr);
        return EXIT_FAILURE;
    }
    box_size = (box_size + 63) & ~(size_t)63;
    shared = mmap(NULL, sizeof *shared + n * box_size, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        puts("problem no memory to share");
        return EXIT_FAILURE;
    }
    shared->n_processes = n;
    shared->n_buffers = n_buffers;
    shared->buffer_size = strtoul(argv[3], NULL, 10);
    shared->box_size = box_size;
    for (size_t i = 0; i < n; i++) {
        pid_t child = fork();

        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            self = i;
            _exit(getppid() == parent && run_process(argv[4]) ? 0 : 1);
        }
        if (child < 0) {
            fail("fork");
        }
    }
    for (int status; wait(&status) > 0;) {
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fail("a process died");
        }
    }
    if (atomic_load(&shared->n_failed) > 0) {
        printf("problem %s\n", shared->problem);
        return EXIT_FAILURE;
    }
    tell_all();
    puts("end");
    return EXIT_SUCCESS;
}

#endif
