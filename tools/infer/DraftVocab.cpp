//===- DraftVocab.cpp - infer tune-vocab, and what its file means ---------===//

#include "tools/infer/DraftVocab.h"

#include "runtime/io/tokenizer/Tokenizer.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <numeric>

namespace lathe::cli {

static StatusOr<std::string> readText(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return usageError(path + ": cannot be read");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

/// A file of ids, one a line.
static StatusOr<std::vector<int32_t>> readIds(const std::string &path) {
  LATHE_ASSIGN_OR_RETURN(std::string text, readText(path));
  std::vector<int32_t> ids;
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    int32_t id;
    auto [next, error] = std::from_chars(p, end, id);
    if (error != std::errc() || (next < end && *next != '\n'))
      return usageError(path + ": expected one token id a line, as infer "
                               "tune-vocab writes them");
    ids.push_back(id);
    p = next + 1;
  }
  std::vector<int32_t> sorted = ids;
  std::ranges::sort(sorted);
  auto twin = std::ranges::adjacent_find(sorted);
  if (twin != sorted.end())
    return usageError(path + ": token " + std::to_string(*twin) +
                      " is there twice");
  return ids;
}

StatusOr<DraftVocab> parseDraftVocab(const std::string &option) {
  DraftVocab vocab;
  if (option.empty())
    return vocab;
  auto [end, error] =
      std::from_chars(option.data(), option.data() + option.size(), vocab.size);
  if (error != std::errc() || end != option.data() + option.size()) {
    LATHE_ASSIGN_OR_RETURN(vocab.ids, readIds(option));
    vocab.size = int64_t(vocab.ids.size());
  }
  if (vocab.size < 1)
    return usageError("--draft-vocab: expected at least one token, found " +
                      option);
  return vocab;
}

/// `first`, cut so that with the control tokens that it lacks it has `rows`
/// ids.
static std::vector<int32_t> withControlTokens(std::vector<int32_t> first,
                                              int64_t rows,
                                              const Tokenizer &tokenizer) {
  std::vector<int32_t> control;
  for (int32_t id = 0; id < tokenizer.vocabSize(); ++id)
    if (tokenizer.isSpecial(id))
      control.push_back(id);
  std::erase_if(first, [&](int32_t id) { return tokenizer.isSpecial(id); });
  const size_t room =
      size_t(std::max<int64_t>(rows - int64_t(control.size()), 0));
  first.resize(std::min(first.size(), room));
  first.insert(first.end(), control.begin(), control.end());
  first.resize(std::min(first.size(), size_t(rows)));
  return first;
}

std::vector<int32_t> draftIds(const DraftVocab &vocab, int64_t rows,
                              const Tokenizer *tokenizer) {
  if (!vocab.ids.empty())
    return vocab.ids;
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  std::iota(ids.begin(), ids.end(), 0);
  if (!tokenizer)
    return ids;
  std::vector<int32_t> all(static_cast<size_t>(tokenizer->vocabSize()));
  std::iota(all.begin(), all.end(), 0);
  std::vector<int32_t> chosen =
      withControlTokens(std::move(all), rows, *tokenizer);
  // A head may have rows of no token behind the last.
  for (int32_t id = tokenizer->vocabSize(); int64_t(chosen.size()) < rows; ++id)
    chosen.push_back(id);
  return chosen;
}

Status tuneVocab(const TuneVocabCommand &options) {
  LATHE_ASSIGN_OR_RETURN(Tokenizer tokenizer,
                         Tokenizer::load(options.model + "/tokenizer.json"));
  const int32_t vocab = tokenizer.vocabSize();
  std::vector<int64_t> counts(static_cast<size_t>(vocab));
  int64_t total = 0;
  for (const std::string &path : options.texts) {
    LATHE_ASSIGN_OR_RETURN(std::string text, readText(path));
    LATHE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.encode(text));
    for (int32_t id : ids)
      ++counts[size_t(id)];
    total += int64_t(ids.size());
  }
  std::vector<int32_t> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](int32_t id) {
    return std::pair(-counts[size_t(id)], id);
  });
  const int64_t rows = std::min<int64_t>(options.size, vocab);
  const std::vector<int32_t> ids = withControlTokens(order, rows, tokenizer);
  std::ofstream file(options.output, std::ios::binary);
  int64_t covered = 0;
  for (int32_t id : ids) {
    file << id << '\n';
    covered += counts[size_t(id)];
  }
  file.close();
  if (!file)
    return usageError(options.output + ": cannot be written");
  std::printf("%zu of %d tokens, %.2f %% of the %lld in the text\n", ids.size(),
              vocab, total > 0 ? 100.0 * double(covered) / double(total) : 0.0,
              static_cast<long long>(total));
  return absl::OkStatus();
}

} // namespace lathe::cli
