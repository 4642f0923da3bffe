#!/usr/bin/env python3
"""Fails when a program needs a shared library that it must not need.

  needed_libraries.py PROGRAM --only PREFIX ...    nothing else
  needed_libraries.py PROGRAM --never PREFIX ...   none of these
"""

import argparse
import re
import subprocess
import sys
from typing import List


def needed(program: str) -> List[str]:
    """The libraries that the dynamic section names."""
    output = subprocess.run(["readelf", "-dW", program], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", output)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--only", nargs="+")
    kinds.add_argument("--never", nargs="+")
    options = parser.parse_args()

    libraries = needed(options.program)
    prefixes = tuple(options.only or options.never)
    wrong = [library for library in libraries
             if library.startswith(prefixes) != bool(options.only)]
    print(f"{options.program} needs: {' '.join(libraries) or 'nothing'}")
    if wrong:
        print(f"it must not need: {' '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
