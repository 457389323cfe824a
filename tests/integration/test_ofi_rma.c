/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One-sided writes and reads between two processes, with the local descriptor, the remote
 * key and the remote base that the provider gave, the data verified on both sides. Every
 * software provider in every addressing it can be had in; verbs where there is a device
 * (MRP_TEST_VERBS_ADDRESS names its address).
 */
#include "ofi_peer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 262144
#define OFFSET 4099
#define N_BYTES 100000

#define LOCALHOST "127.0.0.1"
#define MR_BASIC (1 << 0)
#define MR_SCALABLE (1 << 1)
#define MR_ALL \
    (FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_RAW | \
        FI_MR_HMEM | FI_MR_RMA_EVENT | FI_MR_ENDPOINT)

/* What the target tells of its registration. */
struct rma_target {
    uint64_t remote_base;
    size_t key_size;
    unsigned char key[64];
};

static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 31 + i / 251 + 1);
}

static bool is_pattern(const unsigned char *bytes)
{
    for (size_t i = 0; i < N_BYTES; i++) {
        if (bytes[i] != pattern(i)) {
            return false;
        }
    }
    return true;
}

static void describe(
    const struct mrp_registration *registration, struct rma_target *target)
{
    memset(target, 0, sizeof(*target));
    target->remote_base = registration->remote_base;
    target->key_size = registration->key_size;
    PEER_CHECK(target->key_size <= sizeof(target->key));
    memcpy(target->key,
        registration->key_blob != NULL ? registration->key_blob
                                       : &registration->remote_key,
        target->key_size);
}

/* The target only drives progress and looks at its memory. */
static void run_target(struct peer *peer)
{
    unsigned char *memory = aligned_alloc(4096, SIZE);
    struct mrp_registration made;
    struct rma_target target;
    time_t start;
    char word;

    memset(memory, 0, SIZE);
    peer_open_domain(peer);
    PEER_CHECK(
        ofi_register(peer->state, memory, SIZE, MRP_ACCESS_REMOTE, &made) == MRP_OK);
    peer_connect(peer);
    describe(&made, &target);
    peer_send(peer, &target, sizeof(target));

    peer_receive(peer, &word, 1);
    start = peer_now();
    while (!is_pattern(memory + OFFSET)) {
        PEER_CHECK(peer_now() - start < PEER_SECONDS);
        peer_pump(peer);
    }
    PEER_CHECK(memory[OFFSET - 1] == 0 && memory[OFFSET + N_BYTES] == 0);
    PEER_CHECK(peer->counter == NULL || fi_cntr_read(peer->counter) == 1);
    peer_send(peer, &word, 1);
    peer_receive(peer, &word, 1);

    PEER_CHECK(ofi_deregister(peer->state, &made) == MRP_OK);
    peer_close(peer);
    free(memory);
}

static void transfer(struct peer *peer, unsigned char *memory, void *desc,
    const struct rma_target *target, uint64_t key)
{
    static struct fi_context2 contexts[2];
    uint64_t address = target->remote_base + OFFSET;
    char word = 'w';
    ssize_t code;

    while ((code = fi_write(peer->endpoint, memory, N_BYTES, desc, peer->other, address,
                key, &contexts[0])) == -FI_EAGAIN) {
        peer_pump(peer);
    }
    PEER_CALL(code);
    peer_wait_completion(peer);
    peer_send(peer, &word, 1);
    peer_receive(peer, &word, 1);

    while ((code = fi_read(peer->endpoint, memory + SIZE / 2, N_BYTES, desc, peer->other,
                address, key, &contexts[1])) == -FI_EAGAIN) {
        peer_pump(peer);
    }
    PEER_CALL(code);
    peer_wait_completion(peer);
    PEER_CHECK(is_pattern(memory + SIZE / 2));
    peer_send(peer, &word, 1);
}

static void run_initiator(struct peer *peer)
{
    unsigned char *memory = aligned_alloc(4096, SIZE);
    struct mrp_import_request import = {0};
    struct mrp_registration made;
    struct rma_target target;
    void *handle = NULL;
    uint64_t key = 0;

    memset(memory, 0, SIZE);
    for (size_t i = 0; i < N_BYTES; i++) {
        memory[i] = pattern(i);
    }
    peer_open_domain(peer);
    PEER_CHECK(
        ofi_register(peer->state, memory, SIZE, MRP_ACCESS_LOCAL, &made) == MRP_OK);
    peer_connect(peer);
    PEER_CHECK(peer_receive(peer, &target, sizeof(target)) == sizeof(target));
    import.struct_size = sizeof(import);
    import.key = target.key;
    import.key_size = target.key_size;
    import.remote_base = target.remote_base;
    import.size = SIZE;
    PEER_CHECK(ofi_ops()->import_key(peer->state, &import, &key, &handle) == MRP_OK);

    transfer(peer, memory, made.local_desc, &target, key);

    ofi_ops()->release_key(peer->state, handle, key);
    PEER_CHECK(ofi_deregister(peer->state, &made) == MRP_OK);
    peer_close(peer);
    free(memory);
}

