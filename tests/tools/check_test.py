#!/usr/bin/env python3
"""tools/check/check finds each kind of problem, and nothing in a clean tree."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Dict, List, Tuple

CHECK = Path(__file__).resolve().parents[2] / "tools/check/check"

CLEAN = {
    ".clang-format": "BasedOnStyle: LLVM\n",
    ".gitignore": "/build/\n",
    "runtime/base/Status.h": "int status();\n",
    "runtime/engine/KernelProvider.h": '#include "runtime/base/Status.h"\n',
    "compiler/driver/Driver.cpp":
        '#include "runtime/engine/KernelProvider.h"\n',
    "passes/Passes.td": 'def PlanMemory : Pass<"plan-memory"> {}\n',
    "tests/passes/plan-memory.mlir": "// RUN: infer-opt %s\n// CHECK: x\n",
}


def run(files: Dict[str, str], *only: str) -> Tuple[int, List[str]]:
    """Exit status and problem lines for a tree of `files`."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run(["git", "init", "-q", folder], check=True)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        command = [sys.executable, str(CHECK), "--root", folder]
        if only:
            command += ["--only", *only]
        result = subprocess.run(command, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
    return result.returncode, result.stdout.splitlines()


class CheckTest(unittest.TestCase):
    def problem(self, check: str, name: str, text: str, line: int,
                words: str) -> None:
        """One problem of `check`, at `line` of `name`, that says `words`."""
        status, lines = run({**CLEAN, name: text}, check)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(f"{name}:{line}: "), lines[0])
        self.assertIn(words, lines[0])
        self.assertEqual(status, 1)

    def fine(self, check: str, name: str, text: str) -> None:
        self.assertEqual(run({**CLEAN, name: text}, check), (0, []))

    def test_clean_tree(self) -> None:
        self.assertEqual(run(CLEAN), (0, []))

    def test_include_upwards(self) -> None:
        self.problem("includes", "runtime/base/A.cpp",
                     '#include <vector>\n#include "runtime/engine/E.h"\n', 2,
                     "runtime/base may not include runtime/engine/E.h")

    def test_include_longest_folder_decides(self) -> None:
        self.problem("includes", "ir/kernel/A.h", '#include "passes/P.h"\n', 1,
                     "ir may not")
        self.fine("includes", "ir/reference/A.h", '#include "ir/graph/G.h"\n')

    def test_include_single_header(self) -> None:
        self.problem("includes", "compiler/driver/A.cpp",
                     '#include "runtime/engine/Engine.h"\n', 1,
                     "compiler/driver may not")

    def test_include_relative(self) -> None:
        self.problem("includes", "runtime/base/A.cpp",
                     '#include "../engine/KernelProvider.h"\n', 1,
                     "runtime/engine/KernelProvider.h")

    def test_include_of_tablegen(self) -> None:
        self.problem("includes", "ir/graph/G.td",
                     'include "passes/Passes.td"\n', 1, "ir may not")

    def test_include_foreign(self) -> None:
        for header in ("<llvm/ADT/Twine.h>", '"mlir-c/IR.h"', "<nvrtc.h>"):
            self.problem("includes", "runtime/io/A.h", f"#include {header}\n",
                         1, "runtime/io may not")

    def test_include_unknown_folder(self) -> None:
        self.problem("includes", "server/A.h", "int a;\n", 1, "no rule")

    def test_formatting(self) -> None:
        self.problem("formatting", "ir/A.h", "int a;\nint  b;\nint  c;\n", 2,
                     "not formatted")

    def test_pass_without_test(self) -> None:
        text = CLEAN["passes/Passes.td"] + 'def New : Pass<"new-one"> {}\n'
        self.problem("pass_tests", "passes/Passes.td", text, 2,
                     "pass new-one has no test")

    def test_pass_test_that_checks_nothing(self) -> None:
        self.problem("pass_tests", "tests/passes/plan-memory.mlir",
                     "// RUN: infer-opt %s\n", 1, "checks nothing")

    def test_labels(self) -> None:
        self.problem("labels", "tools/check/check_labels.py",
                     "import sys\nsys.exit(3)\n", 1, "exit 3")
        script = "print('ir/A.td:7: a_c1 has no test, add it')\nexit(1)\n"
        status, lines = run(
            {**CLEAN, "tools/check/check_labels.py": script}, "labels")
        self.assertEqual(lines, ["ir/A.td:7: a_c1 has no test, add it"])
        self.assertEqual(status, 1)

    def test_sizes(self) -> None:
        self.fine("sizes", "ir/A.h", "int a;\n" * 400)
        self.problem("sizes", "ir/A.h", "int a;\n" * 601, 601, "split")
        self.problem("sizes", "models/w.bin", "0" * (33 << 20), 1, "33 MiB")

    def test_size_warnings_pass(self) -> None:
        status, lines = run({**CLEAN, "ir/A.h": "int a;\n" * 401}, "sizes")
        self.assertEqual((status, len(lines)), (0, 1))
        self.assertIn("warning:", lines[0])

    def test_long_function(self) -> None:
        body = "int f() {\n" + "  g();\n" * 80 + "}\n"
        status, lines = run({**CLEAN, "ir/A.cpp": "int a;\n" + body}, "sizes")
        self.assertEqual(status, 0)
        self.assertTrue(lines[0].startswith("ir/A.cpp:2: warning: 82 lines"))
        self.fine("sizes", "ir/A.cpp",
                  "struct A {\n" + "  int g();\n" * 90 + "};\n")

    def test_marks(self) -> None:
        for code in ("printf(s);", "fprintf(stderr, s);", "std::cerr << s;",
                     "exit(1);", "std::abort();", "getenv(s);",
                     "static llvm::cl::opt<bool> Flag;"):
            self.problem("marks", "runtime/io/A.cpp", f"\n{code}\n", 2,
                         "in library code")
            self.fine("marks", "tools/infer/A.cpp", f"\n{code}\n")

    def test_marks_of_one_folder(self) -> None:
        self.problem("marks", "runtime/engine/A.cpp", "int qwen3;\n", 1,
                     "family")
        self.problem("marks", "models/A.cpp", "int cudaArch;\n", 1,
                     "back ends")

    def test_marks_ignore_comments_and_strings(self) -> None:
        self.fine("marks", "runtime/io/A.cpp", """\
// exit(1) ends the process
const char *a = "printf(\\"x\\")"; /* getenv(
  abort( */
const char *b = R"x(abort() ")x";
int n = snprintf(c, 1'000, f);
loop.exit();
""")

    def test_notes_need_an_owner(self) -> None:
        note = "TO" + "DO"
        self.problem("marks", "tools/a.py", f"\n# {note}: later\n", 2, "owner")
        self.fine("marks", "tools/a.py", f"# {note}(ada): later\n")

    def test_generated(self) -> None:
        self.problem("generated", "ir/A.h.inc", "", 1, "made by a build")
        self.problem("generated", "ir/A.h", "// Autogenerated by x\n", 1,
                     "generated")

    def test_ignored_files_do_not_count(self) -> None:
        self.fine("generated", "build/A.o", "")

    def test_not_a_working_tree(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(
                [sys.executable, str(CHECK), "--root", folder],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 2)
        self.assertIn("git working tree", result.stderr)


if __name__ == "__main__":
    unittest.main()
