/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests that stand in line without a thread: served at once, called back, cancelled,
 * and what a callback may do.
 */
#include "waiting.h"

#define PAGE 4096
#define BLOCK (64 * MRP_KIB)
#define N_BLOCKS (CHUNK / BLOCK)

static struct mrp_region *regions[PAGES_OF(2)];

/* -- a caller's object with a waiter in it -- */

struct transfer {
    struct mrp_waiter waiter;
    struct mrp_pool *pool;
    size_t size;
    struct mrp_region *region;
    enum mrp_status status;
    size_t n_calls, order;
    bool was_refused;
    void (*then)(struct transfer *transfer); /* what the callback does besides */
};

static size_t n_called, depth, deepest;

static void notify(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    struct transfer *transfer = waiter->user;

    depth++;
    deepest = mrp_max(deepest, depth);
    transfer->n_calls++;
    transfer->region = region;
    transfer->status = status;
    transfer->order = ++n_called;
    if (transfer->then != NULL) {
        transfer->then(transfer);
    }
    depth--;
}

static void prepare(struct transfer *transfer, struct pool_fixture *f, size_t size)
{
    struct mrp_waiter waiter = MRP_WAITER_INIT(notify, transfer);

    memset(transfer, 0, sizeof *transfer);
    transfer->waiter = waiter;
    transfer->pool = f->pool;
    transfer->size = size;
    depth = deepest = 0;
}

static enum mrp_status ask(struct transfer *transfer)
{
    return mrp_region_alloc_async(
        transfer->pool, transfer->size, &transfer->waiter, &transfer->region);
}

static void stand_in_line(struct transfer *transfer, struct pool_fixture *f, size_t size)
{
    prepare(transfer, f, size);
    assert_refused(ask(transfer), MRP_ERR_AGAIN, "stands in line");
    assert_int_equal(transfer->n_calls, 0);
    assert_null(transfer->region);
}

static void check_served(const struct transfer *transfer)
{
    assert_int_equal(transfer->n_calls, 1);
    assert_int_equal(transfer->status, MRP_OK);
    assert_non_null(transfer->region);
    assert_int_equal(mrp_region_size(transfer->region), transfer->size);
}

static void fill(struct pool_fixture *f)
{
    small_chunks_create(f, 1);
    take_all(f, regions, N_BLOCKS, BLOCK);
}

/* -- at once, later, never -- */

static void async__serves_at_once_what_is_there(void **state)
{
    static const size_t sizes[] = {0, 100, PAGE, BLOCK, MRP_MIB, 2 * CHUNK};
    struct pool_fixture *f = *state;
    struct transfer transfer;

    small_chunks_create(f, 16);
    for (size_t i = 0; i < 6; i++) {
        prepare(&transfer, f, sizes[i]);
        assert_int_equal(ask(&transfer), MRP_OK);
        assert_int_equal(transfer.n_calls, 0);
        assert_int_equal(mrp_region_size(transfer.region), sizes[i]);
        pool_fixture_free(transfer.region);
        assert_int_equal(ask(&transfer), MRP_OK); /* the waiter is as new */
        pool_fixture_free(transfer.region);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_waits, 0);
}

static void async__is_called_by_the_free_that_makes_room(void **state)
{
    struct pool_fixture *f = *state;
    struct transfer transfer;

    fill(f);
    for (size_t i = 0; i < 3; i++) {
        stand_in_line(&transfer, f, BLOCK - i);
        assert_int_equal(n_waiting(f->pool), 1);
        pool_fixture_free(regions[i]);
        check_served(&transfer);
        assert_ptr_equal(transfer.region, regions[i]);
        assert_int_equal(n_waiting(f->pool), 0);
    }
    give_all(f, regions, N_BLOCKS);
    assert_int_equal(transfer.n_calls, 1);
}

static void async__is_called_in_order_of_arrival(void **state)
{
    static struct transfer transfers[6];
    struct pool_fixture *f = *state;

    fill(f);
    for (size_t i = 0; i < 6; i++) {
        stand_in_line(&transfers[i], f, BLOCK);
    }
    n_called = 0;
    give_all(f, regions, 6);
    for (size_t i = 0; i < 6; i++) {
        check_served(&transfers[i]);
        assert_int_equal(transfers[i].order, i + 1);
        regions[i] = transfers[i].region;
    }
    give_all(f, regions, N_BLOCKS);
}