/* libfabric is first touched in the children: it does not survive a fork. */
static pid_t start(const struct peer_case *test, const int channels[2], bool is_target)
{
    struct peer peer = {0};
    pid_t child = fork();

    if (child != 0) {
        return child;
    }
    close(channels[is_target ? 1 : 0]);
    peer.test = test;
    peer.channel = channels[is_target ? 0 : 1];
    peer.is_target = is_target;
    (is_target ? run_target : run_initiator)(&peer);
    if (test->leaks) {
        ofi_exit_unchecked();
    }
    exit(0);
}

static int wait_exit(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void rma__between_processes(void **state)
{
    const struct peer_case *test = *state;
    int channels[2], target, initiator;
    pid_t children[2];

    fflush(NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channels), 0);
    children[0] = start(test, channels, true);
    children[1] = start(test, channels, false);
    close(channels[0]);
    close(channels[1]);
    target = wait_exit(children[0]);
    initiator = wait_exit(children[1]);
    if (target == 77 && initiator == 77) {
        printf("SKIP: %s: no device of libfabric's %s\n", test->name, test->provider);
        skip();
    }
    assert_int_equal(target, 0);
    assert_int_equal(initiator, 0);
}

/* net forgets the fi_info of its connections, ofi_mrail frees no registration. */
static struct peer_case cases[] = {
    {"rma__tcp", "tcp", LOCALHOST, FI_EP_RDM, MR_ALL, 0, false, false},
    {"rma__tcp_basic", "tcp", LOCALHOST, FI_EP_RDM, MR_BASIC, MR_BASIC, false, false},
    {"rma__tcp_scalable", "tcp", LOCALHOST, FI_EP_RDM, MR_SCALABLE, MR_SCALABLE, false,
        false},
    {"rma__tcp_connected", "tcp", LOCALHOST, FI_EP_MSG, MR_ALL, 0, false, false},
    {"rma__tcp_connected_basic", "tcp", LOCALHOST, FI_EP_MSG, MR_BASIC, MR_BASIC, false,
        false},
    {"rma__sockets", "sockets", LOCALHOST, FI_EP_RDM, MR_ALL, 0, false, false},
    {"rma__sockets_basic", "sockets", LOCALHOST, FI_EP_RDM, MR_BASIC, MR_BASIC, false,
        false},
    {"rma__sockets_counter", "sockets", LOCALHOST, FI_EP_RDM, MR_SCALABLE, MR_SCALABLE,
        true, false},
    {"rma__net", "net", LOCALHOST, FI_EP_RDM, MR_ALL, 0, false, true},
    {"rma__net_basic", "net", LOCALHOST, FI_EP_RDM, MR_BASIC, MR_BASIC, false, true},
    {"rma__udp", "udp", LOCALHOST, FI_EP_RDM, MR_ALL, 0, false, false},
    {"rma__udp_basic", "udp", LOCALHOST, FI_EP_RDM, MR_BASIC, MR_BASIC, false, false},
    {"rma__shm", "shm", NULL, FI_EP_RDM, MR_ALL, FI_MR_VIRT_ADDR, false, false},
    {"rma__shm_basic", "shm", NULL, FI_EP_RDM, MR_BASIC, MR_BASIC, false, false},
    {"rma__shm_scalable", "shm", NULL, FI_EP_RDM, MR_SCALABLE, MR_SCALABLE, false, false},
    {"rma__raw_key", "ofi_mrail", NULL, FI_EP_RDM, 0, FI_MR_RAW, false, true},
    {"rma__verbs", "verbs", NULL, FI_EP_MSG, MR_ALL,
        FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY, false, false},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

/* An argument is a pattern of the cases to run: "rma__verbs". */
int main(int n_arguments, char **arguments)
{
    struct CMUnitTest tests[N_CASES];

    if (n_arguments > 1) {
        cmocka_set_test_filter(arguments[1]);
    }

    setenv("FI_OFI_MRAIL_ADDR", LOCALHOST "," LOCALHOST, 0);
    for (size_t i = 0; i < N_CASES; i++) {
        if (strcmp(cases[i].provider, "verbs") == 0) {
            cases[i].node = getenv("MRP_TEST_VERBS_ADDRESS");
        }
        tests[i] = (struct CMUnitTest){
            cases[i].name, rma__between_processes, NULL, NULL, &cases[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
