/* SPDX-License-Identifier: BSD-3-Clause */
#include "test_providers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Keys that no counter of a test produces by accident. */
#define KEY_BASE 0x5eed000000000000U
#define RAW_KEY_SIZE 32

struct test_registration {
    struct test_registration *next;
    uint64_t serial; /* never used twice: a second deregistration cannot hit another */
    void *address;
    size_t size;
    enum mrp_memory_kind kind;
    bool is_lost; /* its deregistration was made to fail */
    uint64_t raw_key[RAW_KEY_SIZE / sizeof(uint64_t)];
};

static void misuse(struct test_provider *provider, const char *format, ...)
    MRP_PRINTF(2, 3);

/* Under the mutex. */
static void misuse(struct test_provider *provider, const char *format, ...)
{
    va_list arguments;

    if (provider->n_errors++ > 0) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(provider->first_error, sizeof(provider->first_error), format, arguments);
    va_end(arguments);
}

/* Under the mutex. */
static void record(struct test_provider *provider, enum test_event_kind kind,
    enum mrp_status status, const struct test_registration *registration)
{
    struct test_event *event = &provider->events[provider->n_events % TEST_EVENTS];

    event->kind = kind;
    event->status = status;
    event->address = registration != NULL ? registration->address : NULL;
    event->size = registration != NULL ? registration->size : 0;
    event->serial = registration != NULL ? registration->serial : 0;
    provider->n_events++;
    provider->n_failed += status != MRP_OK;
}

static bool is_told_to_fail(size_t call, size_t at, size_t count)
{
    return at > 0 && call >= at && (count == 0 || call - at < count);
}

static bool is_page_mapped(const unsigned char *byte)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char resident;

    return mincore((void *)((uintptr_t)byte & ~(page - 1)), 1, &resident) == 0 ||
        errno != ENOMEM;
}

/* Whether first and last byte can still be read, without a crash if they cannot. */
static bool is_mapped(const struct test_registration *registration)
{
    const unsigned char *first = registration->address;

    return registration->kind != MRP_MEMORY_HOST ||
        (is_page_mapped(first) && is_page_mapped(first + registration->size - 1));
}

static bool overlaps(
    const struct test_registration *one, const struct test_registration *other)
{
    uintptr_t a = (uintptr_t)one->address, b = (uintptr_t)other->address;

    return a < b + other->size && b < a + one->size;
}

/* What the core ought to have refused, knowing what query says. */
static void check_request(
    struct test_provider *provider, const struct mrp_register_request *request)
{
    if (provider->n_closed > 0) {
        misuse(provider, "registration after close");
    }
    if (request->struct_size < sizeof(*request) || request->size == 0 ||
        request->address == NULL) {
        misuse(provider, "registration of %zu bytes at %p, struct_size %zu",
            request->size, request->address, request->struct_size);
    }
    if ((request->access & ~provider->access) != 0 || request->access == 0) {
        misuse(provider, "access 0x%x, but query says 0x%x", (unsigned)request->access,
            (unsigned)provider->access);
    }
    if ((provider->memory_kinds & (1U << request->kind)) == 0) {
        misuse(provider, "memory of kind %d, which query rules out", (int)request->kind);
    }
    if (provider->max_size > 0 && request->size > provider->max_size) {
        misuse(provider, "%zu bytes, but query says at most %zu", request->size,
            provider->max_size);
    }
}

static void fill(const struct test_provider *provider, struct test_registration *made,
    struct mrp_registration *registration)
{
    bool has_key = (provider->traits & MRP_PROVIDER_REMOTE_KEY) != 0;
    bool is_raw = has_key && (provider->traits & MRP_PROVIDER_RAW_KEY) != 0;
    bool has_desc = (provider->traits & MRP_PROVIDER_LOCAL_DESC) != 0;
    bool is_virtual = (provider->traits & MRP_PROVIDER_VIRTUAL_ADDRESS) != 0;

    made->raw_key[0] = KEY_BASE + made->serial;
    made->raw_key[RAW_KEY_SIZE / sizeof(uint64_t) - 1] = ~made->raw_key[0];
    registration->native = (void *)(uintptr_t)made->serial;
    registration->local_desc = has_desc ? (void *)(uintptr_t)~made->serial : NULL;
    registration->remote_key = has_key && !is_raw ? made->raw_key[0] : 0;
    registration->key_blob = is_raw ? made->raw_key : NULL;
    registration->key_size = is_raw ? RAW_KEY_SIZE : has_key ? sizeof(uint64_t) : 0;
    registration->remote_base = is_virtual ? (uintptr_t)made->address : 0;
}

/* Under the mutex. */
static void add_live(struct test_provider *provider, struct test_registration *made)
{
    for (struct test_registration *other = provider->live; other; other = other->next) {
        if (overlaps(made, other)) {
            provider->n_overlaps++;
            break;
        }
    }
    made->serial = ++provider->last_serial;
    made->next = provider->live;
    provider->live = made;
    provider->n_live++;
    provider->live_size += made->size;
    if (provider->n_live > provider->peak_live) {
        provider->peak_live = (size_t)provider->n_live;
    }
    if (provider->live_size > provider->peak_size) {
        provider->peak_size = (size_t)provider->live_size;
    }
}

