/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Presets fill a pool's params before they are resolved, so that everything later, and
 * every refusal, is as if the caller had written them.
 */
#include "pool/preset.h"

#include "base/align.h"
#include "base/error.h"
#include "base/settings.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

extern char **environ;

/* Neither the caller nor the environment says what a member is. */
static bool is_open(size_t given, enum mrp_setting_id id)
{
    return given == 0 && getenv(mrp_setting_spec(id)->variable) == NULL;
}

static void fill(size_t *member, enum mrp_setting_id id, size_t value)
{
    if (is_open(*member, id)) {
        *member = value;
    }
}

/* Exact block sizes, of the caller's, have no tiers. */
static void fill_tier(struct mrp_pool_params *params, size_t tier, size_t max_size)
{
    if (params->n_block_sizes == 0) {
        fill(&params->tiers[tier].max_size,
            (enum mrp_setting_id)(MRP_SET_SMALL_MAX + tier), max_size);
    }
}

/* -- malloc -- */

/* What it is leaves nothing to choose. */
static enum mrp_status fill_malloc(struct mrp_pool_params *params)
{
    const char *backend = getenv(mrp_setting_spec(MRP_SET_BACKEND)->variable);

    if (params->backend != NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "preset malloc has a backend of its own, of kind malloc: leave backend NULL, "
            "or set isolate instead of the preset");
    }
    if (backend != NULL && strcasecmp(backend, "malloc") != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "preset malloc has a backend of kind malloc, and MRPOOL_BACKEND=%.64s: unset "
            "one of the two",
            backend);
    }
    if (params->never_free) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "preset malloc gives memory back at each free, and never_free is set: leave "
            "one of the two");
    }
    params->isolate = true;
    return MRP_OK;
}

/* -- AllocTools -- */

static const struct {
    size_t max_size, preallocate;
} alloctools[MRP_TIERS] = {
    {MRP_KIB, 1024}, {16 * MRP_KIB, 2048}, {64 * MRP_KIB, 64}, {MRP_MIB, 16}};

static void fill_alloctools(struct mrp_pool_params *params)
{
    for (size_t tier = 0; params->n_block_sizes == 0 && tier < MRP_TIERS; tier++) {
        fill_tier(params, tier, alloctools[tier].max_size);
        if (params->tiers[tier].preallocate == 0) {
            params->tiers[tier].preallocate = alloctools[tier].preallocate;
        }
    }
}

/* -- hwmalloc -- */

enum hwmalloc_id {
    NEVER_FREE,
    NUM_RESERVE_SEGMENTS,
    TINY_LIMIT,
    SMALL_LIMIT,
    LARGE_LIMIT,
    TINY_SEGMENT_SIZE,
    SMALL_SEGMENT_SIZE,
    LARGE_SEGMENT_SIZE,
    N_HWMALLOC
};

/* Names and defaults of hwmalloc 0.4, ranges ours. The largest tier ends at twice the
 * large limit, so that is at most half of ours. */
static const struct mrp_setting_spec hwmalloc[N_HWMALLOC] = {
    [NEVER_FREE] = {"HWMALLOC_NEVER_FREE", MRP_SETTING_SWITCH, 0, 0, NULL, "off",
        "keep all memory"},
    [NUM_RESERVE_SEGMENTS] = {"HWMALLOC_NUM_RESERVE_SEGMENTS", MRP_SETTING_COUNT, 0,
        1 << 20, NULL, "16", "segments of each kind kept when idle"},
    [TINY_LIMIT] = {"HWMALLOC_TINY_LIMIT", MRP_SETTING_SIZE, 64, MRP_GIB / 2, NULL, "128",
        "largest request of the first tier"},
    [SMALL_LIMIT] = {"HWMALLOC_SMALL_LIMIT", MRP_SETTING_SIZE, 64, MRP_GIB / 2, NULL,
        "4K", "largest request of the second tier"},
    [LARGE_LIMIT] = {"HWMALLOC_LARGE_LIMIT", MRP_SETTING_SIZE, 64, MRP_GIB / 2, NULL,
        "2M", "largest request of the third tier"},
    [TINY_SEGMENT_SIZE] = {"HWMALLOC_TINY_SEGMENT_SIZE", MRP_SETTING_SIZE, 64,
        64 * MRP_GIB, NULL, "64K", "unit of registration of the first tier"},
    [SMALL_SEGMENT_SIZE] = {"HWMALLOC_SMALL_SEGMENT_SIZE", MRP_SETTING_SIZE, 64,
        64 * MRP_GIB, NULL, "64K", "unit of registration of the second tier"},
    [LARGE_SEGMENT_SIZE] = {"HWMALLOC_LARGE_SEGMENT_SIZE", MRP_SETTING_SIZE, 64,
        64 * MRP_GIB, NULL, "2M", "unit of registration of the third tier"},
};

