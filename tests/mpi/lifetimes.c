/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MPI that is not there yet, or no more, is the wrong one, or may not be called here. Each
 * scenario is a process (or rank) of its own, since MPI starts once in a process:
 * tests/integration/test_mpi_lifetimes.sh runs them.
 */
#include "mrpool/mpi.h"
#include "mrpool/mrpool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
                mrp_error_last()->text); \
            fflush(stdout); \
            _Exit(1); \
        } \
    } while (0)

static bool says(const char *words)
{
    return strstr(mrp_error_last()->text, words) != NULL;
}

static void start(int wanted)
{
    int level;

    CHECK(MPI_Init_thread(NULL, NULL, wanted, &level) == MPI_SUCCESS);
    CHECK(level == wanted);
}

static enum mrp_status open_provider(
    struct mrp_context *context, const char *options, struct mrp_provider **provider)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;

    params.options = options;
    return mrp_provider_open(context, MRP_MPI_MODULE, &params, provider);
}

static struct mrp_pool *create_pool(struct mrp_context *context,
    struct mrp_provider *provider, struct mrp_backend *backend)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool = NULL;

    params.rails = &provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    params.backend = backend;
    params.max_bytes = (size_t)4 << 20;
    CHECK(mrp_pool_create(context, &params, &pool) == MRP_OK);
    return pool;
}

/* -- before and after -- */

static void not_initialised(void)
{
    struct mrp_context *context;
    struct mrp_provider *provider;

    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    CHECK(open_provider(context, NULL, &provider) == MRP_ERR_UNAVAILABLE);
    CHECK(says("MPI_Init_thread"));
    CHECK(mrp_context_destroy(context) == MRP_OK);
    start(MPI_THREAD_MULTIPLE);
    MPI_Finalize();
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    CHECK(open_provider(context, NULL, &provider) == MRP_ERR_UNAVAILABLE);
    CHECK(says("finalized"));
    CHECK(mrp_context_destroy(context) == MRP_OK);
}

/* Memory of MPI's is not to be had any more; other memory is, on a rail that has failed. */
static void check_without_mpi(struct mrp_pool *pool, bool has_backend)
{
    struct mrp_rail_info rail = MRP_RAIL_INFO_INIT;
    struct mrp_region *late = mrp_region_alloc(pool, (size_t)2 << 20);
    uint64_t key;

    if (has_backend) {
        CHECK(late == NULL && says("finalized"));
        return;
    }
    CHECK(late != NULL);
    CHECK(mrp_region_remote_key(late, 0, &key) != MRP_OK);
    CHECK(mrp_pool_rail_query(pool, 0, &rail) == MRP_OK);
    CHECK(rail.state == MRP_RAIL_FAILED && strstr(rail.reason, "finalized") != NULL);
    CHECK(mrp_region_free(late) == MRP_OK);
}

/* Everything is still there when MPI goes, and can be given back afterwards. */
static void finalized_first_with(const char *options, bool has_backend)
{
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_backend *backend = NULL;
    struct mrp_region *region, *own = NULL;
    struct mrp_pool *pool;
    void *memory = malloc(10000);

    start(MPI_THREAD_MULTIPLE);
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    CHECK(open_provider(context, options, &provider) == MRP_OK);
    if (has_backend) {
        CHECK(mrp_provider_backend(provider, NULL, &backend) == MRP_OK);
    } else {
        CHECK(memory != NULL);
    }
    pool = create_pool(context, provider, backend);
    CHECK((region = mrp_region_alloc(pool, 1000)) != NULL);
    if (!has_backend) {
        CHECK(mrp_region_register(pool, memory, 10000, NULL, &own) == MRP_OK);
    }

    MPI_Finalize();

    check_without_mpi(pool, has_backend);
    CHECK(own == NULL || mrp_region_free(own) == MRP_OK);
    CHECK(mrp_region_free(region) == MRP_OK);
    CHECK(mrp_pool_destroy(pool) == MRP_OK);
    CHECK(mrp_context_trim(context, 0) == MRP_OK);
    CHECK(backend == NULL || mrp_backend_destroy(backend) == MRP_OK);
    CHECK(mrp_provider_close(provider) == MRP_OK);
    CHECK(mrp_context_destroy(context) == MRP_OK);
    free(memory);
}

static void finalized_first_dynamic(void)
{
    finalized_first_with("window=dynamic", false);
}

static void finalized_first_alloc_mem(void)
{
    finalized_first_with("window=dynamic", true);
}

static void finalized_first_allocated(void)
{
    finalized_first_with("window=allocated,size=8M", true);
}

