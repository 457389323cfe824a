/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A domain of the test's own, to be wrapped, and what every case with one needs.
 */
#ifndef MRP_TEST_OFI_DOMAIN_H
#define MRP_TEST_OFI_DOMAIN_H

#include "ofi_module.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <rdma/fi_errno.h>
#include <sys/uio.h>

#define OFI_API FI_VERSION(1, 9)

struct own_domain {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
};

static inline struct own_domain open_own(
    const char *provider, uint64_t caps, int mr_mode, enum fi_threading threading)
{
    struct own_domain own = {NULL, NULL, NULL};
    struct fi_info *hints = fi_allocinfo();

    hints->fabric_attr->prov_name = strdup(provider);
    hints->caps = caps;
    hints->mode = ~0ULL;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode = mr_mode;
    hints->domain_attr->threading = threading;
    assert_int_equal(fi_getinfo(OFI_API, NULL, NULL, 0, hints, &own.info), 0);
    fi_freeinfo(hints);
    assert_int_equal(fi_fabric(own.info->fabric_attr, &own.fabric, NULL), 0);
    assert_int_equal(fi_domain(own.fabric, own.info, &own.domain, NULL), 0);
    return own;
}

/* Fails where a registration was left in it. */
static inline void close_own(struct own_domain *own)
{
    assert_int_equal(fi_close(&own->domain->fid), 0);
    assert_int_equal(fi_close(&own->fabric->fid), 0);
    fi_freeinfo(own->info);
}

static inline struct mrp_ofi_wrap_params params_of(const struct own_domain *own)
{
    struct mrp_ofi_wrap_params params = MRP_OFI_WRAP_PARAMS_INIT;

    params.domain = own->domain;
    params.info = own->info;
    return params;
}

static inline void assert_error(
    enum mrp_status status, enum mrp_status expected, const char *word)
{
    assert_string_equal(mrp_status_name(status), mrp_status_name(expected));
    assert_int_equal(mrp_error_last()->status, expected);
    if (strstr(mrp_error_last()->text, word) == NULL) {
        fail_msg("'%s' is not in '%s'", word, mrp_error_last()->text);
    }
}

#endif
