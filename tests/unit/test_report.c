/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_context_report: the numbers are those of the statistics, text and JSON say the same,
 * any name comes through, and what cannot be done is refused.
 */
#include "report_reader.h"

#include "base/table.h"
#include "context/report.h"
#include "pool/report.h"
#include "support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- a pool with something of everything -- */

enum {
    N_SMALL = 300,
    N_MEDIUM = 40
};

struct holdings {
    struct mrp_region *small[N_SMALL], *medium[N_MEDIUM], *large[2], *user, *slice;
    void *block;
    char *buffer;
};

static void fill(struct pool_fixture *f, struct holdings *holdings)
{
    struct mrp_memory_info block = MRP_MEMORY_INFO_INIT;

    for (size_t i = 0; i < N_SMALL; i++) {
        holdings->small[i] = pool_fixture_alloc(f, 90);
    }
    for (size_t i = 0; i < N_MEDIUM; i++) {
        holdings->medium[i] = pool_fixture_alloc(f, 5000);
    }
    for (size_t i = 0; i < N_SMALL; i += 3) {
        pool_fixture_free(holdings->small[i]);
        holdings->small[i] = NULL;
    }
    for (size_t i = 0; i < 2; i++) {
        holdings->large[i] = pool_fixture_alloc(f, 2 * MRP_MIB + i);
    }
    pool_fixture_free(pool_fixture_alloc(f, 3 * MRP_MIB)); /* idle now */
    assert_int_equal(
        mrp_region_slice(holdings->large[0], 0, 100, &holdings->slice), MRP_OK);
    holdings->buffer = malloc(100000);
    assert_int_equal(
        mrp_region_register(f->pool, holdings->buffer, 100000, NULL, &holdings->user),
        MRP_OK);
    block.size = 12345;
    holdings->block = mrp_memory_alloc(f->context, &block);
    assert_non_null(holdings->block);
}

static void empty(struct pool_fixture *f, struct holdings *holdings)
{
    for (size_t i = 0; i < N_SMALL; i++) {
        if (holdings->small[i] != NULL) {
            pool_fixture_free(holdings->small[i]);
        }
    }
    for (size_t i = 0; i < N_MEDIUM; i++) {
        pool_fixture_free(holdings->medium[i]);
    }
    pool_fixture_free(holdings->slice);
    pool_fixture_free(holdings->large[0]);
    pool_fixture_free(holdings->large[1]);
    pool_fixture_free(holdings->user);
    assert_int_equal(mrp_memory_free(f->context, holdings->block), MRP_OK);
    free(holdings->buffer);
}

static struct mrp_pool_params filled_params(struct pool_fixture *f)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.name = "full";
    params.n_rails = 2;
    params.max_bytes = 64 * MRP_MIB;
    params.tiers[MRP_TIER_MEDIUM].reserve = 4 * MRP_MIB;
    return params;
}

/* -- the same numbers -- */

#define CHECK(path, wanted) assert_int_equal(report_number(root, path), (wanted))

static void json__has_the_numbers_of_the_context(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = filled_params(f);
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct holdings holdings;
    json_t *root;

    pool_fixture_create(f, &params);
    fill(f, &holdings);
    root = report_json(f->context);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_string_equal(report_text(root, "version"), mrp_version());
    CHECK("chunks.count", stats.n_chunks);
    CHECK("chunks.size", stats.chunk_size);
    CHECK("registrations.count", stats.n_registrations);
    CHECK("registrations.size", stats.registered_size);
    CHECK("blocks.count", 1);
    CHECK("blocks.size", 12345);
    CHECK("parked.count", 0);
    assert_int_equal(json_array_size(report_at(root, "backends")), stats.n_backends);
    assert_string_equal(report_text(root, "backends.0.name"), "blocks");
    assert_string_equal(report_text(root, "backends.1.kind"), "mmap");
    CHECK("backends.1.mapped_size", stats.chunk_size - 100000);
    assert_int_equal(json_array_size(report_at(root, "providers")), stats.n_providers);
    assert_string_equal(report_text(root, "providers.0.name"), "first");
    CHECK("providers.0.registrations", stats.n_chunks);
    CHECK("providers.1.registered_size", stats.chunk_size);
    CHECK("providers.1.registered_ever", f->networks[1].n_register);
    CHECK("providers.1.deregistered_ever", f->networks[1].n_deregister);
    CHECK("providers.2.registrations", 0);
    CHECK("budgets.mapped.used", stats.charged_size);
    CHECK("budgets.mapped.max", stats.max_bytes);
    CHECK("budgets.pinned.max", stats.max_pinned);
    CHECK("budgets.registrations.used", stats.n_charged);
    CHECK("budgets.registrations.max", stats.max_registrations);
    assert_string_equal(report_text(root, "budgets.registrations.source"),
        "MRPOOL_CONTEXT_MAX_REGISTRATIONS");
    CHECK("idle.0.chunks", 1);
    CHECK("idle.0.size", 3 * MRP_MIB);
    CHECK("idle.0.max_size", 256 * MRP_MIB);
    json_decref(root);
    empty(f, &holdings);
}

