/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bytes on the wire: what was encoded is read back, what is damaged, cut or forged is
 * refused, and nothing beyond it is read.
 */
#include "context/wire.h"

#include "refusal.h"
#include "wire_bytes.h"

#include <stdlib.h>

/* -- tokens -- */

static const struct mrp_wire_token sample = {
    0x04030201, 0x14131211, 0x24232221, 0x54535251, 0x363534333231, 0x464544434241};

static void token__has_its_documented_layout(void **unused)
{
    static const unsigned char wanted[MRP_TOKEN_SIZE] = {1, 0, 0, 0, 0x01, 0x02, 0x03,
        0x04, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0x31, 0x32, 0x33, 0x34,
        0x35, 0x36, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x51, 0x52, 0x53, 0x54};
    struct mrp_token token;
    (void)unused;

    memset(&token, 0xff, sizeof token);
    mrp_token_encode(&sample, &token);
    assert_int_equal(
        token.bytes[2] | token.bytes[3] << 8, wire_check(token.bytes, MRP_TOKEN_SIZE));
    token.bytes[2] = token.bytes[3] = 0;
    assert_memory_equal(token.bytes, wanted, MRP_TOKEN_SIZE);
    assert_int_equal(wire_check((const unsigned char *)"123", 0), 0xffff);
}

static void token__is_read_back(void **unused)
{
    uint64_t random = 1, limit = ((uint64_t)1 << 48) - 1;
    (void)unused;

    for (int round = 0; round < 10000; round++) {
        struct mrp_wire_token fields = {(uint32_t)wire_random(&random),
            (uint32_t)wire_random(&random), (uint32_t)wire_random(&random),
            (uint32_t)wire_random(&random), wire_random(&random) * 7 & limit,
            round == 0 ? limit : wire_random(&random) * 5 & limit};
        struct mrp_wire_token found = {0};
        struct mrp_token token;

        mrp_token_encode(&fields, &token);
        assert_accepted(mrp_token_decode(&token, &found));
        assert_int_equal(found.pool, fields.pool);
        assert_int_equal(found.chunk, fields.chunk);
        assert_int_equal(found.chunk_generation, fields.chunk_generation);
        assert_int_equal(found.region_generation, fields.region_generation);
        assert_int_equal(found.offset, fields.offset);
        assert_int_equal(found.length, fields.length);
    }
}

static void token__with_any_one_or_two_bits_flipped_is_refused(void **unused)
{
    struct mrp_wire_token found = {.pool = 99};
    struct mrp_token token, damaged;
    (void)unused;

    mrp_token_encode(&sample, &token);
    for (size_t one = 0; one < 8 * MRP_TOKEN_SIZE; one++) {
        for (size_t two = one; two < 8 * MRP_TOKEN_SIZE; two++) {
            damaged = token;
            damaged.bytes[one / 8] ^= (unsigned char)(1 << one % 8);
            if (two > one) {
                damaged.bytes[two / 8] ^= (unsigned char)(1 << two % 8);
            }
            assert_int_equal(mrp_token_decode(&damaged, &found), MRP_ERR_INVALID);
        }
    }
    assert_int_equal(found.pool, 99);
}

static void token__of_another_version_or_with_flags_is_refused(void **unused)
{
    struct mrp_wire_token found;
    struct mrp_token token;
    (void)unused;

    mrp_token_encode(&sample, &token);
    token.bytes[0] = 2;
    wire_seal(token.bytes, MRP_TOKEN_SIZE);
    assert_refused(mrp_token_decode(&token, &found), MRP_ERR_INVALID, "version 2");
    token.bytes[0] = 1;
    token.bytes[1] = 0x80;
    wire_seal(token.bytes, MRP_TOKEN_SIZE);
    assert_refused(mrp_token_decode(&token, &found), MRP_ERR_INVALID, "flags 0x80");
    memset(&token, 0, sizeof token);
    assert_refused(mrp_token_decode(&token, &found), MRP_ERR_INVALID, "version 0");
    memset(&token, 0xff, sizeof token);
    assert_refused(mrp_token_decode(&token, &found), MRP_ERR_INVALID, "version 255");
}

