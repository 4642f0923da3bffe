#!/usr/bin/env python3
"""Writes tests/data/quant/<format>/: tiny checkpoints in every format that
Lathe reads, and expected.safetensors with their values as floats.

Needs numpy. The packing and the arithmetic below follow the
formats' documentation (docs/checkpoints.md) and share nothing with Lathe.
Run it from anywhere; the output is deterministic.
"""
import json
import pathlib
import shutil

import numpy as np

ROOT = pathlib.Path(__file__).parent / "quant"
N, K, GROUP = 24, 160, 32
PREFIX = "model.language_model.layers.0.mlp."
NAMES = {np.dtype(t): n for t, n in [
    (np.float32, "F32"), (np.float16, "F16"), (np.int32, "I32"),
    (np.uint8, "U8")]}


def raw(array, dtype=None):
    array = np.ascontiguousarray(array)
    return {"dtype": dtype or NAMES[array.dtype], "shape": list(array.shape),
            "data": array.tobytes()}


def save(path, tensors):
    header, offset = {}, 0
    for name, entry in tensors.items():
        end = offset + len(entry["data"])
        header[name] = {"dtype": entry["dtype"], "shape": entry["shape"],
                        "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in tensors.values():
            file.write(entry["data"])


def write(name, tensors, expected, quantization, extra_files=None):
    folder = ROOT / name
    folder.mkdir(parents=True)
    save(folder / "model.safetensors", tensors)
    save(folder / "expected.safetensors",
         {k: raw(v.astype(np.float32)) for k, v in expected.items()})
    config = {"model_type": "fixture"}
    if quantization is not None:
        config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for file, content in (extra_files or {}).items():
        (folder / file).write_text(json.dumps(content, indent=1) + "\n")


def pack(values, axis):
    """Eight 4-bit values per 32-bit word along `axis`, the first lowest."""
    values = np.moveaxis(values.astype(np.uint64), axis, -1)
    words = values.reshape(values.shape[:-1] + (-1, 8))
    shifts = np.arange(8, dtype=np.uint64) * np.uint64(4)
    packed = (words << shifts).sum(axis=-1).astype(np.uint32)
    return np.moveaxis(packed, -1, axis).view(np.int32)


def int4_module(rng, zeros_minus_one, symmetric, negative):
    groups = K // GROUP
    codes = rng.integers(0, 16, (K, N))
    zeros = np.full((groups, N), 8)
    if not symmetric:
        zeros = rng.integers(0, 16, (groups, N))
        zeros[0, :4] = [0, 15, 0, 0]
    scales = rng.uniform(1e-3, 0.2, (groups, N)).astype(np.float16)
    if negative:
        scales *= np.where(rng.random((groups, N)) < 0.5, -1, 1).astype(
            np.float16)
    scales[1, 2] = np.float16(3e-6)  # subnormal
    group_of = np.arange(K) // GROUP
    values = scales.astype(np.float32)[group_of] * (
        codes - zeros[group_of]).astype(np.float32)
    qzeros = pack(zeros, 1)
    if zeros_minus_one:
        qzeros = (qzeros.view(np.uint32) - np.uint32(0x11111111)).view(
            np.int32)
    return {"qweight": raw(pack(codes, 0)), "qzeros": raw(qzeros),
            "scales": raw(scales),
            "g_idx": raw(group_of.astype(np.int32))}, values.T


def dense_bf16(rng, shape):
    bits = rng.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16
    values = (bits << np.uint32(16)).view(np.float32)
    return raw(bits.astype(np.uint16), "BF16"), values


def int4(name, seed, zeros_minus_one, symmetric, negative, quantization,
         keep_index):
    rng = np.random.default_rng(seed)
    tensors, expected = {}, {}
    parts, values = int4_module(rng, zeros_minus_one, symmetric, negative)
    if not keep_index:
        del parts["g_idx"]
    for part, entry in parts.items():
        tensors[PREFIX + "up_proj." + part] = entry
    expected["layers.0.mlp.up_proj"] = values
    tensors[PREFIX + "gate_proj.weight"], values = dense_bf16(rng, (4, 8))
    expected["layers.0.mlp.gate_proj"] = values
    write(name, tensors, expected, quantization)


def e2m1(code):
    magnitude = np.array([0, .5, 1, 1.5, 2, 3, 4, 6])[code & 7]
    return np.where(code & 8, -magnitude, magnitude).astype(np.float32)


def e4m3(byte):
    exponent, mantissa = (byte >> 3) & 15, byte & 7
    value = np.where(exponent == 0, mantissa * 2.0 ** -9,
                     (1 + mantissa / 8) * 2.0 ** (exponent.astype(float) - 7))
    return np.where(byte & 0x80, -value, value).astype(np.float32)


def nvfp4(name, seed, codes_name, global_name, divisor, quantization, side):
    rng = np.random.default_rng(seed)
    tensors, expected = {}, {}
    codes = rng.integers(0, 16, (N, K)).astype(np.uint8)
    blocks = rng.integers(1, 0x7f, (N, K // 16)).astype(np.uint8)
    blocks[0, 0] = 0
    multiplier = np.float32(rng.uniform(1e-5, 1e-3))
    stored = multiplier
    if divisor:
        stored = np.float32(round(1 / float(multiplier)))
        multiplier = np.float32(1) / stored
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    base = PREFIX + "up_proj."
    tensors[base + codes_name] = raw(packed.astype(np.uint8))
    tensors[base + "weight_scale"] = raw(blocks, "F8_E4M3")
    shape = [1] if divisor else []
    tensors[base + global_name] = {"dtype": "F32", "shape": shape,
                                   "data": stored.tobytes()}
    tensors[base + "input_scale"] = raw(np.ones(1, np.float32))
    expected["layers.0.mlp.up_proj"] = (
        e2m1(codes) * np.repeat(e4m3(blocks), 16, axis=1) * multiplier)
    tensors["lm_head.weight"], expected["lm_head"] = dense_bf16(rng, (4, 8))
    write(name, tensors, expected, quantization, side)


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    auto = {"bits": 4, "group_size": GROUP, "data_type": "int",
            "quant_method": "auto-round", "autoround_version": "0.5.1"}
    gptq = {"bits": 4, "group_size": GROUP, "desc_act": False, "sym": False,
            "quant_method": "gptq", "lm_head": False}
    int4("autoround_gptq", 1, True, True, True,
         {**auto, "sym": True, "packing_format": "auto_round:auto_gptq"}, True)
    int4("autoround_plain", 2, False, False, False,
         {**auto, "sym": False, "packing_format": "auto_round"}, False)
    int4("gptq_v1", 3, True, False, False,
         {**gptq, "checkpoint_format": "gptq"}, True)
    int4("gptq_v2", 4, False, False, False,
         {**gptq, "checkpoint_format": "gptq_v2"}, True)
    nvfp4("modelopt", 5, "weight", "weight_scale_2", False, None,
          {"hf_quant_config.json": {
              "producer": {"name": "modelopt", "version": "0.42.0"},
              "quantization": {"quant_algo": "NVFP4", "group_size": 16,
                               "kv_cache_quant_algo": None,
                               "exclude_modules": ["lm_head"]}}})
    nvfp4("compressed_tensors", 6, "weight_packed", "weight_global_scale",
          True,
          {"quant_method": "compressed-tensors",
           "format": "nvfp4-pack-quantized", "ignore": ["lm_head"],
           "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
               "num_bits": 4, "type": "float", "strategy": "tensor_group",
               "group_size": 16, "symmetric": True}}}}, None)


if __name__ == "__main__":
    main()