/* find_package of CMake reads these two. */
static bool is_for_cmake(const char *variable, size_t length)
{
    return (length == 12 && strncmp(variable, "HWMALLOC_DIR", length) == 0) ||
        (length == 13 && strncmp(variable, "HWMALLOC_ROOT", length) == 0);
}

static bool is_known(const char *variable, size_t length)
{
    bool found = is_for_cmake(variable, length);

    for (size_t i = 0; i < N_HWMALLOC && !found; i++) {
        found = strlen(hwmalloc[i].variable) == length &&
            strncmp(hwmalloc[i].variable, variable, length) == 0;
    }
    return found;
}

/* `mrpool info`, to which mrp_settings_validate() sends, does not list these. */
static enum mrp_status refuse_unknown(void)
{
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        size_t length = strcspn(*entry, "=");

        if (strncmp(*entry, "HWMALLOC_", 9) == 0 && !is_known(*entry, length)) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "%.*s: no setting of hwmalloc; there are HWMALLOC_NEVER_FREE, "
                "_NUM_RESERVE_SEGMENTS, _TINY_LIMIT, _SMALL_LIMIT, _LARGE_LIMIT, "
                "_TINY_SEGMENT_SIZE, _SMALL_SEGMENT_SIZE, _LARGE_SEGMENT_SIZE",
                (int)mrp_min(length, 64), *entry);
        }
    }
    return MRP_OK;
}

static size_t round_up(uint64_t size)
{
    return (size_t)1 << (64 - __builtin_clzl(size - 1));
}

/* Theirs: limits are rounded, then ascend; each is at most its segment as it was given. */
static enum mrp_status check_hwmalloc(const uint64_t values[N_HWMALLOC])
{
    for (int i = TINY_LIMIT; i <= LARGE_LIMIT; i++) {
        int segment = i - TINY_LIMIT + TINY_SEGMENT_SIZE;

        if (i > TINY_LIMIT && round_up(values[i]) <= round_up(values[i - 1])) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "%s is %zu, %s %zu, rounded to powers of two: the limits must ascend",
                hwmalloc[i - 1].variable, round_up(values[i - 1]), hwmalloc[i].variable,
                round_up(values[i]));
        }
        if (values[i] > values[segment]) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "%s is %zu, %s %zu: a limit is at most its segment's size",
                hwmalloc[i].variable, (size_t)values[i], hwmalloc[segment].variable,
                (size_t)values[segment]);
        }
    }
    return MRP_OK;
}

static enum mrp_status read_hwmalloc(uint64_t values[N_HWMALLOC])
{
    enum mrp_status status = refuse_unknown();

    for (int i = 0; status == MRP_OK && i < N_HWMALLOC; i++) {
        status = mrp_setting_parse(&hwmalloc[i], hwmalloc[i].variable,
            mrp_setting_text(&hwmalloc[i]), &values[i]);
    }
    return status == MRP_OK ? check_hwmalloc(values) : status;
}

/* Fixed memory has one chunk. A handle that is none is refused later. */
static bool has_chunk_sizes(const struct mrp_pool_params *params)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    return params->backend == NULL ||
        mrp_backend_query(params->backend, &info) != MRP_OK || info.max_size == 0;
}

static void fill_chunk_sizes(struct mrp_pool_params *params, size_t segment_size)
{
    if (has_chunk_sizes(params)) {
        fill(&params->chunk_min, MRP_SET_CHUNK_MIN, mrp_max(segment_size, 256 * MRP_KIB));
        fill(&params->chunk_max, MRP_SET_CHUNK_MAX,
            mrp_max(params->chunk_min, 128 * MRP_MIB));
    }
}

