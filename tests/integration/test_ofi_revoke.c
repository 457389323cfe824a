/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What closing a registration ends, by provider: a write that comes later, and one that had
 * begun. The table that this prints is what MRP_PROVIDER_REVOKES of the ofi provider goes
 * by; it fails where the trait promises more than was seen. verbs where there is a device
 * (MRP_TEST_VERBS_ADDRESS names its address).
 */
#include "ofi_writer.h"

#define OWN 0x11 /* of the next owner of the memory */
#define LATE 0x5a

static bool can_revoke(struct peer *peer)
{
    return (ofi_query(peer->state).traits & MRP_PROVIDER_REVOKES) != 0;
}

/* How much of the memory the writer has changed since the next owner filled it. */
static size_t count_changed(const unsigned char *memory)
{
    size_t n = 0;

    for (size_t i = 0; i < WRITER_SIZE; i++) {
        n += memory[i] != OWN;
    }
    return n;
}

static size_t write_late(
    struct peer *peer, unsigned char *memory, const struct mrp_registration *made)
{
    enum writer_result result =
        writer_write(peer, made->remote_base, made->remote_key, 1000, LATE);

    PEER_CHECK(result == WRITER_DONE && writer_sees(peer, memory, 1000, LATE));
    PEER_CHECK(ofi_deregister(peer->state, made) == MRP_OK);
    memset(memory, OWN, WRITER_SIZE);
    writer_write(peer, made->remote_base, made->remote_key, 1000, LATE);
    writer_pump_for(peer, 0.3);
    return count_changed(memory);
}

/* Stop the writer, once its first bytes are there, until the registration is closed. */
static size_t write_on(struct peer *peer, pid_t writer, unsigned char *memory,
    const struct mrp_registration *made, bool *has_begun)
{
    memset(memory, 0, WRITER_SIZE);
    writer_start(peer, made->remote_base, made->remote_key, WRITER_SIZE, LATE);
    PEER_CHECK(writer_sees(peer, memory, 1000, LATE));
    kill(writer, SIGSTOP);
    usleep(20000); /* what runs now, stops */
    *has_begun = memory[WRITER_SIZE - 1] != LATE;
    PEER_CHECK(ofi_deregister(peer->state, made) == MRP_OK);
    memset(memory, OWN, WRITER_SIZE);
    kill(writer, SIGCONT);
    writer_wait(peer);
    writer_pump_for(peer, 0.3);
    return count_changed(memory);
}

static void check_begun(struct peer *peer, pid_t writer)
{
    unsigned char *memory = aligned_alloc(4096, WRITER_SIZE);
    struct mrp_registration made;
    bool has_begun;
    size_t n;

    PEER_CHECK(ofi_register(peer->state, memory, WRITER_SIZE, MRP_ACCESS_REMOTE, &made) ==
        MRP_OK);
    n = write_on(peer, writer, memory, &made, &has_begun);
    printf("%-24s a write that had begun: %s (%zu bytes)\n", peer->test->name,
        !has_begun  ? "had ended"
            : n > 0 ? "GOES ON"
                    : "ends",
        n);
    PEER_CHECK(n == 0 || !can_revoke(peer));
    fflush(stdout);
    writer_end(peer);
}

static void check_late(struct peer *peer, pid_t writer)
{
    unsigned char *memory = aligned_alloc(4096, WRITER_SIZE);
    struct mrp_registration made;
    size_t n;

    (void)writer;
    PEER_CHECK(ofi_register(peer->state, memory, WRITER_SIZE, MRP_ACCESS_REMOTE, &made) ==
        MRP_OK);
    n = write_late(peer, memory, &made);
    printf("%-24s a late write:           %s (%zu bytes)\n", peer->test->name,
        n > 0 ? "ARRIVES" : "is refused", n);
    PEER_CHECK(n == 0 || !can_revoke(peer));
    fflush(stdout);
    writer_end(peer);
}

static void revoke__late(void **state)
{
    writer_test(*state, check_late);
}

static void revoke__begun(void **state)
{
    writer_test(*state, check_begun);
}

/* The verbs of libfabric keeps closed registrations, unless there is no room for any. */
static void revoke__late_without_cache(void **state)
{
    setenv("FI_MR_CACHE_MAX_COUNT", "0", 1);
    revoke__late(state);
    unsetenv("FI_MR_CACHE_MAX_COUNT");
}

static void revoke__begun_without_cache(void **state)
{
    setenv("FI_MR_CACHE_MAX_COUNT", "0", 1);
    revoke__begun(state);
    unsetenv("FI_MR_CACHE_MAX_COUNT");
}

static struct peer_case cases[] = {
    {"tcp", "tcp", WRITER_LOCALHOST, FI_EP_RDM, WRITER_MR_ALL, 0, false, true},
    {"tcp_connected", "tcp", WRITER_LOCALHOST, FI_EP_MSG, WRITER_MR_ALL, 0, false, true},
    {"sockets", "sockets", WRITER_LOCALHOST, FI_EP_RDM, WRITER_MR_ALL, 0, false, true},
    {"net", "net", WRITER_LOCALHOST, FI_EP_RDM, WRITER_MR_ALL, 0, false, true},
    {"udp", "udp", WRITER_LOCALHOST, FI_EP_RDM, WRITER_MR_ALL, 0, false, true},
    {"shm", "shm", NULL, FI_EP_RDM, WRITER_MR_ALL, FI_MR_VIRT_ADDR, false, true},
    {"shm_offsets", "shm", NULL, FI_EP_RDM, WRITER_MR_SCALABLE, WRITER_MR_SCALABLE, false,
        true},
    {"verbs", "verbs", NULL, FI_EP_MSG, WRITER_MR_ALL,
        FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY, false, true},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))
#define VERBS (&cases[N_CASES - 1])

/* An argument is a pattern of the cases to run: "verbs*". */
int main(int n_arguments, char **arguments)
{
    static char names[N_CASES][2][64];
    struct CMUnitTest tests[2 * N_CASES + 2];

    if (n_arguments > 1) {
        cmocka_set_test_filter(arguments[1]);
    }
    VERBS->node = getenv("MRP_TEST_VERBS_ADDRESS");
    for (size_t i = 0; i < N_CASES; i++) {
        snprintf(names[i][0], 64, "%s__late", cases[i].name);
        snprintf(names[i][1], 64, "%s__begun", cases[i].name);
        tests[2 * i] =
            (struct CMUnitTest){names[i][0], revoke__late, NULL, NULL, &cases[i]};
        tests[2 * i + 1] =
            (struct CMUnitTest){names[i][1], revoke__begun, NULL, NULL, &cases[i]};
    }
    tests[2 * N_CASES] = (struct CMUnitTest){
        "verbs_without_cache__late", revoke__late_without_cache, NULL, NULL, VERBS};
    tests[2 * N_CASES + 1] = (struct CMUnitTest){
        "verbs_without_cache__begun", revoke__begun_without_cache, NULL, NULL, VERBS};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
