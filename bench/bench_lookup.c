/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench lookup: from an address to its region, against UCX's page table, which is
 * the fastest map of addresses that Debian packages. Both hold the same regions and are
 * asked for the same addresses.
 */
#include "harness.h"
#include "report.h"
#include "table.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_UCX
#include <ucs/datastruct/pgtable.h>
#endif

#define REGION_SIZE ((size_t)64 << 10)
#define N_REGIONS 16384
#define N_REGIONS_QUICK 1024
#define N_ADDRESSES 65536 /* a power of two: half a MiB of addresses to ask for */

#define N_ADDRESSES_MASK (N_ADDRESSES - 1)

#define BATCH_NS \
    2e7 /* ten times the usual: the branches of UCX's table have to be learnt anew */

#define CASE_FIND "mrp_region_find"
#define CASE_RESOLVE "mrp_resolve"
#define CASE_UCX "ucs_pgtable_lookup"
#define CASE_UCX_READ "ucs_pgtable_lookup+read"
#define CHAIN " chain"

#ifdef HAVE_UCX
/* As UCX's registration cache keeps them: the entry begins a larger record. */
struct record {
    ucs_pgt_region_t entry;
    void *memh; /* what leads to the keys */
} __attribute__((aligned(64)));
#endif

struct lookup {
    struct mrp_context *context;
    struct mrp_pool *pool;
    struct mrp_region **regions;
    size_t n_regions;
    const char **addresses; /* N_ADDRESSES of them, anywhere in the regions */
#ifdef HAVE_UCX
    ucs_pgtable_t table;
    struct record *records;
#endif
};

/* -- mrpool ----------------------------------------------------------------------------
 */

static enum mrp_status register_nothing(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    (void)state;
    registration->native = request->address;
    return MRP_OK;
}

static enum mrp_status deregister_nothing(
    void *state, const struct mrp_registration *registration)
{
    (void)state;
    (void)registration;
    return MRP_OK;
}

/* A rail that costs nothing, so that a gibibyte needs not be pinned to be looked up. */
static const struct mrp_provider_ops nothing = {
    .struct_size = sizeof nothing,
    .abi = MRP_PROVIDER_ABI,
    .module = "nothing",
    .register_memory = register_nothing,
    .deregister_memory = deregister_nothing,
};

static enum mrp_status open_pool(struct lookup *lookup)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_backend_params memory = MRP_BACKEND_PARAMS_INIT;
    struct mrp_provider *rail;
    enum mrp_status status;

    memory.prefault = -1; /* nobody looks at the memory itself */
    params.max_bytes = 2 * lookup->n_regions * REGION_SIZE;
    params.rails = &rail;
    params.n_rails = 1;
    status = mrp_context_create(NULL, &lookup->context);
    if (status == MRP_OK) {
        status = mrp_backend_create(lookup->context, "mmap", &memory, &params.backend);
    }
    if (status == MRP_OK) {
        status = mrp_provider_create(lookup->context, NULL, &nothing, NULL, &rail);
    }
    if (status == MRP_OK) {
        status = mrp_pool_create(lookup->context, &params, &lookup->pool);
    }
    for (size_t i = 0; status == MRP_OK && i < lookup->n_regions; i++) {
        lookup->regions[i] = mrp_region_alloc(lookup->pool, REGION_SIZE);
        status = lookup->regions[i] != NULL ? MRP_OK : mrp_error_last()->status;
    }
    return status;
}

static uintptr_t find(const struct lookup *lookup, const char *address)
{
    return (uintptr_t)mrp_region_find(lookup->pool, address);
}

static uintptr_t resolve(const struct lookup *lookup, const char *address)
{
    struct mrp_wire wire = MRP_WIRE_INIT;

    return mrp_resolve(lookup->pool, address, 1, 0, &wire) == MRP_OK
        ? (uintptr_t)wire.native
        : 0;
}

/* -- UCX -------------------------------------------------------------------------------
 */

#ifdef HAVE_UCX
static ucs_pgt_dir_t *allocate_directory(const ucs_pgtable_t *table)
{
    (void)table;
    return aligned_alloc(64, (sizeof(ucs_pgt_dir_t) + 63) & ~(size_t)63);
}

static void release_directory(const ucs_pgtable_t *table, ucs_pgt_dir_t *directory)
{
    (void)table;
    free(directory);
}

static enum mrp_status open_table(struct lookup *lookup)
{
    ucs_status_t status =
        ucs_pgtable_init(&lookup->table, allocate_directory, release_directory);

    lookup->records = aligned_alloc(64, lookup->n_regions * sizeof *lookup->records);
    if (lookup->records == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "no memory for the table of UCX");
    }
    for (size_t i = 0; status == UCS_OK && i < lookup->n_regions; i++) {
        struct record *record = &lookup->records[i];

        record->entry.start = (uintptr_t)mrp_region_address(lookup->regions[i]);
        record->entry.end = record->entry.start + REGION_SIZE;
        record->memh = record;
        status = ucs_pgtable_insert(&lookup->table, &record->entry);
    }
    return status == UCS_OK
        ? MRP_OK
        : mrp_fail(MRP_ERR_UNAVAILABLE, status, "ucs_pgtable_insert: %d", status);
}

