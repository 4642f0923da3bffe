"""Checks the oracle against transformers, then writes the INT4 goldens.

    make_demo_goldens.py [--shared DIR] [--check-only]

With --shared (a folder with demo-model/ and golden/qwen3_5/) it first compares
the oracle with the outputs of transformers there, and takes its prompts from
there; otherwise from the file that it is about to replace. Then it writes
tests/data/demo/golden_int4.safetensors from models/demo:

  pN.input_ids [T]           the prompt
  pN.logits [T, vocab]       (p0, p1, p2: the file stays small)
  pN.greedy [T + 64]         prompt and greedy text
  pN.greedy_margin [T + 64]  top-1 minus top-2 logit at each position
  p0.mtp1_logits [4, vocab]  of slots 0 to 3: token p + 1 with hidden p
  p0.layer0.conv [3, C]      states of layer 0 after the prompt
  p0.layer0.recurrent [H, K, V]
"""

import argparse
import pathlib

import numpy as np

from qwen35_numpy import Model, read_safetensors, write_safetensors

ROOT = pathlib.Path(__file__).resolve().parents[3]
USED = 4082  # ids from here on are padding
NEW_TOKENS = 64

FOLDER = ROOT / "tests/data/demo"


def report(what, found, expected):
    print(f"  {what}: max abs {np.abs(found - expected).max():.2e}")


def greedy(model, ids, count):
    """Prompt and text, the margin at each position, and prompt logits."""
    model.reset()
    ids, logits = list(ids), model.head(model.forward(np.array(ids)))
    rows, prompt = list(logits), logits
    for i in range(count):
        ids.append(int(np.argmax(rows[-1][: min(USED, len(rows[-1]))])))
        rows.append(model.head(model.forward(np.array(ids[-1:])))[0])
    best = np.sort(np.array(rows)[:, :USED], axis=1)
    return np.array(ids), best[:, -1] - best[:, -2], prompt


def check_golden(shared):
    expected = read_safetensors(shared / "golden/qwen3_5/expected.safetensors")
    model = Model(shared / "golden/qwen3_5")
    print("golden/qwen3_5")
    for t in (1, 3, 17, 65, 130):
        model.reset()
        hidden = model.forward(expected[f"t{t}.input_ids"])
        report(f"t{t}.logits", model.head(hidden), expected[f"t{t}.logits"])
    ids, margin, _ = greedy(model, expected["t17.input_ids"], 48)
    print("  greedy equal:", np.array_equal(ids, expected["t17.greedy"]))
    report("margin", margin, expected["t17.greedy_margin"])


def check_demo(shared):
    expected = read_safetensors(shared / "demo-model/golden.safetensors")
    model = Model(shared / "demo-model")
    print("demo-model")
    for p in range(5):
        ids = expected[f"p{p}.input_ids"]
        text, _, logits = greedy(model, ids, 128)
        model.reset()
        hidden = model.forward(ids)
        report(f"p{p}.logits", logits, expected[f"p{p}.logits"])
        same = text == expected[f"p{p}.greedy"]
        print(f"  p{p}.greedy equal: {same.all()}")
        if p == 0:
            layer = "model.layers.0.linear_attn."
            report("recurrent", model.states[layer + "recurrent"],
                   expected["p0.layer0.recurrent_states"][0])
            report("conv", model.states[layer + "conv"],
                   expected["p0.layer0.conv_states"][0, :, 1:].T)
        following = expected[f"p{p}.greedy"][1 : len(ids) + 1]
        draft = model.head(model.mtp(following, hidden, 0))
        report(f"p{p}.mtp1_logits", draft, expected[f"p{p}.mtp1_logits"])


def make_int4(prompts):
    model = Model(ROOT / "models/demo")
    out = {}
    for i, prompt in enumerate(prompts):
        ids, margin, logits = greedy(model, prompt, NEW_TOKENS)
        out[f"p{i}.input_ids"] = np.array(prompt)
        out[f"p{i}.greedy"], out[f"p{i}.greedy_margin"] = ids, margin
        if i < 3:
            out[f"p{i}.logits"] = logits
        if i > 0:
            continue
        model.reset()
        hidden = model.forward(np.array(prompt))
        layer = "model.layers.0.linear_attn."
        out["p0.layer0.conv"] = model.states[layer + "conv"]
        out["p0.layer0.recurrent"] = model.states[layer + "recurrent"]
        draft = model.mtp(ids[1 : len(prompt) + 1], hidden, 0)
        out["p0.mtp1_logits"] = model.head(draft)[:4]
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_safetensors(FOLDER / "golden_int4.safetensors", out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=pathlib.Path)
    parser.add_argument("--check-only", action="store_true")
    args = parser.parse_args()
    source = FOLDER / "golden_int4.safetensors"
    if args.shared:
        check_golden(args.shared)
        check_demo(args.shared)
        source = args.shared / "demo-model/golden.safetensors"
    if not args.check_only:
        golden = read_safetensors(source)
        make_int4([golden[f"p{i}.input_ids"] for i in range(5)])


if __name__ == "__main__":
    main()