static bool is_full(size_t limit, size_t n_live)
{
    return limit > 0 && n_live >= limit;
}

/* Under the mutex: the status of this call, before anything is made. */
static enum mrp_status admit(
    struct test_provider *provider, const struct mrp_register_request *request)
{
    size_t call = ++provider->n_register;

    check_request(provider, request);
    if (is_told_to_fail(call, provider->fail_at, provider->fail_count)) {
        return mrp_fail(provider->fail_status, 0,
            "test provider: registration %zu fails as told", call);
    }
    if (is_full(provider->max_registrations, provider->n_live) ||
        is_full(provider->hidden_limit, provider->n_live)) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "test provider: %zu registrations are the limit", (size_t)provider->n_live);
    }
    return MRP_OK;
}

static enum mrp_status register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct test_provider *provider = state;
    struct test_registration *made = calloc(1, sizeof(*made));
    enum mrp_status status;

    if (made == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "test provider: out of memory");
    }
    if (provider->on_register != NULL) {
        provider->on_register(provider, request->address, request->size);
    }
    made->address = request->address;
    made->size = request->size;
    made->kind = request->kind;
    pthread_mutex_lock(&provider->mutex);
    status = admit(provider, request);
    if (status == MRP_OK) {
        add_live(provider, made);
        fill(provider, made, registration);
    }
    record(provider, TEST_REGISTER, status, made);
    pthread_mutex_unlock(&provider->mutex);
    if (status != MRP_OK) {
        free(made);
    }
    return status;
}

/* Under the mutex: the link that points to the registration, or NULL. */
static struct test_registration **find_live(
    struct test_provider *provider, uint64_t serial)
{
    struct test_registration **link = &provider->live;

    while (*link != NULL && (*link)->serial != serial) {
        link = &(*link)->next;
    }
    return *link != NULL ? link : NULL;
}

/* Under the mutex; *gone is to be freed after it. */
static enum mrp_status remove_live(
    struct test_provider *provider, uint64_t serial, struct test_registration **gone)
{
    size_t call = ++provider->n_deregister;
    struct test_registration **link = find_live(provider, serial), *found;

    if (link == NULL) {
        misuse(provider, "deregistration of %s registration %llu",
            serial > 0 && serial <= provider->last_serial ? "the already gone"
                                                          : "unknown",
            (unsigned long long)serial);
        record(provider, TEST_DEREGISTER, MRP_ERR_STALE, NULL);
        return mrp_fail(MRP_ERR_STALE, 0, "%s", provider->first_error);
    }
    found = *link;
    if (!is_mapped(found)) {
        misuse(provider, "%zu bytes at %p are unmapped before their deregistration",
            found->size, found->address);
    }
    if (provider->n_closed > 0) {
        misuse(provider, "deregistration after close");
    }
    if (is_told_to_fail(
            call, provider->deregister_fail_at, provider->deregister_fail_count)) {
        found->is_lost = true;
        record(provider, TEST_DEREGISTER, MRP_ERR_REGISTER, found);
        return mrp_fail(
            MRP_ERR_REGISTER, 0, "test provider: deregistration %zu fails as told", call);
    }
    *link = found->next;
    provider->n_live--;
    provider->live_size -= found->size;
    record(provider, TEST_DEREGISTER, MRP_OK, found);
    *gone = found;
    return MRP_OK;
}

static void call_on_deregister(struct test_provider *provider, uint64_t serial)
{
    struct test_registration **link;
    void *address = NULL;
    size_t size = 0;

    pthread_mutex_lock(&provider->mutex);
    link = find_live(provider, serial);
    if (link != NULL) {
        address = (*link)->address;
        size = (*link)->size;
    }
    pthread_mutex_unlock(&provider->mutex);
    provider->on_deregister(provider, address, size);
}

static enum mrp_status deregister_memory(
    void *state, const struct mrp_registration *registration)
{
    struct test_provider *provider = state;
    uint64_t serial = (uintptr_t)registration->native;
    struct test_registration *gone = NULL;
    enum mrp_status status;

    if (provider->on_deregister != NULL) {
        call_on_deregister(provider, serial);
    }
    pthread_mutex_lock(&provider->mutex);
    status = remove_live(provider, serial, &gone);
    pthread_mutex_unlock(&provider->mutex);
    free(gone);
    return status;
}

static void close_provider(void *state)
{
    struct test_provider *provider = state;

    pthread_mutex_lock(&provider->mutex);
    if (provider->n_closed++ > 0) {
        misuse(provider, "closed twice");
    }
    for (struct test_registration *live = provider->live; live; live = live->next) {
        if (!live->is_lost) {
            misuse(provider, "closed while %zu bytes at %p are registered", live->size,
                live->address);
        }
    }
    record(provider, TEST_CLOSE, MRP_OK, NULL);
    pthread_mutex_unlock(&provider->mutex);
}