static void async__waits_beside_threads_in_the_same_line(void **state)
{
    static struct request request;
    static struct transfer first, last;
    struct pool_fixture *f = *state;

    fill(f);
    stand_in_line(&first, f, BLOCK);
    request_begin(&request, f, BLOCK, LONG_MS);
    stand_in_line(&last, f, BLOCK);
    pool_fixture_free(regions[0]);
    check_served(&first);
    pool_fixture_free(regions[1]);
    assert_ptr_equal(request_get(&request), regions[1]);
    assert_int_equal(last.n_calls, 0);
    pool_fixture_free(regions[2]);
    check_served(&last);
    give_all(f, regions, N_BLOCKS);
}

static void async__leaves_the_line_when_cancelled(void **state)
{
    static struct transfer first, second;
    struct pool_fixture *f = *state;

    fill(f);
    stand_in_line(&first, f, BLOCK);
    stand_in_line(&second, f, BLOCK);
    assert_int_equal(mrp_waiter_cancel(&first.waiter), MRP_OK);
    assert_refused(mrp_waiter_cancel(&first.waiter), MRP_ERR_NOT_FOUND, "no line");
    assert_int_equal(n_waiting(f->pool), 1);
    pool_fixture_free(regions[0]);
    assert_int_equal(first.n_calls, 0);
    check_served(&second);
    assert_refused(mrp_waiter_cancel(&second.waiter), MRP_ERR_NOT_FOUND, "notified");
    give_all(f, regions, N_BLOCKS);
    assert_int_equal(first.n_calls, 0);
}

static void async__refuses_bad_input(void **state)
{
    struct mrp_waiter fresh = MRP_WAITER_INIT(notify, NULL), none = {0};
    struct pool_fixture *f = *state;
    struct mrp_region *region = NULL;
    struct transfer transfer;

    fill(f);
    assert_refused(
        mrp_region_alloc_async(NULL, 1, &fresh, &region), MRP_ERR_STALE, "pool");
    assert_refused(
        mrp_region_alloc_async(f->pool, 1, NULL, &region), MRP_ERR_INVALID, "waiter");
    assert_refused(
        mrp_region_alloc_async(f->pool, 1, &none, &region), MRP_ERR_INVALID, "notify");
    assert_refused(
        mrp_region_alloc_async(f->pool, 1, &fresh, NULL), MRP_ERR_INVALID, "store");
    assert_refused(
        mrp_region_alloc_async(f->pool, SIZE_MAX, &fresh, &region), MRP_ERR_INVALID, "");
    assert_refused(mrp_waiter_cancel(NULL), MRP_ERR_NOT_FOUND, "");
    assert_refused(mrp_waiter_cancel(&fresh), MRP_ERR_NOT_FOUND, "");
    stand_in_line(&transfer, f, BLOCK);
    assert_refused(ask(&transfer), MRP_ERR_BUSY, "already");
    assert_int_equal(n_waiting(f->pool), 1);
    assert_int_equal(mrp_waiter_cancel(&transfer.waiter), MRP_OK);
    give_all(f, regions, N_BLOCKS);
}

/* -- room that only growth can use -- */

static void async__cuts_room_of_its_own_pool_for_it(void **state)
{
    struct pool_fixture *f = *state;
    struct transfer transfer;

    fill(f);
    stand_in_line(&transfer, f, PAGE); /* a slab of another class will do */
    pool_fixture_free(regions[0]);
    check_served(&transfer);
    pool_fixture_free(transfer.region);
    give_all(f, regions + 1, N_BLOCKS - 1);
}