/* The context takes all along, in one go. */
static void finalized_first_context(void)
{
    struct mrp_context *context;
    struct mrp_provider *provider, *second;
    struct mrp_backend *backend;

    start(MPI_THREAD_MULTIPLE);
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    CHECK(open_provider(context, "window=allocated,size=8M", &provider) == MRP_OK);
    CHECK(open_provider(context, NULL, &second) == MRP_OK);
    CHECK(mrp_provider_backend(provider, NULL, &backend) == MRP_OK);
    CHECK(mrp_region_alloc(create_pool(context, provider, backend), 1000) != NULL);
    CHECK(mrp_region_alloc(create_pool(context, second, NULL), 1000) != NULL);
    MPI_Finalize();
    CHECK(mrp_context_destroy(context) == MRP_ERR_LEAKED); /* two live regions */
}

/* The caller frees a window that is the provider's, of which nothing is left then. */
static void own_window_freed_with(const char *options)
{
    struct mrp_context *context;
    struct mrp_provider *provider, *kept;
    const struct mrp_mpi_native *native;
    const void *shown;
    MPI_Win win;

    start(MPI_THREAD_MULTIPLE);
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    CHECK(open_provider(context, options, &provider) == MRP_OK);
    CHECK(open_provider(context, options, &kept) == MRP_OK);
    for (int i = 0; i < 2; i++) {
        CHECK(mrp_provider_native(i == 0 ? provider : kept, &shown) == MRP_OK);
        native = shown;
        win = native->win;
        CHECK(MPI_Win_free(&win) == MPI_SUCCESS);
    }
    CHECK(mrp_provider_close(provider) == MRP_OK);
    MPI_Finalize(); /* with a record of the second one */
    CHECK(mrp_context_destroy(context) == MRP_OK);
}

static void own_window_freed_dynamic(void)
{
    own_window_freed_with("window=dynamic");
}

static void own_window_freed_allocated(void)
{
    own_window_freed_with("window=allocated,size=8M");
}

/* -- the wrong one -- */

static void wrong_abi(void)
{
    static const char *const names[] = {"mpi", "mpich"};
    const char *other = names[strcmp(MRP_MPI_MODULE, "mpi") == 0];
    struct mrp_context *context;
    struct mrp_provider *provider;
    char quoted[16];

    start(MPI_THREAD_MULTIPLE);
    snprintf(quoted, sizeof(quoted), "\"%s\"", MRP_MPI_MODULE);
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    CHECK(mrp_provider_open(context, other, NULL, &provider) == MRP_ERR_UNAVAILABLE);
    CHECK(strstr(mrp_error_last()->text, "no provider module") != NULL ||
        (says("open module") && says(quoted)));
    CHECK(open_provider(context, NULL, &provider) == MRP_OK);
    CHECK(mrp_context_destroy(context) == MRP_OK);
    MPI_Finalize();
}

/* Started without mpirun, or with one rank. */
static void one_rank(void)
{
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_backend *backend;
    enum mrp_status status;

    start(MPI_THREAD_MULTIPLE);
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    status = open_provider(context, "window=dynamic", &provider);
    if (strcmp(MRP_MPI_MODULE, "mpi") == 0) {
        CHECK(status == MRP_ERR_UNAVAILABLE && says("one rank") && says("two"));
    } else {
        CHECK(status == MRP_OK);
    }
    CHECK(open_provider(context, "window=allocated,size=8M", &provider) == MRP_OK);
    CHECK(mrp_provider_backend(provider, NULL, &backend) == MRP_OK);
    CHECK(mrp_region_alloc(create_pool(context, provider, backend), 1000) != NULL);
    CHECK(mrp_context_destroy(context) == MRP_ERR_LEAKED);
    MPI_Finalize();
}

/* -- threads -- */

struct fixture {
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    unsigned char *memory;
};

static void open_fixture(struct fixture *f, const struct mrp_mpi_wrap_params *params)
{
    CHECK(mrp_context_create(NULL, &f->context) == MRP_OK);
    CHECK(mrp_mpi_provider_wrap(f->context, NULL, params, &f->provider) == MRP_OK);
    f->pool = create_pool(f->context, f->provider, NULL);
    CHECK((f->memory = aligned_alloc(4096, 8 * 4096)) != NULL);
}

static void close_fixture(struct fixture *f)
{
    CHECK(mrp_context_destroy(f->context) == MRP_OK);
    free(f->memory);
}

static void in_thread(void *(*function)(void *user), void *user)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, function, user) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void *is_refused(void *user)
{
    struct fixture *f = user;
    struct mrp_region *region;

    CHECK(mrp_region_register(f->pool, f->memory, 4096, NULL, &region) == MRP_ERR_AGAIN);
    CHECK(says("MPI_THREAD_MULTIPLE"));
    CHECK(mrp_region_alloc(f->pool, 1000) == NULL);
    CHECK(mrp_error_last()->status == MRP_ERR_AGAIN);
    return NULL;
}

