/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The uring provider round a ring of the caller's: its table or a part of one, rings that
 * belong to one thread, and rings that are closed too early.
 */
#include "uring_station.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static struct io_uring ring_open(unsigned flags)
{
    struct io_uring ring;

    assert_int_equal(io_uring_queue_init(8, &ring, flags), 0);
    return ring;
}

static struct mrp_uring_wrap_params params_of(struct io_uring *ring)
{
    struct mrp_uring_wrap_params params = MRP_URING_WRAP_PARAMS_INIT;

    params.ring = ring;
    params.count = 8;
    return params;
}

/* -- what is refused -- */

static void assert_wrap_fails(const struct mrp_uring_wrap_params *params,
    enum mrp_status expected, const char *word)
{
    struct mrp_context *context;
    struct mrp_provider *provider;

    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_error(
        mrp_uring_provider_wrap(context, NULL, params, &provider), expected, word);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

static void noop(void *argument)
{
    (void)argument;
}

static void wrap__wrong_params(void **test)
{
    struct io_uring ring = ring_open(0), closed = ring;
    struct mrp_uring_wrap_params wrong;

    (void)test;
    assert_wrap_fails(NULL, MRP_ERR_INVALID, "params is NULL");
    wrong = params_of(&ring);
    wrong.struct_size = 0;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "_INIT macro");
    wrong = params_of(NULL);
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "ring is NULL");
    closed.ring_fd = 1 << 20;
    wrong = params_of(&closed);
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "is not open");
    wrong = params_of(&ring);
    wrong.first = 1;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "without has_table");
    wrong = params_of(&ring);
    wrong.count = 16385;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "1 to 16384");
    wrong = params_of(&ring);
    wrong.has_table = true;
    wrong.first = 16380;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "1 to 16384");
    wrong = params_of(&ring);
    wrong.lock = noop;
    assert_wrap_fails(&wrong, MRP_ERR_INVALID, "lock without unlock");
    io_uring_queue_exit(&ring);
}

static void wrap__table_that_does_not_fit(void **test)
{
    struct io_uring ring = ring_open(0);
    struct mrp_uring_wrap_params params = params_of(&ring);

    (void)test;
    params.has_table = true;
    assert_wrap_fails(&params, MRP_ERR_INVALID, "has no table");
    assert_int_equal(io_uring_register_buffers_sparse(&ring, 16), 0);
    params.first = 9;
    assert_wrap_fails(&params, MRP_ERR_INVALID, "9 to 16");
    params.has_table = false;
    params.first = 0;
    assert_wrap_fails(&params, MRP_ERR_INVALID, "has a table of fixed buffers already");
    io_uring_queue_exit(&ring);
}

/* -- tables -- */

static struct mrp_region *take(const struct station *station, void *memory)
{
    struct mrp_region *region;

    assert_int_equal(
        mrp_region_register(station->pool, memory, 4096, NULL, &region), MRP_OK);
    return region;
}

static void wrap__table_of_its_own_goes_with_it(void **test)
{
    struct io_uring ring = ring_open(0);
    struct mrp_uring_wrap_params params = params_of(&ring);

    (void)test;
    for (size_t i = 0; i < 2; i++) {
        struct station station = station_wrap(&params);

        station_close(&station);
    }
    assert_int_equal(io_uring_register_buffers_sparse(&ring, 4), 0);
    io_uring_queue_exit(&ring);
}

