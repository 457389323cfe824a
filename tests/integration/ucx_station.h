/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A worker and one endpoint on a UCP context, to move data with: to another process, or
 * to itself. Errors end the process with a message.
 */
#ifndef MRP_TEST_UCX_STATION_H
#define MRP_TEST_UCX_STATION_H

#include "mrpool/mrpool.h"
#include "mrpool/ucx.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STATION_SECONDS 60

#define STATION_CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: not so: %s (%s)\n", __FILE__, __LINE__, \
                __func__, #condition, mrp_error_last()->text); \
            exit(1); \
        } \
    } while (0)

#define STATION_CALL(call) \
    do { \
        ucs_status_t station_code = (call); \
        if (station_code != UCS_OK) { \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, __func__, #call, \
                ucs_status_string(station_code)); \
            exit(1); \
        } \
    } while (0)

struct station {
    ucp_worker_h worker;
    ucp_ep_h ep;
    ucp_address_t *address;
    size_t address_size;
};

static inline time_t station_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static inline void station_open(struct station *station, ucp_context_h context)
{
    const ucp_worker_params_t params = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SINGLE};

    STATION_CALL(ucp_worker_create(context, &params, &station->worker));
    STATION_CALL(ucp_worker_get_address(
        station->worker, &station->address, &station->address_size));
}

/* `address` is the other worker's, or the station's own. */
static inline void station_connect(struct station *station, const void *address)
{
    const ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS, .address = address};

    STATION_CALL(ucp_ep_create(station->worker, &params, &station->ep));
}

static inline void station_wait(struct station *station, ucs_status_ptr_t request)
{
    time_t start = station_now();
    ucs_status_t code = UCS_INPROGRESS;

    if (!UCS_PTR_IS_PTR(request)) {
        STATION_CALL(UCS_PTR_STATUS(request));
        return;
    }
    while ((code = ucp_request_check_status(request)) == UCS_INPROGRESS) {
        STATION_CHECK(station_now() - start < STATION_SECONDS);
        if (ucp_worker_progress(station->worker) == 0) {
            sched_yield(); /* the other process may be waiting for this processor */
        }
    }
    ucp_request_free(request);
    STATION_CALL(code);
}

static inline void station_flush(struct station *station)
{
    const ucp_request_param_t param = {.op_attr_mask = 0};

    station_wait(station, ucp_ep_flush_nbx(station->ep, &param));
}

/* The other process, if there is one, has to progress its worker meanwhile. */
static inline void station_disconnect(struct station *station)
{
    const ucp_request_param_t param = {.op_attr_mask = 0};

    if (station->ep != NULL) {
        station_wait(station, ucp_ep_close_nbx(station->ep, &param));
    }
    station->ep = NULL;
}

static inline void station_close(struct station *station)
{
    station_disconnect(station);
    ucp_worker_release_address(station->worker, station->address);
    ucp_worker_destroy(station->worker);
}

/* A provider of the module's own context; a module that is missing, or a transport, skips
 * the program. */
static inline enum mrp_status station_provider(struct mrp_context *context,
    const char *name, const char *options, struct mrp_provider **provider)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;

    params.name = name;
    params.options = options;
    return mrp_provider_open(context, "ucx", &params, provider);
}

static inline const struct mrp_ucx_native *station_native(struct mrp_provider *provider)
{
    const void *native;

    STATION_CHECK(mrp_provider_native(provider, &native) == MRP_OK);
    return native;
}

#endif
