"""What a user sees of infer's CUDA side, on a machine without a GPU: exit codes,
and one clear sentence per bad input.

  cli_cuda_test.py INFER MODEL_DIR FAKE_LIBCUDA CACHE_DIR [--runtime-only]

MODEL_DIR is a small checkpoint. FAKE_LIBCUDA is the driver of
tests/runtime/cuda: one GPU of compute capability 9.0 that runs nothing.
CACHE_DIR keeps compiled kernels between runs of this test. Where NVRTC is
missing, what needs a bundle is skipped. With --runtime-only, infer is the
program without the compiler.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Callable

INFER, MODEL, FAKE, CACHE = sys.argv[1:5]
RUNTIME_ONLY = "--runtime-only" in sys.argv[5:]
FOLDER = tempfile.TemporaryDirectory()

Result = subprocess.CompletedProcess  # of str


def run(*args: str, fake: str = "", **variables: str) -> "Result[str]":
    """Runs infer on the fake driver; `fake` is what it claims to be."""
    environment = {**os.environ, "XDG_CACHE_HOME": CACHE,
                   "LATHE_LIBCUDA": FAKE, "LATHE_FAKE_CUDA": fake, **variables}
    return subprocess.run([INFER, *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300,
                          env=environment)


def bundle_of_all_tests() -> Path:
    """For sm_90, of a copy of the model beside it; compiled once."""
    bundle = Path(FOLDER.name) / "bundle"
    if RUNTIME_ONLY:
        raise unittest.SkipTest("a runtime-only build makes no bundle")
    if bundle.exists():
        return bundle
    model = Path(FOLDER.name) / "model"
    shutil.copytree(MODEL, model, dirs_exist_ok=True)
    result = run("compile", str(model), "-o", str(bundle), "--target", "sm_90",
                 "--ctx", "300", LATHE_LIBCUDA="/nowhere")
    if "no NVRTC" in result.stderr:
        raise unittest.SkipTest(result.stderr)
    assert result.returncode == 0, result.stderr
    return bundle


class Case(unittest.TestCase):
    def fails(self, code: int, result: "Result[str]", *words: str) -> None:
        self.assertEqual(result.returncode, code, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(result.stdout, "")
        if "total" not in words:  # a table of memory follows
            self.assertEqual(len(result.stderr.strip().splitlines()), 1,
                             result.stderr)


class NoGpu(Case):
    def on_cuda(self, device: str = "cuda", **others: str) -> "Result[str]":
        return run("run", MODEL, "--token-ids", "1,2,3", "-n", "1", "--device",
                   device, **others)

    def test_no_driver(self) -> None:
        self.fails(4, self.on_cuda(LATHE_LIBCUDA="/nowhere/libcuda.so"),
                   "no CUDA driver", "tried: /nowhere/libcuda.so")

    def test_library_that_is_no_driver(self) -> None:
        self.fails(4, self.on_cuda(LATHE_LIBCUDA="libm.so.6"),
                   "libm.so.6 is no CUDA driver")

    def test_old_driver(self) -> None:
        self.fails(4, self.on_cuda(fake="version=12040"),
                   "supports CUDA 12.4", "13.0 or newer is needed")

    def test_no_device(self) -> None:
        self.fails(4, self.on_cuda(fake="devices=0"), "no NVIDIA GPU")

    def test_old_gpu(self) -> None:
        self.fails(4, self.on_cuda(fake="major=7 minor=5"),
                   "compute capability 7.5 is not supported")

    def test_no_such_device(self) -> None:
        self.fails(2, self.on_cuda("cuda:7"), "no device cuda:7", "cuda:0",
                   "Fake GPU 0")

    def test_device_of_no_kind(self) -> None:
        for name in "gpu", "cuda:", "cuda:x", "cuda:-1":
            result = self.on_cuda(name, LATHE_LIBCUDA="/nowhere")
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn("expected auto, cpu, cuda or cuda:N", result.stderr)

    def test_devices(self) -> None:
        found = json.loads(run("devices", "--json", fake="devices=2").stdout)
        self.assertEqual([d["device"] for d in found["devices"]],
                         ["cpu", "cuda:0", "cuda:1"])
        self.assertEqual(found["devices"][1]["target"], "sm_90a")
        result = run("devices", LATHE_LIBCUDA="/nowhere/libcuda.so")
        self.assertEqual(result.returncode, 0)
        self.assertIn("no GPU: no CUDA driver", result.stdout)


@unittest.skipIf(RUNTIME_ONLY, "needs the compiler")
class Compile(Case):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = Path(folder.name) / "bundle"

    def compile(self, target: str = "sm_90", model: str = MODEL,
                **variables: str) -> "Result[str]":
        return run("compile", model, "-o", str(self.output), "--target", target,
                   **variables)

    def test_unknown_target(self) -> None:
        self.fails(2, self.compile("sm_90,sm_12"), "sm_12", "sm_120f")

    def test_target_twice(self) -> None:
        self.fails(2, self.compile("sm_90,sm_90"), "sm_90 is there twice")

    def test_no_nvrtc(self) -> None:
        self.fails(4, self.compile(LATHE_NVRTC="/nowhere/nvrtc"),
                   "no NVRTC", "tried: /nowhere/nvrtc", "run a bundle")
        self.assertFalse(self.output.exists())

    def test_no_nvrtc_to_run_a_checkpoint(self) -> None:
        args = ["run", MODEL, "--token-ids", "1,2", "-n", "1"]
        self.fails(4, run(*args, "--device", "cuda", LATHE_NVRTC="/nowhere"),
                   "no NVRTC", "run a bundle")
        result = run(*args, LATHE_NVRTC="/nowhere")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("running on the CPU, although there is a Fake GPU 0",
                      result.stderr)

    def test_onto_something_else(self) -> None:
        self.output.mkdir()
        precious = self.output / "thesis.tex"
        precious.write_text("")
        self.fails(2, self.compile(), "exists and is not a bundle")
        self.assertTrue(precious.exists())

    def test_into_a_folder_that_is_missing(self) -> None:
        self.output = self.output / "deep" / "bundle"
        self.fails(2, self.compile(), "deep does not exist")

    def test_not_a_model(self) -> None:
        self.fails(3, self.compile(model=str(self.output.parent)),
                   "config.json")

    def test_of_a_bundle(self) -> None:
        bundle = bundle_of_all_tests()
        self.fails(2, self.compile(model=str(bundle)), "is a bundle already")

    def test_replaces_a_bundle(self) -> None:
        bundle = bundle_of_all_tests()
        shutil.copytree(bundle, self.output)
        (self.output / "manifest.json").write_text(
            (bundle / "manifest.json").read_text() + "\n")
        result = self.compile()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(run("inspect", str(self.output)).returncode, 0)


@unittest.skipIf(RUNTIME_ONLY, "needs the compiler")
class Profile(Case):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = Path(folder.name) / "bundle"

    def bench(self, bundle: Path, *args: str) -> "Result[str]":
        return run("bench", str(bundle), "--profile", *args)

    def test_unknown_profile(self) -> None:
        self.fails(2, run("compile", MODEL, "-o", str(self.output), "--target",
                          "sm_90", "--profile", "sm_12"), "--profile", "sm_12")

    def test_multiprocessors_of_no_profile(self) -> None:
        result = run("compile", MODEL, "-o", str(self.output), "--target",
                     "sm_90", "--sms", "36")
        self.assertEqual(result.returncode, 2, result.stderr)

    def test_on_the_cpu(self) -> None:
        self.fails(2, run("bench", MODEL, "--device", "cpu", "--profile",
                          "sm_120"), "needs a GPU")

    def test_bundle_of_no_profile(self) -> None:
        self.fails(2, self.bench(bundle_of_all_tests(), "sm_120"),
                   "compiled for no profile", "--profile sm_120 --sms 36")

    def test_bundle_of_another_profile(self) -> None:
        bundle_of_all_tests()  # skips without NVRTC
        result = run("compile", MODEL, "-o", str(self.output), "--target",
                     "sm_90", "--profile", "sm_120", "--sms", "36")
        self.assertEqual(result.returncode, 0, result.stderr)
        plan = json.loads((self.output / "plan/sm_90.json").read_text())
        self.assertEqual(plan["profile"], {"arch": "sm_120", "sms": 36})
        self.fails(2, self.bench(self.output, "sm_120", "--sms", "48"),
                   "sm_120 with 36 multiprocessors", "--sms 48")


class RunBundle(Case):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bundle = Path(folder.name) / "bundle"
        shutil.copytree(bundle_of_all_tests(), self.bundle)

    def run_bundle(self, *args: str, fake: str = "") -> "Result[str]":
        return run("run", str(self.bundle), "--token-ids", "1,2,3", "-n", "1",
                   *args, fake=fake)

    def edit_manifest(self, change: Callable[[Any], None]) -> None:
        path = self.bundle / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    def copy_of_model(self) -> Path:
        model = self.bundle.parent / "moved"
        shutil.copytree(MODEL, model)
        return model

    def too_large(self, *args: str) -> None:
        """All checks before the one for memory pass."""
        self.fails(4, self.run_bundle(*args, fake="memory=100000"),
                   "100000 are available", "weights", "kv cache", "total")

    def test_memory(self) -> None:
        self.too_large()

    def test_gpu_of_another_architecture(self) -> None:
        self.fails(3, self.run_bundle(fake="major=12"),
                   "has code for sm_90, but not for this GPU")

    def test_on_the_cpu(self) -> None:
        self.fails(2, self.run_bundle("--device", "cpu"),
                   "a bundle runs on a GPU")

    def test_context_larger_than_compiled_for(self) -> None:
        self.fails(2, self.run_bundle("--ctx", "301"), "--ctx", "at most 300")

    def test_another_model(self) -> None:
        model = self.copy_of_model()
        config = model / "config.json"
        config.chmod(0o644)
        config.write_text(config.read_text() + "\n")
        self.fails(3, self.run_bundle("--model", str(model)), "hash",
                   str(model))

    def test_moved_checkpoint(self) -> None:
        model = self.copy_of_model()
        self.edit_manifest(lambda m: m["model"].update(path="/nowhere/model"))
        self.fails(3, self.run_bundle(), "/nowhere/model", "--model")
        self.too_large("--model", str(model))

    def test_another_schema(self) -> None:
        self.edit_manifest(lambda m: m.update(schema_version=99))
        self.fails(3, self.run_bundle(), "schema_version", "99",
                   "compile it again")

    def test_flipped_byte_in_a_cubin(self) -> None:
        cubin = next((self.bundle / "cubin/sm_90").glob("*.cubin"))
        data = bytearray(cubin.read_bytes())
        data[len(data) // 2] ^= 1
        cubin.write_bytes(data)
        self.fails(3, self.run_bundle(), cubin.name, "checksum")
        self.fails(3, run("inspect", str(self.bundle)), cubin.name)

    def test_truncated_plan(self) -> None:
        plan = self.bundle / "plan/sm_90.json"
        plan.write_bytes(plan.read_bytes()[:-100])
        self.fails(3, self.run_bundle(), "plan/sm_90.json", "bytes")

    def test_missing_cubin(self) -> None:
        (self.bundle / "cubin/sm_90/runtime.cubin").unlink()
        self.fails(3, self.run_bundle(), "runtime.cubin")

    def test_truncated_manifest(self) -> None:
        manifest = self.bundle / "manifest.json"
        manifest.write_bytes(manifest.read_bytes()[:-100])
        self.fails(3, self.run_bundle(), "manifest.json")

    def test_files_that_others_can_write(self) -> None:
        for name in "", "manifest.json", "plan", "cubin/sm_90/runtime.cubin":
            path = self.bundle / name
            mode = path.stat().st_mode
            path.chmod(mode | 0o020)
            self.fails(3, self.run_bundle(), str(path), "chmod -R go-w")
            path.chmod(mode)

    def test_inspect(self) -> None:
        result = run("inspect", str(self.bundle), "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        target = json.loads(result.stdout)["targets"][0]
        self.assertEqual(target["target"], "sm_90")
        self.assertGreater(target["launches_per_step"], 0)
        for kernel in target["kernels"]:
            self.assertGreater(kernel["cubin_bytes"], 0)
            for entry in kernel["entries"]:
                self.assertGreater(entry["registers"], 0)
        table = run("inspect", str(self.bundle)).stdout
        self.assertIn("launches per decode step", table)
        for kernel in target["kernels"]:
            self.assertIn(kernel["entries"][0]["name"], table)


class NoBundle(Case):
    def test_inspect_of_a_checkpoint(self) -> None:
        self.fails(3, run("inspect", MODEL), MODEL, "not a bundle")

    @unittest.skipUnless(RUNTIME_ONLY, "for the build without the compiler")
    def test_checkpoint_without_the_compiler(self) -> None:
        for args in (["run", "-n", "1", "--token-ids", "1"], ["plan"],
                     ["run", "--device", "cuda", "--token-ids", "1"],
                     ["compile", "-o", "/nowhere/b", "--target", "sm_90"]):
            result = run(*args, MODEL, LATHE_NVRTC="/nowhere")
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn("give it a bundle" if args[0] != "compile"
                          else "/nowhere does not exist", result.stderr)


if __name__ == "__main__":
    try:
        unittest.main(argv=sys.argv[:1], verbosity=2)
    finally:
        FOLDER.cleanup()
