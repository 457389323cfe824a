/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Put, get and accumulate between the ranks of an MPI program, from and to pool regions.
 *
 * The program is a small one-sided transport over MPI: it gives mrpool its communicator,
 * gets a window back, and addresses its peers' regions in it. What to look at:
 *   - a communicator becomes a provider, and that a window           memory_open
 *   - memory of any kind attached to a dynamic window, or a pool
 *     that takes all it needs from one allocated window              memory_open
 *   - a peer's region is a token of 32 bytes and, once per chunk,
 *     a key; they give the rank and the displacement                 remote_resolve
 *   - that nothing is attached after one round of all sizes          run
 *
 * All ranks run the same steps. In each, a rank works on a region of another one and
 * offers a region to a third. Afterwards each verifies what it got and what was done to
 * its own: every byte of the payload and of the guards around it.
 *
 *   mpirun -n 4 mpi_rma
 *   mpirun -n 4 mpi_rma --window allocated
 */
#include "options.h"
#include "pattern.h"

#include "mrpool/mpi.h"
#include "mrpool/mrpool.h"

#include <stdarg.h>
#include <stdio.h>

/* Guard bytes before and after each payload: the pool's headroom and tailroom. */
#define GUARD 64

/* Packed keys of one chunk and one rail take less. */
#define KEYS_MAX 4096

/* Chunks of all peers whose keys we hold. */
#define REMOTES_MAX 256

static const size_t sizes[] = {
    1, 7, 8, 64, 1000, 4096, 4097, 65537, 262144, 1048577, 4194304, 16777216};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

enum operation {
    PUT,
    GET,
    ACCUMULATE,
    N_OPERATIONS
};
static const char *const operation_names[] = {"put", "get", "accumulate"};

struct options {
    bool is_allocated;
    bool from_mpi; /* the pool's memory is MPI's */
    size_t rounds, max_size;
    uint64_t seed;
};

struct tally {
    size_t n_transfers;
    double seconds;
};

struct example {
    struct options options;
    int rank, n_ranks;

    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_backend *backend;
    struct mrp_pool *pool;
    const struct mrp_mpi_native *native;
    struct mrp_remote *remotes[REMOTES_MAX];
    size_t n_remotes;

    uint64_t n_transfers, n_bytes; /* of this rank */
    struct tally tallies[N_SIZES][N_OPERATIONS];
};

/* -- failures end the program on all ranks: who waits would wait for ever -- */

static int own_rank;

static void give_up(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fprintf(stderr, "mpi_rma: rank %d: ", own_rank);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    abort();
}

static void mrp_check(const char *what, enum mrp_status status)
{
    if (status != MRP_OK) {
        give_up("%s: %s", what, mrp_error_last()->text);
    }
}

/* The window of the provider returns its errors. */
static void mpi_check(const char *what, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;

    if (code != MPI_SUCCESS) {
        MPI_Error_string(code, text, &length);
        give_up("%s: %s", what, text);
    }
}

/* -- memory: a pool whose one rail is a window -- */

static void memory_open(struct example *example)
{
    struct mrp_mpi_wrap_params wrap_params = MRP_MPI_WRAP_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    const void *native = NULL;

    wrap_params.comm = MPI_COMM_WORLD;
    wrap_params.options =
        example->options.is_allocated ? "window=allocated,size=256M" : "window=dynamic";
    mrp_check("context", mrp_context_create(NULL, &example->context));
    mrp_check("provider",
        mrp_mpi_provider_wrap(example->context, NULL, &wrap_params, &example->provider));
    mrp_check("window", mrp_provider_native(example->provider, &native));
    example->native = native;

    pool_params.name = "messages";
    pool_params.rails = &example->provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_ALL;
    pool_params.never_free = true; /* what has been attached stays: idle or not */
    pool_params.headroom = GUARD;
    pool_params.tailroom = GUARD;
    if (example->options.from_mpi) { /* part of the window, or MPI_Alloc_mem */
        mrp_check(
            "backend", mrp_provider_backend(example->provider, NULL, &example->backend));
        pool_params.backend = example->backend;
    }
    mrp_check("pool", mrp_pool_create(example->context, &pool_params, &example->pool));

    /* One access epoch for all that follows; each transfer is ended by a flush. */
    mpi_check("MPI_Win_lock_all", MPI_Win_lock_all(0, example->native->win));
}

