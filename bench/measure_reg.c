/* SPDX-License-Identifier: BSD-3-Clause */
#include "measure_reg.h"

#include <string.h>
#include <sys/resource.h>

/* -- the station -----------------------------------------------------------------------
 */

static enum mrp_status open_bare(struct reg_station *station)
{
    const struct bench_registrar *bare = bench_registrar_bare(station->target->module);

    if (bare == NULL) {
        bench_note(station->bench,
            "the bare calls of %s: this build does not know them; mrp_region_register is "
            "the baseline",
            station->target->module);
        return MRP_OK;
    }
    if (bare->open(station->target->options, &station->bare_state) != MRP_OK) {
        bench_note(station->bench, "%s of %s: %s; mrp_region_register is the baseline",
            bare->calls, station->target->label, mrp_error_last()->text);
        return MRP_OK;
    }
    station->bare = bare;
    return MRP_OK;
}

enum mrp_status reg_station_open(
    struct bench *bench, const struct bench_target *target, struct reg_station *station)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    enum mrp_status status;

    *station = (struct reg_station){.bench = bench, .target = target};
    params.options = target->options[0] != '\0' ? target->options : NULL;
    status = mrp_context_create(NULL, &station->context);
    if (status == MRP_OK) {
        status = mrp_provider_open(
            station->context, target->module, &params, &station->provider);
    }
    if (status == MRP_OK) {
        status = mrp_provider_query(station->provider, &info);
    }
    if (status != MRP_OK) {
        return status;
    }
    station->pins = (info.traits & MRP_PROVIDER_PINS) != 0;
    station->access = MRP_ACCESS_LOCAL;
    if ((info.access & MRP_ACCESS_REMOTE) == MRP_ACCESS_REMOTE) {
        station->access |= MRP_ACCESS_REMOTE; /* local rights alone may cost nothing */
    }
    return open_bare(station);
}

void reg_station_close(struct reg_station *station)
{
    if (station->bare != NULL) {
        station->bare->close(station->bare_state);
    }
    mrp_context_destroy(station->context);
}

static enum mrp_status open_pool(
    struct reg_station *station, const struct bench_pages *pages, struct mrp_pool **pool)
{
    struct mrp_backend_params memory = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    enum mrp_status status;

    memory.pages = pages->pages;
    status = mrp_backend_create(station->context, "mmap", &memory, &params.backend);
    if (status != MRP_OK) {
        return status;
    }
    params.rails = &station->provider;
    params.n_rails = 1;
    params.access = station->access;
    status = mrp_pool_create(station->context, &params, pool);
    if (status != MRP_OK) {
        mrp_backend_destroy(params.backend);
    }
    return status;
}

/* -- steps -----------------------------------------------------------------------------
 */

enum step {
    STEP_MAP,
    STEP_TOUCH,
    STEP_REGISTER,
    STEP_DEREGISTER,
    STEP_UNMAP,
    N_STEPS
};
static const char *const step_names[] = {
    CASE_MMAP, CASE_TOUCH, CASE_REGISTER, CASE_DEREGISTER, CASE_MUNMAP};

#define BUFFERS_MAX 64
#define BATCH_SIZE ((size_t)4 << 20) /* bytes; half of what an ordinary user may lock */

/* Buffers that go through the steps together, so that the clock is read once per batch.
 */
struct steps {
    const struct bench_registrar *registrar;
    void *registrar_state;
    const struct bench_pages *pages;
    size_t size;
    size_t n_buffers;
    struct bench_buffer buffers[BUFFERS_MAX];
    void *handles[BUFFERS_MAX];
    struct bench_samples samples[N_STEPS];
};

static enum mrp_status run_step(struct steps *steps, enum step step, size_t i)
{
    struct bench_buffer *buffer = &steps->buffers[i];

    switch (step) {
    case STEP_MAP:
        return bench_buffer_map(steps->pages, steps->size, buffer);
    case STEP_TOUCH:
        bench_buffer_touch(buffer);
        return MRP_OK;
    case STEP_REGISTER:
        return steps->registrar->register_memory(
            steps->registrar_state, buffer->address, steps->size, &steps->handles[i]);
    case STEP_DEREGISTER:
        return steps->registrar->deregister_memory(
            steps->registrar_state, buffer->address, steps->size, steps->handles[i]);
    default:
        bench_buffer_unmap(buffer);
        return MRP_OK;
    }
}

/* After a failed registration: the buffers before `n_registered` are registered. */
static void undo_steps(struct steps *steps, size_t n_mapped, size_t n_registered)
{
    for (size_t i = 0; i < n_registered; i++) {
        run_step(steps, STEP_DEREGISTER, i);
    }
    for (size_t i = 0; i < n_mapped; i++) {
        run_step(steps, STEP_UNMAP, i);
    }
}

static enum mrp_status run_steps(struct steps *steps, bool keep_samples)
{
    for (int step = STEP_MAP; step < N_STEPS; step++) {
        struct bench_samples *samples = &steps->samples[step];
        double start = bench_cpu_ns();

        for (size_t i = 0; i < steps->n_buffers; i++) {
            enum mrp_status status = run_step(steps, (enum step)step, i);

            if (status != MRP_OK) {
                undo_steps(steps, step == STEP_MAP ? i : steps->n_buffers,
                    step == STEP_REGISTER ? i : 0);
                return status;
            }
        }
        if (keep_samples) {
            samples->values[samples->n++] =
                bench_elapsed_ns(start) / (double)steps->n_buffers;
        }
    }
    return MRP_OK;
}

