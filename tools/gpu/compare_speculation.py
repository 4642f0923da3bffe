#!/usr/bin/env python3
"""Holds rounds of speculation against plain decoding, bit for bit.

  compare_speculation.py INFER MODEL [--spec MODE ...] [ARG ...]

Token ids and the conv and recurrent states behind them must be those of
`--spec none`, greedy and sampled. Prints tokens per round and the time of a
round. Exits 1 on any difference.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

PROMPTS = ["import os\nimport sys\n\n\ndef main(argv):\n    ",
           "class Queue:\n    def __init__(self, maxsize=0):\n"]
SAMPLING = [["--temp", "0"],
            ["--temp", "0.8", "--top-p", "0.95", "--seed", "5"]]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("infer")
    parser.add_argument("model")
    parser.add_argument("--spec", nargs="+",
                        default=["mtp:1", "mtp:3", "mtp:7", "ngram:8", "auto"])
    parser.add_argument("--tokens", default="128")
    args, rest = parser.parse_known_args()

    def run(spec: str, *more: str) -> Dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            states = Path(folder) / "states.safetensors"
            result = subprocess.run(
                [args.infer, "run", args.model, "-n", args.tokens, "--json",
                 "-q", "--ignore-eos", "--spec", spec, "--states", str(states),
                 *more, *rest], check=True, stdout=subprocess.PIPE)
            return {**json.loads(result.stdout), "states": states.read_bytes()}

    bad: List[str] = []
    for number, prompt in enumerate(PROMPTS):
        for sampling in SAMPLING:
            plain = run("none", "-p", prompt, *sampling)
            for spec in args.spec:
                found = run(spec, "-p", prompt, *sampling)
                rounds = found["speculation"]
                name = f"prompt {number}, {' '.join(sampling)}, {spec}"
                for what in ("token_ids", "states"):
                    if found[what] != plain[what]:
                        bad.append(f"{name}: other {what}")
                print(f"{name}: {rounds['tokens'] / rounds['rounds']:.2f} "
                      f"tokens and {1e3 * rounds['seconds'] / rounds['rounds']:.3f}"
                      " ms per round", flush=True)
    print("\n".join(bad) if bad else "all the same")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