static void check_tier(
    json_t *root, size_t number, size_t tier, const struct mrp_tier_stats *stats)
{
    char path[64];

    snprintf(path, sizeof path, "pools.0.tiers.%zu", number);
    root = report_at(root, path);
    assert_string_equal(report_text(root, "name"), mrp_tier_names[tier]);
    CHECK("max_size", stats->max_size);
    CHECK("regions", stats->n_regions);
    CHECK("live", stats->n_live);
    CHECK("live_size", stats->live_size);
    CHECK("block_live_size", stats->block_live_size);
    CHECK("slab_size", stats->slab_size);
    CHECK("cached.count", stats->n_cached);
    CHECK("depot.count", stats->n_free - stats->n_cached);
    CHECK("waste_percent",
        (stats->block_live_size - stats->live_size) * 100 / stats->block_live_size);
    CHECK("unused_percent",
        (stats->slab_size - stats->block_live_size) * 100 / stats->slab_size);
}

static void json__has_the_numbers_of_the_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = filled_params(f);
    struct mrp_pool_stats stats;
    struct holdings holdings;
    json_t *root, *whole;

    pool_fixture_create(f, &params);
    fill(f, &holdings);
    whole = report_json(f->context);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(json_array_size(report_at(whole, "pools.0.tiers")), 2);
    check_tier(whole, 0, MRP_TIER_SMALL, &stats.tiers[MRP_TIER_SMALL]);
    check_tier(whole, 1, MRP_TIER_MEDIUM, &stats.tiers[MRP_TIER_MEDIUM]);
    root = report_at(whole, "pools.0");
    assert_string_equal(report_text(root, "name"), "full");
    assert_string_equal(report_text(root, "rails.1.provider"), "second");
    CHECK("budgets.mapped.used", stats.mapped_size);
    CHECK("budgets.mapped.max", 64 * MRP_MIB);
    CHECK("budgets.mapped.used_percent", stats.mapped_size * 100 / (64 * MRP_MIB));
    assert_string_equal(report_text(root, "budgets.mapped.source"), "max_bytes");
    CHECK("budgets.registrations_per_rail.used", stats.n_registrations);
    CHECK("budgets.registrations_per_rail.max", stats.max_registrations);
    CHECK("budgets.reserves.medium.used", stats.tiers[MRP_TIER_MEDIUM].slab_size);
    CHECK("budgets.reserves.medium.max", 4 * MRP_MIB);
    CHECK("chunks.count", stats.n_chunks);
    CHECK("chunks.size", stats.chunk_size);
    CHECK("room_size", stats.room_size);
    CHECK("larger_than_huge.count", 2);
    CHECK("larger_than_huge.size", 4 * MRP_MIB + 1);
    CHECK("user.size", 100000);
    CHECK("slices", 1);
    CHECK("idle.count", 1);
    CHECK("idle.size", 3 * MRP_MIB);
    CHECK("thread_cached.count", stats.n_threads);
    CHECK("thread_cached.size", stats.cached_size);
    CHECK("thread_cached.size",
        report_number(root, "tiers.0.cached.size") +
            report_number(root, "tiers.1.cached.size"));
    CHECK("since_made.growths", stats.n_growths);
    CHECK("since_made.taken_up", stats.n_taken_up);
    json_decref(whole);
    empty(f, &holdings);
}

