#!/usr/bin/env python3
"""Prints the rate of a dense BF16 GEMM of 8192^3 through torch, in TFLOP/s."""

import sys

try:
    import torch
except ImportError:
    sys.exit("no torch: the dense GEMM rate is not measured")

N = 8192
a, b = (torch.randn(N, N, device="cuda").bfloat16() for _ in range(2))
times = []
for i in range(25):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    a @ b
    end.record()
    end.synchronize()
    if i >= 5:
        times.append(start.elapsed_time(end))
print(f"dense bf16 GEMM {N}^3: {2 * N**3 / sorted(times)[10] / 1e9:.0f} TFLOP/s")