/* The pool, the backend and the provider go with the context, on all ranks together. */
static void memory_close(struct example *example)
{
    mpi_check("MPI_Win_unlock_all", MPI_Win_unlock_all(example->native->win));
    for (size_t i = 0; i < example->n_remotes; i++) {
        mrp_check("closing keys", mrp_remote_close(example->remotes[i]));
    }
    mrp_check("pool check", mrp_pool_check(example->pool));
    mrp_check("closing", mrp_context_destroy(example->context));
}

/* -- regions full of words to recognise, between guards -- */

static struct mrp_region *region_take(struct example *example, size_t size, uint64_t seed)
{
    struct mrp_region *region = mrp_region_alloc(example->pool, size);
    unsigned char *payload = mrp_region_address(region);

    if (region == NULL) {
        give_up("region of %zu bytes: %s", size, mrp_error_last()->text);
    }
    pattern_fill(payload - GUARD, GUARD, ~seed);
    pattern_fill(payload + size, GUARD, seed ^ 1);
    pattern_fill(payload, size, seed);
    return region;
}

static void region_free(struct mrp_region *region, uint64_t guard_seed)
{
    const unsigned char *payload = mrp_region_address(region);
    size_t size = mrp_region_size(region);

    if (pattern_check(payload - GUARD, GUARD, ~guard_seed) != GUARD ||
        pattern_check(payload + size, GUARD, guard_seed ^ 1) != GUARD) {
        give_up("bytes next to a payload of %zu have been written", size);
    }
    mrp_check("free", mrp_region_free(region));
}

static void region_verify(const struct mrp_region *region, uint64_t seed)
{
    const unsigned char *payload = mrp_region_address(region);
    size_t size = mrp_region_size(region), wrong = pattern_check(payload, size, seed);

    if (wrong != size) {
        give_up("byte %zu of %zu is wrong: 0x%02x", wrong, size, payload[wrong]);
    }
}

/* -- the peers' regions -- */

/* With keys that we hold. Those of a chunk that the peer has replaced go. */
static bool find_remote(struct example *example, const struct mrp_token *token,
    struct mrp_remote_region *found)
{
    for (size_t i = 0; i < example->n_remotes; i++) {
        enum mrp_status status = mrp_remote_resolve(example->remotes[i], token, found);

        if (status == MRP_OK) {
            return true;
        }
        if (status == MRP_ERR_STALE) {
            mrp_check("closing keys", mrp_remote_close(example->remotes[i]));
            example->remotes[i] = example->remotes[--example->n_remotes];
            return false;
        }
    }
    return false;
}

/* Offer `region` to rank `from`, and resolve what rank `to` offers. The keys of a chunk
 * travel once: with its first token. */
