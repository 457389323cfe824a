/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The message layer: the pool, and the main thread's side. What to look at:
 *   - a pool made for a transport: headers, packets, budget     pool_open
 *   - all memory mapped and registered before traffic runs      pool_fill
 *   - the send path: from plain pointers to a scatter list      port_send
 *   - how the progress thread is helped                         port_poll
 */
#include "parcelport_port.h"

#include "parcelport_packet.h"

#include <stdlib.h>
#include <string.h>

/* Room for three offers with keys, whatever an eager message may be. */
#define BODY_LEAST 2048

/* -- packets -- */

/* Called by the pool, once for each region, when its block is cut. */
static enum mrp_status packet_init(
    struct mrp_region *region, void *user_data, void *init_user)
{
    struct packet *packet = user_data;

    packet->region = region;
    packet->header = (struct header *)mrp_region_address(region) - 1;
    packet->port = init_user;
    return MRP_OK;
}

void packet_free(struct packet *packet)
{
    struct port *port = packet->port;

    packet->role = PACKET_IDLE;
    (void)mrp_ok(port, "free", mrp_region_free(packet->region));
}

void packet_address(
    struct packet *packet, enum message_kind kind, unsigned to, uint64_t id)
{
    *packet->header = (struct header){.magic = MESSAGE_MAGIC,
        .kind = (uint8_t)kind,
        .from = (uint16_t)packet->port->rank,
        .id = id};
    packet->peer = to;
    packet->n_entries = 0;
    packet->carries_entry = false;
    packet->is_repeated = false;
}

/* -- opening -- */

/* Posted at once: a window of parcels from each peer, and as many answers to ours. */
static size_t port_receives(const struct port *port)
{
    return (port->options.n_processes - 1) * 2 * (size_t)port->options.window;
}

static bool pool_open(struct port *port)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    if (port->ops->makes_memory != NULL && port->ops->makes_memory(port->network) &&
        !mrp_ok(port, "memory of the network",
            mrp_provider_backend(port->provider, NULL, &params.backend))) {
        return false;
    }
    params.name = "parcels";
    params.rails = &port->provider;
    params.n_rails = 1;
    /* Peers read what we offer; nobody writes into our memory. */
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE_READ;
    /* Every region is a packet. */
    params.headroom = sizeof(struct header);
    params.user_size = sizeof(struct packet);
    params.region_init = packet_init;
    params.region_init_user = port;
    /* A budget, in four chunks. What has been registered stays: port_start maps all. */
    params.max_bytes = port->options.pool_size;
    params.chunk_min = port->options.pool_size / 4;
    params.chunk_max = params.chunk_min;
    params.never_free = true;
    /* The progress thread takes what is free and cut already, and puts a region in place
     * of each that has arrived: as many as are posted at once are made here, and as many
     * again. What is preallocated is never regrouped for other sizes. */
    params.tiers[MRP_TIER_MEDIUM].max_size = port->body_max;
    params.tiers[MRP_TIER_MEDIUM].preallocate = 2 * port_receives(port);
    /* Small messages must not take all that the largest ones need. */
    params.tiers[MRP_TIER_HUGE].reserve = port->options.pool_size / 4;
    return mrp_ok(port, "pool", mrp_pool_create(port->context, &params, &port->pool));
}

struct port *port_open(
    const struct options *options, const char *node, const struct port_events *events)
{
    struct port *port = calloc(1, sizeof(*port));

    if (port == NULL) {
        trouble("no memory");
        return NULL;
    }
    port->options = *options;
    port->rank = (unsigned)options->rank;
    port->body_max = options->eager_max > BODY_LEAST ? options->eager_max : BODY_LEAST;
    port->events = *events;
    port->ops = options->network;
    queue_init(&port->reads);
    queue_init(&port->posts);
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        queue_init(&port->peers[i].sends);
    }
    port->progress_bell.fd = port->main_bell.fd = -1;
    port->network = port->ops->open(options->provider, node);
    if (port->network == NULL ||
        !mrp_ok(port, "context", mrp_context_create(NULL, &port->context)) ||
        !mrp_ok(port, "provider",
            port->ops->wrap(port->network, port->context, &port->provider)) ||
        !pool_open(port)) {
        port_close(port);
        return NULL;
    }
    if (!bell_open(&port->progress_bell) || !bell_open(&port->main_bell)) {
        trouble("eventfd: no descriptor left");
        port_close(port);
        return NULL;
    }
    return port;
}

void port_abort(struct port *port)
{
    atomic_store(&port->has_failed, true);
}

uint64_t port_messages_to(struct port *port, unsigned rank)
{
    return port->peers[rank].n_messages_to;
}