static void query(void *state, struct mrp_provider_info *info)
{
    const struct test_provider *provider = state;

    info->device = "memory of the test";
    info->traits = provider->traits;
    info->access = provider->access;
    info->memory_kinds = provider->memory_kinds;
    info->max_registrations = provider->max_registrations;
    info->max_size = provider->max_size;
    if ((provider->traits & MRP_PROVIDER_REMOTE_KEY) != 0) {
        bool is_raw = (provider->traits & MRP_PROVIDER_RAW_KEY) != 0;

        info->key_size = is_raw ? RAW_KEY_SIZE : sizeof(uint64_t);
    }
}

/* An imported raw key becomes its first word; the handle is a copy, so that a leak shows.
 */
static enum mrp_status import_key(
    void *state, const struct mrp_import_request *request, uint64_t *key, void **handle)
{
    struct test_provider *provider = state;
    bool is_raw = (provider->traits & MRP_PROVIDER_RAW_KEY) != 0;
    uint64_t words[RAW_KEY_SIZE / sizeof(uint64_t)] = {0};
    uint64_t *copy = NULL;

    if (request->key_size != (is_raw ? RAW_KEY_SIZE : sizeof(uint64_t))) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "test provider: a key of %zu bytes", request->key_size);
    }
    memcpy(words, request->key, request->key_size);
    if (is_raw) {
        if (words[RAW_KEY_SIZE / sizeof(uint64_t) - 1] != ~words[0]) {
            return mrp_fail(
                MRP_ERR_INVALID, 0, "test provider: the raw key is corrupted");
        }
        copy = malloc(sizeof(*copy));
        if (copy == NULL) {
            return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "test provider: out of memory");
        }
        *copy = words[0];
    }
    provider->n_imported++;
    *key = words[0];
    *handle = copy;
    return MRP_OK;
}

static void release_key(void *state, void *handle, uint64_t key)
{
    struct test_provider *provider = state;

    if (handle != NULL && *(uint64_t *)handle != key) {
        pthread_mutex_lock(&provider->mutex);
        misuse(provider, "key 0x%llx released with another's handle",
            (unsigned long long)key);
        pthread_mutex_unlock(&provider->mutex);
    }
    free(handle);
    provider->n_released++;
}

void test_provider_init(struct test_provider *provider)
{
    memset(provider, 0, sizeof(*provider));
    provider->traits = MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS;
    provider->access = MRP_ACCESS_ALL;
    provider->memory_kinds = 1U << MRP_MEMORY_HOST;
    provider->fail_count = 1;
    provider->fail_status = MRP_ERR_REGISTER;
    provider->deregister_fail_count = 1;
    pthread_mutex_init(&provider->mutex, NULL);
}

void test_provider_fini(struct test_provider *provider)
{
    while (provider->live != NULL) {
        struct test_registration *next = provider->live->next;

        free(provider->live);
        provider->live = next;
    }
    pthread_mutex_destroy(&provider->mutex);
}

void test_provider_fail_next(
    struct test_provider *provider, size_t n, size_t count, enum mrp_status status)
{
    provider->fail_status = status;
    provider->fail_count = count;
    provider->fail_at = provider->n_register + n;
}

const struct mrp_provider_ops *test_provider_ops(void)
{
    static const struct mrp_provider_ops ops = {
        .struct_size = sizeof(struct mrp_provider_ops),
        .abi = MRP_PROVIDER_ABI,
        .module = "test",
        .purpose = "counts, fails on demand and notices misuse",
        .register_memory = register_memory,
        .deregister_memory = deregister_memory,
        .close = close_provider,
        .query = query,
        .import_key = import_key,
        .release_key = release_key,
    };

    return &ops;
}

struct trace_search {
    const char *device;
    struct test_trace *trace;
    bool is_found;
};

/* The text is written in tests/providers/trace.c. */
static void read_counts(const struct mrp_device *device, void *user)
{
    struct trace_search *search = user;
    struct test_trace *trace = search->trace;

    if (strcmp(device->name, search->device) != 0) {
        return;
    }
    search->is_found =
        sscanf(device->detail,
            "register=%zu deregister=%zu live=%zu size=%zu peak_live=%zu peak_size=%zu "
            "overlaps=%zu errors=%zu",
            &trace->n_register, &trace->n_deregister, &trace->n_live, &trace->live_size,
            &trace->peak_live, &trace->peak_size, &trace->n_overlaps,
            &trace->n_errors) == 8;
}

bool test_trace_read(struct mrp_provider *provider, struct test_trace *trace)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct trace_search search = {"", trace, false};

    if (mrp_provider_query(provider, &info) != MRP_OK) {
        return false;
    }
    search.device = info.device;
    mrp_module_devices("trace", read_counts, &search);
    return search.is_found;
}
