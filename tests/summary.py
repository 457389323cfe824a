#!/usr/bin/env python3
"""summary.py FOLDER SECONDS: what ./run did, from CTest's JUnit files and steps.txt.

A skipped program, and a case that a program leaves out, gives its reason in a line
"SKIP: ..." of its output. The last line printed is the count.
"""

import collections
import glob
import os
import re
import sys
import xml.etree.ElementTree

SKIP = re.compile(r"^SKIP: *(.+?) *$", re.MULTILINE)

TELLING = re.compile(
    r"^.*(?:\[  FAILED  \] \w+__|: error: |runtime error: |SUMMARY: |undefined reference|: failed).*$",
    re.MULTILINE,
)


def why_failed(case):
    """One line: the most telling of the output, or CTest's own word for it."""
    output = case.findtext("system-out") or ""
    telling = TELLING.search(output)
    if telling:
        return telling.group(0).strip()
    failure = case.find("failure")
    message = "" if failure is None else failure.get("message", "")
    last = output.strip().splitlines()[-1:]
    return "; ".join(word for word in [message or "failed", *last] if word)


class Summary:
    def __init__(self):
        self.n_passed = 0
        self.failed = []  # (suite, name, why)
        self.skipped = []  # (suite, name, reason)

    def add_step(self, line):
        outcome, name, detail = line.rstrip("\n").split("\t")
        if outcome == "passed":
            self.n_passed += 1
        elif outcome == "skipped":
            self.skipped.append(("", name, detail))
        else:
            self.failed.append(("", name, detail))

    def add_case(self, suite, case):
        name = case.get("name")
        reasons = dict.fromkeys(SKIP.findall(case.findtext("system-out") or ""))
        skipped = case.find("skipped")
        if skipped is not None and "SKIP_" in skipped.get("message", ""):
            self.skipped.append((suite, name, "; ".join(reasons) or "no reason given"))
            return
        if case.get("status") == "run":
            self.n_passed += 1
        else:
            self.failed.append((suite, name, why_failed(case)))
        self.skipped += [(suite, name, reason) for reason in reasons]


def read(folder):
    summary = Summary()
    with open(os.path.join(folder, "steps.txt"), encoding="utf-8") as steps:
        for line in steps:
            summary.add_step(line)
    for path in sorted(glob.glob(os.path.join(folder, "*.xml"))):
        suite = os.path.splitext(os.path.basename(path))[0]
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            summary.add_case(suite, case)
    return summary


def print_grouped(title, entries):
    """One line for the same test and reason in several suites."""
    if not entries:
        return
    groups = collections.OrderedDict()
    for suite, name, reason in entries:
        suites = groups.setdefault((name, reason), [])
        if suite not in suites:
            suites.append(suite)
    print(title)
    for (name, reason), suites in groups.items():
        where = ", ".join(suite for suite in suites if suite)
        print(f"  {name}{f' ({where})' if where else ''}: {reason}")


def main():
    summary = read(sys.argv[1])
    print_grouped("skipped:", summary.skipped)
    print_grouped("failed:", summary.failed)
    minutes, seconds = divmod(int(sys.argv[2]), 60)
    print(f"time: {minutes} min {seconds} s")
    counts = (summary.n_passed, len(summary.failed), len(summary.skipped))
    print("{} passed, {} failed, {} skipped".format(*counts))
    return 0 if summary.n_passed and not summary.failed else 1


if __name__ == "__main__":
    sys.exit(main())