static void remote_resolve(struct example *example, const struct mrp_region *region,
    int from, int to, struct mrp_remote_region *found)
{
    unsigned char keys[KEYS_MAX], offered[KEYS_MAX];
    struct mrp_token own, token;
    size_t keys_size = sizeof(keys);
    int is_wanted, wants, n_offered;
    MPI_Status status;

    mrp_check("token", mrp_region_token(region, &own));
    MPI_Sendrecv(own.bytes, sizeof(own.bytes), MPI_BYTE, from, 0, token.bytes,
        sizeof(token.bytes), MPI_BYTE, to, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    wants = !find_remote(example, &token, found);
    MPI_Sendrecv(&wants, 1, MPI_INT, to, 1, &is_wanted, 1, MPI_INT, from, 1,
        MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    mrp_check("keys", mrp_region_key_pack(region, 1, keys, &keys_size));
    MPI_Sendrecv(keys, is_wanted ? (int)keys_size : 0, MPI_BYTE, from, 2, offered,
        sizeof(offered), MPI_BYTE, to, 2, MPI_COMM_WORLD, &status);
    if (!wants) {
        return;
    }
    if (example->n_remotes == REMOTES_MAX) {
        give_up("keys of %d chunks are held: no room", REMOTES_MAX);
    }
    MPI_Get_count(&status, MPI_BYTE, &n_offered);
    mrp_check("the peer's keys",
        mrp_remote_open(example->provider, NULL, 0, offered, (size_t)n_offered,
            &example->remotes[example->n_remotes]));
    mrp_check("the peer's token",
        mrp_remote_resolve(example->remotes[example->n_remotes++], &token, found));
}

/* -- transfers -- */

/* The key is the rank, the address what MPI calls a displacement. */
static void transfer(struct example *example, struct mrp_region *region,
    const struct mrp_remote_region *target, enum operation operation)
{
    MPI_Win win = example->native->win;
    void *local = mrp_region_address(region);
    MPI_Aint displacement = (MPI_Aint)target->address;
    int rank = (int)target->key, size = (int)target->size, code;

    if (operation == PUT) {
        code = MPI_Put(local, size, MPI_BYTE, rank, displacement, size, MPI_BYTE, win);
    } else if (operation == GET) {
        code = MPI_Get(local, size, MPI_BYTE, rank, displacement, size, MPI_BYTE, win);
    } else {
        code = MPI_Accumulate(local, size / 8, MPI_UINT64_T, rank, displacement, size / 8,
            MPI_UINT64_T, MPI_SUM, win);
    }
    mpi_check(operation_names[operation], code);
    mpi_check("MPI_Win_flush", MPI_Win_flush(rank, win));
}

static void transfer_timed(struct example *example, struct mrp_region *region,
    const struct mrp_remote_region *target, enum operation operation, struct tally *tally)
{
    double started = MPI_Wtime();

    if (target->size != mrp_region_size(region)) {
        give_up(
            "the peer offers %zu bytes, not %zu", target->size, mrp_region_size(region));
    }
    transfer(example, region, target, operation);
    tally->seconds += MPI_Wtime() - started;
    tally->n_transfers++;
    example->n_transfers++;
    example->n_bytes += target->size;
}

/* What has been stored here is seen there, and the other way round. */
static void meet(struct example *example)
{
    MPI_Win_sync(example->native->win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_sync(example->native->win);
}

static uint64_t seed_of(uint64_t step, int rank, uint64_t seed)
{
    return pattern_word(seed + (uint64_t)rank, step);
}

/* Put into, or get from, the rank at this distance. */
static void run_copy(struct example *example, enum operation operation, size_t size,
    int distance, uint64_t step, struct tally *tally)
{
    int to = (example->rank + distance) % example->n_ranks;
    int from = (example->rank + example->n_ranks - distance) % example->n_ranks;
    uint64_t seed = example->options.seed;
    uint64_t local_seed = seed_of(step, example->rank, seed);
    uint64_t offered_seed = ~local_seed;
    struct mrp_region *local = region_take(example, size, local_seed);
    struct mrp_region *offered = region_take(example, size, offered_seed);
    struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;

    meet(example);
    remote_resolve(example, offered, from, to, &target);
    transfer_timed(example, local, &target, operation, tally);
    meet(example);
    region_verify(local, operation == PUT ? local_seed : ~seed_of(step, to, seed));
    region_verify(offered, operation == PUT ? seed_of(step, from, seed) : offered_seed);
    region_free(local, local_seed);
    region_free(offered, offered_seed);
}

/* All ranks add to the region of each: word for word, its own and theirs. */
static void verify_sum(
    const struct example *example, const struct mrp_region *region, uint64_t step)
{
    const unsigned char *payload = mrp_region_address(region);

    for (size_t i = 0; i + 8 <= mrp_region_size(region); i += 8) {
        uint64_t sum = 0, found;

        for (int rank = 0; rank < example->n_ranks; rank++) {
            sum += pattern_word(seed_of(step, rank, example->options.seed), i);
        }
        memcpy(&found, payload + i, sizeof(found));
        if (found != sum) {
            give_up(
                "word %zu of a sum is %#" PRIx64 ", not %#" PRIx64, i / 8, found, sum);
        }
    }
}

/* Words are added as this machine stores them, so they are filled in like that. */
static void fill_words(struct mrp_region *region, uint64_t seed)
{
    unsigned char *payload = mrp_region_address(region);

    for (size_t i = 0; i + 8 <= mrp_region_size(region); i += 8) {
        uint64_t word = pattern_word(seed, i);

        memcpy(payload + i, &word, sizeof(word));
    }
}

static void run_sum(
    struct example *example, size_t size, uint64_t step, struct tally *tally)
{
    uint64_t seed = seed_of(step, example->rank, example->options.seed);
    struct mrp_region *local = region_take(example, size, seed);
    struct mrp_region *offered = region_take(example, size, seed);

    fill_words(local, seed);
    fill_words(offered, seed);
    meet(example);
    for (int distance = 1; distance < example->n_ranks; distance++) {
        struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;
        int to = (example->rank + distance) % example->n_ranks;
        int from = (example->rank + example->n_ranks - distance) % example->n_ranks;

        remote_resolve(example, offered, from, to, &target);
        transfer_timed(example, local, &target, ACCUMULATE, tally);
    }
    meet(example);
    verify_sum(example, offered, step);
    region_free(local, seed);
    region_free(offered, seed);
}

/* -- rounds -- */

/* Regions are given back after each step and taken anew for the next. */
static void run_round(struct example *example, uint64_t round)
{
    for (size_t i = 0; i < N_SIZES && sizes[i] <= example->options.max_size; i++) {
        uint64_t step = (round * N_SIZES + i) * (uint64_t)example->n_ranks * 3;
        struct tally *tallies = example->tallies[i];

        for (int distance = 1; distance < example->n_ranks; distance++) {
            run_copy(example, PUT, sizes[i], distance, step++, &tallies[PUT]);
            run_copy(example, GET, sizes[i], distance, step++, &tallies[GET]);
        }
        if (sizes[i] % 8 == 0) {
            run_sum(example, sizes[i], step, &tallies[ACCUMULATE]);
        }
    }
}

/* Registrations that the provider has ever made, and given back. */
struct trace {
    uint64_t n_made, n_given_back;
};

static struct trace trace_take(struct example *example)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    mrp_check("provider", mrp_provider_query(example->provider, &info));
    return (struct trace){info.n_registered, info.n_deregistered};
}

static void print_table(const struct example *example)
{
    printf("\n%12s  %-10s %9s %12s %10s\n", "bytes", "operation", "transfers", "us",
        "MiB/s");
    for (size_t i = 0; i < N_SIZES; i++) {
        for (size_t operation = 0; operation < N_OPERATIONS; operation++) {
            const struct tally *tally = &example->tallies[i][operation];
            double us = tally->seconds * 1e6 / (double)tally->n_transfers;

            if (tally->n_transfers > 0) {
                printf("%12zu  %-10s %9zu %12.1f %10.1f  verified\n", sizes[i],
                    operation_names[operation], tally->n_transfers, us,
                    (double)sizes[i] / us * 1e6 / 1048576.0);
            }
        }
    }
}

static void print_head(struct example *example)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    mrp_check("provider", mrp_provider_query(example->provider, &info));
    printf("One-sided operations between %d ranks, from and to pool regions\n\n"
           "  window  %s\n  memory  %s, addressed by %s\n",
        example->n_ranks, info.device,
        !example->options.from_mpi        ? "the pool's own, attached"
            : example->native->is_dynamic ? "of MPI_Alloc_mem, attached"
                                          : "part of the window",
        example->native->is_dynamic ? "virtual address" : "displacement");
}

/* -- the command line -- */

static const struct argp_option options_table[] = {
    {"window", 'w', "dynamic|allocated", 0,
        "attach memory to a dynamic window (default), or take it from an allocated one",
        0},
    {"alloc-mem", 'a', NULL, 0, "dynamic: the pool's memory is of MPI_Alloc_mem", 0},
    {"rounds", 'r', "N", 0, "rounds after the warm-up (3)", 0},
    {"max-size", 's', "BYTES", 0, "largest transfer (4M; at most 16M)", 0},
    {"seed", 'e', "N", 0, "of the pattern (1)", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case 'w':
        options->is_allocated = strcmp(text, "allocated") == 0;
        if (!options->is_allocated && strcmp(text, "dynamic") != 0) {
            argp_error(state, "'%s' is neither dynamic nor allocated", text);
        }
        return 0;
    case 'a':
        options->from_mpi = true;
        return 0;
    case 'r':
        options->rounds = option_number(state, text, 1, 1000000);
        return 0;
    case 's':
        options->max_size = option_number(state, text, 1, sizes[N_SIZES - 1]);
        return 0;
    case 'e':
        options->seed = option_number(state, text, 0, UINT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp command_line = {options_table, parse_option, NULL,
    "Put, get and accumulate between the ranks of an MPI program, from and to pool "
    "memory: every byte verified, and nothing attached after the warm-up."
    "\vStart it with mpirun -n 2, or more.",
    NULL, NULL, NULL};

/* -- main -- */

static void run(struct example *example)
{
    unsigned long long counts[4], sums[4];
    struct trace warm, end;

    memory_open(example);
    run_round(example, 0);
    warm = trace_take(example);
    memset(example->tallies, 0, sizeof(example->tallies));
    for (size_t round = 1; round <= example->options.rounds; round++) {
        run_round(example, round);
    }
    end = trace_take(example);
    if (end.n_made != warm.n_made || end.n_given_back != warm.n_given_back) {
        give_up("after the warm-up: %" PRIu64 " registrations made, and %" PRIu64
                " given back",
            end.n_made - warm.n_made, end.n_given_back - warm.n_given_back);
    }
    counts[0] = example->n_transfers;
    counts[1] = example->n_bytes;
    counts[2] = warm.n_made;
    counts[3] = end.n_made - warm.n_made;
    MPI_Reduce(counts, sums, 4, MPI_UNSIGNED_LONG_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
    if (example->rank == 0) {
        print_head(example);
        print_table(example);
    }
    memory_close(example);
    if (example->rank == 0) { /* all is over but MPI_Finalize */
        printf(
            "\nmpi_rma: %llu transfers, %llu MiB, all bytes verified, %llu registrations "
            "in warm-up, %llu after\n",
            sums[0], sums[1] >> 20, sums[2], sums[3]);
    }
}

int main(int argc, char **argv)
{
    static struct example example;
    int level;

    example.options = (struct options){false, false, 3, (size_t)4 << 20, 1};
    argp_parse(&command_line, argc, argv, 0, NULL, &example.options);
    example.options.from_mpi |= example.options.is_allocated;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &example.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &example.n_ranks);
    own_rank = example.rank;
    if (example.n_ranks < 2) {
        fputs("mpi_rma: one rank has nobody to work with: start it with mpirun -n 2\n",
            stderr);
        MPI_Finalize();
        return EXIT_FAILURE;
    }
    run(&example);
    MPI_Finalize();
    return EXIT_SUCCESS;
}