/* Chunks are told apart by what they are for; together they are all. */
static void json__has_every_chunk_once(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = filled_params(f);
    size_t n = 0, size = 0, n_registrations = 0;
    struct holdings holdings;
    json_t *root, *kinds, *kind;
    size_t i;

    pool_fixture_create(f, &params);
    fill(f, &holdings);
    root = report_json(f->context);
    kinds = report_at(root, "pools.0.chunk_kinds");
    assert_int_equal(json_array_size(kinds), 3);
    json_array_foreach(kinds, i, kind)
    {
        n += report_number(kind, "count");
        size += report_number(kind, "size");
        n_registrations += report_number(kind, "registrations");
        assert_in_range(report_number(kind, "age_max"), 0, 60);
        assert_true(report_number(kind, "age_min") <= report_number(kind, "age_max"));
    }
    CHECK("chunks.count", n);
    CHECK("chunks.size", size);
    CHECK("registrations.count", n_registrations);
    assert_string_equal(report_text(root, "pools.0.chunk_kinds.0.of"), "slabs");
    assert_string_equal(report_text(root, "pools.0.chunk_kinds.0.pages"), "base");
    assert_string_equal(report_text(root, "pools.0.chunk_kinds.0.pages_wanted"), "base");
    assert_string_equal(report_text(root, "pools.0.chunk_kinds.1.of"), "one region");
    CHECK("pools.0.chunk_kinds.1.count", 3);
    assert_string_equal(report_text(root, "pools.0.chunk_kinds.2.of"), "user memory");
    assert_true(json_is_null(report_at(root, "pools.0.chunk_kinds.2.backend")));
    assert_int_equal(json_array_size(report_at(root, "chunks_of_other_pools")), 0);
    json_decref(root);
    empty(f, &holdings);
}

static void expect_line(const char *text, const char *start, const char *wanted)
{
    assert_string_equal(report_line(text, start), wanted);
}

static void expect_tier_line(const char *text, json_t *tier)
{
    char wanted[256], cached[40] = "", depot[40] = "";

    if (report_number(tier, "cached.size") > 0) {
        snprintf(cached, sizeof cached, "%s ",
            mrp_size_words(report_number(tier, "cached.size")).text);
    }
    if (report_number(tier, "depot.size") > 0) {
        snprintf(depot, sizeof depot, "%s ",
            mrp_size_words(report_number(tier, "depot.size")).text);
    }
    snprintf(wanted, sizeof wanted, "%s %s %zu %s %s %zu %% %s%s%s %zu %%",
        report_text(tier, "name"), mrp_size_words(report_number(tier, "max_size")).text,
        report_number(tier, "live"),
        mrp_size_words(report_number(tier, "live_size")).text,
        mrp_size_words(report_number(tier, "block_live_size")).text,
        report_number(tier, "waste_percent"), cached, depot,
        mrp_size_words(report_number(tier, "slab_size")).text,
        report_number(tier, "unused_percent"));
    expect_line(text, report_text(tier, "name"), wanted);
}

