# lit: every .mlir file below this folder, run as its RUN lines say with
# infer-opt of this build and LLVM's FileCheck.

import os

import lit.formats

config.name = "lathe"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.excludes = ["data"]
config.test_source_root = config.lathe_tests
config.test_exec_root = os.path.join(config.lathe_tests_build, "lit")
config.environment["PATH"] = os.pathsep.join(
    [config.lathe_tools, config.llvm_tools, os.environ.get("PATH", "")])
