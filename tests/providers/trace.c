/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A network that registers nothing, counts what is asked of it and notices misuse. Each
 * provider opened is a device of its own, "trace:<number>" in mrp_provider_info.device;
 * its counts are the detail text that mrp_module_devices lists.
 *
 * Misuse is: deregistering what is not live, and memory that is unmapped before it is
 * deregistered. Overlapping registrations are no misuse, but counted.
 */
#include "mrpool/provider.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A registration; its native handle is the serial, which is never used twice. */
struct trace_entry {
    struct trace_entry *next;
    uint64_t serial;
    void *address;
    size_t size;
};

struct trace_provider {
    struct trace_provider *next; /* under open_mutex */
    char device[32];
    pthread_mutex_t mutex; /* for all below */
    struct trace_entry *live;
    uint64_t last_serial;
    size_t n_register, n_deregister, n_live, live_size, peak_live, peak_size;
    size_t n_overlaps, n_errors;
};

static pthread_mutex_t open_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct trace_provider *open_providers;
static unsigned n_opened;

static bool is_page_mapped(const unsigned char *byte)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char resident;

    return mincore((void *)((uintptr_t)byte & ~(page - 1)), 1, &resident) == 0 ||
        errno != ENOMEM;
}

/* Whether first and last byte can still be read, without a crash if they cannot. */
static bool is_mapped(const struct trace_entry *entry)
{
    const unsigned char *first = entry->address;

    return is_page_mapped(first) && is_page_mapped(first + entry->size - 1);
}

static bool overlaps_live(
    const struct trace_provider *provider, const struct trace_entry *entry)
{
    uintptr_t begin = (uintptr_t)entry->address;

    for (const struct trace_entry *live = provider->live; live; live = live->next) {
        uintptr_t other = (uintptr_t)live->address;

        if (begin < other + live->size && other < begin + entry->size) {
            return true;
        }
    }
    return false;
}

/* Under the mutex. */
static void add_live(struct trace_provider *provider, struct trace_entry *entry)
{
    provider->n_register++;
    provider->n_overlaps += overlaps_live(provider, entry);
    entry->serial = ++provider->last_serial;
    entry->next = provider->live;
    provider->live = entry;
    provider->n_live++;
    provider->live_size += entry->size;
    if (provider->n_live > provider->peak_live) {
        provider->peak_live = provider->n_live;
    }
    if (provider->live_size > provider->peak_size) {
        provider->peak_size = provider->live_size;
    }
}

/* Under the mutex. */
static struct trace_entry *remove_live(struct trace_provider *provider, uint64_t serial)
{
    struct trace_entry **link = &provider->live, *found;

    provider->n_deregister++;
    while (*link != NULL && (*link)->serial != serial) {
        link = &(*link)->next;
    }
    found = *link;
    if (found == NULL) {
        provider->n_errors++;
        return NULL;
    }
    *link = found->next;
    provider->n_live--;
    provider->live_size -= found->size;
    provider->n_errors += !is_mapped(found);
    return found;
}

static enum mrp_status trace_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct trace_provider *provider = state;
    struct trace_entry *entry = calloc(1, sizeof(*entry));

    if (entry == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "trace: out of memory");
    }
    entry->address = request->address;
    entry->size = request->size;
    pthread_mutex_lock(&provider->mutex);
    add_live(provider, entry);
    registration->remote_key = entry->serial;
    pthread_mutex_unlock(&provider->mutex);
    registration->native = (void *)(uintptr_t)registration->remote_key;
    registration->local_desc = NULL;
    registration->key_blob = NULL;
    registration->key_size = sizeof(uint64_t);
    registration->remote_base = (uintptr_t)request->address;
    return MRP_OK;
}

static enum mrp_status trace_deregister(
    void *state, const struct mrp_registration *registration)
{
    struct trace_provider *provider = state;
    struct trace_entry *gone;

    pthread_mutex_lock(&provider->mutex);
    gone = remove_live(provider, (uintptr_t)registration->native);
    pthread_mutex_unlock(&provider->mutex);
    if (gone == NULL) {
        return mrp_fail(MRP_ERR_STALE, 0, "trace: registration %llu is not live",
            (unsigned long long)(uintptr_t)registration->native);
    }
    free(gone);
    return MRP_OK;
}

static enum mrp_status trace_open(
    const struct mrp_provider_open_request *request, void **state)
{
    struct trace_provider *provider = calloc(1, sizeof(*provider));

    (void)request;
    if (provider == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "trace: out of memory");
    }
    pthread_mutex_init(&provider->mutex, NULL);
    pthread_mutex_lock(&open_mutex);
    snprintf(provider->device, sizeof(provider->device), "trace:%u", ++n_opened);
    provider->next = open_providers;
    open_providers = provider;
    pthread_mutex_unlock(&open_mutex);
    *state = provider;
    return MRP_OK;
}

static void unlist(struct trace_provider *provider)
{
    struct trace_provider **link = &open_providers;

    pthread_mutex_lock(&open_mutex);
    while (*link != provider) {
        link = &(*link)->next;
    }
    *link = provider->next;
    pthread_mutex_unlock(&open_mutex);
}

static void trace_close(void *state)
{
    struct trace_provider *provider = state;

    unlist(provider);
    while (provider->live != NULL) {
        struct trace_entry *next = provider->live->next;

        free(provider->live);
        provider->live = next;
    }
    pthread_mutex_destroy(&provider->mutex);
    free(provider);
}

static void trace_query(void *state, struct mrp_provider_info *info)
{
    info->device = ((struct trace_provider *)state)->device;
    info->traits = MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS;
    info->access = MRP_ACCESS_ALL;
    info->memory_kinds = 1U << MRP_MEMORY_HOST;
    info->key_size = sizeof(uint64_t);
}

/* tests/support reads it back: test_trace_read. */
static void write_counts(struct trace_provider *provider, char *text, size_t size)
{
    pthread_mutex_lock(&provider->mutex);
    snprintf(text, size,
        "register=%zu deregister=%zu live=%zu size=%zu peak_live=%zu peak_size=%zu "
        "overlaps=%zu errors=%zu",
        provider->n_register, provider->n_deregister, provider->n_live,
        provider->live_size, provider->peak_live, provider->peak_size,
        provider->n_overlaps, provider->n_errors);
    pthread_mutex_unlock(&provider->mutex);
}

static enum mrp_status trace_devices(mrp_device_visitor *visit, void *user)
{
    char counts[256];

    pthread_mutex_lock(&open_mutex);
    for (struct trace_provider *open = open_providers; open != NULL; open = open->next) {
        const struct mrp_device device = {sizeof(device), open->device, "", "", counts};

        write_counts(open, counts, sizeof(counts));
        visit(&device, user);
    }
    pthread_mutex_unlock(&open_mutex);
    return MRP_OK;
}

MRP_API const struct mrp_provider_ops mrp_provider_trace = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "trace",
    .purpose = "counts calls and notices misuse; for tests",
    .register_memory = trace_register,
    .deregister_memory = trace_deregister,
    .open = trace_open,
    .close = trace_close,
    .query = trace_query,
    .devices = trace_devices,
};
