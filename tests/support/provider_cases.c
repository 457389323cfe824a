/* SPDX-License-Identifier: BSD-3-Clause */
#include "provider_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct provider_case cases[] = {
    {"host", "host", NULL},
    {"null", "null", NULL},
    {"null-offset", "null", "addressing=offset"},
    {"null-raw", "null", "keys=raw"},
    {"null-no-keys", "null", "keys=none"},
    {"null-few", "null", "max_registrations=4"},
    {"trace", "trace", NULL},
    {"fault", "fault", NULL},
    {"ofi-tcp", "ofi", "provider=tcp"},
    {"ofi-sockets", "ofi", "provider=sockets"},
    {"ofi-shm", "ofi", "provider=shm"},
    {"ofi-verbs", "ofi", "provider=verbs,endpoint=msg"},
    {"ucx-tcp", "ucx", "tls=tcp+self"},
    {"ucx-shm", "ucx", "tls=posix+sysv+self"},
    {"ucx-rc", "ucx", "tls=rc"},
    {"ucx-uncached", "ucx", "rcache=n"},
    {"uring", "uring", NULL},
    {"uring-few", "uring", "buffers=4"},
    {"verbs", "verbs", NULL},
    {"mpi-dynamic", "mpi", "window=dynamic"},
    {"mpi-allocated", "mpi", "window=allocated,size=16M"},
    {"mpich-dynamic", "mpich", "window=dynamic"},
    {"mpich-allocated", "mpich", "window=allocated,size=16M"},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static bool is_mpi(const struct provider_case *provider)
{
    return strncmp(provider->module, "mpi", 3) == 0;
}

bool provider_case_ties_keys(const struct provider_case *provider)
{
    return strcmp(provider->module, "ucx") == 0;
}

/* libfabric caches registrations of verbs unless told not to. */
static bool caches_registrations(const struct provider_case *provider)
{
    const char *n_cached = getenv("FI_MR_CACHE_MAX_COUNT");

    return strcmp(provider->module, "ofi") == 0 && provider->options != NULL &&
        strstr(provider->options, "verbs") != NULL &&
        (n_cached == NULL || strcmp(n_cached, "0") != 0);
}

bool provider_case_shares_keys(const struct provider_case *provider)
{
    return is_mpi(provider) || strcmp(provider->module, "ucx") == 0 ||
        caches_registrations(provider);
}

bool provider_case_owns_memory(const struct provider_case *provider)
{
    return is_mpi(provider) && strstr(provider->options, "window=allocated") != NULL;
}

static bool is_in_list(const char *list, const char *word)
{
    size_t size = strlen(word);

    while (list != NULL && *list != '\0') {
        size_t span = strcspn(list, ",");

        if (span == size && strncmp(list, word, span) == 0) {
            return true;
        }
        list += span + (list[span] == ',');
    }
    return false;
}

/* Of our own list. MPI's are for programs that are ranks of it, which name them. */
static bool is_chosen(const struct provider_case *provider)
{
    const char *list = getenv("MRP_CONFORMANCE");

    return list != NULL ? is_in_list(list, provider->label) : !is_mpi(provider);
}

/* "cma" or "cma:ptracer=any" of MRP_CONFORMANCE: nothing that our own list has. */
static bool read_only_case(struct provider_case *only)
{
    static char label[256], module[256];
    const char *text = getenv("MRP_CONFORMANCE");
    size_t span = text != NULL ? strcspn(text, ":") : 0;

    for (size_t i = 0; i < N_CASES && text != NULL; i++) {
        if (is_chosen(&cases[i])) {
            return false;
        }
    }
    if (span == 0) {
        return false;
    }
    snprintf(label, sizeof(label), "%s", text);
    snprintf(module, sizeof(module), "%.*s", (int)span, text);
    *only = (struct provider_case){
        label, module, text[span] == ':' ? label + span + 1 : NULL};
    return true;
}

/* What needs a device that few machines have is required by its label only. */
static bool is_required(const struct provider_case *provider)
{
    const char *list = getenv("MRP_TEST_REQUIRE");

    return is_in_list(list, provider->label) ||
        (is_in_list(list, provider->module) &&
            !is_in_list("ofi-verbs,ucx-rc", provider->label));
}

/* What the suites lock at once, with room for the rest of the process. */
#define MEMLOCK_NEEDED ((size_t)8 << 20)

/* Too low a limit is like a missing device: not the provider's fault. */
static enum mrp_status check_memlock(const struct provider_case *provider)
{
    struct mrp_system system = MRP_SYSTEM_INIT;

    if ((strcmp(provider->module, "host") != 0 &&
            strcmp(provider->module, "uring") != 0) ||
        mrp_system_query(&system) != MRP_OK || system.memlock_limit >= MEMLOCK_NEEDED) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_UNAVAILABLE, 0, "memlock limit of %zu bytes, %zu needed",
        system.memlock_limit, MEMLOCK_NEEDED);
}

/* Add the tests of one case; whether all is well with it, or it may be missing. */
static bool add_case(struct provider_case *provider, provider_case_probe *probe,
    const struct provider_test *tests, size_t n_tests, struct CMUnitTest *chosen,
    size_t *n_chosen)
{
    enum mrp_status status = check_memlock(provider);

    if (status == MRP_OK) {
        status = probe(provider);
    }
    if (status != MRP_OK) {
        bool may_miss = status == MRP_ERR_UNAVAILABLE && !is_required(provider);

        printf("%s: %s: %s\n", may_miss ? "SKIP" : "FAIL", provider->label,
            mrp_error_last()->text);
        return may_miss;
    }
    for (size_t i = 0; i < n_tests; i++) {
        char *name = NULL;

        if (asprintf(&name, "%s: %s", provider->label, tests[i].name) < 0) {
            return false;
        }
        chosen[(*n_chosen)++] = (struct CMUnitTest){
            .name = name, .test_func = tests[i].function, .initial_state = provider};
    }
    return true;
}

int provider_cases_run(
    const struct provider_test *tests, size_t n_tests, provider_case_probe *probe)
{
    struct CMUnitTest *chosen = calloc(N_CASES * n_tests, sizeof(*chosen));
    size_t n_chosen = 0, n_cases = N_CASES;
    struct provider_case *all = cases, only;
    bool is_complete = chosen != NULL;
    int n_failed;

    if (read_only_case(&only)) {
        all = &only;
        n_cases = 1;
    }
    for (size_t i = 0; i < n_cases && chosen != NULL; i++) {
        is_complete &= (all != &only && !is_chosen(&all[i])) ||
            add_case(&all[i], probe, tests, n_tests, chosen, &n_chosen);
    }
    if (n_chosen == 0) {
        free(chosen);
        return is_complete ? 77 : 1;
    }
    n_failed = _cmocka_run_group_tests("providers", chosen, n_chosen, NULL, NULL);
    for (size_t i = 0; i < n_chosen; i++) {
        free((char *)(uintptr_t)chosen[i].name);
    }
    free(chosen);
    return n_failed == 0 && is_complete ? 0 : 1;
}
