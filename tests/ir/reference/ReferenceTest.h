//===- ReferenceTest.h - runs single operations for the tests ---*- C++ -*-===//

#ifndef LATHE_TESTS_IR_REFERENCE_REFERENCETEST_H
#define LATHE_TESTS_IR_REFERENCE_REFERENCETEST_H

#include "ir/graph/Graph.h"
#include "ir/kernel/Kernel.h"
#include "ir/reference/Interpreter.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

#include <cmath>
#include <map>
#include <random>

namespace lathe::reference {

/// The weights that a test puts in it.
struct FakeWeights : WeightProvider {
  std::map<std::string, HostWeight, std::less<>> weights;
  std::map<std::string, Tensor, std::less<>> tensors;

  StatusOr<const HostWeight *> weight(std::string_view name,
                                      const WeightDesc &) override {
    auto it = weights.find(name);
    if (it == weights.end())
      return modelError("no such weight");
    return &it->second;
  }

  StatusOr<Tensor> tensor(std::string_view name,
                          llvm::ArrayRef<int64_t>) override {
    auto it = tensors.find(name);
    if (it == tensors.end())
      return modelError("no such tensor");
    return it->second;
  }
};

class ReferenceTest : public testing::Test {
protected:
  ReferenceTest() {
    context.loadDialect<graph::GraphDialect, kernel::KernelDialect,
                        mlir::func::FuncDialect>();
  }

  /// Runs @f of a module.
  StatusOr<std::vector<Value>> runModule(const std::string &text,
                                         std::vector<Value> args) {
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    if (!module)
      return modelError("the test's module does not parse");
    return run(module->lookupSymbol<mlir::FunctionOpInterface>("f"),
               std::move(args), weights);
  }

  /// Runs one operation: `params` are the function's parameters, `types` its
  /// result types, all of which the operation returns.
  std::vector<Value> evaluate(const std::string &params, const std::string &op,
                              const std::vector<std::string> &types,
                              std::vector<Value> args) {
    std::string names, list;
    for (size_t i = 0; i < types.size(); ++i) {
      names += (i ? ", %r" : "%r") + std::to_string(i);
      list += (i ? ", " : "") + types[i];
    }
    auto results =
        runModule("func.func @f(" + params + ") -> (" + list + ") {\n" + names +
                      " = " + op + "\nreturn " + names + " : " + list + "\n}",
                  std::move(args));
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? *results : std::vector<Value>(types.size());
  }

  Tensor evaluateOne(const std::string &params, const std::string &op,
                     const std::string &type, std::vector<Value> args) {
    return std::get<Tensor>(
        evaluate(params, op, {type}, std::move(args)).front());
  }

  Tensor random(int64_t rows, int64_t cols) {
    std::normal_distribution<float> normal;
    Tensor x(rows, cols);
    for (float &value : x.data)
      value = normal(generator);
    return x;
  }

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  FakeWeights weights;
  std::mt19937 generator{1};
};

/// Compares within `tolerance`, relative to max(1, |expected|).
inline void expectNear(const std::vector<float> &found,
                       const std::vector<double> &expected,
                       double tolerance = 1e-6) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i],
                tolerance * std::fmax(1, std::fabs(expected[i])))
        << "at " << i;
}

inline HostWeight denseF32(int64_t rows, int64_t cols,
                           const std::vector<float> &values) {
  HostWeight weight;
  weight.desc = {WeightFormat::F32, rows, cols};
  auto *bytes = reinterpret_cast<const uint8_t *>(values.data());
  weight.data.assign(bytes, bytes + values.size() * sizeof(float));
  return weight;
}

} // namespace lathe::reference

#endif // LATHE_TESTS_IR_REFERENCE_REFERENCETEST_H
