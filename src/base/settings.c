/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/settings.h"

#include "base/align.h"
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

extern char **environ;

static const struct mrp_setting_spec specs[MRP_SET_COUNT] = {
    [MRP_SET_PROVIDER_PATH] = {"MRPOOL_PROVIDER_PATH", MRP_SETTING_FOLDERS, 0, 0, NULL,
        "",
        "folders searched for provider modules before the library's own, separated by "
        "':'"},
    [MRP_SET_BACKEND] = {"MRPOOL_BACKEND", MRP_SETTING_CHOICE, 0, 0, "mmap|malloc",
        "mmap", "backend of pools that are given none"},
    [MRP_SET_PAGES] = {"MRPOOL_PAGES", MRP_SETTING_CHOICE, 0, 0, "auto|4k|thp|2m|1g",
        "auto", "pages the mmap backend asks for; each falls back to the next smaller"},
    [MRP_SET_PREFAULT] = {"MRPOOL_PREFAULT", MRP_SETTING_SWITCH, 0, 0, NULL, "on",
        "touch memory when it is mapped, not at first use"},
    [MRP_SET_PREFAULT_THREADS] = {"MRPOOL_PREFAULT_THREADS", MRP_SETTING_COUNT, 1, 64,
        NULL, "",
        "threads that touch one mapping, at least 32 MiB each; default: the processors "
        "the thread that grows may use, at most 8"},
    [MRP_SET_MAX_BYTES] = {"MRPOOL_MAX_BYTES", MRP_SETTING_SIZE, 256 * MRP_KIB,
        (uint64_t)128 << 40, NULL, "",
        "memory a pool maps at most; default: half of RAM, or what memlock leaves if it "
        "pins"},
    [MRP_SET_MAX_REGISTRATIONS] = {"MRPOOL_MAX_REGISTRATIONS", MRP_SETTING_COUNT, 1,
        100000, NULL, "1024", "registrations a pool holds at most, per rail"},
    [MRP_SET_CHUNK_MIN] = {"MRPOOL_CHUNK_MIN", MRP_SETTING_POWER, 256 * MRP_KIB,
        64 * MRP_GIB, NULL, "",
        "first chunk of a pool, a power of two; default: an eighth of max_bytes, 256K to "
        "16M"},
    [MRP_SET_CHUNK_MAX] = {"MRPOOL_CHUNK_MAX", MRP_SETTING_POWER, 256 * MRP_KIB,
        64 * MRP_GIB, NULL, "128M", "chunks double up to this, a power of two"},
    [MRP_SET_SMALL_MAX] = {"MRPOOL_SMALL_MAX", MRP_SETTING_SIZE, 64, MRP_GIB, NULL, "1K",
        "largest request of the small tier"},
    [MRP_SET_MEDIUM_MAX] = {"MRPOOL_MEDIUM_MAX", MRP_SETTING_SIZE, 64, MRP_GIB, NULL,
        "16K", "largest request of the medium tier"},
    [MRP_SET_LARGE_MAX] = {"MRPOOL_LARGE_MAX", MRP_SETTING_SIZE, 64, MRP_GIB, NULL, "64K",
        "largest request of the large tier"},
    [MRP_SET_HUGE_MAX] = {"MRPOOL_HUGE_MAX", MRP_SETTING_SIZE, 64, MRP_GIB, NULL, "1M",
        "largest request of the huge tier; beyond it a request has a chunk of its own"},
    [MRP_SET_RETAINED_SIZE] = {"MRPOOL_RETAINED_SIZE", MRP_SETTING_SIZE, 0,
        (uint64_t)128 << 40, NULL, "256M",
        "idle larger-than-huge memory a context keeps registered for reuse"},
    [MRP_SET_RETAINED_COUNT] = {"MRPOOL_RETAINED_COUNT", MRP_SETTING_COUNT, 0, 100000,
        NULL, "64", "chunks of idle memory a context keeps for reuse"},
    [MRP_SET_CHECKS] = {"MRPOOL_CHECKS", MRP_SETTING_CHOICE, 0, 0, "none|state|full",
        "state", "what alloc and free verify"},
    [MRP_SET_THREAD_CACHE_SIZE] = {"MRPOOL_THREAD_CACHE_SIZE", MRP_SETTING_SIZE, 1,
        (uint64_t)128 << 40, NULL, "",
        "free regions one thread keeps of a pool; 1: none; default: all threads "
        "together a sixteenth of what the pool has mapped"},
    [MRP_SET_PRESET] = {"MRPOOL_PRESET", MRP_SETTING_CHOICE, 0, 0,
        "thread_local|shared|malloc|alloctools|hwmalloc", "thread_local",
        "settings of pools that go together; what a program or a variable sets wins"},
    [MRP_SET_AT_LIMIT] = {"MRPOOL_AT_LIMIT", MRP_SETTING_CHOICE, 0, 0,
        "fail|wait|temporary", "fail",
        "what a request gets when a budget allows no more memory"},
    [MRP_SET_WAIT_MS] = {"MRPOOL_WAIT_MS", MRP_SETTING_COUNT, 1, UINT32_MAX, NULL,
        "10000", "milliseconds a request waits at the limit"},
    [MRP_SET_DECAY_MS] = {"MRPOOL_DECAY_MS", MRP_SETTING_COUNT, 1, UINT32_MAX, NULL,
        "10000",
        "milliseconds until idle memory goes back to the system; 4294967295: never"},
    [MRP_SET_RESERVE] = {"MRPOOL_RESERVE", MRP_SETTING_SIZE, 0, (uint64_t)128 << 40, NULL,
        "0", "idle memory of a pool that decay leaves"},
    [MRP_SET_QUARANTINE_MS] = {"MRPOOL_QUARANTINE_MS", MRP_SETTING_COUNT, 1, UINT32_MAX,
        NULL, "10000",
        "milliseconds until an abandoned region that can be revoked is; 4294967295: "
        "never"},
    [MRP_SET_CONTEXT_MAX_BYTES] = {"MRPOOL_CONTEXT_MAX_BYTES", MRP_SETTING_SIZE,
        256 * MRP_KIB, (uint64_t)128 << 40, NULL, "",
        "memory all pools of a context map at most; default: seven eighths of RAM"},
    [MRP_SET_CONTEXT_MAX_REGISTRATIONS] = {"MRPOOL_CONTEXT_MAX_REGISTRATIONS",
        MRP_SETTING_COUNT, 1, 10000000, NULL, "16384",
        "registrations of all pools and rails of a context at most"},
    [MRP_SET_DEBUG] = {"MRPOOL_DEBUG", MRP_SETTING_FLAGS, 0, 0,
        "off|poison|guard|origins|memcheck", "",
        "debugging of pools, words separated by commas; default: memcheck under "
        "AddressSanitizer or Valgrind, else off"},
};

