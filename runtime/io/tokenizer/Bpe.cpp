#include "runtime/io/tokenizer/Bpe.h"

#include <mutex>
#include <queue>
#include <string>

namespace lathe {
namespace {

constexpr size_t kShards = 16;
constexpr size_t kEntriesPerGeneration = 2048;
constexpr size_t kMaxCachedPiece = 48;

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>()(text);
  }
};

using Generation = absl::flat_hash_map<std::string, std::vector<int32_t>,
                                       TextHash, std::equal_to<>>;

} // namespace

/// Two generations stand in for a least-recently-used list: what is used moves
/// to the young one, and when that is full the old one is forgotten.
struct PieceCache::Shard {
  std::mutex mutex;
  Generation young, old;

  void add(std::string_view piece, std::vector<int32_t> ids) {
    if (young.size() == kEntriesPerGeneration) {
      old.clear();
      std::swap(young, old);
    }
    young.insert_or_assign(std::string(piece), std::move(ids));
  }
};

PieceCache::PieceCache() : shards(std::make_unique<Shard[]>(kShards)) {}
PieceCache::~PieceCache() = default;

PieceCache::Shard &PieceCache::shardOf(std::string_view piece) const {
  return shards[TextHash()(piece) >> 32 & (kShards - 1)];
}

bool PieceCache::lookup(std::string_view piece,
                        std::vector<int32_t> &ids) const {
  Shard &shard = shardOf(piece);
  std::lock_guard lock(shard.mutex);
  if (auto entry = shard.young.find(piece); entry != shard.young.end()) {
    ids.insert(ids.end(), entry->second.begin(), entry->second.end());
    return true;
  }
  auto entry = shard.old.find(piece);
  if (entry == shard.old.end())
    return false;
  ids.insert(ids.end(), entry->second.begin(), entry->second.end());
  std::vector<int32_t> moved = std::move(entry->second);
  shard.old.erase(entry);
  shard.add(piece, std::move(moved));
  return true;
}

void PieceCache::store(std::string_view piece, const int32_t *ids,
                       size_t count) {
  Shard &shard = shardOf(piece);
  std::lock_guard lock(shard.mutex);
  shard.add(piece, std::vector<int32_t>(ids, ids + count));
}

/// A symbol of the piece, in a doubly linked list by index.
struct Bpe::Symbol {
  int32_t id;
  int32_t previous;
  int32_t next; ///< -1 at the end
  bool alive;
};

/// The pair that starts at symbol `at`. It is out of date if that symbol is
/// gone or the pair would no longer become `merged`.
struct Bpe::Candidate {
  int32_t rank;
  int32_t at;
  int32_t merged;

  bool operator>(const Candidate &other) const {
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

Bpe::Bpe(const std::array<int32_t, 256> &byteIds, int32_t unknownId,
         bool fuseUnknown)
    : byteIds(byteIds), unknownId(unknownId), fuseUnknown(fuseUnknown),
      cache(std::make_unique<PieceCache>()) {}

void Bpe::addMerge(int32_t left, int32_t right, int32_t rank, int32_t merged) {
  rules[uint64_t(left) << 32 | uint32_t(right)] = {rank, merged};
}

const Bpe::Rule *Bpe::findRule(int32_t left, int32_t right) const {
  auto rule = rules.find(uint64_t(left) << 32 | uint32_t(right));
  return rule == rules.end() ? nullptr : &rule->second;
}

std::vector<Bpe::Symbol> Bpe::symbolsOf(std::string_view piece) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  bool lastUnknown = false;
  for (char byte : piece) {
    int32_t id = byteIds[uint8_t(byte)];
    bool unknown = id < 0;
    if (unknown && (unknownId < 0 || (fuseUnknown && lastUnknown)))
      continue;
    lastUnknown = unknown;
    int32_t index = int32_t(symbols.size());
    symbols.push_back({unknown ? unknownId : id, index - 1, index + 1, true});
  }
  if (!symbols.empty())
    symbols.back().next = -1;
  return symbols;
}

void Bpe::merge(std::vector<Symbol> &symbols) const {
  std::vector<Candidate> found;
  found.reserve(symbols.size());
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    if (const Rule *rule = findRule(symbols[i].id, symbols[i + 1].id))
      found.push_back({rule->rank, int32_t(i), rule->merged});
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap(
      std::greater<>(), std::move(found));

  auto propose = [&](int32_t at) {
    const Symbol &left = symbols[size_t(at)];
    if (const Rule *rule = findRule(left.id, symbols[size_t(left.next)].id))
      heap.push({rule->rank, at, rule->merged});
  };
  while (!heap.empty()) {
    Candidate best = heap.top();
    heap.pop();
    Symbol &left = symbols[size_t(best.at)];
    if (!left.alive || left.next < 0)
      continue;
    Symbol &right = symbols[size_t(left.next)];
    const Rule *rule = findRule(left.id, right.id);
    if (!rule || rule->merged != best.merged)
      continue;
    left.id = best.merged;
    left.next = right.next;
    right.alive = false;
    if (left.next >= 0) {
      symbols[size_t(left.next)].previous = best.at;
      propose(best.at);
    }
    if (left.previous >= 0)
      propose(left.previous);
  }
}

void Bpe::encode(std::string_view piece, std::vector<int32_t> &ids) const {
  bool isShort = piece.size() <= kMaxCachedPiece;
  if (isShort && cache->lookup(piece, ids))
    return;
  size_t before = ids.size();
  std::vector<Symbol> symbols = symbolsOf(piece);
  merge(symbols);
  for (const Symbol &symbol : symbols)
    if (symbol.alive)
      ids.push_back(symbol.id);
  if (isShort)
    cache->store(piece, ids.data() + before, ids.size() - before);
}

} // namespace lathe
