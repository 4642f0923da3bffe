#!/usr/bin/env python3
"""Holds `infer run --logits` against a golden file.

  compare_logits.py INFER MODEL GOLDEN IDS LOGITS [--tolerance X] [ARG ...]

IDS and LOGITS are tensor names in GOLDEN (safetensors). Prints the largest
difference and the share of positions with the same top token, over tokens that
the golden file has. Exits 1 when the difference exceeds the tolerance.
"""

import argparse
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("infer")
    parser.add_argument("model")
    parser.add_argument("golden")
    parser.add_argument("ids")
    parser.add_argument("logits")
    parser.add_argument("--tolerance", type=float, default=2e-2)
    args, rest = parser.parse_known_args()
    golden = load_file(args.golden)
    ids, wanted = golden[args.ids].reshape(-1), golden[args.logits]
    wanted = wanted.reshape(-1, wanted.shape[-1])
    with tempfile.TemporaryDirectory() as folder:
        out = folder + "/logits.safetensors"
        subprocess.run(
            [args.infer, "run", args.model, "--token-ids",
             ",".join(map(str, ids)), "-n", "0", "-q", "--logits", out, *rest],
            check=True, stdout=subprocess.DEVNULL)
        found = load_file(out)["logits"][:len(wanted)]
    worst = float(np.abs(found - wanted).max())
    same = float((found.argmax(-1) == wanted.argmax(-1)).mean())
    ok = bool(np.isfinite(found).all()) and worst <= args.tolerance
    print(f"{'ok  ' if ok else 'FAIL'} {args.logits:12s} {len(ids):4d} tokens: "
          f"max |difference| {worst:.2e} (bound {args.tolerance:.0e}), "
          f"top-1 {100 * same:.1f} % {' '.join(rest)}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