const struct mrp_setting_spec *mrp_setting_spec(enum mrp_setting_id id)
{
    return &specs[id];
}

const char *mrp_setting_text(const struct mrp_setting_spec *spec)
{
    const char *text = getenv(spec->variable);

    return text != NULL ? text : spec->default_text;
}

static void format_size(uint64_t size, char text[24])
{
    static const char units[] = "\0KMGT";
    int unit = 0;

    while (size != 0 && size % 1024 == 0 && unit < 4) {
        size /= 1024;
        unit++;
    }
    snprintf(text, 24, "%llu%.1s", (unsigned long long)size, &units[unit]);
}

static bool parse_number(const char *text, bool with_unit, uint64_t *value)
{
    static const char units[] = "KMGT";
    unsigned long long number;
    char *end;

    if (text[0] < '0' || text[0] > '9') { /* strtoull would take "-1" and " 1" */
        return false;
    }
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    if (with_unit && *end != '\0') {
        const char *unit = memchr(units, *end & ~0x20, sizeof units - 1);
        unsigned shift = unit == NULL ? 64 : 10 * (unsigned)(unit - units + 1);

        if (shift == 64 || number > UINT64_MAX >> shift) {
            return false;
        }
        number <<= shift;
        end++;
    }
    *value = number;
    return *end == '\0';
}