static void close_table(struct lookup *lookup)
{
    if (lookup->records == NULL) {
        return;
    }
    for (size_t i = 0; i < lookup->n_regions; i++) {
        ucs_pgtable_remove(&lookup->table, &lookup->records[i].entry);
    }
    ucs_pgtable_cleanup(&lookup->table);
    free(lookup->records);
}

static uintptr_t find_ucx(const struct lookup *lookup, const char *address)
{
    return (uintptr_t)ucs_pgtable_lookup(&lookup->table, (uintptr_t)address);
}

/* The least that leads on to the keys, as mrp_resolve does: one read of what was found. */
static uintptr_t find_ucx_read(const struct lookup *lookup, const char *address)
{
    const struct record *record =
        (const struct record *)ucs_pgtable_lookup(&lookup->table, (uintptr_t)address);

    return (uintptr_t)record->memh;
}
#endif

/* -- loops -----------------------------------------------------------------------------
 */

typedef uintptr_t lookup_function(const struct lookup *lookup, const char *address);

static inline __attribute__((always_inline)) enum mrp_status run_all(
    const struct lookup *lookup, size_t n, lookup_function *function)
{
    uintptr_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += function(lookup, lookup->addresses[i & N_ADDRESSES_MASK]);
    }
    __asm__ volatile("" : : "r"(sum));
    return MRP_OK;
}

/* The index of the next address hangs on the answer: its top bit is never set, which the
 * processor does not know. */
static inline __attribute__((always_inline)) enum mrp_status run_chain(
    const struct lookup *lookup, size_t n, lookup_function *function)
{
    size_t next = 0;

    for (size_t i = 0; i < n; i++) {
        next += 1 + (function(lookup, lookup->addresses[next & N_ADDRESSES_MASK]) >> 63);
    }
    return MRP_OK;
}

#define RUN_BOTH(function) \
    static enum mrp_status run_##function(void *state, size_t n) \
    { \
        return run_all(state, n, function); \
    } \
    static enum mrp_status run_##function##_chain(void *state, size_t n) \
    { \
        return run_chain(state, n, function); \
    }

RUN_BOTH(find)
RUN_BOTH(resolve)
#ifdef HAVE_UCX
RUN_BOTH(find_ucx)
RUN_BOTH(find_ucx_read)
#endif

/* -- both ------------------------------------------------------------------------------
 */

/* Each answer is checked once, so that no broken lookup looks fast. */
static enum mrp_status check_answers(const struct lookup *lookup)
{
    for (size_t i = 0; i < lookup->n_regions; i++) {
        const char *address = mrp_region_address(lookup->regions[i]);

        if (mrp_region_find(lookup->pool, address + REGION_SIZE / 2) !=
            lookup->regions[i]) {
            return mrp_fail(MRP_ERR_CORRUPT, 0, "%p: not found as region %zu",
                (const void *)address, i);
        }
#ifdef HAVE_UCX
        if (ucs_pgtable_lookup(&lookup->table, (uintptr_t)address + REGION_SIZE / 2) !=
            &lookup->records[i].entry) {
            return mrp_fail(
                MRP_ERR_CORRUPT, 0, "%p: not found by UCX", (const void *)address);
        }
#endif
    }
    return MRP_OK;
}

static void choose_addresses(struct lookup *lookup)
{
    uint64_t random = 88172645463325252u; /* xorshift64: the same in each run */

    for (size_t i = 0; i < N_ADDRESSES; i++) {
        size_t which, offset;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        which = (random >> 20) % lookup->n_regions;
        offset = random % REGION_SIZE;
        lookup->addresses[i] =
            (const char *)mrp_region_address(lookup->regions[which]) + offset;
    }
}

static enum mrp_status measure(struct bench *bench, struct lookup *lookup)
{
    const struct bench_subject subject = {NULL, NULL, lookup->n_regions * REGION_SIZE, 1};
    static struct bench_case cases[] = {
#ifdef HAVE_UCX
        {.name = CASE_UCX, .run = run_find_ucx},
        {.name = CASE_UCX CHAIN, .run = run_find_ucx_chain},
        {.name = CASE_UCX_READ, .run = run_find_ucx_read},
        {.name = CASE_UCX_READ CHAIN, .run = run_find_ucx_read_chain},
#endif
        {.name = CASE_FIND, .run = run_find},
        {.name = CASE_FIND CHAIN, .run = run_find_chain},
        {.name = CASE_RESOLVE, .run = run_resolve},
        {.name = CASE_RESOLVE CHAIN, .run = run_resolve_chain},
    };
    size_t n_cases = sizeof cases / sizeof cases[0];
    enum mrp_status status;

