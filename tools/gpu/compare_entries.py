#!/usr/bin/env python3
"""Holds the persistent step against single launches, bit for bit.

  compare_entries.py INFER MODEL [--tokens N] [ARG ...]

A bundle must have been compiled with --entry auto or persistent. Compares the
logits of every position of a greedy text. Exits 1 on any difference.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

PROMPT = "import os\nimport sys\n\n\ndef main(argv):\n    "


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("infer")
    parser.add_argument("model")
    parser.add_argument("--tokens", default="128")
    args, rest = parser.parse_known_args()

    def run(entry: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            logits = Path(folder) / "logits.safetensors"
            subprocess.run(
                [args.infer, "run", args.model, "-p", PROMPT, "-n", args.tokens,
                 "--temp", "0", "--ignore-eos", "-q", "--spec", "none",
                 "--entry", entry, "--logits", str(logits), *rest],
                check=True, stdout=subprocess.DEVNULL)
            return logits.read_bytes()

    same = run("launches") == run("persistent")
    print("the same bits" if same else "FAIL: the entries differ")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