bool port_drain(struct port *port, const uint64_t *n_from)
{
    return progress_drain(port, n_from);
}

bool port_disconnect(struct port *port)
{
    bool good = progress_cancel(port);

    rendezvous_close(port);
    port->ops->disconnect(port->network);
    return good;
}

void port_progress(void *port_arg)
{
    struct port *port = port_arg;

    (void)port->ops->progress(port->network);
}

/* Memory goes before the domain that it is registered with, and after all that uses it. */
bool port_close(struct port *port)
{
    bool has_failed = atomic_load(&port->has_failed), good;

    if (port->network != NULL) {
        (void)port_disconnect(port);
    }
    if (port->pool != NULL) {
        (void)mrp_ok(port, "pool check", mrp_pool_check(port->pool));
    }
    if (port->context != NULL) { /* the pool and the provider go with it */
        enum mrp_status status = mrp_context_destroy(port->context);

        /* what a failure has left behind is no news */
        (void)((status == MRP_ERR_LEAKED && has_failed) ||
            mrp_ok(port, "closing", status));
    }
    if (port->network != NULL) {
        port->ops->close(port->network);
    }
    bell_close(&port->progress_bell);
    bell_close(&port->main_bell);
    good = !atomic_load(&port->has_failed);
    free(port);
    return good;
}

const char *port_describe(struct port *port)
{
    return port->ops->describe(port->network);
}

bool port_address(struct port *port, void *address, size_t *size)
{
    return port->ops->address(port->network, address, size);
}

bool port_connect(struct port *port, unsigned rank, const void *address, size_t size)
{
    return port->ops->connect(port->network, rank, address, size);
}

struct mrp_pool *port_pool(struct port *port)
{
    return port->pool;
}

const struct port_counts *port_counts(struct port *port)
{
    return &port->counts;
}

uint64_t port_repeated(struct port *port, unsigned rank)
{
    return atomic_load(&port->peers[rank].n_repeated);
}

uint64_t port_unfinished(struct port *port)
{
    return atomic_load(&port->n_unfinished);
}

bool port_memory(struct port *port, struct port_memory *memory)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_pool_stats stats = {.struct_size = sizeof(stats)};

    if (!mrp_ok(port, "provider", mrp_provider_query(port->provider, &info)) ||
        !mrp_ok(port, "statistics", mrp_pool_stats(port->pool, &stats))) {
        return false;
    }
    *memory = (struct port_memory){.n_registrations = info.n_registrations,
        .registered_size = info.registered_size,
        .n_registered = info.n_registered,
        .n_deregistered = info.n_deregistered,
        .n_chunks = stats.n_chunks + stats.n_idle,
        .mapped_size = stats.mapped_size,
        .n_growths = stats.n_growths,
        .n_taken_up = stats.n_taken_up,
        .n_released = stats.n_released,
        .n_waits = stats.n_waits};
    return true;
}

/* -- starting and stopping -- */

/* Take regions until the budget is used up, and give them back: all chunks are there, and
 * registered, and stay. From here on the pool only regroups. */
static bool pool_fill(struct port *port)
{
    size_t n_most = port->options.pool_size / MESSAGE_MAX, n_taken;
    struct mrp_region **regions = calloc(n_most, sizeof(struct mrp_region *));
    bool good;

    if (regions == NULL) {
        return trouble("no memory");
    }
    n_taken = mrp_region_alloc_many(port->pool, MESSAGE_MAX, n_most, regions);
    good = n_taken == n_most || mrp_error_last()->status == MRP_ERR_LIMIT ||
        mrp_ok(port, "filling the pool", mrp_error_last()->status);
    good &= mrp_ok(port, "free", mrp_region_free_many(regions, n_taken, NULL));
    free(regions);
    /* Of any size from now on. Nothing goes back to the system: never_free. */
    return good && mrp_ok(port, "regrouping", mrp_pool_trim(port->pool, 0, NULL));
}

static bool piece_resolve(
    struct port *port, void *address, size_t size, struct network_piece *piece)
{
    struct mrp_wire wire = MRP_WIRE_INIT;

    if (!mrp_ok(port, "entry", mrp_resolve(port->pool, address, size, 0, &wire))) {
        return false;
    }
    *piece = (struct network_piece){address, size, wire.local_desc};
    return true;
}

static struct packet *port_new_packet(struct port *port, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(port->pool, size);

    if (region == NULL) {
        port_fail(port, "region of %zu bytes: %s", size, mrp_error_last()->text);
        return NULL;
    }
    return packet_of(region);
}