static void *is_filled(void *user)
{
    struct fixture *f = user;
    struct mrp_region *region = mrp_region_alloc(f->pool, 1000);

    CHECK(region != NULL);
    CHECK(mrp_region_free(region) == MRP_OK);
    return NULL;
}

static void *free_here(void *user)
{
    CHECK(mrp_region_free(user) != MRP_OK);
    CHECK(mrp_error_last()->status == MRP_ERR_REGISTER); /* as of any provider */
    CHECK(says("MPI_THREAD_MULTIPLE"));
    return NULL;
}

/* One thread alone may call MPI: others take what it has registered. What they free is
 * detached when it calls next: the window takes one attachment more than the pool has. */
static void one_thread(int level)
{
    struct mrp_mpi_wrap_params params = MRP_MPI_WRAP_PARAMS_INIT;
    struct mrp_region *kept, *region, *next;
    struct fixture f;

    start(level);
    params.options = "max_attach=2";
    open_fixture(&f, &params);
    in_thread(is_refused, &f);
    CHECK((kept = mrp_region_alloc(f.pool, 1000)) != NULL); /* and its chunk */
    in_thread(is_filled, &f);
    CHECK(mrp_region_register(f.pool, f.memory, 4096, NULL, &region) == MRP_OK);
    in_thread(free_here, region);
    CHECK(mrp_region_register(f.pool, f.memory + 3 * 4096, 4096, NULL, &next) == MRP_OK);
    CHECK(mrp_region_free(next) == MRP_OK);
    CHECK(mrp_region_free(kept) == MRP_OK);
    close_fixture(&f);
    MPI_Finalize();
}

/* What another thread has left attached goes when a registration ends on one that may
 * call MPI: nothing has to be registered for that. */
static void owed_is_detached(void)
{
    struct mrp_mpi_wrap_params params = MRP_MPI_WRAP_PARAMS_INIT;
    struct mrp_region *region, *next;
    struct fixture f;

    start(MPI_THREAD_FUNNELED);
    CHECK(MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &params.win) == 0);
    MPI_Win_set_errhandler(params.win, MPI_ERRORS_RETURN);
    open_fixture(&f, &params);
    CHECK(mrp_region_register(f.pool, f.memory, 4096, NULL, &region) == MRP_OK);
    CHECK(mrp_region_register(f.pool, f.memory + 3 * 4096, 4096, NULL, &next) == MRP_OK);
    in_thread(free_here, region);
    CHECK(mrp_region_free(next) == MRP_OK);
    /* Open MPI refuses what is attached already */
    CHECK(MPI_Win_attach(params.win, f.memory, 4096) == MPI_SUCCESS);
    CHECK(MPI_Win_detach(params.win, f.memory) == MPI_SUCCESS);
    close_fixture(&f);
    MPI_Win_free(&params.win);
    MPI_Finalize();
}

static void single(void)
{
    one_thread(MPI_THREAD_SINGLE);
}

static void funneled(void)
{
    one_thread(MPI_THREAD_FUNNELED);
}

static void serialized_without_lock(void)
{
    one_thread(MPI_THREAD_SERIALIZED);
}

static void *open_elsewhere(void *user)
{
    struct mrp_provider *provider;

    CHECK(open_provider(user, NULL, &provider) == MRP_ERR_AGAIN);
    CHECK(says("main thread"));
    return NULL;
}

static void funneled_open(void)
{
    struct mrp_context *context;

    start(MPI_THREAD_FUNNELED);
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    in_thread(open_elsewhere, context);
    CHECK(mrp_context_destroy(context) == MRP_OK);
    MPI_Finalize();
}

struct counted_lock {
    pthread_mutex_t mutex;
    unsigned n_locked, n_unlocked;
};

static void lock(void *user)
{
    struct counted_lock *counted = user;

    pthread_mutex_lock(&counted->mutex);
    counted->n_locked++;
}

static void unlock(void *user)
{
    struct counted_lock *counted = user;

    counted->n_unlocked++;
    pthread_mutex_unlock(&counted->mutex);
}

static void *register_here(void *user)
{
    struct fixture *f = user;
    struct mrp_region *region;

    for (size_t i = 0; i < 50; i++) {
        CHECK(mrp_region_register(
                  f->pool, f->memory + i, 4096 * (1 + i % 4), NULL, &region) == MRP_OK);
        CHECK(mrp_region_free(region) == MRP_OK);
    }
    return NULL;
}

