#!/usr/bin/env python3
"""No source file over 600 lines, no function over 80.

The tree is formatted by clang-format, so a function's body is what stands between a
"{" and a "}" in the first column, when no struct, enum, union or initialiser opened it.
"""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
sys.dont_write_bytecode = True
import tree  # noqa: E402

FILE_LINES = 600
FUNCTION_LINES = 80


def functions(lines):
    """-> (name, first line, number of lines) of each function of a formatted file"""
    opened, head = None, ""
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            opened, name = number, re.search(r"(\w+)\(", head)
        elif line.startswith("}") and opened:
            yield (name.group(1) if name else "?"), opened, number - opened - 1
            opened, head = None, ""
        elif opened is None:
            fresh = line[:1].strip() not in ("", "#", "/", "*", "}")
            head = line if fresh else head + line


def problems_of(name, lines):
    if len(lines) > FILE_LINES:
        yield f"{name}: {len(lines)} lines, at most {FILE_LINES}"
    for function, first, size in functions(lines):
        if size > FUNCTION_LINES:
            yield f"{name}:{first}: {function} has {size} lines, at most {FUNCTION_LINES}"


def self_test():
    long_function = ["static int f(", "    void)", "{"] + ["    x;"] * 81 + ["}"]
    short_function = ["int g(void)", "{"] + ["    x;"] * 80 + ["}"]
    table = ["const int t[] = {"] + ["    1,"] * 200 + ["};"]
    found = list(problems_of("a.c", long_function + short_function + table))
    return found == ["a.c:3: f has 81 lines, at most 80"] and list(
        problems_of("b.c", [""] * 601)
    ) == ["b.c: 601 lines, at most 600"]


def main():
    if not self_test():
        print("self-test: a long function or file is not noticed")
        return 1
    root = tree.source_dir()
    problems, sizes = [], []
    for name in tree.files(root, (".c", ".h", ".hpp", ".cpp")):
        with open(os.path.join(root, name), encoding="utf-8") as source:
            lines = source.read().splitlines()
        problems += problems_of(name, lines)
        sizes += [size for _, _, size in functions(lines)]
    for problem in problems:
        print(problem)
    sizes.sort()
    if sizes:
        median, p90 = sizes[len(sizes) // 2], sizes[len(sizes) * 9 // 10]
        print(f"{len(sizes)} functions: median {median} lines, p90 {p90}, most {sizes[-1]}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