/* Two providers and the caller share a table; each keeps to its part. */
static void wrap__parts_of_the_callers_table(void **test)
{
    struct io_uring ring = ring_open(0);
    struct mrp_uring_wrap_params params = params_of(&ring);
    unsigned char *memory = map_memory(4096), *own = map_memory(4096);
    const struct iovec own_buffer = {own, 4096};
    struct station stations[2];
    struct mrp_region *regions[2][2];
    int pipes[2];

    (void)test;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(io_uring_register_buffers_sparse(&ring, 5), 0);
    assert_int_equal(
        io_uring_register_buffers_update_tag(&ring, 0, &own_buffer, NULL, 1), 1);
    params.has_table = true;
    params.count = 2;
    for (unsigned i = 0; i < 2; i++) {
        params.first = 1 + 2 * i;
        stations[i] = station_wrap(&params);
        for (unsigned j = 0; j < 2; j++) {
            regions[i][j] = take(&stations[i], memory);
            assert_int_equal(index_of(regions[i][j]), params.first + j);
        }
    }
    submit(&ring, false, pipes[1], own, 10, 0);
    assert_int_equal(complete(&ring), 10);
    submit(&ring, false, pipes[1], memory, 10, index_of(regions[1][1]));
    assert_int_equal(complete(&ring), 10);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned j = 0; j < 2; j++) {
            assert_int_equal(mrp_region_free(regions[i][j]), MRP_OK);
        }
        station_close(&stations[i]);
    }
    submit(&ring, false, pipes[1], own, 10, 0);
    assert_int_equal(complete(&ring), 10);
    close(pipes[0]);
    close(pipes[1]);
    io_uring_queue_exit(&ring);
    assert_int_equal(munmap(memory, 4096), 0);
    assert_int_equal(munmap(own, 4096), 0);
}

struct lock_count {
    size_t n_locks, n_unlocks;
};

static void count_lock(void *argument)
{
    ((struct lock_count *)argument)->n_locks++;
}

static void count_unlock(void *argument)
{
    ((struct lock_count *)argument)->n_unlocks++;
}

static void wrap__lock_is_taken_round_each_call(void **test)
{
    struct io_uring ring = ring_open(0);
    struct mrp_uring_wrap_params params = params_of(&ring);
    unsigned char *memory = map_memory(4096);
    struct lock_count count = {0, 0};
    struct station station;
    size_t before;

    (void)test;
    params.lock = count_lock;
    params.unlock = count_unlock;
    params.lock_arg = &count;
    station = station_wrap(&params);
    before = count.n_locks;
    assert_int_equal(mrp_region_free(take(&station, memory)), MRP_OK);
    assert_int_equal(count.n_locks, before + 2);
    assert_int_equal(count.n_unlocks, count.n_locks);
    station_close(&station);
    io_uring_queue_exit(&ring);
    assert_int_equal(munmap(memory, 4096), 0);
}

/* -- a ring that belongs to one thread -- */

struct other_thread {
    const struct station *station;
    void *memory;
    struct mrp_region *to_free;
    enum mrp_status registered, freed;
    char text[512];
};

static void *run_other(void *user)
{
    struct other_thread *other = user;
    struct mrp_region *region;

    other->registered =
        mrp_region_register(other->station->pool, other->memory, 4096, NULL, &region);
    snprintf(other->text, sizeof(other->text), "%s", mrp_error_last()->text);
    other->freed = mrp_region_free(other->to_free);
    return NULL;
}