/* What must not fail later is taken now: a packet for each peer's credits. */
static bool credit_prepare(struct port *port, unsigned rank)
{
    struct packet *packet = port_new_packet(port, 0);

    if (packet == NULL) {
        return false;
    }
    packet->n_pieces = 1;
    port->peers[rank].credit = packet;
    return piece_resolve(port, packet->header, sizeof(struct header), &packet->pieces[0]);
}

static bool receives_prepare(struct port *port)
{
    for (size_t i = port_receives(port); i-- > 0;) {
        struct packet *packet = port_new_packet(port, port->body_max);

        if (packet == NULL) {
            return false;
        }
        packet->target = NULL;
        line_add(&port->granted, &packet->link);
    }
    /* what this thread still has of them is for the other one */
    return mrp_ok(port, "flush", mrp_thread_flush(port->pool));
}

bool port_start(struct port *port)
{
    bool good = pool_fill(port) && receives_prepare(port);

    for (unsigned i = 0; i < port->options.n_processes && good; i++) {
        good = i == port->rank || credit_prepare(port, i);
    }
    if (good && pthread_create(&port->thread, NULL, progress_run, port) != 0) {
        good = trouble("pthread_create fails");
    }
    port->is_running = good;
    return good;
}

bool port_stop(struct port *port)
{
    if (port->is_running) {
        atomic_store(&port->is_stopping, true);
        bell_ring(&port->progress_bell);
        pthread_join(port->thread, NULL);
        port->is_running = false;
        for (unsigned i = 0; i < port->options.n_processes; i++) {
            if (port->peers[i].credit != NULL && !atomic_load(&port->has_failed)) {
                packet_free(port->peers[i].credit);
            }
        }
    }
    return !atomic_load(&port->has_failed);
}

/* -- sending -- */

static enum port_result port_later(struct port *port)
{
    port_count(&port->counts.n_later);
    return PORT_LATER;
}

/* What a request for memory that failed asks of the main thread. */
static enum port_result port_judge(struct port *port, size_t size)
{
    if (mrp_error_last()->status == MRP_ERR_LIMIT) {
        return port_later(port); /* the budget is used up: until something is freed */
    }
    port_fail(port, "region of %zu bytes: %s", size, mrp_error_last()->text);
    return PORT_FAILED;
}

void *port_alloc(struct port *port, size_t size)
{
    void *address = mrp_ptr_alloc(port->pool, size);

    if (address == NULL) {
        (void)port_judge(port, size);
    }
    return address;
}

/* The packet that an address is the first byte of, so that there is a header in front. */
static struct packet *packet_at(struct port *port, const void *address)
{
    struct mrp_region *region = mrp_region_find(port->pool, address);

    return region != NULL && mrp_region_address(region) == address ? packet_of(region)
                                                                   : NULL;
}

/* The header and the entries, or the header with the one entry behind it, as one list:
 * each address becomes what the network wants for it. */
static bool packet_gather(struct port *port, struct packet *packet)
{
    struct header *header = packet->header;
    bool is_scattered = header->kind == MESSAGE_EAGER && !packet->carries_entry;
    size_t first = sizeof(*header) + (is_scattered ? 0 : header->body_size);

    packet->n_pieces = 1;
    if (!piece_resolve(port, header, first, &packet->pieces[0])) {
        return false;
    }
    for (size_t i = 0; i < packet->n_entries && is_scattered; i++) {
        if (!piece_resolve(port, packet->entries[i].iov_base, packet->entries[i].iov_len,
                &packet->pieces[packet->n_pieces++])) {
            return false;
        }
        port_count(&port->counts.n_entries);
    }
    return true;
}

static void port_submit(struct port *port, struct packet *packet)
{
    line_add(&port->submitted, &packet->link);
    bell_ring(&port->progress_bell);
}

/* May another parcel of this size be under way? Peers need room for what we send, and we
 * need room for what they send: a quarter of the pool is for what goes out, so that what
 * comes in always finds some, and no two processes wait for each other's memory. */
static bool port_has_room(struct port *port, unsigned to, uint64_t size)
{
    struct port_peer *peer = &port->peers[to];
    uint64_t unfinished = atomic_load(&port->unfinished_size);

    return peer->n_sent - atomic_load(&peer->consumed_there) < port->options.window &&
        (unfinished == 0 || unfinished + size <= port->options.pool_size / 4);
}

static void port_count_sent(struct port *port, const struct packet *packet)
{
    if (packet->role == PACKET_RENDEZVOUS) {
        port_count(&port->counts.n_rendezvous);
    } else {
        port_count(&port->counts.n_eager);
        if (!packet->carries_entry) {
            port_count(&port->counts.n_scattered);
        }
    }
}

