#!/usr/bin/env python3
"""Checks that every IR constraint is written down, enforced and tested.

A constraint of an operation or type has a label such as `rms_norm_c1`, and the
label occurs in three places:

  ir/SPEC.md                    its meaning
  ir/{graph,kernel,plan}/*.cpp  a comment above the check, and its message
  tests/ir/*_invalid.mlir       a function of that name that violates it and
                                expects that message

Prints one line for each place that misses a label, and exits with 1 if there
is any. Takes the repository's root as its only argument; the default is the
checkout this file is in.
"""

import pathlib
import re
import sys

LABEL = r"[a-z0-9_]+_c[1-9][0-9]*"


def labels(files, pattern):
    """The labels that `pattern` captures, mapped to the first file of each."""
    found = {}
    for file in files:
        for label in re.findall(pattern, file.read_text()):
            found.setdefault(label, file)
    return found


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    if len(sys.argv) > 1:
        root = pathlib.Path(sys.argv[1])
    sources = sorted(file for dialect in ("graph", "kernel", "plan")
                     for file in (root / "ir" / dialect).glob("*.cpp"))
    tests = sorted((root / "tests" / "ir").glob("*_invalid.mlir"))
    places = {
        "ir/SPEC.md": labels([root / "ir" / "SPEC.md"], rf"`({LABEL})`"),
        "a verifier comment": labels(sources, rf"// ({LABEL})\n"),
        "a verifier message": labels(sources, rf"\"({LABEL})[:\"]"),
        "a test function": labels(tests, rf"func @({LABEL})\("),
        "an expected error": labels(tests, rf"expected-error.*\{{({LABEL}):"),
    }
    known = {}
    for found in places.values():
        known = found | known
    problems = [
        f"{known[label].relative_to(root)}: {label} is missing as {place}"
        if place.startswith("a") else
        f"{known[label].relative_to(root)}: {label} is missing in {place}"
        for label in sorted(known) for place, found in places.items()
        if label not in found
    ]
    if not known:
        problems = [f"{root}: no constraint labels found"]
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