static enum mrp_status parse_in_range(const struct mrp_setting_spec *spec,
    const char *where, const char *text, uint64_t *value)
{
    bool is_size = spec->kind != MRP_SETTING_COUNT;
    char min[24], max[24];
    uint64_t number;
    bool is_number = parse_number(text, is_size, &number);

    if (is_number && number >= spec->min && number <= spec->max) {
        if (spec->kind == MRP_SETTING_POWER && !mrp_is_power_of_two(number)) {
            return mrp_fail(
                MRP_ERR_INVALID, 0, "%s=%.64s: it must be a power of two", where, text);
        }
        *value = number;
        return MRP_OK;
    }
    if (is_size) {
        format_size(spec->min, min);
        format_size(spec->max, max);
    } else {
        snprintf(min, sizeof min, "%llu", (unsigned long long)spec->min);
        snprintf(max, sizeof max, "%llu", (unsigned long long)spec->max);
    }
    if (is_number) {
        return mrp_fail(MRP_ERR_INVALID, 0, "%s=%.64s: out of range, from %s to %s",
            where, text, min, max);
    }
    return mrp_fail(MRP_ERR_INVALID, 0,
        is_size ? "%s=%.64s: not a size; write bytes, or a number with K, M, G or T (1G, "
                  "not 1GB), from %s to %s"
                : "%s=%.64s: not a count; write a decimal number from %s to %s",
        where, text, min, max);
}

/* The index of the word that text[0..length) is among choices; false for none of them. */
static bool find_word(
    const char *choices, const char *text, size_t length, uint64_t *index)
{
    *index = 0;
    for (const char *word = choices; word != NULL; (*index)++) {
        const char *bar = strchr(word, '|');
        size_t word_length = bar != NULL ? (size_t)(bar - word) : strlen(word);

        if (length == word_length && strncasecmp(word, text, length) == 0) {
            return true;
        }
        word = bar != NULL ? bar + 1 : NULL;
    }
    return false;
}

static enum mrp_status parse_choice(
    const char *where, const char *choices, const char *text, uint64_t *value)
{
    uint64_t index;

    if (!find_word(choices, text, strlen(text), &index)) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "%s=%.64s: not one of %s", where, text, choices);
    }
    *value = index;
    return MRP_OK;
}

static enum mrp_status parse_flags(
    const char *where, const char *choices, const char *text, uint64_t *value)
{
    size_t none_length = strcspn(choices, "|");
    uint64_t flags = 0, index;

    for (const char *word = text;; word++) {
        size_t length = strcspn(word, ",");

        if (!find_word(choices, word, length, &index)) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "%s=%.64s: \"%.*s\" is none of %s (several: separated by commas)", where,
                text, (int)mrp_min(length, 64), word, choices);
        }
        flags |= UINT64_C(1) << index;
        word += length;
        if (*word == '\0') {
            break;
        }
    }
    if ((flags & 1) != 0 && flags != 1) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%s=%.64s: \"%.*s\" means none of the others: it stands alone", where, text,
            (int)none_length, choices);
    }
    *value = flags;
    return MRP_OK;
}

static enum mrp_status check_folders(const char *where, const char *text)
{
    for (const char *folder = text; *folder != '\0';) {
        size_t length = strcspn(folder, ":");

        if (length > 0 && folder[0] != '/') {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "%s=%.128s: folders must be absolute (begin with /), separated by ':'",
                where, text);
        }
        folder += length + (folder[length] == ':');
    }
    return MRP_OK;
}

enum mrp_status mrp_setting_parse(const struct mrp_setting_spec *spec, const char *where,
    const char *text, uint64_t *value)
{
    enum mrp_status status;

    if (text[0] == '\0' && spec->default_text[0] == '\0') {
        *value = 0;
        return MRP_OK;
    }
    switch (spec->kind) {
    case MRP_SETTING_TEXT:
        *value = 0;
        return MRP_OK;
    case MRP_SETTING_CHOICE:
        return parse_choice(where, spec->choices, text, value);
    case MRP_SETTING_SWITCH:
        status = parse_choice(where, "off|on|no|yes|false|true|0|1", text, value);
        if (status == MRP_OK) {
            *value &= 1;
        }
        return status;
    case MRP_SETTING_FOLDERS:
        *value = 0;
        return check_folders(where, text);
    case MRP_SETTING_FLAGS:
        return parse_flags(where, spec->choices, text, value);
    case MRP_SETTING_COUNT:
    case MRP_SETTING_SIZE:
    case MRP_SETTING_POWER:
        return parse_in_range(spec, where, text, value);
    }
    return mrp_fail(MRP_ERR_INVALID, 0, "%s: its table row has no valid kind", where);
}