/* -- keys -- */

#define RAILS_MAX 64

struct packed {
    struct mrp_wire_keys keys;
    struct mrp_wire_key entries[RAILS_MAX];
    unsigned char *bytes; /* exactly size of them, so that a tool sees what is beyond */
    size_t size;
};

static unsigned char pattern[MRP_KEY_SIZE_MAX + 64];

/* The keys of n rails, numbered from the last one down, of sizes from key_size up. */
static struct packed pack(size_t n_rails, size_t key_size)
{
    struct packed packed = {
        .keys = {0x01020304, 5, 6, (uint64_t)1 << 40, n_rails},
        .size = MRP_KEYS_HEADER_SIZE,
    };

    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (unsigned char)(i * 37 + 1);
    }
    for (size_t i = 0; i < n_rails; i++) {
        packed.entries[i] = (struct mrp_wire_key){(unsigned)(n_rails - 1 - i),
            0x1122334455667788 + i, pattern + i, key_size + i % 9};
        packed.size += mrp_wire_key_size(packed.entries[i].key_size);
    }
    packed.bytes = malloc(packed.size);
    assert_non_null(packed.bytes);
    memset(packed.bytes, 0xff, packed.size);
    mrp_keys_encode(&packed.keys, packed.entries, packed.bytes, packed.size);
    return packed;
}

static enum mrp_status decode(const struct packed *packed, unsigned rail)
{
    struct mrp_wire_keys keys;
    struct mrp_wire_key entry = {99, 99, NULL, 0};
    enum mrp_status status =
        mrp_keys_decode(packed->bytes, packed->size, rail, &keys, &entry);

    assert_true((status == MRP_OK) == (entry.key != NULL));
    return status;
}

static void check_entry(const struct packed *packed, size_t i)
{
    const struct mrp_wire_key *wanted = &packed->entries[i];
    struct mrp_wire_keys keys;
    struct mrp_wire_key found;

    assert_accepted(
        mrp_keys_decode(packed->bytes, packed->size, wanted->rail, &keys, &found));
    assert_int_equal(keys.pool, packed->keys.pool);
    assert_int_equal(keys.chunk, packed->keys.chunk);
    assert_int_equal(keys.chunk_generation, packed->keys.chunk_generation);
    assert_int_equal(keys.chunk_size, packed->keys.chunk_size);
    assert_int_equal(keys.n_rails, packed->keys.n_rails);
    assert_int_equal(found.rail, wanted->rail);
    assert_int_equal(found.remote_base, wanted->remote_base);
    assert_int_equal(found.key_size, wanted->key_size);
    assert_memory_equal(found.key, wanted->key, wanted->key_size);
    assert_in_range((uintptr_t)found.key, (uintptr_t)packed->bytes,
        (uintptr_t)packed->bytes + packed->size - found.key_size);
}

static void keys__of_each_rail_are_read_back(void **unused)
{
    static const size_t counts[] = {1, 2, 3, 17, RAILS_MAX};
    static const size_t sizes[] = {1, 7, 8, 9, 32, 4000, MRP_KEY_SIZE_MAX - 8};
    (void)unused;

    for (size_t count = 0; count < 5; count++) {
        for (size_t size = 0; size < 7; size++) {
            struct packed packed = pack(counts[count], sizes[size]);

            for (size_t i = 0; i < counts[count]; i++) {
                check_entry(&packed, i);
            }
            free(packed.bytes);
        }
    }
}

static void keys__hold_none_for_other_rails(void **unused)
{
    struct packed packed = pack(3, 8), none = pack(0, 8);
    (void)unused;

    assert_refused(decode(&packed, 3), MRP_ERR_INVALID, "none for rail 3");
    assert_refused(decode(&packed, 256), MRP_ERR_INVALID, "none for rail 256");
    assert_refused(decode(&packed, UINT32_MAX), MRP_ERR_INVALID, "none for rail");
    assert_refused(decode(&none, 0), MRP_ERR_INVALID, "none for rail 0");
    free(packed.bytes);
    free(none.bytes);
}

