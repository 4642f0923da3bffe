"""What a user sees of infer: exit codes, and one clear sentence per bad input.

  cli_test.py INFER MODEL_DIR DEMO_DIR

MODEL_DIR is a small BF16 checkpoint without a tokenizer; DEMO_DIR has one.
Every case runs infer on a copy of the model with one thing broken.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

INFER, MODEL, DEMO = sys.argv[1:4]
ROOT = Path(__file__).parents[2]

Header = Dict[str, Any]


def run(*args: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    # A cache of this test's own: a cold one is part of the first case.
    return subprocess.run(
        [INFER, *args], input=stdin, capture_output=True, text=True,
        timeout=300, env={**os.environ, "XDG_CACHE_HOME": CACHE.name})


CACHE = tempfile.TemporaryDirectory()


def read_safetensors(path: Path) -> Tuple[Header, bytes]:
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def write_safetensors(path: Path, header: Header, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Copy(unittest.TestCase):
    """A temporary copy of a model that a test breaks."""

    source = MODEL

    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.model = Path(self.folder.name) / "model"
        shutil.copytree(self.source, self.model)
        for path in self.model.iterdir():
            path.chmod(0o644)
        self.weights = self.model / "model.safetensors"

    def edit_json(self, name: str, change: Callable[[Any], None]) -> None:
        path = self.model / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def edit_header(self, change: Callable[[Header], None]) -> None:
        header, data = read_safetensors(self.weights)
        change(header)
        write_safetensors(self.weights, header, data)

    def fails(self, code: int, *words: str, args: List[str] = []) -> None:
        result = run("run", str(self.model), "--token-ids", "1,2,3", "-n", "1",
                     *args)
        self.assertEqual(result.returncode, code, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(result.stdout, "")
        if code == 3:
            self.assertEqual(len(result.stderr.strip().splitlines()), 1,
                             result.stderr)


class BadWeights(Copy):
    def test_truncated_file(self) -> None:
        data = self.weights.read_bytes()
        self.weights.write_bytes(data[:-1000])
        self.fails(3, "model.safetensors")

    def test_header_longer_than_file(self) -> None:
        data = self.weights.read_bytes()
        self.weights.write_bytes(struct.pack("<Q", 1 << 40) + data[8:])
        self.fails(3, "model.safetensors", "header")

    def test_empty_file(self) -> None:
        self.weights.write_bytes(b"")
        self.fails(3, "model.safetensors")

    def test_overlapping_tensors(self) -> None:
        def overlap(header: Header) -> None:
            first, second = list(header)[1:3]
            size = header[second]["data_offsets"]
            length = size[1] - size[0]
            begin = header[first]["data_offsets"][0]
            header[second]["data_offsets"] = [begin, begin + length]
        self.edit_header(overlap)
        self.fails(3, "model.safetensors")

    def test_tensor_out_of_range(self) -> None:
        def move(header: Header) -> None:
            name = list(header)[-1]
            begin, end = header[name]["data_offsets"]
            header[name]["data_offsets"] = [begin + 10**9, end + 10**9]
        self.edit_header(move)
        self.fails(3, "model.safetensors")

    def test_wrong_dtype(self) -> None:
        def change(header: Header) -> None:
            tensor = header["model.norm.weight"]
            tensor["dtype"] = "I16"
        self.edit_header(change)
        self.fails(3, "norm.weight", "I16")

    def test_wrong_shape(self) -> None:
        def change(header: Header) -> None:
            tensor = header["model.layers.0.mlp.up_proj.weight"]
            tensor["shape"] = tensor["shape"][::-1]
        self.edit_header(change)
        self.fails(3, "layers.0.mlp.up_proj")

    def test_missing_tensor(self) -> None:
        def rename(header: Header) -> None:
            header["model.other.weight"] = header.pop("model.norm.weight")
        self.edit_header(rename)
        self.fails(3, "norm.weight")

    def test_no_weights(self) -> None:
        self.weights.unlink()
        self.fails(3, "model.safetensors")


class BadShards(Copy):
    def index(self, shard: str) -> None:
        header, _ = read_safetensors(self.weights)
        names = [n for n in header if n != "__metadata__"]
        (self.model / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {},
                        "weight_map": {n: shard for n in names}}))

    def test_missing_shard(self) -> None:
        self.index("model-00001-of-00001.safetensors")
        self.weights.unlink()
        self.fails(3, "model-00001-of-00001.safetensors")

    def test_shard_path_that_climbs(self) -> None:
        self.index("../model.safetensors")
        self.weights.unlink()
        self.fails(3, "model.safetensors.index.json", "..")


class BadConfig(Copy):
    def test_unknown_model_type(self) -> None:
        self.edit_json("config.json",
                       lambda c: c.update(model_type="made_up"))
        self.fails(3, "config.json", "made_up", "qwen3_5_text")

    def test_wrong_field_type(self) -> None:
        self.edit_json("config.json", lambda c: c.update(hidden_size="abc"))
        self.fails(3, "config.json", "hidden_size", "abc")

    def test_negative_layers(self) -> None:
        self.edit_json("config.json",
                       lambda c: c.update(num_hidden_layers=-1))
        self.fails(3, "config.json", "num_hidden_layers")

    def test_not_json(self) -> None:
        (self.model / "config.json").write_text("{")
        self.fails(3, "config.json")

    def test_no_config(self) -> None:
        (self.model / "config.json").unlink()
        self.fails(3, "config.json")

    def test_context_too_large(self) -> None:
        self.fails(4, "kv cache", "total", args=["--ctx", "2000000000"])


class BadQuantised(Copy):
    source = DEMO

    def test_nan_scale(self) -> None:
        header, data = read_safetensors(self.weights)
        name = next(n for n in header if n.endswith("up_proj.scales"))
        begin = header[name]["data_offsets"][0]
        broken = data[:begin] + b"\x00\x7e" + data[begin + 2:]
        write_safetensors(self.weights, header, broken)
        self.fails(3, "up_proj", "scales")

    def test_group_that_does_not_divide(self) -> None:
        self.edit_json("config.json", lambda c: c["quantization_config"]
                       .update(group_size=100))
        self.fails(3, "group")

    def test_tokenizer_without_merges(self) -> None:
        self.edit_json("tokenizer.json", lambda t: t["model"].pop("merges"))
        result = run("run", str(self.model), "-p", "x", "-n", "1")
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("tokenizer.json", result.stderr)
        self.assertIn("merges", result.stderr)


class Drafts(Copy):
    """MTP layers that are missing, unreadable or broken."""

    source = DEMO

    def rename_mtp(self) -> None:
        def rename(header: Header) -> None:
            for name in [n for n in header if n.startswith("mtp.")]:
                header["visual." + name] = header.pop(name)
        self.edit_header(rename)

    def text(self, *args: str) -> "subprocess.CompletedProcess[str]":
        result = run("run", str(self.model), "-p", "import os", "-n", "24",
                     "--temp", "0", *args)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def test_without_mtp_drafts_are_looked_up(self) -> None:
        plain = self.text("--spec", "none").stdout
        self.rename_mtp()
        result = self.text("--spec", "mtp:3")
        self.assertEqual(result.stdout, plain)
        lines = [line for line in result.stderr.splitlines()
                 if "no MTP weights" in line]
        self.assertEqual(len(lines), 1, result.stderr)

    def test_format_of_mtp_that_is_not_supported(self) -> None:
        def change(header: Header) -> None:
            tensor = header["mtp.fc.weight"]
            tensor["dtype"] = "F8_E4M3"
            tensor["shape"][0] *= 2
        self.edit_header(change)
        self.assertIn("F8_E4M3", self.text("--spec", "mtp:3").stderr)

    def test_mtp_of_the_wrong_shape(self) -> None:
        def change(header: Header) -> None:
            tensor = header["mtp.fc.weight"]
            tensor["shape"] = tensor["shape"][::-1]
        self.edit_header(change)
        self.fails(3, "mtp.fc", args=["--spec", "mtp:3"])

    def test_mtp_of_zeros(self) -> None:
        header, data = read_safetensors(self.weights)
        begin, end = header["mtp.fc.weight"]["data_offsets"]
        write_safetensors(self.weights, header,
                          data[:begin] + bytes(end - begin) + data[end:])
        self.fails(3, "mtp.fc", "zeros", args=["--spec", "mtp:3"])

    def test_a_broken_mtp_layer_is_not_read_without_drafts(self) -> None:
        header, data = read_safetensors(self.weights)
        begin, end = header["mtp.fc.weight"]["data_offsets"]
        write_safetensors(self.weights, header,
                          data[:begin] + bytes(end - begin) + data[end:])
        self.text("--spec", "none")


class Usage(unittest.TestCase):
    def test_unknown_flag(self) -> None:
        self.assertEqual(run("run", MODEL, "--no-such-flag").returncode, 2)

    def test_no_verb(self) -> None:
        self.assertEqual(run().returncode, 2)

    def test_help(self) -> None:
        result = run("run", "--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("--temp", result.stdout)

    def test_token_out_of_vocabulary(self) -> None:
        result = run("run", MODEL, "--token-ids", "1,999999", "-n", "1")
        self.assertEqual(result.returncode, 2)
        self.assertIn("999999", result.stderr)

    def test_text_without_tokenizer(self) -> None:
        result = run("run", MODEL, "-p", "x", "-n", "1")
        self.assertEqual(result.returncode, 3)
        self.assertIn("tokenizer.json", result.stderr)

    def test_bad_stage(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            result = run("run", MODEL, "--token-ids", "1", "-n", "1",
                         "--dump=nothing", folder)
        self.assertEqual(result.returncode, 2)
        self.assertIn("fused", result.stderr)


class Works(unittest.TestCase):
    def text(self, *args: str, stdin: str = "") -> str:
        result = run("run", DEMO, "--temp", "0", "-n", "24", *args,
                     stdin=stdin)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_same_text_for_one_and_two_threads_and_every_way_in(self) -> None:
        text = self.text("-p", "import os", "--threads", "1")
        self.assertIn("import", text)
        self.assertEqual(text, self.text("-p", "import os", "--threads", "2"))
        self.assertEqual(text, self.text(stdin="import os"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prompt"
            path.write_text("import os")
            self.assertEqual(text, self.text("--prompt-file", str(path)))

    def test_seed_decides_the_text(self) -> None:
        args = ["run", DEMO, "-p", "def f(", "-n", "24", "--temp", "0.9",
                "--seed", "7", "-q"]
        self.assertEqual(run(*args).stdout, run(*args).stdout)

    def test_stop_string_is_not_printed(self) -> None:
        self.assertNotIn("sys", self.text("-p", "import os", "--stop", "sys"))

    def test_json(self) -> None:
        result = json.loads(self.text("-p", "import os", "--json"))
        self.assertEqual(len(result["token_ids"]), 24)
        self.assertEqual(result["finish_reason"], "length")
        self.assertIn("generation_tok_s", result["timings"])

    def test_logits_have_a_row_per_position(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "logits.safetensors"
            self.text("--token-ids", "831,1375,198", "--logits", str(path))
            header, data = read_safetensors(path)
        self.assertEqual(header["logits"]["shape"], [27, 4096])
        self.assertEqual(header["input_ids"]["shape"], [27])
        self.assertEqual(header["logits"]["dtype"], "F32")
        begin = header["input_ids"]["data_offsets"][0]
        self.assertEqual(struct.unpack("<3i", data[begin:begin + 12]),
                         (831, 1375, 198))

    def test_dump_writes_every_stage(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.text("-p", "x", "--dump=all", folder)
            names = os.listdir(folder)
        for stage in ("graph", "fused", "kernel", "plan"):
            self.assertIn(stage + ".mlir", names)
        self.assertTrue(any(n.endswith(".cpp") for n in names))

    def test_a_dumped_graph_runs(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.text("-p", "x", "--dump=graph", folder)
            text = self.text("-p", "import os", "--graph",
                             os.path.join(folder, "graph.mlir"))
        self.assertEqual(text, self.text("-p", "import os"))

    def test_alias(self) -> None:
        alias = os.path.join(os.path.dirname(INFER), "infer-run")
        result = subprocess.run([alias, "--help"], capture_output=True,
                                text=True)
        self.assertEqual(result.returncode, 0)
        self.assertIn("--prompt", result.stdout)

    def test_plan_adds_up(self) -> None:
        result = run("plan", DEMO, "--ctx", "1000", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        table = json.loads(result.stdout)
        self.assertEqual(sum(row["bytes"] for row in table["rows"]),
                         table["total_bytes"])
        self.assertEqual(table["context"], 1000)

    def test_plan_separates_what_rounds_need(self) -> None:
        config = str(ROOT / "tests/data/configs/qwen3_6_27b.json")

        def plan(spec: str) -> Dict[str, Any]:
            result = run("plan", "--synthetic", config, "--format", "int4",
                         "--ctx", "4096", "--target", "sm_90a", "--spec", spec,
                         "--draft-vocab", "32768", "--json")
            self.assertEqual(result.returncode, 0, result.stderr)
            return json.loads(result.stdout)

        plain, rounds = plan("none"), plan("mtp:3")
        self.assertNotIn("rounds", plain)
        need = rounds["rounds"]
        self.assertEqual(need["drafts"], 3)
        self.assertLessEqual(need["position_bytes"], 16e6)
        self.assertLess(rounds["total_bytes"] - plain["total_bytes"]
                        - need["mtp_bytes"] - 3 * need["position_bytes"], 3)

    def test_speculation_does_not_change_the_text(self) -> None:
        args = ["-p", "import os", "-t", "2"]
        plain = self.text(*args, "--spec", "none")
        for spec in ("mtp:3", "ngram:8", "auto"):
            self.assertEqual(self.text(*args, "--spec", spec), plain, spec)

    def test_counted_draft_vocabulary(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ids = os.path.join(folder, "ids")
            result = run("tune-vocab", DEMO, __file__, "-o", ids, "-n", "900")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("900 of", result.stdout)
            text = self.text("-p", "import os", "--spec", "mtp:3",
                             "--draft-vocab", ids)
        self.assertEqual(text, self.text("-p", "import os", "--spec", "none"))

    def test_forced_acceptance_is_labelled(self) -> None:
        result = run("bench", DEMO, "--spec", "mtp:3", "--accept",
                     "0.9,0.8,0.7", "-p", "0", "-n", "32", "-r", "1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("acceptance forced to 0.9,0.8,0.7", result.stdout)

    def test_forced_avx2(self) -> None:
        self.assertIn("import", self.text("-p", "import os", "--isa", "avx2"))


if __name__ == "__main__":
    try:
        unittest.main(argv=sys.argv[:1])
    finally:
        CACHE.cleanup()
