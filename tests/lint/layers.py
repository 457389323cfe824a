#!/usr/bin/env python3
"""Reads every #include of the tree against the allowed edges in layers.txt."""

import os
import re
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "support"))
sys.dont_write_bytecode = True
import tree  # noqa: E402

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ROOMS = ("include/", "src/", "tools/", "bench/", "examples/", "tests/providers/")
GENERATED = "mrp_builtin.h"


def read_rules(path):
    """-> list of (left side, [right sides]), list of system headers"""
    edges, system = [], []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            left, colon, right = line.split("#")[0].partition(":")
            if colon and left.strip() == "system":
                system += right.split()
            elif colon:
                edges.append((left.strip(), right.split()))
    return edges, system


def resolve(root, source, name):
    """The tree's path of a quoted header, or None."""
    if name == GENERATED:
        return "generated/" + GENERATED
    for folder in (os.path.dirname(source), "include", "src"):
        path = os.path.normpath(os.path.join(folder, name))
        if os.path.isfile(os.path.join(root, path)):
            return path
    return None


def begins(path, prefixes):
    return any(
        path.startswith(prefix) if prefix.endswith("/") else path == prefix
        for prefix in prefixes
    )


def allowed_of(source, edges):
    right = [word for left, words in edges if begins(source, [left]) for word in words]
    own = os.path.dirname(source) + "/"
    return [own if word == "self" else word for word in right]


def problem_of(root, source, mark, name, edges, system):
    """Why this include is not allowed, or None."""
    allowed = allowed_of(source, edges)
    target = resolve(root, source, name)
    if mark == "<" and not (target and name.startswith("mrpool/")):
        libraries = [word[1:-1] for word in allowed if word.startswith("<")]
        if begins(name, system) or begins(name, libraries):
            return None
        return f"<{name}> is neither of the C library nor allowed here"
    if target is None:
        return f'"{name}" is not in the tree'
    if begins(target, allowed):
        return None
    return f"may not include {target}"


def check(root, rules):
    edges, system = rules
    problems, n_includes = [], 0
    for source in tree.files(root, (".c", ".h", ".hpp")):
        if not source.startswith(ROOMS):
            continue
        with open(os.path.join(root, source), encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                found = INCLUDE.match(line)
                if not found:
                    continue
                n_includes += 1
                why = problem_of(root, source, *found.groups(), edges, system)
                if why:
                    problems.append(f"{source}:{number}: {why}")
    return problems, n_includes


# A tree in which every numbered include is forbidden: the check has to find them all.
BAD_TREE = {
    "include/mrpool/base.h": "",
    "include/mrpool/provider.h": "",
    "include/mrpool/backend.h": "#include <rdma/fabric.h>\n",
    "include/mrpool/ofi.h": "",
    "src/base/log.h": '#include "context/registry.h"\n',
    "src/context/registry.h": '#include "mrpool/ofi.h"\n#include <jansson.h>\n',
    "src/backends/mmap.c": '#include "base/log.h"\n#include "mrpool/provider.h"\n',
    "src/providers/ofi/ofi.c": '#include "../../base/log.h"\n#include "missing.h"\n',
    "src/providers/host/host.c": '#include "mrpool/ofi.h"\n#include "../ofi/ofi.c"\n',
    "src/pool/pool.h": "#include <mpi.h>\n",
    "src/context/context.c": '#include "pool/pool.h"\n',
    "tools/mrpool/main.c": '#include "base/log.h"\n',
    "examples/ofi_rma.c": '#include "../src/pool/pool.h"\n',
    "tests/providers/fault.c": '#include "../../src/base/log.h"\n',
}


def self_test(rules):
    with tempfile.TemporaryDirectory() as root:
        expected = set()
        for path, text in BAD_TREE.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as out:
                out.write(text)
            expected |= {f"{path}:{n + 1}" for n in range(text.count("\n"))}
        found = {text.split(": ")[0] for text in check(root, rules)[0]}
    return sorted(expected - found)


def main():
    rules = read_rules(os.path.join(HERE, "layers.txt"))
    missed = self_test(rules)
    if missed:
        print("self-test: forbidden includes not noticed:", *missed, sep="\n  ")
        return 1
    problems, n_includes = check(tree.source_dir(), rules)
    for problem in problems:
        print(problem)
    print(f"{n_includes} includes read, {len(problems)} against tests/lint/layers.txt")
    return 1 if problems or n_includes == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
