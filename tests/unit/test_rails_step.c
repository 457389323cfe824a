/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A lookup that stands still at each of its instructions in turn, while another rail takes
 * the place of the one it reads: what it tells is of one rail. The processor's trap flag
 * stops it; x86-64 only.
 */
#include "rails.h"
#include "support/test_system.h"

#include <signal.h>

#ifdef __x86_64__
#define CAN_STEP 1
#else
#define CAN_STEP 0
#endif

static struct pool_fixture *fixture;
static size_t n_steps, stop_at, n_changes;

/* Rail 1 becomes the other network. What was interrupted holds no lock: it succeeds, and
 * takes none then. */
static void change_rail(void)
{
    unsigned rail = 99;

    n_changes++;
    if (mrp_pool_rail_remove(fixture->pool, 1) != MRP_OK ||
        mrp_pool_rail_add(fixture->pool, fixture->rails[1 + n_changes % 2],
            MRP_RAIL_EAGER, &rail) != MRP_OK ||
        rail != 1) {
        n_changes = SIZE_MAX / 2;
    }
}

static void on_step(int signal)
{
    (void)signal;
    if (++n_steps == stop_at) {
        change_rail();
    }
}

/* Past the red zone, where the compiler keeps what it likes. */
static inline void set_trap_flag(bool is_on)
{
#if CAN_STEP
    if (is_on) {
        __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\t"
                         "popfq\n\tlea 128(%%rsp), %%rsp" ::
                             : "memory", "cc");
    } else {
        __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $-0x101, (%%rsp)\n\t"
                         "popfq\n\tlea 128(%%rsp), %%rsp" ::
                             : "memory", "cc");
    }
#else
    (void)is_on;
#endif
}

static void resolve__stopped_anywhere_tells_of_one_rail(void **state)
{
    struct sigaction action = {.sa_handler = on_step}, before;
    struct mrp_region *region;
    char *address;

    if (!CAN_STEP || test_is_watched()) {
        print_message("SKIP: resolve__stopped_anywhere_tells_of_one_rail: this needs "
                      "x86-64, and no tool that watches\n");
        return;
    }
    fixture = *state;
    for (size_t i = 1; i <= 2; i++) { /* their keys differ in every member */
        fixture->networks[i].last_serial = i << 40;
    }
    fixture->networks[2].last_serial |= 1;
    pool_fixture_create(fixture, NULL);
    assert_int_equal(add(fixture, fixture->rails[1], MRP_RAIL_EAGER), 1);
    region = pool_fixture_alloc(fixture, 2 * MRP_MIB);
    address = mrp_region_address(region);
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    for (stop_at = 1; n_changes + 1 == stop_at; stop_at++) {
        struct mrp_wire wire = MRP_WIRE_INIT;
        enum mrp_status status;

        n_steps = 0;
        set_trap_flag(true);
        status = mrp_resolve(fixture->pool, address, 8, 1, &wire);
        set_trap_flag(false);
        assert_int_equal(status, MRP_OK);
        /* the test network's native is its serial, its key the serial and a constant */
        assert_int_equal(
            wire.remote_key & UINT64_C(0xffffffffffff), (uintptr_t)wire.native);
    }
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
    print_message("%zu instructions, each stopped at once\n", n_changes);
    assert_in_range(n_changes, 20, 10000);
    pool_fixture_free(region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(resolve__stopped_anywhere_tells_of_one_rail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
