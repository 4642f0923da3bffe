//===- Bpe.h - byte-pair encoding of one piece ------------------*- C++ -*-===//
//
// A piece starts as one symbol per byte; the adjacent pair whose merge ranks
// best, the leftmost among equals, becomes one symbol until no pair has a
// merge. A heap of candidate pairs makes that O(n log n) in the length of the
// piece. Results for short pieces, which text repeats, are remembered in a
// cache of bounded size.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_BPE_H
#define LATHE_RUNTIME_IO_TOKENIZER_BPE_H

#include "absl/container/flat_hash_map.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace lathe {

/// Remembers the ids of short pieces. Thread-safe and bounded.
class PieceCache {
public:
  PieceCache();
  ~PieceCache();

  /// Appends the ids of `piece` to `ids` if they are known.
  bool lookup(std::string_view piece, std::vector<int32_t> &ids) const;
  void store(std::string_view piece, const int32_t *ids, size_t count);

private:
  struct Shard;
  Shard &shardOf(std::string_view piece) const;
  std::unique_ptr<Shard[]> shards;
};

/// The merge rules. Fill it, then share it: const methods are thread-safe.
class Bpe {
public:
  /// `byteIds` are the ids of the one-byte symbols, -1 where the vocabulary
  /// has none. Those bytes give `unknownId`, one for each or, if
  /// `fuseUnknown`, one for each run; -1 drops them.
  Bpe(const std::array<int32_t, 256> &byteIds, int32_t unknownId,
      bool fuseUnknown);

  void reserve(size_t merges) { rules.reserve(merges); }
  /// Merges `left` and `right` into `merged`; the lowest rank goes first. A
  /// later rule for the same pair replaces the earlier one.
  void addMerge(int32_t left, int32_t right, int32_t rank, int32_t merged);

  /// Appends the ids of `piece` to `ids`.
  /// REQUIRES: `piece` has fewer than 2^31 bytes.
  void encode(std::string_view piece, std::vector<int32_t> &ids) const;

private:
  struct Rule {
    int32_t rank;
    int32_t merged;
  };
  struct Symbol;
  struct Candidate;

  const Rule *findRule(int32_t left, int32_t right) const;
  std::vector<Symbol> symbolsOf(std::string_view piece) const;
  void merge(std::vector<Symbol> &symbols) const;

  absl::flat_hash_map<uint64_t, Rule> rules;
  std::array<int32_t, 256> byteIds;
  int32_t unknownId;
  bool fuseUnknown;
  std::unique_ptr<PieceCache> cache;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_BPE_H
