//===- TestFiles.h - model directories made for one test --------*- C++ -*-===//

#ifndef LATHE_TESTS_RUNTIME_IO_TESTFILES_H
#define LATHE_TESTS_RUNTIME_IO_TESTFILES_H

#include "runtime/io/File.h"
#include "runtime/io/Safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace lathe {

/// A directory that disappears with the object.
class TempDirectory {
public:
  TempDirectory() {
    std::string name =
        (std::filesystem::temp_directory_path() / "lathe-io-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~TempDirectory() { std::filesystem::remove_all(path); }
  TempDirectory(const TempDirectory &) = delete;

  std::string operator/(std::string_view name) const {
    return joinPath(path, name);
  }
  void write(std::string_view name, std::string_view text) const {
    ASSERT_TRUE(writeFile(*this / name, text).ok());
  }

  std::string path;
};

/// A tensor with its bytes.
struct TestTensor {
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

template <typename T>
TestTensor tensorOf(DType dtype, std::vector<int64_t> shape,
                    const std::vector<T> &values) {
  TestTensor t{dtype, std::move(shape), {}};
  t.bytes.resize(values.size() * sizeof(T));
  std::memcpy(t.bytes.data(), values.data(), t.bytes.size());
  return t;
}

using TestTensors = std::map<std::string, TestTensor>;

inline void writeTensors(const std::string &path, const TestTensors &tensors) {
  std::vector<TensorSpec> specs;
  for (const auto &[name, t] : tensors)
    specs.push_back({name, t.dtype, t.shape});
  auto writer = SafetensorsWriter::create(path, specs, {});
  ASSERT_TRUE(writer.ok());
  for (const auto &[name, t] : tensors)
    ASSERT_TRUE(writer->write(name, 0, t.bytes).ok());
  ASSERT_TRUE(writer->commit().ok());
}

/// The 8-byte length, `header` and `data` bytes of zeros.
inline std::string safetensorsBytes(const std::string &header, size_t data) {
  uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data, '\0');
}

/// A one-byte tensor.
inline TestTensor byteTensor() {
  return tensorOf<uint8_t>(DType::U8, {1}, {0});
}

/// Passes when `status` is a modelError whose message contains `part`.
inline testing::AssertionResult refused(const Status &status,
                                        std::string_view part) {
  if (exitCode(status) == 3 &&
      messageOf(status).find(part) != std::string::npos)
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "expected a modelError with \"" << part << "\", got "
         << (status.ok() ? "OK" : messageOf(status));
}

template <typename T>
testing::AssertionResult refused(const StatusOr<T> &result,
                                 std::string_view part) {
  return refused(result.status(), part);
}

} // namespace lathe

#endif // LATHE_TESTS_RUNTIME_IO_TESTFILES_H