static void text__has_the_numbers_of_json(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = filled_params(f);
    struct holdings holdings;
    char *text, *of_pool, wanted[256];
    json_t *root, *pool;

    pool_fixture_create(f, &params);
    fill(f, &holdings);
    text = report_read(f->context, MRP_REPORT_TEXT);
    root = report_json(f->context);
    pool = report_at(root, "pools.0");
    snprintf(wanted, sizeof wanted, "mapped %s %s %zu %% %s",
        mrp_size_words(report_number(root, "budgets.mapped.used")).text,
        mrp_size_words(report_number(root, "budgets.mapped.max")).text,
        report_number(root, "budgets.mapped.used_percent"),
        report_text(root, "budgets.mapped.source"));
    expect_line(text, "mapped", wanted);
    of_pool = strstr(text, "\npool full\n");
    assert_non_null(of_pool);
    expect_tier_line(text, report_at(pool, "tiers.0"));
    expect_tier_line(text, report_at(pool, "tiers.1"));
    snprintf(wanted, sizeof wanted, "mapped %s 64 MiB %zu %% max_bytes",
        mrp_size_words(report_number(pool, "budgets.mapped.used")).text,
        report_number(pool, "budgets.mapped.used_percent"));
    expect_line(of_pool, "mapped", wanted);
    snprintf(wanted, sizeof wanted,
        "registrations per rail %zu 1,024 0 %% MRPOOL_MAX_REGISTRATIONS",
        report_number(pool, "budgets.registrations_per_rail.used"));
    expect_line(text, "registrations per rail", wanted);
    expect_line(text, "larger than huge", "larger than huge 2 4.0 MiB asked for");
    expect_line(text, "user memory", "user memory 1 97.7 KiB registered");
    expect_line(text, "slices", "slices 1");
    expect_line(text, "idle chunks", "idle chunks 1 3 MiB evictable");
    snprintf(wanted, sizeof wanted,
        "context %s: 1 pool, %zu chunks of %s, %zu registrations of %s",
        report_text(root, "context"), report_number(root, "chunks.count"),
        mrp_size_words(report_number(root, "chunks.size")).text,
        report_number(root, "registrations.count"),
        mrp_size_words(report_number(root, "registrations.size")).text);
    expect_line(text, "context", wanted);
    expect_line(text, "1 block", "1 block of mrp_memory_alloc: 12.1 KiB asked for");
    free(text);
    json_decref(root);
    empty(f, &holdings);
}

static void text__fits_a_page(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = filled_params(f);
    struct holdings holdings;
    char *text;

    params.max_bytes = 24 * MRP_MIB; /* tight: with a remedy */
    pool_fixture_create(f, &params);
    fill(f, &holdings);
    text = report_read(f->context, MRP_REPORT_TEXT);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
        size_t length = strcspn(line, "\n");

        assert_in_range(length, 0, MRP_PAGE_COLUMNS);
        assert_true(length == 0 || line[length - 1] != ' ');
    }
    free(text);
    empty(f, &holdings);
}

/* -- names -- */

static void names__come_through(void **state)
{
    struct pool_fixture *f = *state;
    static const char name[] = "a \"pool\"\nof \xc3\xa4\\\x01 mine";
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_backend_params backend = MRP_BACKEND_PARAMS_INIT;
    struct mrp_backend *second;
    char *text;
    json_t *root;

    params.name = name;
    pool_fixture_create(f, &params);
    backend.name = "not \xff utf-8";
    assert_int_equal(mrp_backend_create(f->context, "malloc", &backend, &second), MRP_OK);
    root = report_json(f->context);
    assert_string_equal(report_text(root, "pools.0.name"), name);
    assert_string_equal(report_text(root, "backends.2.name"), "not \xef\xbf\xbd utf-8");
    json_decref(root);
    text = report_read(f->context, MRP_REPORT_TEXT);
    assert_non_null(strstr(text, "pool a \"pool\"?of \xc3\xa4\\? mine\n"));
    free(text);
}

/* -- many -- */

static void chunks__of_too_many_kinds_are_summed_up(void **state)
{
    enum {
        N_POOLS = MRP_REPORT_CHUNKS + 20
    };
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    static struct mrp_pool *pools[N_POOLS];
    static struct mrp_region *regions[N_POOLS];
    static char buffers[N_POOLS][64];
    const char *under = getenv("MRP_TEST_UNDER");
    json_t *root;

    if (under != NULL && strcmp(under, "valgrind") == 0) {
        printf(
            "SKIP: %s: Valgrind has not the addresses for %d pools\n", __func__, N_POOLS);
        return;
    }
    for (size_t i = 0; i < N_POOLS; i++) {
        assert_int_equal(mrp_pool_create(f->context, &params, &pools[i]), MRP_OK);
        assert_int_equal(mrp_region_register(
                             pools[i], buffers[i], sizeof buffers[i], NULL, &regions[i]),
            MRP_OK);
    }
    root = report_json(f->context);
    CHECK("chunks.count", N_POOLS);
    assert_int_equal(json_array_size(report_at(root, "pools")), N_POOLS);
    assert_string_equal(report_text(root, "chunks_of_other_pools.0.of"), "others");
    CHECK("chunks_of_other_pools.0.count", N_POOLS - (MRP_REPORT_CHUNKS - 1));
    json_decref(root);
    for (size_t i = 0; i < N_POOLS; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
        assert_int_equal(mrp_pool_destroy(pools[i]), MRP_OK);
    }
}