enum port_result port_send(struct port *port, unsigned to, uint64_t id,
    const struct iovec *entries, size_t n_entries)
{
    enum port_result result = PORT_OK;
    struct packet *packet = NULL;
    uint64_t size = 0;
    bool is_eager, carries_entry;

    for (size_t i = 0; i < n_entries; i++) {
        size += entries[i].iov_len;
    }
    if (!port_has_room(port, to, size)) {
        return port_later(port);
    }
    is_eager = size <= port->options.eager_max;
    if (is_eager && n_entries == 1) {
        packet = packet_at(port, entries[0].iov_base);
    }
    carries_entry = packet != NULL;
    if (packet == NULL) {
        size_t body_size = is_eager ? 0 : port->body_max;
        struct mrp_region *region = mrp_region_alloc(port->pool, body_size);

        if (region == NULL) {
            return port_judge(port, body_size);
        }
        packet = packet_of(region);
    }
    packet_address(packet, is_eager ? MESSAGE_EAGER : MESSAGE_RENDEZVOUS, to, id);
    packet->role = is_eager ? PACKET_EAGER : PACKET_RENDEZVOUS;
    packet->carries_entry = carries_entry;
    packet->header->n_entries = (uint8_t)n_entries;
    packet->header->size = size;
    packet->header->body_size = is_eager ? (uint32_t)size : 0;
    memcpy(packet->entries, entries, n_entries * sizeof(*entries));
    packet->n_entries = n_entries;
    if (!is_eager) {
        result = rendezvous_offer(port, packet);
    }
    if (result == PORT_OK && !packet_gather(port, packet)) {
        result = PORT_FAILED;
    }
    if (result != PORT_OK) {
        if (!carries_entry) {
            packet_free(packet);
        }
        return result;
    }
    port->peers[to].n_sent++;
    atomic_fetch_add(&port->n_unfinished, 1);
    atomic_fetch_add(&port->unfinished_size, size);
    port_count_sent(port, packet);
    port_submit(port, packet);
    return PORT_OK;
}

/* -- what the progress thread leaves to the main thread -- */

/* Back to the pool, unless the progress thread has found none there to receive into. */
static void packet_consumed(struct port *port, struct packet *packet)
{
    int n_missing = atomic_load(&port->n_receives_missing);

    if (packet->role == PACKET_RECEIVE && n_missing > 0) {
        atomic_fetch_sub(&port->n_receives_missing, 1); /* nobody else takes off */
        port_count(&port->counts.n_handed);
        line_add(&port->granted, &packet->link);
        bell_ring(&port->progress_bell);
    } else {
        packet_free(packet);
    }
}

static bool port_take_in(struct port *port, struct packet *packet)
{
    struct port_peer *peer = &port->peers[packet->peer];
    const struct header *header = packet->header;
    bool good = port->events.arrived(port->events.user, packet->peer, header->id,
        mrp_region_address(packet->region), header->size);
    uint32_t consumed = atomic_fetch_add(&peer->consumed_here, 1) + 1;

    packet_consumed(port, packet);
    if (consumed % ((port->options.window + 1) / 2) == 0) {
        bell_ring(&port->progress_bell); /* it may have to tell */
    }
    return good;
}

bool port_poll(struct port *port, bool *busy)
{
    bool good = !atomic_load(&port->has_failed);
    struct link *next;

    *busy = false;
    for (struct link *link = line_take(&port->arrived); link != NULL; link = next) {
        next = link->next;
        good &= port_take_in(port, packet_of_link(link));
        *busy = true;
    }
    for (struct link *link = line_take(&port->wanted); link != NULL; link = next) {
        next = link->next;
        good &= rendezvous_find_target(port, packet_of_link(link));
        *busy = true;
    }
    for (struct link *link = line_take(&port->unanswered); link != NULL; link = next) {
        struct packet *packet = packet_of_link(link);

        next = link->next;
        good &= rendezvous_offer_keys(port, packet) && packet_gather(port, packet);
        port_submit(port, packet);
        *busy = true;
    }
    if (!good) {
        atomic_store(&port->has_failed, true);
    }
    return good;
}

void port_wait(struct port *port)
{
    (void)mrp_ok(port, "flush", mrp_thread_flush(port->pool));
    atomic_store(&port->main_bell.is_awaited, true);
    if (line_is_empty(&port->arrived) && line_is_empty(&port->wanted) &&
        line_is_empty(&port->unanswered)) {
        bell_wait(&port->main_bell, SLEEP_MS);
    }
    atomic_store(&port->main_bell.is_awaited, false);
}