/* Their segments are our chunks, from which all tiers are cut: the large one's size is
 * that of the first, and those kept when idle are bytes. */
static enum mrp_status fill_hwmalloc(struct mrp_pool_params *params)
{
    size_t segments = 0;
    uint64_t values[N_HWMALLOC];
    enum mrp_status status = read_hwmalloc(values);

    if (status != MRP_OK) {
        return status;
    }
    for (size_t tier = 0; tier < MRP_TIERS - 1; tier++) {
        fill_tier(params, tier, round_up(values[TINY_LIMIT + tier]));
        segments += round_up(values[TINY_SEGMENT_SIZE + tier]);
    }
    fill_tier(params, MRP_TIERS - 1, 2 * round_up(values[LARGE_LIMIT]));
    fill_chunk_sizes(params, round_up(values[LARGE_SEGMENT_SIZE]));
    fill(&params->reserve, MRP_SET_RESERVE,
        mrp_max(values[NUM_RESERVE_SEGMENTS], 1) * segments);
    params->never_free = params->never_free || values[NEVER_FREE] != 0;
    return MRP_OK;
}

/* -- all -- */

enum mrp_status mrp_preset_apply(struct mrp_pool_params *params)
{
    uint64_t value = params->preset;
    enum mrp_status status = MRP_OK;

    if (value > MRP_PRESET_HWMALLOC) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "preset is %u: MRP_PRESET_DEFAULT, _THREAD_LOCAL, _SHARED, _MALLOC, "
            "_ALLOCTOOLS or _HWMALLOC",
            params->preset);
    }
    if (value == MRP_PRESET_DEFAULT) {
        status = mrp_setting_number(MRP_SET_PRESET, "preset", 0, &value);
        value += MRP_PRESET_THREAD_LOCAL;
    }
    if (status != MRP_OK) {
        return status;
    }
    params->preset = (uint32_t)value;
    switch ((enum mrp_preset)value) {
    case MRP_PRESET_SHARED:
        fill(&params->thread_cache_size, MRP_SET_THREAD_CACHE_SIZE, 1);
        break;
    case MRP_PRESET_MALLOC:
        return fill_malloc(params);
    case MRP_PRESET_ALLOCTOOLS:
        fill_alloctools(params);
        break;
    case MRP_PRESET_HWMALLOC:
        return fill_hwmalloc(params);
    case MRP_PRESET_DEFAULT:
    case MRP_PRESET_THREAD_LOCAL:
        break;
    }
    return MRP_OK;
}

/* Bytes that the tiers' regions, made at once, take without room about them. */
static size_t preallocated_size(const struct mrp_pool_params *params)
{
    size_t size = 0;

    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        size_t given = params->tiers[tier].max_size;

        size += params->tiers[tier].preallocate *
            (given != 0 ? given : alloctools[tier].max_size);
    }
    return size;
}

enum mrp_status mrp_preset_explain(
    const struct mrp_pool_params *params, enum mrp_status status)
{
    struct mrp_error cause = *mrp_error_last();
    const struct mrp_tier_params *tiers = params->tiers;

    switch ((enum mrp_preset)params->preset) {
    case MRP_PRESET_MALLOC:
        return mrp_fail_at(
            cause.function, status, cause.native, "preset malloc: %s", cause.text);
    case MRP_PRESET_ALLOCTOOLS:
        return mrp_fail_at(cause.function, status, cause.native,
            "preset alloctools makes %zu, %zu, %zu and %zu regions at once, %zu bytes: "
            "%s",
            tiers[0].preallocate, tiers[1].preallocate, tiers[2].preallocate,
            tiers[3].preallocate, preallocated_size(params), cause.text);
    case MRP_PRESET_HWMALLOC:
        return mrp_fail_at(cause.function, status, cause.native,
            "preset hwmalloc (tiers are HWMALLOC_..._LIMIT, chunk_min is "
            "HWMALLOC_LARGE_SEGMENT_SIZE): %s",
            cause.text);
    case MRP_PRESET_DEFAULT:
    case MRP_PRESET_THREAD_LOCAL:
    case MRP_PRESET_SHARED:
        break;
    }
    return status;
}
