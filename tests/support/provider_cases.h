/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The providers that the conformance suites run over, and how a suite is run over them
 * all.
 *
 * A case whose module or device is missing is left out with a line "SKIP: <label>:
 * <reason>", unless MRP_TEST_REQUIRE ("ofi,host": modules or labels) names it: then it is
 * a failure. ofi-verbs and ucx-rc, whose device few machines have, are named by their label.
 *
 * MRP_CONFORMANCE=<label>,... runs a suite over some of them; MRP_CONFORMANCE=
 * <module>[:<options>] over any one module that MRPOOL_PROVIDER_PATH leads to:
 * docs/PROVIDERS.md.
 */
#ifndef MRP_PROVIDER_CASES_H
#define MRP_PROVIDER_CASES_H

#include "mrpool/provider.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct provider_case {
    const char *label;
    const char *module;
    const char *options; /* as mrp_provider_params.options */
};

/* Whether a key is imported on an endpoint of the network's, without which it is
 * MRP_ERR_INVALID. Those who have endpoints import in tests/integration/. */
bool provider_case_ties_keys(const struct provider_case *provider);

/* Whether registrations may have the same key or handle: where the network has no keys of
 * its own (UCX over tcp; MPI, where it is the owner's rank), or keeps registrations for
 * reuse (the caches of UCX, and of libfabric's verbs). */
bool provider_case_shares_keys(const struct provider_case *provider);

/* Whether only memory of the provider's own backend can be registered. */
bool provider_case_owns_memory(const struct provider_case *provider);

/* Whether a case can be opened here: MRP_OK, MRP_ERR_UNAVAILABLE, or what is wrong with
 * it. */
typedef enum mrp_status provider_case_probe(const struct provider_case *provider);

struct provider_test {
    const char *name;
    CMUnitTestFunction function; /* its state points to the struct provider_case */
};

#define PROVIDER_TEST(function) \
    { \
#function, function \
    }

/* Run every test over every case; returns the exit status of the program. */
int provider_cases_run(
    const struct provider_test *tests, size_t n_tests, provider_case_probe *probe);

#endif