static void async__keeps_its_turn_where_it_has_to_ask_again(void **state)
{
    static struct transfer first, second;
    struct pool_fixture *f = *state;
    struct mrp_region *large;
    uint64_t turn;

    small_chunks_create(f, 4);
    large = pool_fixture_alloc(f, 3 * CHUNK);
    take_all(f, regions, N_BLOCKS, BLOCK);
    stand_in_line(&first, f, BLOCK);
    turn = first.waiter.turn;
    stand_in_line(&second, f, BLOCK);
    pool_fixture_free(large); /* mapping is not a callback's work */
    assert_int_equal(first.n_calls, 1);
    assert_int_equal(first.status, MRP_ERR_AGAIN);
    assert_null(first.region);
    assert_int_equal(first.waiter.turn, turn);
    assert_int_equal(ask(&first), MRP_OK);
    assert_non_null(first.region);
    if (second.n_calls == 0) {
        assert_int_equal(mrp_waiter_cancel(&second.waiter), MRP_OK);
    } else {
        assert_int_equal(second.status == MRP_OK || second.status == MRP_ERR_AGAIN, 1);
    }
    if (second.region != NULL) {
        pool_fixture_free(second.region);
    }
    pool_fixture_free(first.region);
    give_all(f, regions, N_BLOCKS);
}

/* It comes back to a line that has grown meanwhile: before those that came later. */
static void async__comes_back_before_those_that_came_later(void **state)
{
    static struct transfer first, second;
    struct pool_fixture *f = *state;
    struct mrp_region *large;

    small_chunks_create(f, 4);
    large = pool_fixture_alloc(f, 3 * CHUNK);
    take_all(f, regions, N_BLOCKS, BLOCK);
    stand_in_line(&first, f, BLOCK);
    pool_fixture_free(large);
    assert_int_equal(first.status, MRP_ERR_AGAIN);
    large = pool_fixture_alloc(f, 3 * CHUNK); /* and it has gone again */
    stand_in_line(&second, f, BLOCK);
    assert_refused(ask(&first), MRP_ERR_AGAIN, "stands in line");
    pool_fixture_free(regions[0]);
    assert_int_equal(first.n_calls, 2);
    assert_int_equal(first.status, MRP_OK);
    assert_int_equal(second.n_calls, 0);
    assert_int_equal(mrp_waiter_cancel(&second.waiter), MRP_OK);
    pool_fixture_free(first.region);
    pool_fixture_free(large);
    give_all(f, regions + 1, N_BLOCKS - 1);
}

static void async__of_one_larger_than_huge(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};
    struct pool_fixture *f = *state;
    struct transfer transfer;

    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = small_chunks_params(f, 4);

        params.checks = checks[i];
        pool_fixture_create(f, &params);
        regions[0] = pool_fixture_alloc(f, 3 * CHUNK);
        stand_in_line(&transfer, f, 3 * CHUNK - 1000);
        pool_fixture_free(regions[0]);
        check_served(&transfer);
        assert_ptr_equal(transfer.region, regions[0]);
        pool_fixture_free(transfer.region);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* -- what a callback may do -- */

static void free_it(struct transfer *transfer)
{
    if (transfer->region != NULL && mrp_region_free(transfer->region) != MRP_OK) {
        transfer->status = MRP_ERR_CORRUPT;
    }
}

/* One free serves a hundred, one after the other, not one inside the other. */
static void callback__may_free_its_region_at_once(void **state)
{
    static struct transfer transfers[100];
    struct pool_fixture *f = *state;

    fill(f);
    for (size_t i = 0; i < 100; i++) {
        stand_in_line(&transfers[i], f, BLOCK);
        transfers[i].then = free_it;
    }
    n_called = 0;
    pool_fixture_free(regions[0]);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(transfers[i].n_calls, 1);
        assert_int_equal(transfers[i].status, MRP_OK);
        assert_int_equal(transfers[i].order, i + 1);
    }
    assert_int_equal(deepest, 1);
    assert_int_equal(n_waiting(f->pool), 0);
    give_all(f, regions + 1, N_BLOCKS - 1);
}

static void free_and_ask_again(struct transfer *transfer)
{
    free_it(transfer);
    if (transfer->n_calls < 50) {
        enum mrp_status status = ask(transfer);

        if (status == MRP_OK) { /* nobody else stood there */
            free_it(transfer);
        }
    }
}

static void callback__may_stand_in_line_again(void **state)
{
    static struct transfer transfers[4];
    struct pool_fixture *f = *state;

    fill(f);
    for (size_t i = 0; i < 4; i++) {
        stand_in_line(&transfers[i], f, BLOCK);
        transfers[i].then = free_and_ask_again;
    }
    pool_fixture_free(regions[0]);
    assert_int_equal(deepest, 1);
    assert_int_equal(n_waiting(f->pool), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_true(transfers[i].n_calls >= 1);
    }
    give_all(f, regions + 1, N_BLOCKS - 1);
}

