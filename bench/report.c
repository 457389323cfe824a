/* SPDX-License-Identifier: BSD-3-Clause */
#include "report.h"

#include "table.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "register/2m": the page kind is part of the case. */
static void name_case(const struct bench_result *result, char *name, size_t size)
{
    snprintf(name, size, "%s%s%s", result->name, result->pages[0] != '\0' ? "/" : "",
        result->pages);
}

static json_t *size_or_null(size_t size)
{
    return size == 0 || size == MRP_UNLIMITED ? json_null()
                                              : json_integer((json_int_t)size);
}

static json_t *number_or_null(double number)
{
    return isnan(number) ? json_null() : json_real(number);
}

static json_t *machine_object(const struct bench_machine *machine)
{
    const struct mrp_system *system = &machine->system;

    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:o, s:o, s:I, s:I, s:b, s:I}",
        "mrpool", mrp_version(), "cpu", machine->cpu, "cores", (json_int_t)machine->cores,
        "kernel", machine->kernel, "governor", machine->governor, "date", machine->date,
        "page_size", (json_int_t)system->page_size, "memory_size",
        size_or_null(system->memory_size), "memlock_limit",
        size_or_null(system->memlock_limit), "huge_2m_free",
        (json_int_t)system->huge_2m_free, "huge_1g_free",
        (json_int_t)system->huge_1g_free, "transparent_huge", system->transparent_huge,
        "numa_nodes", (json_int_t)system->n_nodes);
}

static json_t *result_object(const struct bench_result *result)
{
    const struct bench_result *baseline = result->baseline;
    char name[64], baseline_name[64];

    name_case(result, name, sizeof name);
    if (baseline != NULL) {
        name_case(baseline, baseline_name, sizeof baseline_name);
    }
    return json_pack("{s:s, s:s?, s:o, s:i, s:s, s:f, s:f, s:f, s:s?, s:o, s:o, s:o}",
        "case", name, "provider", result->provider[0] != '\0' ? result->provider : NULL,
        "size", size_or_null(result->size), "threads", (int)result->threads, "unit",
        result->unit, "median", result->median, "min", result->min, "max", result->max,
        "baseline", baseline != NULL ? baseline_name : NULL, "ratio",
        baseline != NULL ? json_real(bench_ratio(result)) : json_null(), "low",
        number_or_null(result->low), "high", number_or_null(result->high));
}

static json_t *goal_object(const struct bench_goal *goal)
{
    const struct bench_result *result = goal->result;
    char name[64], against[64];

    name_case(result, name, sizeof name);
    if (goal->against != NULL) {
        name_case(goal->against, against, sizeof against);
    }
    return json_pack("{s:s, s:o, s:i, s:s?, s:o, s:s, s:f, s:f, s:o, s:o, s:b, s:s}",
        "case", name, "size", size_or_null(result->size), "threads", (int)result->threads,
        "against", goal->against != NULL ? against : NULL, "against_threads",
        goal->against != NULL ? json_integer(goal->against->threads) : json_null(),
        "unit", goal->against != NULL ? "ratio" : result->unit, "at_most", goal->at_most,
        "is", goal->is, "low", number_or_null(goal->low), "high",
        number_or_null(goal->high), "reached", bench_is_reached(goal), "verdict",
        bench_verdict(goal));
}

static bool add_goals(const struct bench *bench, json_t *root)
{
    json_t *goals = json_array();

    for (size_t i = 0; i < bench->n_goals; i++) {
        json_array_append_new(goals, goal_object(&bench->goals[i]));
    }
    return json_object_set_new(root, "goals", goals) == 0;
}

static bool add_compared(const struct bench *bench, json_t *root)
{
    json_t *compared = json_object();

    for (size_t i = 0; i < bench->n_compared; i++) {
        const char *text = bench->compared[i];
        const char *version =
            strstr(text, ": "); /* names have colons: "ofi:provider=tcp" */
        char name[128];

        snprintf(name, sizeof name, "%.*s", (int)(version - text), text);
        json_object_set_new(compared, name, json_string(version + 2));
    }
    return json_object_set_new(root, "compared", compared) == 0;
}

