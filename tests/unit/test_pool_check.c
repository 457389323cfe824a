/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_pool_check finds what is broken: each invariant is broken by hand, found, and
 * mended.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

#define N_HELD 400

struct checked {
    struct pool_fixture *f;
    struct mrp_region *held[N_HELD]; /* live, of one class with magazines */
    struct mrp_region *free, *large;
    struct mrp_depot *depot;
};

/* A pool with live, loose and packed regions, and an idle and a live large one. */
static struct checked prepare(void **state)
{
    struct checked c = {.f = *state};
    struct mrp_region *many[N_HELD];

    pool_fixture_create(c.f, NULL);
    assert_int_equal(mrp_region_alloc_many(c.f->pool, 200, N_HELD, c.held), N_HELD);
    assert_int_equal(mrp_region_alloc_many(c.f->pool, 200, N_HELD, many), N_HELD);
    assert_int_equal(mrp_region_free_many(many, N_HELD, NULL), MRP_OK);
    c.depot = &c.f->pool->depots[c.held[0]->size_class];
    c.free = many[N_HELD - 1];
    pool_fixture_free(pool_fixture_alloc(c.f, 2 * MRP_MIB));
    c.large = pool_fixture_alloc(c.f, 10 * MRP_MIB);
    assert_int_equal(mrp_pool_check(c.f->pool), MRP_OK);
    return c;
}

static void finish(const struct checked *c)
{
    assert_int_equal(mrp_pool_check(c->f->pool), MRP_OK);
    pool_fixture_free(c->large);
    assert_int_equal(mrp_region_free_many(c->held, N_HELD, NULL), MRP_OK);
}

#define assert_corrupt(c, words) \
    assert_refused(mrp_pool_check((c).f->pool), MRP_ERR_CORRUPT, (words))

static void check__a_double_push(void **state)
{
    struct checked c = prepare(state);
    struct mrp_links links = mrp_region_links(c.f->pool);
    uint64_t head = mrp_load_relaxed(&c.depot->loose.head);
    uint32_t first = (uint32_t)head - 1;
    uint32_t second = mrp_load_relaxed(mrp_link(links, first)) - 1;
    uint32_t third = mrp_load_relaxed(mrp_link(links, second));

    mrp_stack_push(&c.depot->loose, links, second); /* a ring: second, first, second */
    assert_corrupt(c, "is free twice");
    mrp_store_relaxed(mrp_link(links, second), third);
    mrp_store_relaxed(&c.depot->loose.head, head);
    finish(&c);
}

static void check__a_lost_region(void **state)
{
    struct checked c = prepare(state);
    struct mrp_links links = mrp_region_links(c.f->pool);
    uint32_t lost = mrp_stack_pop(&c.depot->loose, links);

    assert_corrupt(c, "were cut");
    mrp_stack_push(&c.depot->loose, links, lost);
    finish(&c);
}

static void check__a_live_region_on_a_stack(void **state)
{
    struct checked c = prepare(state);
    struct mrp_links links = mrp_region_links(c.f->pool);

    mrp_stack_push(&c.depot->loose, links, mrp_region_index(c.held[0]));
    assert_corrupt(c, "is on a free stack");
    mrp_stack_pop(&c.depot->loose, links);
    finish(&c);
}

static void check__a_wrong_class(void **state)
{
    struct checked c = prepare(state);
    uint8_t class = c.held[0]->size_class;

    c.free->size_class = (uint8_t)(class + 1);
    assert_corrupt(c, "is on a free stack");
    c.free->size_class = class;
    c.held[0]->size_class = (uint8_t)(class + 1);
    assert_corrupt(c, "were cut");
    c.held[0]->size_class = class;
    finish(&c);
}

static void check__a_cleared_key_line(void **state)
{
    struct checked c = prepare(state);
    struct mrp_key_line *line = mrp_key_line(c.f->pool, 0, c.held[0]->chunk);
    uint32_t flags = mrp_load_relaxed(&line->flags);
    void *native = mrp_load_relaxed(&line->native);
    size_t size = mrp_load_relaxed(&line->size);

    mrp_store_relaxed(&line->flags, 0);
    assert_corrupt(c, "the key line of rail 0 is not its registration");
    mrp_store_relaxed(&line->flags, flags);
    mrp_store_relaxed(&line->native, &c);
    assert_corrupt(c, "the key line of rail 0 is not its registration");
    mrp_store_relaxed(&line->native, native);
    mrp_store_relaxed(&line->size, size / 2);
    assert_corrupt(c, "the key line of rail 0 is not its registration");
    mrp_store_relaxed(&line->size, size);
    finish(&c);
}

