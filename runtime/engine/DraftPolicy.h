//===- DraftPolicy.h - how many drafts the next round has -------*- C++ -*-===//
//
// A round of n drafts yields 1 + a_1 + a_1 a_2 + ... tokens, a_i being the
// share of drafts at place i that hold when those before them did, and costs
// what rounds of n drafts have cost. The policy plays what yields most per
// time, zero drafts included. It learns both from the rounds it is told of.
// What it has not tried it expects to be cheap, and shares that it has not seen
// for long drift back to what is usual: so it tries things, but only while they
// could pay. Deterministic in what it is told.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_DRAFTPOLICY_H
#define LATHE_RUNTIME_ENGINE_DRAFTPOLICY_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lathe {

/// Where the drafts of a round come from.
enum class DraftSource : uint8_t { None, Mtp, Lookup };

struct DraftChoice {
  DraftSource source = DraftSource::None;
  int64_t drafts = 0;
};

class DraftPolicy {
public:
  static constexpr int64_t kMostDrafts = 7;

  /// `counts`: the numbers of drafts that a round can have, ascending, each
  /// from 1 to kMostDrafts.
  explicit DraftPolicy(std::vector<int64_t> counts)
      : counts(std::move(counts)) {}

  /// The next round, of at most `most` drafts, given what could make drafts.
  DraftChoice choose(bool mtp, bool lookup, int64_t most = kMostDrafts);
  /// What a round came to.
  void record(DraftChoice choice, int64_t accepted, double seconds);

  /// Tokens that a round is expected to yield.
  double yieldOf(DraftChoice choice) const;
  /// Seconds that it is expected to take.
  double costOf(DraftChoice choice) const;

private:
  /// The median of the last few, so that a slow round changes nothing.
  struct Cost {
    std::array<double, 15> samples{};
    int64_t count = 0;
    void add(double seconds) {
      samples[size_t(count++) % samples.size()] = seconds;
    }
    double median() const;
  };
  /// Recent drafts at one place whose predecessors held.
  struct Place {
    double held = 0, tried = 0;
  };
  struct Source {
    std::array<Cost, kMostDrafts + 1> costs;
    std::array<Place, kMostDrafts> places;
  };

  const Source &of(DraftSource source) const { return sources[size_t(source)]; }

  std::vector<int64_t> counts;
  std::array<Source, 3> sources;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_DRAFTPOLICY_H
