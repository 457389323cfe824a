/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench registry: whether tracking a block costs more when many are live. Two
 * contexts, one with a thousand live blocks and one with 64 thousand, take turns.
 */
#include "harness.h"
#include "report.h"
#include "table.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE 64
#define N_FEW ((size_t)1 << 10)
#define N_MANY ((size_t)64 << 10)
#define N_FRESH 256 /* blocks made and freed per round, in and out of the live ones */

enum phase {
    ALLOC,
    QUERY,
    QUERY_ANY,
    FREE,
    N_PHASES
};
static const char *const phase_names[] = {"alloc", "query", "query any", "free"};

/* One context with so many live blocks. */
struct population {
    struct mrp_context *context;
    size_t n_live;
    void **blocks; /* n_live, then N_FRESH */
    size_t next; /* the query's walk through the live ones */
    struct bench_samples samples[N_PHASES];
};

static enum mrp_status make_block(struct population *population, void **block)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;

    info.size = BLOCK_SIZE;
    info.tag = "bench";
    *block = mrp_memory_alloc(population->context, &info);
    return *block != NULL ? MRP_OK : mrp_error_last()->status;
}

static enum mrp_status populate(struct population *population)
{
    enum mrp_status status = mrp_context_create(NULL, &population->context);

    population->blocks = calloc(population->n_live + N_FRESH, sizeof(void *));
    if (population->blocks == NULL) {
        return mrp_fail(
            MRP_ERR_MEMORY, 0, "no memory for %zu pointers", population->n_live);
    }
    for (size_t i = 0; status == MRP_OK && i < population->n_live; i++) {
        status = make_block(population, &population->blocks[i]);
    }
    return status;
}

static enum mrp_status run_alloc(struct population *population)
{
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; status == MRP_OK && i < N_FRESH; i++) {
        status = make_block(population, &population->blocks[population->n_live + i]);
    }
    return status;
}

static enum mrp_status query(struct population *population, size_t i)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;

    return mrp_memory_query(population->context, population->blocks[i], &info);
}

/* The same number of distinct blocks in both populations, so that only the registry's own
 * work differs. */
static enum mrp_status run_query(struct population *population)
{
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; status == MRP_OK && i < N_FRESH; i++) {
        status = query(population, population->n_live + i * 101 % N_FRESH);
    }
    return status;
}

/* Steps of a large odd number visit all live blocks in an order that no prefetcher knows:
 * with many of them the processor's caches miss, whatever the registry does. */
static enum mrp_status run_query_any(struct population *population)
{
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; status == MRP_OK && i < N_FRESH; i++) {
        population->next = (population->next + 40503) % population->n_live;
        status = query(population, population->next);
    }
    return status;
}

static enum mrp_status run_free(struct population *population)
{
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; status == MRP_OK && i < N_FRESH; i++) {
        status = mrp_memory_free(
            population->context, population->blocks[population->n_live + i]);
    }
    return status;
}

/* The rounds of one repetition: alloc, query and free, timed apart. */
static enum mrp_status run_rounds(struct population *population, size_t n_rounds)
{
    static enum mrp_status (*const phases[])(struct population *) = {
        run_alloc, run_query, run_query_any, run_free};
    double ns[N_PHASES] = {0};

    for (size_t round = 0; round < n_rounds; round++) {
        for (size_t phase = 0; phase < N_PHASES; phase++) {
            double start = bench_cpu_ns();
            enum mrp_status status = phases[phase](population);

            if (status != MRP_OK) {
                return status;
            }
            ns[phase] += bench_elapsed_ns(start);
        }
    }
    for (size_t phase = 0; phase < N_PHASES; phase++) {
        struct bench_samples *samples = &population->samples[phase];

        samples->values[samples->n++] = ns[phase] / (double)(n_rounds * N_FRESH);
    }
    return MRP_OK;
}

static enum mrp_status measure(
    struct bench *bench, struct population *few, struct population *many)
{
    size_t n_rounds = bench->options->quick ? 4 : 64;
    enum mrp_status status = run_rounds(few, n_rounds);