static void wrap__single_issuer(void **test)
{
    struct io_uring ring = ring_open(IORING_SETUP_SINGLE_ISSUER);
    struct mrp_uring_wrap_params params = params_of(&ring);
    struct station station = station_wrap(&params);
    unsigned char *memory = map_memory(4096);
    struct mrp_region *kept = take(&station, memory), *next;
    struct other_thread other = {&station, memory, take(&station, memory), 1, 1, ""};
    size_t before = pinned();
    pthread_t thread;

    (void)test;
    assert_int_equal(pthread_create(&thread, NULL, run_other, &other), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(other.registered, MRP_ERR_AGAIN);
    assert_non_null(strstr(other.text, "IORING_SETUP_SINGLE_ISSUER"));
    assert_int_equal(other.freed, MRP_OK);
    assert_int_equal(pinned(), before); /* until the ring's thread comes by */
    next = take(&station, memory); /* which registers in its place */
    assert_int_equal(pinned(), before);
    other.to_free = next;
    assert_int_equal(pthread_create(&thread, NULL, run_other, &other), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pinned(), before);
    assert_int_equal(mrp_region_free(kept), MRP_OK); /* and deregisters that, too */
    assert_true(pinned() + 2 * 4096 <= before);
    station_close(&station);
    io_uring_queue_exit(&ring);
    assert_int_equal(munmap(memory, 4096), 0);
}

struct locking {
    struct mrp_region *to_free; /* by a thread of the lock's, when it is next taken */
    pthread_t thread;
    bool has_begun, is_stuck;
};

static void *run_free(void *region)
{
    return mrp_region_free(region) == MRP_OK ? NULL : region;
}

static void lock_and_free(void *argument)
{
    struct locking *locking = argument;
    struct mrp_region *region = locking->to_free;
    struct timespec until;

    if (region != NULL) {
        locking->to_free = NULL;
        locking->has_begun =
            pthread_create(&locking->thread, NULL, run_free, region) == 0;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 5;
        locking->is_stuck = !locking->has_begun ||
            pthread_timedjoin_np(locking->thread, NULL, &until) != 0;
    }
}

/* Who holds the caller's lock may be waiting for a thread that frees a region: nothing of
 * the provider's is held while its lock is taken. */
static void wrap__lock_is_taken_under_nothing(void **test)
{
    struct io_uring ring = ring_open(IORING_SETUP_SINGLE_ISSUER);
    struct mrp_uring_wrap_params params = params_of(&ring);
    unsigned char *memory = map_memory(4096);
    struct locking locking = {.to_free = NULL};
    struct mrp_region *regions[2];
    struct station station;
    pthread_t thread;

    (void)test;
    params.lock = lock_and_free;
    params.unlock = noop;
    params.lock_arg = &locking;
    station = station_wrap(&params);
    regions[0] = take(&station, memory);
    regions[1] = take(&station, memory);
    assert_int_equal(pthread_create(&thread, NULL, run_free, regions[0]), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    locking.to_free = regions[1];
    regions[0] = take(&station, memory); /* empties the entry of the one freed there */
    assert_true(locking.has_begun);
    assert_false(locking.is_stuck);
    assert_int_equal(mrp_region_free(regions[0]), MRP_OK);
    station_close(&station);
    io_uring_queue_exit(&ring);
    assert_int_equal(munmap(memory, 4096), 0);
}

/* All entries are taken, some by what waits for the ring's thread. */
static void wrap__full_of_what_waits(void **test)
{
    struct io_uring ring = ring_open(IORING_SETUP_SINGLE_ISSUER);
    struct mrp_uring_wrap_params params = params_of(&ring);
    unsigned char *memory = map_memory(4096);
    struct other_thread other = {.memory = memory};
    struct station station;
    pthread_t thread;

    (void)test;
    params.count = 1;
    station = station_wrap(&params);
    other.station = &station;
    other.to_free = take(&station, memory);
    assert_int_equal(pthread_create(&thread, NULL, run_free, other.to_free), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    other.to_free = NULL;
    assert_int_equal(pthread_create(&thread, NULL, run_other, &other), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(other.registered, MRP_ERR_AGAIN);
    assert_non_null(strstr(other.text, "IORING_SETUP_SINGLE_ISSUER"));
    assert_int_equal(mrp_region_free(take(&station, memory)), MRP_OK);
    station_close(&station);
    io_uring_queue_exit(&ring);
    assert_int_equal(munmap(memory, 4096), 0);
}

/* -- a ring that is closed first -- */

/* The rail fails, with the reason; the pool goes on without it. */
static void assert_closed(struct station *station, void *memory)
{
    struct mrp_rail_info info = MRP_RAIL_INFO_INIT;
    struct mrp_region *region;
    void *desc;

    assert_int_equal(
        mrp_region_register(station->pool, memory, 4096, NULL, &region), MRP_OK);
    assert_error(
        mrp_region_local_desc(region, 0, &desc), MRP_ERR_UNAVAILABLE, "has been closed");
    assert_int_equal(mrp_pool_rail_query(station->pool, 0, &info), MRP_OK);
    assert_int_equal(info.state, MRP_RAIL_FAILED);
    assert_non_null(strstr(info.reason, "has been closed"));
    assert_int_equal(mrp_region_free(region), MRP_OK);
}

static void close__ring_before_provider(void **test)
{
    struct io_uring ring = ring_open(0);
    struct mrp_uring_wrap_params params = params_of(&ring);
    struct station station = station_wrap(&params);
    unsigned char *memory = map_memory(4096);
    struct mrp_region *region = take(&station, memory);

    (void)test;
    io_uring_queue_exit(&ring);
    assert_closed(&station, memory);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    station_close(&station);
    assert_int_equal(munmap(memory, 4096), 0);
}

/* So are the buffers when the caller takes the table away. */
static void close__table_before_provider(void **test)
{
    struct io_uring ring = ring_open(0);
    struct mrp_uring_wrap_params params = params_of(&ring);
    struct mrp_rail_info info = MRP_RAIL_INFO_INIT;
    struct station station = station_wrap(&params);
    unsigned char *memory = map_memory(4096);
    struct mrp_region *region = take(&station, memory);

    (void)test;
    assert_int_equal(io_uring_unregister_buffers(&ring), 0);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    region = take(&station, memory);
    assert_int_equal(mrp_pool_rail_query(station.pool, 0, &info), MRP_OK);
    assert_int_equal(info.state, MRP_RAIL_FAILED);
    assert_non_null(strstr(info.reason, "taken away"));
    assert_int_equal(mrp_region_free(region), MRP_OK);
    station_close(&station);
    io_uring_queue_exit(&ring);
    assert_int_equal(munmap(memory, 4096), 0);
}

/* The number of the descriptor may have become another ring's. */
static void close__ring_before_provider_and_another_comes(void **test)
{
    struct io_uring ring = ring_open(0), other;
    struct mrp_uring_wrap_params params = params_of(&ring);
    struct station station = station_wrap(&params);
    unsigned char *memory = map_memory(4096), *others = map_memory(4096);
    const struct iovec others_buffer = {others, 4096};
    struct mrp_region *region = take(&station, memory);
    int index = index_of(region), number = ring.ring_fd, pipes[2];

    (void)test;
    assert_int_equal(pipe(pipes), 0);
    io_uring_queue_exit(&ring);
    other = ring_open(0);
    assert_int_equal(other.ring_fd, number);
    assert_int_equal(io_uring_register_buffers_sparse(&other, 8), 0);
    assert_int_equal(io_uring_register_buffers_update_tag(
                         &other, (unsigned)index, &others_buffer, NULL, 1),
        1);
    assert_closed(&station, memory);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    station_close(&station);
    submit(&other, false, pipes[1], others, 10, index);
    assert_int_equal(complete(&other), 10);
    io_uring_queue_exit(&other);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(munmap(memory, 4096), 0);
    assert_int_equal(munmap(others, 4096), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrap__wrong_params),
        cmocka_unit_test(wrap__table_that_does_not_fit),
        cmocka_unit_test(wrap__table_of_its_own_goes_with_it),
        cmocka_unit_test(wrap__parts_of_the_callers_table),
        cmocka_unit_test(wrap__lock_is_taken_round_each_call),
        cmocka_unit_test_setup(wrap__single_issuer, wait_until_unpinned),
        cmocka_unit_test(wrap__lock_is_taken_under_nothing),
        cmocka_unit_test(wrap__full_of_what_waits),
        cmocka_unit_test(close__ring_before_provider),
        cmocka_unit_test(close__table_before_provider),
        cmocka_unit_test(close__ring_before_provider_and_another_comes),
    };
    int skipped = skip_without_uring();

    return skipped != 0 ? skipped : cmocka_run_group_tests(tests, NULL, NULL);
}