/* Under a small memlock limit fewer buffers at a time, down to one: whether that one fits
 * is the system's to say. Three quarters, for what the process has locked already. */
static size_t choose_batch(const struct reg_station *station, size_t size)
{
    struct rlimit limit;
    size_t batch_size = BATCH_SIZE;
    size_t n;

    if (station->pins && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
        limit.rlim_cur / 4 * 3 < batch_size) {
        batch_size = limit.rlim_cur / 4 * 3;
    }
    n = batch_size / size;
    return n < 1 ? 1 : n > BUFFERS_MAX ? BUFFERS_MAX : n;
}

enum mrp_status reg_measure_steps(
    struct reg_station *station, const struct bench_pages *pages, size_t size)
{
    static struct steps steps;
    const struct bench_subject subject = {station->target->spec, pages->name, size, 1};
    struct mrp_pool *pool = NULL;
    enum mrp_status status = MRP_OK;

    steps = (struct steps){station->bare, station->bare_state, pages, size,
        choose_batch(station, size), {{0}}, {NULL}, {{0}}};
    if (station->bare == NULL) {
        status = open_pool(station, pages, &pool);
        steps.registrar = &bench_registrar_mrpool;
        steps.registrar_state = pool;
    }
    for (size_t i = 0; status == MRP_OK && i <= station->bench->options->repetitions;
         i++) {
        status = run_steps(&steps, i > 0); /* the first warms up */
    }
    for (size_t step = 0; status == MRP_OK && step < N_STEPS; step++) {
        bench_record(
            station->bench, &subject, step_names[step], "ns", &steps.samples[step], NULL);
    }
    if (pool != NULL) {
        mrp_pool_destroy(pool);
    }
    return status;
}

/* -- per message ------------------------------------------------------------------------
 */

struct message {
    struct reg_station *station;
    struct mrp_pool *pool;
    struct bench_buffer buffer;
};

static enum mrp_status register_once(const struct bench_registrar *registrar, void *state,
    const struct bench_buffer *buffer)
{
    void *handle;
    enum mrp_status status =
        registrar->register_memory(state, buffer->address, buffer->size, &handle);

    return status != MRP_OK
        ? status
        : registrar->deregister_memory(state, buffer->address, buffer->size, handle);
}

static enum mrp_status run_bare(void *state, size_t n)
{
    const struct message *message = state;
    const struct reg_station *station = message->station;
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; status == MRP_OK && i < n; i++) {
        status = register_once(station->bare, station->bare_state, &message->buffer);
    }
    return status;
}

static enum mrp_status run_mrpool(void *state, size_t n)
{
    const struct message *message = state;
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; status == MRP_OK && i < n; i++) {
        status = register_once(&bench_registrar_mrpool, message->pool, &message->buffer);
    }
    return status;
}

static enum mrp_status run_pool(void *state, size_t n)
{
    const struct message *message = state;

    for (size_t i = 0; i < n; i++) {
        struct mrp_region *region = mrp_region_alloc(message->pool, message->buffer.size);

        if (region == NULL || mrp_region_free(region) != MRP_OK) {
            return mrp_error_last()->status;
        }
    }
    return MRP_OK;
}

/* The first case is the baseline of the others. */
static enum mrp_status compare(
    struct message *message, const struct bench_subject *subject)
{
    static struct bench_case all[] = {
        {.name = CASE_MESSAGE, .run = run_bare},
        {.name = CASE_MESSAGE_MRPOOL, .run = run_mrpool},
        {.name = CASE_POOL, .run = run_pool},
    };
    struct bench *bench = message->station->bench;
    size_t first = message->station->bare != NULL ? 0 : 1;
    size_t n_cases = sizeof all / sizeof all[0] - first;
    const struct bench_result *baseline = NULL;
    enum mrp_status status;

    for (size_t i = 0; i < n_cases; i++) {
        all[first + i].state = message;
        all[first + i].batch = 0;
    }
    status = bench_compare(bench, &all[first], n_cases);
    for (size_t i = 0; status == MRP_OK && i < n_cases; i++) {
        const struct bench_case *one = &all[first + i];
        const struct bench_result *result =
            bench_record(bench, subject, one->name, "ns", &one->samples, baseline);

        baseline = baseline == NULL ? result : baseline;
    }
    return status;
}

enum mrp_status reg_measure_message(
    struct reg_station *station, const struct bench_pages *pages, size_t size)
{
    const struct bench_subject subject = {station->target->spec, pages->name, size, 1};
    struct message message = {.station = station};
    enum mrp_status status = bench_buffer_map(pages, size, &message.buffer);

    if (status != MRP_OK) {
        return status;
    }
    bench_buffer_touch(&message.buffer);
    status = open_pool(station, pages, &message.pool);
    if (status == MRP_OK) {
        status = compare(&message, &subject);
        mrp_pool_destroy(message.pool);
    }
    bench_buffer_unmap(&message.buffer);
    return status;
}