static void check__a_key_without_a_chunk(void **state)
{
    struct checked c = prepare(state);
    struct mrp_key_line *line;
    uint32_t id = 0;

    assert_int_equal(mrp_context_trim(c.f->context, 0), MRP_OK);
    while (mrp_chunk_entry(c.f->pool, id)->chunk != NULL) {
        id++;
    }
    assert_true(id < c.f->pool->n_chunk_ids);
    line = mrp_key_line(c.f->pool, 0, id);
    mrp_store_relaxed(&line->flags, MRP_KEY_REGISTERED);
    assert_corrupt(c, "is gone, but rail 0 has a key for it");
    mrp_store_relaxed(&line->flags, 0);
    finish(&c);
}

static void check__a_wrong_magazine_count(void **state)
{
    struct checked c = prepare(state);
    uint32_t first = (uint32_t)mrp_load_relaxed(&c.depot->full.head);
    struct mrp_magazine *magazine;
    struct mrp_region *region;
    uint32_t count;

    assert_int_not_equal(first, 0);
    magazine = mrp_magazine_at(c.f->pool, first - 1);
    count = mrp_load_relaxed(&magazine->count);
    mrp_store_relaxed(&magazine->count, count - 1);
    assert_corrupt(c, "a full magazine holds");
    mrp_store_relaxed(&magazine->count, count);
    region = magazine->regions[0];
    magazine->regions[0] = magazine->regions[1];
    assert_corrupt(c, "is free twice");
    magazine->regions[0] = mrp_region_at(c.f->pool, c.f->pool->n_descriptors);
    assert_corrupt(c, "a stack holds region");
    magazine->regions[0] = (struct mrp_region *)(void *)&magazine;
    assert_corrupt(c, "of no region of this pool");
    magazine->regions[0] = region;
    c.depot->n_magazines++;
    assert_corrupt(c, "magazines are on its stacks");
    c.depot->n_magazines--;
    finish(&c);
}

static void check__a_state_that_is_none(void **state)
{
    struct checked c = prepare(state);

    mrp_store_relaxed(&c.held[0]->state, 12345);
    assert_corrupt(c, "");
    mrp_store_relaxed(&c.held[0]->state, MRP_STATE_LIVE);
    finish(&c);
}

static void check__an_address_that_leads_elsewhere(void **state)
{
    struct checked c = prepare(state);
    struct mrp_chunk *chunk = mrp_chunk_entry(c.f->pool, c.held[0]->chunk)->chunk;
    uint64_t slab = mrp_load_relaxed(&chunk->granules[0]);

    c.held[0]->offset += 256;
    assert_corrupt(c, "leads to");
    c.held[0]->offset -= 256;
    c.large->offset += (int64_t)MRP_GIB * 1024;
    assert_corrupt(c, "leads to");
    c.large->offset -= (int64_t)MRP_GIB * 1024;
    mrp_store_relaxed(&chunk->granules[0], slab + 1);
    assert_corrupt(c, "leads to");
    mrp_store_relaxed(&chunk->granules[0], 0);
    assert_corrupt(c, "leads to");
    mrp_store_relaxed(&chunk->granules[0], slab);
    finish(&c);
}

static void check__bytes_that_do_not_add_up(void **state)
{
    struct checked c = prepare(state);

    c.f->pool->mapped_size += 4096;
    assert_corrupt(c, "are mapped, but");
    c.f->pool->mapped_size -= 4096;
    finish(&c);
}

static void check__refuses_what_is_no_pool(void **state)
{
    struct pool_fixture *f = *state;

    assert_refused(mrp_pool_check(NULL), MRP_ERR_STALE, "NULL");
    assert_refused(mrp_pool_check((struct mrp_pool *)f), MRP_ERR_STALE, "is not a pool");
    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK); /* before the first growth */
    assert_refused(mrp_pool_check((struct mrp_pool *)((char *)f->pool + 64)),
        MRP_ERR_STALE, "is not a pool");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(check__a_double_push),
        POOL_TEST(check__a_lost_region),
        POOL_TEST(check__a_live_region_on_a_stack),
        POOL_TEST(check__a_wrong_class),
        POOL_TEST(check__a_cleared_key_line),
        POOL_TEST(check__a_key_without_a_chunk),
        POOL_TEST(check__a_wrong_magazine_count),
        POOL_TEST(check__a_state_that_is_none),
        POOL_TEST(check__an_address_that_leads_elsewhere),
        POOL_TEST(check__bytes_that_do_not_add_up),
        POOL_TEST(check__refuses_what_is_no_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