static bool print_json(const struct bench *bench)
{
    json_t *results = json_array();
    json_t *root;
    bool ok;

    for (size_t i = 0; i < bench->n_results; i++) {
        json_array_append_new(results, result_object(bench->results[i]));
    }
    root = json_pack("{s:s, s:o, s:o}", "benchmark", bench->name, "machine",
        machine_object(&bench->machine), "results", results);
    ok = root != NULL && (bench->n_goals == 0 || add_goals(bench, root)) &&
        (bench->n_compared == 0 || add_compared(bench, root)) &&
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0;
    putchar('\n');
    json_decref(root);
    return ok;
}

/* RFC 4180: quoted where it holds a comma. */
static void print_csv_text(const char *text)
{
    printf(strchr(text, ',') != NULL ? "\"%s\"," : "%s,", text);
}

static void print_csv(const struct bench *bench)
{
    puts("case,provider,size,threads,unit,median,min,max,baseline,ratio,low,high");
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];
        char name[64] = "", baseline[64] = "";

        name_case(result, name, sizeof name);
        print_csv_text(name);
        print_csv_text(result->provider);
        printf("%zu,%u,%s,%.6g,%.6g,%.6g,", result->size, result->threads, result->unit,
            result->median, result->min, result->max);
        if (result->baseline != NULL) {
            name_case(result->baseline, baseline, sizeof baseline);
            print_csv_text(baseline);
            printf("%.6g,", bench_ratio(result));
        } else {
            fputs(",,", stdout);
        }
        if (!isnan(result->low)) {
            printf("%.6g,%.6g\n", result->low, result->high);
        } else {
            puts(",");
        }
    }
}

void bench_print_prose(const char *text, int indent)
{
    int columns = bench_columns();
    int column = 0;

    while (*text != '\0') {
        int length = (int)strcspn(text, " ");

        if (column != 0 && column + 1 + length > columns) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column != 0) {
            putchar(' ');
            column++;
        }
        printf("%.*s", length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

/* "compared: glibc: libc.so.6; dpdk: ..." */
static void print_compared(const struct bench *bench)
{
    char text[2000] = "compared with";
    size_t used = strlen(text);

    for (size_t i = 0; i < bench->n_compared && used < sizeof text; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s %s",
            i > 0 ? ";" : "", bench->compared[i]);
    }
    if (bench->n_compared > 0) {
        putchar('\n');
        bench_print_prose(text, 4);
    }
}

static void print_table(
    const struct bench *bench, void (*print)(const struct bench *bench))
{
    bool colourful = bench_is_colourful();
    char line[160];

    bench_machine_line(&bench->machine, line, sizeof line);
    fputs(colourful ? "\033[2m" : "", stdout);
    bench_print_prose(line, 4);
    fputs(colourful ? "\033[0m" : "", stdout);
    if (bench->options->quick) {
        puts("--quick: a smoke run, not a measurement");
    }
    print(bench);
    print_compared(bench);
    for (size_t i = 0; i < bench->n_notes; i++) {
        char *text;

        if (asprintf(&text, "left out: %s", bench->notes[i]) >= 0) {
            fputs(i == 0 ? "\n" : "", stdout);
            bench_print_prose(text, 4);
            free(text);
        }
    }
}

bool bench_report(const struct bench *bench, void (*print)(const struct bench *bench))
{
    bool ok = true;

    switch (bench->options->format) {
    case BENCH_TABLE:
        print_table(bench, print);
        return fflush(stdout) == 0 && !ferror(stdout);
    case BENCH_JSON:
        ok = print_json(bench);
        break;
    case BENCH_CSV:
        print_csv(bench);
        break;
    }
    for (size_t i = 0; i < bench->n_notes; i++) {
        fprintf(stderr, "left out: %s\n", bench->notes[i]);
    }
    return ok && fflush(stdout) == 0 && !ferror(stdout);
}