static void context__without_anything(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_context *context;
    char *text;
    json_t *root;

    (void)state;
    params.name = "bare";
    assert_int_equal(mrp_context_create(&params, &context), MRP_OK);
    root = report_json(context);
    assert_string_equal(report_text(root, "context"), "bare");
    assert_int_equal(json_array_size(report_at(root, "pools")), 0);
    assert_int_equal(json_array_size(report_at(root, "providers")), 0);
    json_decref(root);
    text = report_read(context, MRP_REPORT_TEXT);
    assert_ptr_equal(
        strstr(text, "context bare: 0 pools, 0 chunks of 0 B, 0 registrations of 0 B\n"),
        text);
    free(text);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* -- refusals -- */

static void report__refuses_what_is_wrong(void **state)
{
    struct pool_fixture *f = *state;

    assert_refused(mrp_context_report(f->context, MRP_REPORT_TEXT, NULL), MRP_ERR_INVALID,
        "file is NULL");
    assert_refused(mrp_context_report(f->context, (enum mrp_report_format)7, stdout),
        MRP_ERR_INVALID, "format is 7");
    assert_refused(mrp_context_report(NULL, MRP_REPORT_TEXT, stdout), MRP_ERR_STALE, "");
}

static void file__that_refuses(void **state)
{
    struct pool_fixture *f = *state;
    FILE *full = fopen("/dev/full", "w"), *read_only = fopen("/dev/null", "r");

    assert_refused(mrp_context_report(f->context, MRP_REPORT_TEXT, full), MRP_ERR_SYSTEM,
        "No space left");
    assert_int_equal(mrp_error_last()->native, ENOSPC);
    assert_refused(mrp_context_report(f->context, MRP_REPORT_JSON, read_only),
        MRP_ERR_SYSTEM, "Bad file descriptor");
    fclose(full);
    fclose(read_only);
}

static void child__is_refused(void **state)
{
    struct pool_fixture *f = *state;
    pid_t child;
    int status;

    pool_fixture_create(f, NULL);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        EXPECT(mrp_context_report(f->context, MRP_REPORT_TEXT, stderr) == MRP_ERR_FORKED);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* -- a pool that goes -- */

static _Atomic bool is_gone;

static void *destroy_pool(void *pool)
{
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    mrp_store_release(&is_gone, true);
    return NULL;
}

/* It has left the list already; its memory stays until the report has read it. */
static void destroy__waits_for_a_report(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_report *report = calloc(1, sizeof *report);
    struct mrp_pool *found;
    pthread_t thread;

    pool_fixture_create(f, NULL);
    mrp_add_relaxed(&f->pool->member.n_visitors, 1);
    mrp_store_release(&is_gone, false);
    assert_int_equal(pthread_create(&thread, NULL, destroy_pool, f->pool), 0);
    while (mrp_pool_find(f->context, "pool-1", &found) == MRP_OK) {
        usleep(100);
    }
    usleep(20000);
    assert_false(mrp_load_acquire(&is_gone));
    f->pool->member.reporter->collect(f->pool, 0, report);
    pthread_join(thread, NULL);
    f->pool = NULL;
    assert_string_equal(report->name, "pool-1");
    free(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(json__has_the_numbers_of_the_context),
        POOL_TEST(json__has_the_numbers_of_the_pool),
        POOL_TEST(json__has_every_chunk_once),
        POOL_TEST(text__has_the_numbers_of_json),
        POOL_TEST(text__fits_a_page),
        POOL_TEST(names__come_through),
        POOL_TEST(chunks__of_too_many_kinds_are_summed_up),
        POOL_TEST(context__without_anything),
        POOL_TEST(report__refuses_what_is_wrong),
        POOL_TEST(file__that_refuses),
        POOL_TEST(child__is_refused),
        POOL_TEST(destroy__waits_for_a_report),
    };

    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
