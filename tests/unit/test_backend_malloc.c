/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend malloc: what it refuses beyond what every backend does.
 */
#include "mrpool/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct mrp_backend_ops mrp_backend_malloc;

static struct mrp_map_request request_of(size_t size, size_t alignment)
{
    return (struct mrp_map_request){.struct_size = sizeof(struct mrp_map_request),
        .size = size,
        .alignment = alignment};
}

static void map__node_and_pages_are_refused(void **unused)
{
    struct mrp_map_request request = request_of(1, 64);
    struct mrp_mapping mapping;
    (void)unused;

    request.node = MRP_NODE(3);
    assert_int_equal(
        mrp_backend_malloc.map(NULL, &request, &mapping), MRP_ERR_UNSUPPORTED);
    assert_non_null(strstr(mrp_error_last()->text, "node 3"));
    request.node = 0;
    request.pages = MRP_PAGES_THP;
    assert_int_equal(
        mrp_backend_malloc.map(NULL, &request, &mapping), MRP_ERR_UNSUPPORTED);
    assert_non_null(strstr(mrp_error_last()->text, "pages"));
}

/* It neither knows the memory to be zero nor touches it. */
static void map__claims_no_more_than_it_knows(void **unused)
{
    struct mrp_map_request request = request_of(4096, 1);
    struct mrp_mapping mapping;
    (void)unused;

    assert_int_equal(mrp_backend_malloc.map(NULL, &request, &mapping), MRP_OK);
    assert_false(mapping.zeroed);
    assert_false(mapping.prefaulted);
    assert_int_equal(mapping.node, 0);
    assert_int_equal(mapping.page_size, (size_t)sysconf(_SC_PAGESIZE));
    assert_int_equal(mrp_backend_malloc.unmap(NULL, &mapping), MRP_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__node_and_pages_are_refused),
        cmocka_unit_test(map__claims_no_more_than_it_knows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