    if (status == MRP_OK) {
        status = run_rounds(many, n_rounds);
    }
    for (size_t phase = 0; phase < N_PHASES; phase++) { /* that was the warming up */
        few->samples[phase].n = 0;
        many->samples[phase].n = 0;
    }
    for (size_t i = 0; status == MRP_OK && i < bench->options->repetitions; i++) {
        bench_progress(
            bench, "repetition %zu of %zu", i + 1, bench->options->repetitions);
        status = run_rounds(few, n_rounds);
        if (status == MRP_OK) {
            status = run_rounds(many, n_rounds);
        }
    }
    return status;
}

static void record(
    struct bench *bench, const struct population *few, const struct population *many)
{
    const struct bench_subject subject = {NULL, NULL, BLOCK_SIZE, 1};

    for (size_t phase = 0; phase < N_PHASES; phase++) {
        const struct bench_result *baseline;
        char name[32];

        snprintf(name, sizeof name, "%s of %zu live", phase_names[phase], few->n_live);
        baseline = bench_record(bench, &subject, name, "ns", &few->samples[phase], NULL);
        snprintf(name, sizeof name, "%s of %zu live", phase_names[phase], many->n_live);
        bench_record(bench, &subject, name, "ns", &many->samples[phase], baseline);
    }
}

static double growth_factor(const struct bench_result *result)
{
    return bench_ratio(result) > 0 ? 1 / bench_ratio(result) : 0;
}

static void print(const struct bench *bench)
{
    static const char *const titles[] = {
        "<operation", "median", "min", "max", "few / many"};
    struct bench_table *table = bench_table_create(titles, 5);
    double worst = 0, any = 0;
    char text[256];

    if (table == NULL || bench->n_results == 0) {
        bench_table_destroy(table);
        return;
    }
    printf(
        "tracked blocks of %d B (mrp_memory_*); CPU time per operation\n\n", BLOCK_SIZE);
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];
        double factor = growth_factor(result);
        const struct bench_text cells[] = {bench_time_text(result->median),
            bench_time_text(result->min), bench_time_text(result->max),
            bench_ratio_text(bench_ratio(result))};
        const char *row[] = {
            result->name, cells[0].text, cells[1].text, cells[2].text, cells[3].text};

        if (strncmp(result->name, "query any", 9) == 0) {
            any = factor > any ? factor : any;
        } else {
            worst = factor > worst ? factor : worst;
        }
        bench_table_add(table, row);
    }
    bench_table_print(table);
    bench_table_destroy(table);
    if (bench->options->quick) {
        return;
    }
    snprintf(text, sizeof text,
        "With 64 times as many blocks live, an operation costs at most %.2f times as "
        "much; a query of any block of them all, where the processor's caches miss, %.2f "
        "times.",
        worst, any);
    putchar('\n');
    bench_print_prose(text, 0);
}

static int run_registry(const struct bench_options *options)
{
    static struct population few = {.n_live = N_FEW}, many = {.n_live = N_MANY};
    enum mrp_status status;
    struct bench bench;

    if (!bench_begin(&bench, "registry", options)) {
        return EXIT_FAILURE;
    }
    bench_progress(&bench, "making %zu blocks", N_FEW + N_MANY);
    status = populate(&few);
    if (status == MRP_OK) {
        status = populate(&many);
    }
    if (status == MRP_OK) {
        status = measure(&bench, &few, &many);
    }
    if (status == MRP_OK) {
        record(&bench, &few, &many);
    } else {
        bench_note(&bench, "the registry: %s", mrp_error_last()->text);
    }
    mrp_context_destroy(few.context); /* with all that is live in them */
    mrp_context_destroy(many.context);
    free(few.blocks);
    free(many.blocks);
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
        "Measure mrp_memory_alloc, query and free with 1,024 and with 65,536 blocks live."
        "\vThe ratio, in the table, --json and --csv, is the cost with few divided by "
        "the cost with many: 0.5 means that it has doubled.";
    const struct argp argp = {NULL, parse, NULL, doc, bench_options_child, NULL, NULL};
    struct bench_options options = BENCH_OPTIONS_INIT;

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return run_registry(&options);
}

const struct bench_command bench_command_registry = {
    "registry", "tracked blocks: cost with 1 k and with 64 k of them live", run};