    for (size_t i = 0; i < n_cases; i++) {
        cases[i].state = lookup;
        cases[i].batch_ns = BATCH_NS;
    }
    status = bench_compare(bench, cases, n_cases);
    for (size_t i = 0; status == MRP_OK && i < n_cases; i++) {
        bool is_chain = i % 2 == 1;
        const struct bench_result *baseline = i < 2
            ? NULL
            : bench_find(bench, &subject, is_chain ? CASE_UCX CHAIN : CASE_UCX);

        bench_record(bench, &subject, cases[i].name, "ns", &cases[i].samples, baseline);
    }
    return status;
}

/* -- table -----------------------------------------------------------------------------
 */

static int percent_of_ucx(
    const struct bench *bench, const struct bench_subject *subject, const char *name)
{
    double ratio = bench_ratio(bench_find(bench, subject, name));

    return ratio > 0 ? (int)(100 / ratio + 0.5) : 0;
}

static void print_words(const struct bench *bench, const struct bench_subject *subject)
{
    char text[400];

    if (bench_find(bench, subject, CASE_UCX) == NULL) {
        return;
    }
    snprintf(text, sizeof text,
        "Finding a region takes %d %% of the time of UCX's lookup, %d %% where each "
        "lookup waits for the one before; an address to its keys in one step takes %d %% "
        "and %d %%.",
        percent_of_ucx(bench, subject, CASE_FIND),
        percent_of_ucx(bench, subject, CASE_FIND CHAIN),
        percent_of_ucx(bench, subject, CASE_RESOLVE),
        percent_of_ucx(bench, subject, CASE_RESOLVE CHAIN));
    putchar('\n');
    bench_print_prose(text, 0);
}

static void print(const struct bench *bench)
{
    static const char *const titles[] = {"<lookup", "median", "min", "max", "UCX / this"};
    struct bench_table *table = bench_table_create(titles, 5);
    struct bench_subject subject = {NULL, NULL, 0, 1};

    if (table == NULL || bench->n_results == 0) {
        bench_table_destroy(table);
        return;
    }
    subject.size = bench->results[0]->size;
    printf("%zu regions of %s, asked for at random addresses inside them;\n"
           "CPU time per lookup\n\n",
        subject.size / REGION_SIZE, bench_size_text(REGION_SIZE).text);
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];
        const struct bench_text cells[] = {bench_time_text(result->median),
            bench_time_text(result->min), bench_time_text(result->max),
            bench_ratio_text(bench_ratio(result))};
        const char *row[] = {
            result->name, cells[0].text, cells[1].text, cells[2].text, cells[3].text};

        bench_table_add(table, row);
    }
    bench_table_print(table);
    bench_table_destroy(table);
    if (!bench->options->quick) {
        print_words(bench, &subject);
    }
}

static int run_lookup(const struct bench_options *options)
{
    struct lookup lookup = {.n_regions = options->quick ? N_REGIONS_QUICK : N_REGIONS};
    enum mrp_status status = MRP_ERR_MEMORY;
    struct bench bench;

    if (!bench_begin(&bench, "lookup", options)) {
        return EXIT_FAILURE;
    }
    lookup.regions = calloc(lookup.n_regions, sizeof(struct mrp_region *));
    lookup.addresses = calloc(N_ADDRESSES, sizeof(const char *));
    if (lookup.regions != NULL && lookup.addresses != NULL) {
        bench_progress(&bench, "building %zu regions", lookup.n_regions);
        status = open_pool(&lookup);
    }
    if (status == MRP_OK) {
        choose_addresses(&lookup);
#ifdef HAVE_UCX
        status = open_table(&lookup);
#else
        bench_note(&bench, "ucs_pgtable_lookup: built without UCX (package libucx-dev)");
#endif
    }
    if (status == MRP_OK) {
        status = check_answers(&lookup);
    }
    if (status == MRP_OK) {
        status = measure(&bench, &lookup);
    }
    if (status != MRP_OK) {
        bench_note(&bench, "the lookup: %s", mrp_error_last()->text);
    }
#ifdef HAVE_UCX
    close_table(&lookup);
#endif
    mrp_region_free_many(lookup.regions, lookup.n_regions, NULL);
    mrp_context_destroy(lookup.context);
    free(lookup.regions);
    free(lookup.addresses);
    return bench_end(&bench, print);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    (void)text;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = state->input;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static int run(int argc, char **argv)
{
    static const char doc[] =
        "Measure mrp_region_find against ucs_pgtable_lookup: throughput, and a chain in "
        "which each lookup waits for the one before. Neither reads what it finds. "
        "mrp_resolve goes on to the keys, for which a caller of UCX would read at least "
        "the record found (+read)."
        "\vThe ratio is UCX's median divided by mrpool's: 2 means half of UCX's time.";
    const struct argp argp = {NULL, parse, NULL, doc, bench_options_child, NULL, NULL};
    struct bench_options options = BENCH_OPTIONS_INIT;

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return run_lookup(&options);
}

const struct bench_command bench_command_lookup = {
    "lookup", "address to region, against UCX's ucs_pgtable", run};
