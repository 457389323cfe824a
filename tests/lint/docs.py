#!/usr/bin/env python3
"""docs.py [SOURCE]: every file, and every function written as name(), that README.md,
CONTRIBUTING.md and docs/ name in backquotes exists in the tree; every link leads somewhere."""

import os
import re
import subprocess
import sys

ROOT = os.path.abspath(
    sys.argv[1] if len(sys.argv) > 1 else os.environ.get("MRP_SOURCE_DIR", ".")
)
CODE = ("src", "include", "tools", "bench", "examples", "tests")
PLACES = CODE + ("docs", "cmake")
SKIPPED = {"malloc", "free", "mlock", "munlock", "mmap", "munmap", "fork", "printf"}


def tracked():
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return listed.split("\n")


def known_words(files):
    words = set()
    for name in files:
        if name.startswith(CODE) and name.endswith((".c", ".h", ".pml", ".py", ".sh")):
            with open(os.path.join(ROOT, name), encoding="utf-8") as source:
                words.update(re.findall(r"\b([A-Za-z_]\w*)\s*\(", source.read()))
    return words


def problems_of(page, text, words):
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    for path in re.findall(r"`((?:%s)/[\w./-]+)`" % "|".join(PLACES), prose):
        if not os.path.exists(os.path.join(ROOT, path)):
            yield f"{page}: there is no {path}"
    for name in re.findall(r"`(\w+)\(\)`", prose):
        if name not in words and name not in SKIPPED:
            yield f"{page}: no function {name}()"
    folder = os.path.dirname(os.path.join(ROOT, page))
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if "://" not in target and not os.path.exists(os.path.join(folder, target)):
            yield f"{page}: the link to {target} leads nowhere"


def main():
    files = tracked()
    pages = [f for f in files if f.endswith(".md") and "/" not in f or f.startswith("docs/")]
    words = known_words(files)
    problems, n_names = [], 0
    for page in pages:
        with open(os.path.join(ROOT, page), encoding="utf-8") as source:
            text = source.read()
        n_names += len(re.findall(r"`[\w/.-]+(?:\(\))?`", text))
        problems += problems_of(page, text, words)
    print("\n".join(problems) or f"{n_names} names in {len(pages)} pages are true")
    return 1 if problems or n_names == 0 else 0


sys.exit(main())
