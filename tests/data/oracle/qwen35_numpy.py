"""Qwen3.5 dense hybrid in numpy, independent of Lathe: the oracle of tests/e2e.

Follows the model code of Hugging Face transformers (models/qwen3_5) and, for
the MTP layer, vLLM (qwen3_5_mtp). Everything is computed in one floating-point
type, float64 unless told otherwise. Reads BF16, F16 and F32 tensors, AutoRound
INT4 (auto_gptq packing) and ModelOpt NVFP4 from model.safetensors by itself.
"""

import json
import pathlib
import struct

import numpy as np

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E2M1 = np.concatenate([E2M1, -E2M1])


def e4m3_table():
    """The value of every E4M3 byte."""
    bits = np.arange(256)
    exponent, mantissa = (bits >> 3) & 15, bits & 7
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6,
                     (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value[(bits & 127) == 127] = np.nan
    return np.where(bits & 128, -value, value)


class Checkpoint:
    """Weights by their name in the checkpoint, dequantised."""

    def __init__(self, directory, dtype=np.float64):
        self.dtype = dtype
        path = pathlib.Path(directory)
        self.config = json.loads((path / "config.json").read_text())
        self.config = self.config.get("text_config", self.config)
        blob = (path / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", blob[:8])[0]
        self.table = json.loads(blob[8 : 8 + size])
        self.table.pop("__metadata__", None)
        self.body = memoryview(blob)[8 + size :]

    def raw(self, name):
        entry = self.table[name]
        begin, end = entry["data_offsets"]
        types = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "I32": "<u4",
                 "U8": "u1", "F8_E4M3": "u1"}
        values = np.frombuffer(self.body[begin:end], types[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.reshape(entry["shape"])

    def tensor(self, name):
        return self.raw(name).astype(self.dtype)

    def weight(self, module):
        """The matrix [out, in] of a linear or an embedding."""
        if module + ".qweight" in self.table:
            return self.gptq(module).astype(self.dtype)
        if module + ".weight_scale" in self.table:
            return self.nvfp4(module).astype(self.dtype)
        return self.tensor(module + ".weight")

    def gptq(self, module):
        """w = (code - zero) * scale; zeros are stored minus one."""
        shifts = 4 * np.arange(8, dtype=np.uint32)
        packed = self.raw(module + ".qweight")  # [K/8, N], low nibble first
        codes = (packed[:, None, :] >> shifts[None, :, None]) & 15
        codes = codes.reshape(-1, packed.shape[1]).astype(np.int64)
        packed = self.raw(module + ".qzeros")  # [K/group, N/8]
        zeros = (packed[:, :, None] >> shifts) & 15
        zeros = zeros.reshape(packed.shape[0], -1).astype(np.int64) + 1
        scales = self.raw(module + ".scales").astype(np.float64)
        group = codes.shape[0] // scales.shape[0]
        spread = lambda x: np.repeat(x, group, axis=0)
        return ((codes - spread(zeros)) * spread(scales)).T

    def nvfp4(self, module):
        """w = e2m1 * e4m3 block scale * global scale."""
        packed = self.raw(module + ".weight")  # [N, K/2], low nibble first
        codes = np.stack([packed & 15, packed >> 4], axis=-1)
        codes = codes.reshape(packed.shape[0], -1)
        scales = e4m3_table()[self.raw(module + ".weight_scale")]
        scales = np.repeat(scales, 16, axis=1)
        factor = float(self.raw(module + ".weight_scale_2").reshape(()))
        return E2M1[codes] * scales * factor


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def silu(x):
    return x * sigmoid(x)


def rms(x, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)


def rotate(x, positions, theta, rotary):
    """Rotary embedding of heads [T, H, D] on the first `rotary` columns."""
    half = rotary // 2
    angle = positions[:, None] * theta ** (-2.0 * np.arange(half) / rotary)
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    a, b = x[..., :half], x[..., half:rotary]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin,
                           x[..., rotary:]], axis=-1)


class Model:
    """One sequence at a time: `forward` continues from the states it left."""

    def __init__(self, directory, dtype=np.float64):
        self.c = Checkpoint(directory, dtype)
        self.cfg = self.c.config
        self.cache = {}
        self.prefix = "model.language_model."
        if self.prefix + "embed_tokens.weight" not in self.c.table:
            self.prefix = "model."
        rope = self.cfg["rope_parameters"]
        self.theta = rope["rope_theta"]
        partial = rope.get("partial_rotary_factor",
                           self.cfg.get("partial_rotary_factor", 1.0))
        self.rotary = int(self.cfg["head_dim"] * partial)
        self.eps = self.cfg["rms_norm_eps"]
        self.reset()

    def reset(self):
        self.states, self.position = {}, 0

    def get(self, kind, name):
        if name not in self.cache:
            self.cache[name] = getattr(self.c, kind)(name)
        return self.cache[name]

    def linear(self, x, module):
        return x @ self.get("weight", module).T

    def norm(self, x, name):
        """The zero-centred norm: the weight is 1 + w."""
        return rms(x, self.eps) * (1 + self.get("tensor", name + ".weight"))

    def delta_net(self, h, p):
        cfg, T = self.cfg, len(h)
        hk, hv = cfg["linear_num_key_heads"], cfg["linear_num_value_heads"]
        dk, dv = cfg["linear_key_head_dim"], cfg["linear_value_head_dim"]
        taps = cfg["linear_conv_kernel_dim"]
        u = self.linear(h, p + "in_proj_qkv")
        old = self.states.get(p + "conv", np.zeros((taps - 1, u.shape[1])))
        u = np.concatenate([old.astype(u.dtype), u])
        self.states[p + "conv"] = u[-(taps - 1):]
        w = self.get("tensor", p + "conv1d.weight")[:, 0, :]
        c = silu(sum(w[:, j] * u[j : j + T] for j in range(taps)))
        q, k, v = np.split(c, [hk * dk, 2 * hk * dk], axis=1)
        unit = lambda x: x / np.sqrt(np.sum(x * x, -1, keepdims=True) + 1e-6)
        ratio = hv // hk
        q = np.repeat(unit(q.reshape(T, hk, dk)) * dk**-0.5, ratio, axis=1)
        k = np.repeat(unit(k.reshape(T, hk, dk)), ratio, axis=1)
        v = v.reshape(T, hv, dv)
        beta = sigmoid(self.linear(h, p + "in_proj_b"))
        soft = np.logaddexp(0, self.linear(h, p + "in_proj_a") +
                            self.get("tensor", p + "dt_bias"))
        decay = np.exp(-np.exp(self.get("tensor", p + "A_log")) * soft)
        S = self.states.get(p + "recurrent", np.zeros((hv, dk, dv), h.dtype))
        o = np.empty((T, hv, dv), h.dtype)
        for t in range(T):
            S = S * decay[t][:, None, None]
            d = beta[t][:, None] * (v[t] - np.einsum("hkv,hk->hv", S, k[t]))
            S = S + k[t][:, :, None] * d[:, None, :]
            o[t] = np.einsum("hkv,hk->hv", S, q[t])
        self.states[p + "recurrent"] = S
        z = self.linear(h, p + "in_proj_z").reshape(T, hv, dv)
        y = rms(o, self.eps) * self.get("tensor", p + "norm.weight") * silu(z)
        return self.linear(y.reshape(T, -1), p + "out_proj")

    def attention(self, h, p, position):
        cfg, T = self.cfg, len(h)
        heads, kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
        D = cfg["head_dim"]
        qg = self.linear(h, p + "q_proj").reshape(T, heads, 2 * D)
        q, gate = qg[..., :D], qg[..., D:]
        k = self.linear(h, p + "k_proj").reshape(T, kv, D)
        v = self.linear(h, p + "v_proj").reshape(T, kv, D)
        positions = position + np.arange(T)
        q = rotate(self.norm(q, p + "q_norm"), positions, self.theta,
                   self.rotary)
        k = rotate(self.norm(k, p + "k_norm"), positions, self.theta,
                   self.rotary)
        if p in self.states:
            k = np.concatenate([self.states[p][0], k])
            v = np.concatenate([self.states[p][1], v])
        self.states[p] = (k, v)
        k, v = (np.repeat(x, heads // kv, axis=1) for x in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) * D**-0.5
        future = np.arange(len(k))[None, :] > positions[:, None]
        scores = np.where(future[None], -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y = np.einsum("hts,shd->thd", weights, v) * sigmoid(gate)
        return self.linear(y.reshape(T, -1), p + "o_proj")

    def mlp(self, x, p):
        h = self.norm(x, p + "post_attention_layernorm")
        gate = silu(self.linear(h, p + "mlp.gate_proj"))
        return x + self.linear(gate * self.linear(h, p + "mlp.up_proj"),
                               p + "mlp.down_proj")

    def embed(self, ids):
        return self.get("weight", self.prefix + "embed_tokens")[ids]

    def forward(self, ids):
        """Hidden rows after the final norm; advances the states."""
        x = self.embed(ids)
        for i, kind in enumerate(self.cfg["layer_types"]):
            p = f"{self.prefix}layers.{i}."
            h = self.norm(x, p + "input_layernorm")
            if kind == "full_attention":
                x = x + self.attention(h, p + "self_attn.", self.position)
            else:
                x = x + self.delta_net(h, p + "linear_attn.")
            x = self.mlp(x, p)
        self.position += len(ids)
        return self.norm(x, self.prefix + "norm")

    def head(self, hidden):
        tied = self.cfg.get("tie_word_embeddings", False)
        return self.linear(
            hidden, self.prefix + "embed_tokens" if tied else "lm_head")

    def mtp(self, ids, hidden, position):
        """Slot p takes token p + 1 and hidden row p."""
        x = np.concatenate(
            [self.norm(self.embed(ids), "mtp.pre_fc_norm_embedding"),
             self.norm(hidden, "mtp.pre_fc_norm_hidden")], axis=1)
        x = self.linear(x, "mtp.fc")
        h = self.norm(x, "mtp.layers.0.input_layernorm")
        x = x + self.attention(h, "mtp.layers.0.self_attn.", position)
        return self.norm(self.mlp(x, "mtp.layers.0."), "mtp.norm")


def read_safetensors(path):
    """Tensors of F32 and I32 by name."""
    blob = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", blob[:8])[0]
    table = json.loads(blob[8 : 8 + size])
    table.pop("__metadata__", None)
    return {name: np.frombuffer(
        blob[8 + size + e["data_offsets"][0] : 8 + size + e["data_offsets"][1]],
        {"F32": "<f4", "I32": "<i4"}[e["dtype"]]).reshape(e["shape"])
        for name, e in table.items()}


def write_safetensors(path, tensors):
    table, blobs, offset = {}, [], 0
    for name, array in sorted(tensors.items()):
        dtype = "I32" if array.dtype.kind == "i" else "F32"
        blob = array.astype("<i4" if dtype == "I32" else "<f4").tobytes()
        table[name] = {"dtype": dtype, "shape": list(array.shape),
                       "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    pathlib.Path(path).write_bytes(
        struct.pack("<Q", len(header)) + header + b"".join(blobs))