static void serialized_with_lock(void)
{
    static struct counted_lock counted = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct mrp_mpi_wrap_params params = MRP_MPI_WRAP_PARAMS_INIT;
    pthread_t threads[3];
    struct fixture f;
    unsigned n_before;

    start(MPI_THREAD_SERIALIZED);
    params.lock = lock;
    params.unlock = unlock;
    params.lock_arg = &counted;
    open_fixture(&f, &params);
    CHECK((n_before = counted.n_locked) > 0);
    for (size_t i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, register_here, &f) == 0);
    }
    for (size_t i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(counted.n_locked >= n_before + 300); /* attached and detached, or shared */
    close_fixture(&f);
    CHECK(counted.n_locked == counted.n_unlocked);
    MPI_Finalize();
}

struct opening {
    struct mrp_context *context;
    struct mrp_provider *provider;
};

static void *open_second(void *user)
{
    struct opening *opening = user;

    CHECK(open_provider(opening->context, NULL, &opening->provider) == MRP_OK);
    return NULL;
}

/* One thread opens, which waits for the other rank, and that waits for what another thread
 * does once its pool has grown. */
static void opens_while_another_grows(void)
{
    const struct timespec until_it_waits = {0, 200000000};
    struct opening opening = {NULL, NULL};
    struct mrp_provider *provider;
    struct mrp_backend *backend;
    struct mrp_pool *pool;
    pthread_t thread;
    int rank, go = 1;

    start(MPI_THREAD_MULTIPLE);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    CHECK(mrp_context_create(NULL, &opening.context) == MRP_OK);
    CHECK(open_provider(opening.context, NULL, &provider) == MRP_OK);
    CHECK(mrp_provider_backend(provider, NULL, &backend) == MRP_OK);
    pool = create_pool(opening.context, provider, backend);
    if (rank == 0) {
        CHECK(pthread_create(&thread, NULL, open_second, &opening) == 0);
        nanosleep(&until_it_waits, NULL); /* where not, the case is an easier one */
        CHECK(mrp_region_free(mrp_region_alloc(pool, (size_t)2 << 20)) == MRP_OK);
        MPI_Send(&go, 1, MPI_INT, 1, 0, MPI_COMM_WORLD);
        CHECK(pthread_join(thread, NULL) == 0);
    } else {
        MPI_Recv(&go, 1, MPI_INT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        open_second(&opening);
    }
    CHECK(mrp_context_destroy(opening.context) == MRP_OK);
    MPI_Finalize();
}

/* Of MPI's own; the module calls this one. */
static bool fails_to_set;

MRP_API int MPI_Win_set_attr(MPI_Win win, int key, void *value)
{
    return fails_to_set ? MPI_ERR_NO_MEM : PMPI_Win_set_attr(win, key, value);
}

/* One rank fails when the window is there: it does not wait for the others, who go on,
 * and whose closing waits for its MPI_Finalize. */
static void fails_alone_with(const char *options)
{
    struct mrp_context *context;
    struct mrp_provider *provider;
    int rank, is_open, go = 1;

    start(MPI_THREAD_MULTIPLE);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    fails_to_set = rank == 1;
    is_open = open_provider(context, options, &provider) == MRP_OK;
    fails_to_set = false;
    if (rank == 1) {
        CHECK(!is_open);
        CHECK(strstr(mrp_error_last()->text, "MPI_Win_set_attr") != NULL);
        MPI_Send(&go, 1, MPI_INT, 0, 0, MPI_COMM_WORLD);
    } else {
        CHECK(is_open);
        MPI_Recv(&go, 1, MPI_INT, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK(mrp_provider_close(provider) == MRP_OK);
    }
    CHECK(mrp_context_destroy(context) == MRP_OK);
    MPI_Finalize();
}

static void fails_alone_dynamic(void)
{
    fails_alone_with("window=dynamic");
}

static void fails_alone_allocated(void)
{
    fails_alone_with("window=allocated,size=8M");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenarios[] = {
        {"not-initialised", not_initialised},
        {"finalized-first-dynamic", finalized_first_dynamic},
        {"finalized-first-alloc-mem", finalized_first_alloc_mem},
        {"finalized-first-allocated", finalized_first_allocated},
        {"finalized-first-context", finalized_first_context},
        {"own-window-freed-dynamic", own_window_freed_dynamic},
        {"own-window-freed-allocated", own_window_freed_allocated},
        {"fails-alone-dynamic", fails_alone_dynamic},
        {"fails-alone-allocated", fails_alone_allocated},
        {"wrong-abi", wrong_abi},
        {"one-rank", one_rank},
        {"single", single},
        {"funneled", funneled},
        {"funneled-open", funneled_open},
        {"owed-is-detached", owed_is_detached},
        {"serialized-without-lock", serialized_without_lock},
        {"serialized-with-lock", serialized_with_lock},
        {"opens-while-another-grows", opens_while_another_grows},
    };

    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (argc == 2 && strcmp(argv[1], scenarios[i].name) == 0) {
            scenarios[i].run();
            return 0;
        }
    }
    fprintf(stderr, "no such scenario\n");
    return 2;
}