static void keys__with_any_bit_flipped_are_refused(void **unused)
{
    struct packed packed = pack(4, 29);
    (void)unused;

    for (size_t bit = 0; bit < 8 * packed.size; bit++) {
        packed.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_equal(decode(&packed, 1), MRP_ERR_INVALID);
        packed.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_accepted(decode(&packed, 1));
    free(packed.bytes);
}

/* Also with a size and a check that agree with what is left. */
static void keys__cut_at_any_length_are_refused(void **unused)
{
    struct packed packed = pack(4, 29), cut = packed;
    (void)unused;

    for (cut.size = 0; cut.size < packed.size; cut.size++) {
        cut.bytes = malloc(cut.size + 1);
        cut.bytes = realloc(cut.bytes, cut.size == 0 ? 1 : cut.size);
        memcpy(cut.bytes, packed.bytes, cut.size);
        assert_refused(decode(&cut, 0), MRP_ERR_INVALID, "truncated");
        if (cut.size >= MRP_KEYS_HEADER_SIZE) {
            wire_put(cut.bytes + 4, 4, cut.size);
            wire_seal(cut.bytes, cut.size);
            assert_refused(decode(&cut, 0), MRP_ERR_INVALID, "malformed");
        }
        free(cut.bytes);
    }
    free(packed.bytes);
}

static void keys__with_bytes_to_spare_are_refused(void **unused)
{
    struct packed packed = pack(2, 8);
    (void)unused;

    packed.bytes = realloc(packed.bytes, packed.size + 8);
    memset(packed.bytes + packed.size, 0, 8);
    packed.size += 8;
    assert_refused(
        decode(&packed, 0), MRP_ERR_INVALID, "were passed: pass what was packed");
    wire_put(packed.bytes + 4, 4, packed.size);
    wire_seal(packed.bytes, packed.size);
    assert_refused(decode(&packed, 0), MRP_ERR_INVALID, "malformed");
    free(packed.bytes);
}

static void keys__of_another_version_are_refused(void **unused)
{
    struct packed packed = pack(2, 8);
    (void)unused;

    packed.bytes[0] = 2;
    wire_seal(packed.bytes, packed.size);
    assert_refused(decode(&packed, 0), MRP_ERR_INVALID, "version 2");
    free(packed.bytes);
}

/* Bytes that a machine of the other order has taken for words. */
static void swap_words(unsigned char *bytes, size_t size, size_t width)
{
    for (size_t i = 0; i < size; i += width) {
        for (size_t j = 0; j < width / 2; j++) {
            unsigned char byte = bytes[i + j];

            bytes[i + j] = bytes[i + width - 1 - j];
            bytes[i + width - 1 - j] = byte;
        }
    }
}

static void bytes__in_the_other_order_are_refused_as_such(void **unused)
{
    struct packed packed = pack(3, 29);
    struct mrp_wire_token found;
    struct mrp_token token;
    (void)unused;

    for (size_t width = 4; width <= 8; width += 4) {
        mrp_token_encode(&sample, &token);
        swap_words(token.bytes, sizeof token.bytes, width);
        assert_refused(
            mrp_token_decode(&token, &found), MRP_ERR_INVALID, "in the other order");
        swap_words(packed.bytes, packed.size, width);
        assert_refused(decode(&packed, 0), MRP_ERR_INVALID, "in the other order");
        swap_words(packed.bytes, packed.size, width);
        assert_accepted(decode(&packed, 0));
    }
    free(packed.bytes);
}

/* Sizes and counts that lie, under a check that is right. */
static void keys__that_lie_about_themselves_are_refused(void **unused)
{
    static const size_t key_sizes[] = {0, 9, 16, 17, 4096, 4097, 65535};
    struct packed packed = pack(2, 8);
    unsigned char *first_size = packed.bytes + MRP_KEYS_HEADER_SIZE + 2;
    (void)unused;

    for (size_t i = 0; i < sizeof key_sizes / sizeof key_sizes[0]; i++) {
        wire_put(first_size, 2, key_sizes[i]);
        wire_seal(packed.bytes, packed.size);
        assert_refused(decode(&packed, 1), MRP_ERR_INVALID, "malformed");
    }
    wire_put(first_size, 2, 8);
    for (unsigned n_rails = 0; n_rails < 256; n_rails++) {
        packed.bytes[1] = (unsigned char)n_rails;
        wire_seal(packed.bytes, packed.size);
        assert_int_equal(decode(&packed, 1), n_rails == 2 ? MRP_OK : MRP_ERR_INVALID);
    }
    free(packed.bytes);
}

static void set_and_refuse(
    struct packed *packed, size_t at, unsigned char value, const char *word)
{
    unsigned char before = packed->bytes[at];

    packed->bytes[at] = value;
    wire_seal(packed->bytes, packed->size);
    assert_refused(decode(packed, 0), MRP_ERR_INVALID, word);
    packed->bytes[at] = before;
    wire_seal(packed->bytes, packed->size);
}

/* Under a check that is right, too: another version may mean something by them. */
static void keys__with_bytes_that_mean_nothing_are_refused(void **unused)
{
    struct packed packed = pack(2, 5);
    size_t first = MRP_KEYS_HEADER_SIZE, second = first + mrp_wire_key_size(5);
    (void)unused;

    for (size_t i = 20; i < 24; i++) {
        set_and_refuse(&packed, i, 1, "unknown flags");
    }
    for (size_t i = 4; i < 8; i++) {
        set_and_refuse(&packed, first + i, 1, "mean nothing");
    }
    set_and_refuse(&packed, first + 1, 1, "mean nothing");
    for (size_t i = 16 + 5; i < 16 + 8; i++) { /* behind the key */
        set_and_refuse(&packed, first + i, 1, "mean nothing");
    }
    set_and_refuse(&packed, first, 0, "rail 0 is in them twice");
    set_and_refuse(&packed, second, 64, "rail 64 is none");
    for (size_t i = 8; i < 16; i++) { /* all ones: its chunk would end past 2^64 */
        packed.bytes[second + i] = 0xff;
    }
    wire_seal(packed.bytes, packed.size);
    assert_refused(decode(&packed, 1), MRP_ERR_INVALID, "beyond all addresses");
    free(packed.bytes);
}

/* Whatever the bytes are, as long as their check is right: refused or within bounds. */
static void keys__of_random_bytes_do_no_harm(void **unused)
{
    uint64_t random = 3;
    (void)unused;

    for (size_t round = 0; round < 20000; round++) {
        struct packed packed = pack(1 + wire_random(&random) % 4, 1 + round % 40);
        struct mrp_wire_keys keys;
        struct mrp_wire_key entry;

        for (size_t n = wire_random(&random) % 6; n-- > 0;) {
            packed.bytes[wire_random(&random) % packed.size] =
                (unsigned char)wire_random(&random);
        }
        packed.bytes[0] = 1;
        wire_put(packed.bytes + 4, 4, packed.size);
        wire_seal(packed.bytes, packed.size);
        if (mrp_keys_decode(packed.bytes, packed.size, 0, &keys, &entry) == MRP_OK) {
            const unsigned char *key = entry.key;

            assert_true(key >= packed.bytes + MRP_KEYS_HEADER_SIZE &&
                key + entry.key_size <= packed.bytes + packed.size);
        }
        free(packed.bytes);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(token__has_its_documented_layout),
        cmocka_unit_test(token__is_read_back),
        cmocka_unit_test(token__with_any_one_or_two_bits_flipped_is_refused),
        cmocka_unit_test(token__of_another_version_or_with_flags_is_refused),
        cmocka_unit_test(keys__of_each_rail_are_read_back),
        cmocka_unit_test(keys__hold_none_for_other_rails),
        cmocka_unit_test(keys__with_any_bit_flipped_are_refused),
        cmocka_unit_test(keys__cut_at_any_length_are_refused),
        cmocka_unit_test(keys__with_bytes_to_spare_are_refused),
        cmocka_unit_test(keys__of_another_version_are_refused),
        cmocka_unit_test(bytes__in_the_other_order_are_refused_as_such),
        cmocka_unit_test(keys__that_lie_about_themselves_are_refused),
        cmocka_unit_test(keys__with_bytes_that_mean_nothing_are_refused),
        cmocka_unit_test(keys__of_random_bytes_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
