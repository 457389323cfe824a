/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which node a device is next to, read from folders made like those of /sys.
 */
#include "mrpool/provider.h"
#include "refusal.h"

#include <stdlib.h>

static char root[] = "/tmp/mrp_test_XXXXXX";
static char rdma[64], net[64];

/* A function of a device that knows its node, an interface of virtio, a device in software
 * on that one and one on nothing that is known. */
static const char tree[] =
    "set -e; cd %s\n"
    "mkdir -p class/infiniband class/net devices/virtual/net/lo\n"
    "for path in slot1/function1/infiniband/mlx5_0 virtual/infiniband/rxe0 \\\n"
    "    virtual/infiniband/rxe1; do\n"
    "    mkdir -p devices/$path\n"
    "    ln -s ../../devices/$path class/infiniband\n"
    "done\n"
    "mkdir -p devices/slot0/virtio2/net/eth0\n"
    "ln -s ../../devices/slot0/virtio2/net/eth0 ../../devices/virtual/net/lo class/net\n"
    "echo -1 >devices/slot1/function1/numa_node\n"
    "echo 1 >devices/slot1/numa_node\n"
    "echo 0 >devices/slot0/numa_node\n"
    "echo eth0 >devices/virtual/infiniband/rxe0/parent\n"
    "echo ../net/eth0 >devices/virtual/infiniband/rxe1/parent\n";

static int make_tree(void **unused)
{
    char command[2048];
    (void)unused;

    if (mkdtemp(root) == NULL) {
        return -1;
    }
    snprintf(rdma, sizeof rdma, "%s/class/infiniband", root);
    snprintf(net, sizeof net, "%s/class/net", root);
    snprintf(command, sizeof command, tree, root);
    return system(command);
}

static int remove_tree(void **unused)
{
    char command[128];
    (void)unused;

    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void node__is_that_of_what_holds_the_device(void **unused)
{
    (void)unused;

    assert_int_equal(mrp_device_node(rdma, "mlx5_0"), MRP_NODE(1));
    assert_int_equal(mrp_device_node(net, "eth0"), MRP_NODE(0));
}

static void node__of_a_device_in_software_is_its_interface_s(void **unused)
{
    (void)unused;

    assert_int_equal(mrp_device_node(rdma, "rxe0"), MRP_NODE(0));
    assert_int_equal(mrp_device_node(rdma, "rxe1"), 0); /* leads out of its folder */
}

static void node__is_zero_where_nobody_knows(void **unused)
{
    (void)unused;

    assert_int_equal(mrp_device_node(net, "lo"), 0);
    assert_int_equal(mrp_device_node(net, "eth1"), 0);
    assert_int_equal(mrp_device_node(net, ""), 0);
    assert_int_equal(mrp_device_node(net, NULL), 0);
    assert_int_equal(mrp_device_node(NULL, "eth0"), 0);
    assert_int_equal(mrp_device_node(rdma, "../net/eth0"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node__is_that_of_what_holds_the_device),
        cmocka_unit_test(node__of_a_device_in_software_is_its_interface_s),
        cmocka_unit_test(node__is_zero_where_nobody_knows),
    };

    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