static void allocate_and_cancel(struct transfer *transfer)
{
    struct mrp_region *region = mrp_region_alloc(transfer->pool, 64);
    struct transfer *other = (struct transfer *)(void *)transfer->waiter.user + 1;

    if (region != NULL) {
        mrp_region_free(region);
    }
    if (mrp_waiter_cancel(&other->waiter) != MRP_OK) {
        transfer->status = MRP_ERR_CORRUPT;
    }
}

static void callback__may_allocate_and_cancel_another(void **state)
{
    static struct transfer transfers[2];
    struct pool_fixture *f = *state;

    fill(f);
    stand_in_line(&transfers[0], f, BLOCK);
    stand_in_line(&transfers[1], f, BLOCK);
    transfers[0].then = allocate_and_cancel;
    pool_fixture_free(regions[0]);
    check_served(&transfers[0]);
    assert_int_equal(transfers[1].n_calls, 0);
    assert_int_equal(n_waiting(f->pool), 0);
    give_all(f, regions, N_BLOCKS);
}

static void callback__does_not_touch_the_error_record(void **state)
{
    struct pool_fixture *f = *state;
    struct transfer transfer;

    fill(f);
    stand_in_line(&transfer, f, BLOCK);
    mrp_fail(MRP_ERR_SYSTEM, 5, "the caller's own");
    assert_int_equal(mrp_region_free(regions[0]), MRP_OK);
    check_served(&transfer);
    assert_string_equal(mrp_error_last()->text, "the caller's own");
    give_all(f, regions, N_BLOCKS);
}

/* -- the pool goes -- */

static void destroy__calls_all_who_wait(void **state)
{
    static struct transfer transfers[3];
    struct pool_fixture *f = *state;

    fill(f);
    for (size_t i = 0; i < 3; i++) {
        stand_in_line(&transfers[i], f, i == 1 ? PAGE : BLOCK);
    }
    assert_refused(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED, "16 regions");
    f->pool = NULL;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(transfers[i].n_calls, 1);
        assert_int_equal(transfers[i].status, MRP_ERR_STALE);
        assert_null(transfers[i].region);
        assert_refused(
            mrp_waiter_cancel(&transfers[i].waiter), MRP_ERR_NOT_FOUND, "no line");
    }
    /* the waiter serves another pool */
    small_chunks_create(f, 1);
    transfers[0].pool = f->pool;
    assert_int_equal(ask(&transfers[0]), MRP_OK);
    pool_fixture_free(transfers[0].region);
}

static void ask_once_more(struct transfer *transfer)
{
    transfer->was_refused =
        transfer->status == MRP_ERR_STALE && ask(transfer) == MRP_ERR_STALE;
}

static void destroy__serves_nobody_who_asks_again(void **state)
{
    struct pool_fixture *f = *state;
    struct transfer transfer;

    fill(f);
    stand_in_line(&transfer, f, BLOCK);
    transfer.then = ask_once_more;
    assert_refused(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED, "16 regions");
    f->pool = NULL;
    assert_int_equal(transfer.n_calls, 1);
    assert_true(transfer.was_refused);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(async__serves_at_once_what_is_there),
        POOL_TEST(async__is_called_by_the_free_that_makes_room),
        POOL_TEST(async__is_called_in_order_of_arrival),
        POOL_TEST(async__waits_beside_threads_in_the_same_line),
        POOL_TEST(async__leaves_the_line_when_cancelled),
        POOL_TEST(async__refuses_bad_input),
        POOL_TEST(async__cuts_room_of_its_own_pool_for_it),
        POOL_TEST(async__keeps_its_turn_where_it_has_to_ask_again),
        POOL_TEST(async__comes_back_before_those_that_came_later),
        POOL_TEST(async__of_one_larger_than_huge),
        POOL_TEST(callback__may_free_its_region_at_once),
        POOL_TEST(callback__may_stand_in_line_again),
        POOL_TEST(callback__may_allocate_and_cancel_another),
        POOL_TEST(callback__does_not_touch_the_error_record),
        POOL_TEST(destroy__calls_all_who_wait),
        POOL_TEST(destroy__serves_nobody_who_asks_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
