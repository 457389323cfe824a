"""The files of the source tree that a check looks at."""

import os
import subprocess
import sys

CHECKED = ("include", "src", "tools", "bench", "examples", "tests")


def source_dir():
    """The tree to check: first argument, MRP_SOURCE_DIR, or where this file lies."""
    here = os.path.dirname(os.path.abspath(__file__))
    default = os.environ.get("MRP_SOURCE_DIR", os.path.join(here, "..", "..", ".."))
    paths = [word for word in sys.argv[1:] if not word.startswith("-")]
    return os.path.abspath(paths[0] if paths else default)


def files(root, suffixes):
    """Paths relative to root of what git knows or would add; all files without git."""
    command = ["git", "-C", root, "-c", "safe.directory=*", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=False)
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
    else:
        names = [
            os.path.relpath(os.path.join(folder, name), root)
            for top in CHECKED
            for folder, _, found in os.walk(os.path.join(root, top))
            for name in found
        ]
    return sorted(
        {
            name
            for name in names
            if name.endswith(suffixes) and os.path.isfile(os.path.join(root, name))
        }
    )


if __name__ == "__main__":
    # tree.py ROOT SUFFIX...: for shell scripts, one path a line
    print("\n".join(files(sys.argv[1], tuple(sys.argv[2:]))))
