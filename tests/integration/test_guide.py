#!/usr/bin/env python3
"""The C code in README.md, docs/GUIDE.md and docs/MEMORY.md compiles, and its programs do
what they say.

In the Markdown, before a ```c block:
    <!-- program -->                a complete program: compiled, linked and run
    <!-- program: libfabric -->     the same, with that library of pkg-config
    <!-- program: examples/x.c -->  the same, and the block is that file to the letter
A ```text block right after a program is its output. All other C blocks are fragments: they
are compiled behind support/guide_prelude.h, as a function's body or, when they begin with
"static", as they are; then those after them, on the same page and the next ones, see what
they define.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
WARNINGS = "-std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Wshadow -Werror".split()
BLOCK = re.compile(
    r"(?:^<!-- program(?P<what>:[^\n]*)? -->\n)?^```c\n(?P<code>.*?)^```$"
    r"(?:\n^```text\n(?P<output>.*?)^```$)?",
    re.M | re.S,
)


class Block:
    def __init__(self, page, text, match, definitions):
        line = text.count("\n", 0, match.start("code")) + 1
        self.place = f"{page}:{line}"
        self.code = match["code"]
        self.output = match["output"]
        self.is_program = match.group().startswith("<!--")
        self.definitions = definitions
        self.what = (match["what"] or "").lstrip(": ").strip()

    def source(self):
        """What the compiler gets: problems are told in the page's own lines."""
        page, line = self.place.split(":")
        body = f'#line {line} "{page}"\n{self.code}'
        if self.is_program:
            return body
        head = '#include "support/guide_prelude.h"\n' + self.definitions
        if self.code.startswith("static"):
            return head + body
        return f"{head}bool fragment(void)\n{{\n{body}return true;\n}}\n"


def blocks_of(page, text, definitions=""):
    """-> the blocks of a page, and the definitions in force after it"""
    blocks = []
    for match in BLOCK.finditer(text):
        block = Block(page, text, match, definitions)
        blocks.append(block)
        if not block.is_program and block.code.startswith("static"):
            definitions += block.code
    return blocks, definitions


def pkg_config(library, *what):
    command = ["pkg-config", *what, library]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else None


class Checker:
    def __init__(self, source_dir, build_dir, work):
        self.source_dir, self.build_dir, self.work = source_dir, build_dir, work
        self.compiler = os.environ.get("CC", "cc")
        self.problems, self.n_checked, self.skipped = [], 0, []

    def compile(self, source, arguments):
        """-> what the compiler has to say, "" when all is well"""
        path = os.path.join(self.work, "block.c")
        with open(path, "w", encoding="utf-8") as file:
            file.write(source)
        include = [f"-I{os.path.join(self.source_dir, 'include')}", f"-I{HERE}"]
        command = [self.compiler, *WARNINGS, *include, path, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stderr or "the compiler failed"

    def run_program(self, block, flags):
        program = os.path.join(self.work, "program")
        library = [f"-L{self.build_dir}", "-lmrpool", f"-Wl,-rpath,{self.build_dir}"]
        said = self.compile(block.source(), ["-o", program, *library, *flags])
        if said:
            return said
        environment = dict(os.environ)
        environment.setdefault("MRPOOL_PROVIDER_PATH", os.path.join(self.build_dir, "mrpool"))
        done = subprocess.run(
            [program], capture_output=True, text=True, check=False, timeout=60, env=environment
        )
        if done.returncode != 0 or done.stderr:
            return f"exit status {done.returncode}: {done.stderr}"
        if block.output is not None and done.stdout != block.output:
            return f"prints\n{done.stdout}instead of\n{block.output}"
        return ""

    def same_file(self, block):
        path = os.path.join(self.source_dir, block.what)
        try:
            with open(path, encoding="utf-8") as file:
                same = file.read() == block.code
        except OSError as error:
            return str(error)
        return "" if same else f"is not {block.what} to the letter"

    def check(self, block):
        module = os.path.join(self.build_dir, "mrpool", "libmrpool-ofi.so")
        is_file = block.what.endswith(".c")
        flags = []
        if block.what == "libfabric" or not block.is_program:
            what = ["--cflags", "--libs"] if block.is_program else ["--cflags"]
            flags = pkg_config("libfabric", *what)
            if flags is None or (block.is_program and not os.path.exists(module)):
                self.skipped.append(block.place)
                return
        said = self.same_file(block) if is_file else ""
        if not said and block.is_program:
            said = self.run_program(block, flags)
        elif not said:
            said = self.compile(block.source(), ["-fsyntax-only", "-Wno-unused", *flags])
        self.n_checked += 1
        if said:
            self.problems.append(f"{block.place}: {said}")


def self_test(checker):
    """A fragment and a program that are wrong have to be noticed."""
    good = "<!-- program -->\n```c\n#include <stdio.h>\nint main(void)\n{\n    puts(\"a\");\n}\n```\n"
    page = (
        "```c\nmrp_no_such_call(pool);\n```\n"
        + good
        + "```text\nb\n```\n"
        + "<!-- program: examples/quickstart.c -->\n```c\nint main(void)\n{\n}\n```\n"
    )
    for block in blocks_of("self-test", page)[0]:
        checker.check(block)
    expected = len(checker.problems) + len(checker.skipped)
    seen_failing = expected == 3 and len(checker.problems) >= 2
    checker.problems.clear()
    checker.skipped.clear()
    for block in blocks_of("self-test", good + "```text\na\n```\n")[0]:
        checker.check(block)
    good_passes = not checker.problems
    checker.problems.clear()
    checker.n_checked = 0
    return seen_failing and good_passes


def main():
    arguments = sys.argv[1:]
    source_dir = os.path.abspath(
        arguments[0] if arguments else os.environ.get("MRP_SOURCE_DIR", f"{HERE}/../..")
    )
    build_dir = os.path.abspath(
        arguments[1]
        if len(arguments) > 1
        else os.environ.get("MRP_BUILD_DIR", f"{source_dir}/build/dev")
    )
    work = tempfile.mkdtemp()
    try:
        checker = Checker(source_dir, build_dir, work)
        if not self_test(checker):
            print("self-test: a wrong block is not noticed, or a good one is refused")
            return 1
        definitions = ""
        for page in ("README.md", "docs/GUIDE.md", "docs/MEMORY.md"):
            path = os.path.join(source_dir, page)
            if not os.path.exists(path):
                print(f"{page}: not there")
                continue
            with open(path, encoding="utf-8") as file:
                blocks, definitions = blocks_of(page, file.read(), definitions)
            if page == "README.md" and "examples/quickstart.c" not in [b.what for b in blocks]:
                checker.problems.append(
                    "README.md: no block marked <!-- program: examples/quickstart.c -->"
                )
            for block in blocks:
                checker.check(block)
    finally:
        shutil.rmtree(work)
    for problem in checker.problems:
        print(problem)
    for place in checker.skipped:
        print(f"SKIP: {place}: no libfabric, or no provider ofi")
    print(f"{checker.n_checked} C blocks checked")
    if checker.skipped and "ofi" in os.environ.get("MRP_TEST_REQUIRE", "").split(","):
        return 1
    return 1 if checker.problems or checker.n_checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
