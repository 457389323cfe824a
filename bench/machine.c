/* SPDX-License-Identifier: BSD-3-Clause */
#include "machine.h"

#include "units.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static void describe_cpu(char *cpu, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(cpu, size, "unknown processor");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        const char *value = strstr(line, ": ");

        if (strncmp(line, "model name", 10) == 0 && value != NULL) {
            snprintf(cpu, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
            break;
        }
    }
    fclose(file);
}

static void describe_governor(char *governor, size_t size)
{
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "re");

    snprintf(governor, size, "none");
    if (file == NULL) {
        return;
    }
    if (fgets(governor, (int)size, file) != NULL) {
        governor[strcspn(governor, "\n")] = '\0';
    }
    fclose(file);
}

void bench_machine_describe(struct bench_machine *machine)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    struct utsname name;
    time_t now = time(NULL);
    struct tm local;

    *machine = (struct bench_machine){.cores = sysconf(_SC_NPROCESSORS_ONLN)};
    describe_cpu(machine->cpu, sizeof machine->cpu);
    describe_governor(machine->governor, sizeof machine->governor);
    if (uname(&name) == 0) {
        snprintf(machine->kernel, sizeof machine->kernel, "%.40s %.50s", name.sysname,
            name.release);
    }
    if (localtime_r(&now, &local) != NULL) {
        strftime(machine->date, sizeof machine->date, "%Y-%m-%dT%H:%M:%S%z", &local);
    }
    mrp_system_query(&system);
    machine->system = system;
}

void bench_machine_line(const struct bench_machine *machine, char *line, size_t size)
{
    snprintf(line, size, "mrpool %s on %.40s, %ld core%s, %.30s, %.10s", mrp_version(),
        machine->cpu, machine->cores, machine->cores == 1 ? "" : "s", machine->kernel,
        machine->date);
}