enum mrp_status mrp_setting_number(
    enum mrp_setting_id id, const char *where, uint64_t given, uint64_t *value)
{
    const struct mrp_setting_spec *spec = &specs[id];

    if (given == 0) {
        return mrp_setting_parse(spec, spec->variable, mrp_setting_text(spec), value);
    }
    if (given < spec->min || given > spec->max) {
        return mrp_fail(MRP_ERR_INVALID, 0, "%s is %llu: it must be from %llu to %llu",
            where, (unsigned long long)given, (unsigned long long)spec->min,
            (unsigned long long)spec->max);
    }
    *value = given;
    return MRP_OK;
}

void mrp_setting_query(const struct mrp_setting_spec *spec, struct mrp_setting *setting)
{
    struct mrp_error before = *mrp_error_last();
    uint64_t value;

    setting->spec = spec;
    setting->value = mrp_setting_text(spec);
    setting->from_environment = getenv(spec->variable) != NULL;
    setting->status = mrp_setting_parse(spec, spec->variable, setting->value, &value);
    setting->problem[0] = '\0';
    if (setting->status != MRP_OK) {
        snprintf(
            setting->problem, sizeof setting->problem, "%.255s", mrp_error_last()->text);
        mrp_error_restore(&before);
    }
}

void mrp_setting_visit(mrp_setting_visitor *visit, void *user)
{
    struct mrp_setting setting;

    for (size_t i = 0; visit != NULL && i < MRP_SET_COUNT; i++) {
        mrp_setting_query(&specs[i], &setting);
        visit(&setting, user);
    }
}

static const struct mrp_setting_spec *find_spec(const struct mrp_setting_spec *table,
    size_t n_rows, const char *variable, size_t length)
{
    for (size_t i = 0; i < n_rows; i++) {
        if (strlen(table[i].variable) == length &&
            strncmp(table[i].variable, variable, length) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

enum mrp_status mrp_settings_validate(const char *prefix,
    const struct mrp_setting_spec *table, size_t n_rows,
    bool (*is_foreign)(const char *variable, size_t length))
{
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        const struct mrp_setting_spec *spec;
        enum mrp_status status;
        size_t length;
        uint64_t value;

        if (equals == NULL || strncmp(*entry, prefix, strlen(prefix)) != 0) {
            continue;
        }
        length = (size_t)(equals - *entry);
        spec = find_spec(table, n_rows, *entry, length);
        if (spec == NULL && is_foreign != NULL && is_foreign(*entry, length)) {
            continue;
        }
        if (spec == NULL) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "%.*s: no such setting; `mrpool info` lists them all", (int)length,
                *entry);
        }
        status = mrp_setting_parse(spec, spec->variable, equals + 1, &value);
        if (status != MRP_OK) {
            return status;
        }
    }
    return MRP_OK;
}

enum mrp_status mrp_settings_check(
    bool (*is_foreign)(const char *variable, size_t length))
{
    enum mrp_status status =
        mrp_settings_validate("MRPOOL_", specs, MRP_SET_COUNT, is_foreign);
    uint64_t limit, before = 0;

    for (int id = MRP_SET_SMALL_MAX; status == MRP_OK && id <= MRP_SET_HUGE_MAX; id++) {
        const struct mrp_setting_spec *spec = &specs[id];

        status = mrp_setting_number((enum mrp_setting_id)id, spec->variable, 0, &limit);
        if (status == MRP_OK && limit <= before) {
            status = mrp_fail(MRP_ERR_INVALID, 0,
                "%s=%s is not above %s=%s: the limits of the tiers ascend",
                spec->variable, mrp_setting_text(spec), specs[id - 1].variable,
                mrp_setting_text(&specs[id - 1]));
        }
        before = limit;
    }
    return status;
}
