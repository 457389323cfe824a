#!/usr/bin/env python3
"""junit.py FOLDER STATUS: what came of the tests in the guest, as CTest would write it.

FOLDER has what tests.sh wrote there, `names` of the tests that should have run, and
`console`, what the guest printed; STATUS is that of guest.sh.
"""

import os
import sys
import xml.etree.ElementTree


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def printable(text):
    """What XML allows."""
    return "".join(c for c in text if c >= " " or c in "\n\t")


def outcomes(folder):
    """name -> (outcome, seconds)"""
    results = {}
    for line in read(os.path.join(folder, "results")).splitlines():
        outcome, name, *seconds = line.split("\t")
        results[name] = (outcome, seconds[0] if seconds else "0")
    return results


def why_not_run(outcome, status, console):
    """Of a test without a result: (outcome, text)."""
    if status == 77:
        return "skipped", console
    how = {124: "its time was up"}.get(status, f"exit status {status}")
    where = "while this test ran" if outcome == "begun" else "before this test"
    return "failed", f"{console[-2000:]}\nthe guest ended {where}: {how}"


def add_case(suite, name, outcome, seconds, text):
    status = {"passed": "run", "skipped": "notrun"}.get(outcome, "fail")
    case = xml.etree.ElementTree.SubElement(
        suite, "testcase", name=name, classname=name, time=seconds, status=status
    )
    if outcome == "skipped":
        xml.etree.ElementTree.SubElement(case, "skipped", message="SKIP_RETURN_CODE=77")
    elif outcome != "passed":
        xml.etree.ElementTree.SubElement(case, "failure", message="failed")
    xml.etree.ElementTree.SubElement(case, "system-out").text = printable(text)


def main():
    folder, status = sys.argv[1], int(sys.argv[2])
    results = outcomes(folder)
    console = read(os.path.join(folder, "console"))
    names = read(os.path.join(folder, "names")).splitlines()
    suite = xml.etree.ElementTree.Element("testsuite", name="roce", tests=str(len(names)))
    for number, name in enumerate(names, 1):
        outcome, seconds = results.get(name, ("missing", "0"))
        text = read(os.path.join(folder, f"{number}.log"))
        if outcome not in ("passed", "failed", "skipped"):
            outcome, why = why_not_run(outcome, status, console)
            text = f"{text}\n{why}".strip()
        add_case(suite, name, outcome, seconds, text)
    xml.etree.ElementTree.ElementTree(suite).write(sys.stdout, encoding="unicode")


if __name__ == "__main__":
    main()
