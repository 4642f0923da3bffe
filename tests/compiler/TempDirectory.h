//===- TempDirectory.h - a directory for one test ---------------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_TEMPDIRECTORY_H
#define LATHE_TESTS_COMPILER_TEMPDIRECTORY_H

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace lathe {

/// Created empty with mode 0700, removed at the end.
class TempDirectory {
public:
  TempDirectory() {
    std::string name =
        (std::filesystem::temp_directory_path() / "lathe-test-XXXXXX").string();
    if (!::mkdtemp(name.data()))
      std::abort();
    directory = name;
  }
  ~TempDirectory() { std::filesystem::remove_all(directory); }
  TempDirectory(const TempDirectory &) = delete;
  TempDirectory &operator=(const TempDirectory &) = delete;

  const std::filesystem::path &path() const { return directory; }

  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> paths;
    for (const auto &entry : std::filesystem::directory_iterator(directory))
      paths.push_back(entry.path());
    return paths;
  }

private:
  std::filesystem::path directory;
};

inline std::string readFile(const std::filesystem::path &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void writeFile(const std::filesystem::path &path,
                      const std::string &bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), bytes.size());
}

} // namespace lathe

#endif // LATHE_TESTS_COMPILER_TEMPDIRECTORY_H
