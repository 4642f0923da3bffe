//===- CudaRounds.cpp - rounds of speculation on the GPU ------------------===//
//
// A round is one graph (runtime/base/CudaRound.h): the host launches it, waits
// once and reads what was chosen. Where the device does not stand as a round
// would have left it (behind a prompt, or behind a step without drafts), the
// host first says where it stands, or plays the round part by part.
//
//===----------------------------------------------------------------------===//

#include "runtime/base/CudaRound.h"
#include "runtime/engine/CudaEngine.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>

namespace lathe {

using cuda::DeviceAddress;

//===----------------------------------------------------------------------===//
// What Engine's rounds are made of
//===----------------------------------------------------------------------===//

Status CudaEngine::startMtp() {
  if (!hasMtp())
    return Engine::startMtp();
  backlog.on = true;
  if (draftVocab() == 0)
    return absl::OkStatus();
  if (draftIds.empty()) {
    draftIds.resize(size_t(draftVocab()));
    std::iota(draftIds.begin(), draftIds.end(), 0);
  }
  return send(buffer.address() + layout.draftIds, draftIds.data(),
              draftIds.size() * sizeof(int32_t));
}

Status CudaEngine::keepRows(RowsView rows, int64_t at) {
  return stream.copyOnDevice(
      reinterpret_cast<DeviceAddress>(keptRows(at, rows.rows).data),
      reinterpret_cast<DeviceAddress>(rows.data),
      size_t(rows.rows * rows.stride) * sizeof(float));
}

RowsView CudaEngine::keptRows(int64_t at, int64_t count) {
  const int64_t width = plan.find("mtp", 1)->inputs[1].width;
  const int64_t stride = activationStride(width);
  const DeviceAddress row =
      buffer.address() + layout.keptRows + size_t(at * stride) * sizeof(float);
  return {reinterpret_cast<const float *>(row), count, width, stride};
}

Status CudaEngine::settleBacklog() {
  if (!rowsAreInTrunk)
    return absl::OkStatus();
  rowsAreInTrunk = false;
  RowsView rows = lastHidden;
  rows.rows = backlog.rows;
  return keepRows(rows, 0);
}

void CudaEngine::forceAcceptance(std::vector<double> shares) {
  forcedShares.assign(shares.begin(), shares.end());
  placed = {};
  Engine::forceAcceptance(std::move(shares));
}

//===----------------------------------------------------------------------===//
// The graph of a round
//===----------------------------------------------------------------------===//

/// A field of the LatheRound in device memory.
DeviceAddress CudaEngine::roundAt(size_t offset) const {
  return buffer.address() + layout.round + offset;
}

/// The drafts into the trunk's tokens from the second one on.
Status CudaEngine::queueDrafts(int64_t drafts, int *count) {
  const bool draftHead = draftVocab() > 0;
  const PlannedEntry &many = *plan.find("mtp", drafts + 1);
  const PlannedEntry &one = *plan.find("mtp", 1);
  const PlannedEntry &head = *plan.find(draftHead ? "draft_head" : "head", 1);
  auto address = [](RowsView rows) {
    return reinterpret_cast<DeviceAddress>(rows.data);
  };
  const DeviceAddress output = address(outputOf(one, 1));
  LATHE_RETURN_IF_ERROR(
      launchAll(many, drafts + 1, -1,
                {{roundAt(offsetof(LatheRound, chosen)),
                  address(outputOf(*plan.find("trunk", 1), 1))},
                 roundAt(offsetof(LatheRound, slots))},
                count));
  DeviceAddress round = roundAt(0), rows = output;
  DeviceAddress hidden = buffer.address() + layout.draftRow;
  int vectors = int(activationStride(one.inputs[1].width) / 4);
  void *arguments[] = {&round, &rows, &hidden, &vectors};
  LATHE_RETURN_IF_ERROR(stream.launch(
      roundRow, {.threads = 256, .programmatic = options.programmatic},
      arguments));
  ++*count;
  for (int64_t i = 0; i < drafts; ++i) {
    const size_t step = size_t(i) * sizeof(LatheStep);
    const DeviceAddress token = trunkInput() + size_t(i) * sizeof(int);
    if (i > 0) {
      LATHE_RETURN_IF_ERROR(launchAll(
          one, 1, -1,
          {{token, hidden}, roundAt(offsetof(LatheRound, slot) + step)},
          count));
      hidden = output;
    }
    LATHE_RETURN_IF_ERROR(launchAll(head, 1, -1, {{hidden}, 0}, count));
    LATHE_RETURN_IF_ERROR(queueChoosing(
        {address(outputOf(head, 1)), 1,
         roundAt(offsetof(LatheRound, before) + step), draftHead,
         token + sizeof(int),
         roundAt(offsetof(LatheRound, draftStatus) + size_t(i) * sizeof(int))},
        count));
  }
  return absl::OkStatus();
}

Status CudaEngine::queueVerify(int64_t drafts, int *count) {
  const int64_t tokens = drafts + 1;
  const PlannedEntry &trunk = *plan.find("trunk", tokens);
  const PlannedEntry &head = *plan.find("head", tokens);
  const DeviceAddress step = roundAt(offsetof(LatheRound, trunk));
  LATHE_RETURN_IF_ERROR(launchAll(trunk, tokens, -1, {{}, step}, count));
  LATHE_RETURN_IF_ERROR(launchAll(
      head, tokens, -1,
      {{reinterpret_cast<DeviceAddress>(outputOf(trunk, tokens).data)}, step},
      count));
  return queueChoosing(
      {reinterpret_cast<DeviceAddress>(outputOf(head, tokens).data), tokens,
       step, false, roundAt(offsetof(LatheRound, choices)),
       roundAt(offsetof(LatheRound, status))},
      count);
}

Status CudaEngine::queueAccept(int64_t drafts, int *count) {
  DeviceAddress round = roundAt(0), tokens = trunkInput();
  int number = int(drafts);
  void *arguments[] = {&round, &tokens, &number};
  LATHE_RETURN_IF_ERROR(stream.launch(
      roundAccept,
      {.threads = 32, .programmatic = options.programmatic && *count > 0},
      arguments));
  ++*count;
  return stream.copyToHost(roundBack.data(), round, sizeof(LatheRound));
}

Status CudaEngine::queueRound(int64_t drafts, RoundPart part, int *count) {
  if (part == RoundPart::Drafts || part == RoundPart::All)
    LATHE_RETURN_IF_ERROR(queueDrafts(drafts, count));
  if (part == RoundPart::Verify || part == RoundPart::All)
    LATHE_RETURN_IF_ERROR(queueVerify(drafts, count));
  if (part == RoundPart::Accept || part == RoundPart::All)
    LATHE_RETURN_IF_ERROR(queueAccept(drafts, count));
  return absl::OkStatus();
}

/// Tells the device where it stands, as the round before would have: the
/// backlog's rows are the trunk's first ones.
Status CudaEngine::prepareRound(int32_t token, int64_t drafts) {
  LatheRound round{};
  round.accepted = int(backlog.rows - 1);
  round.base = int(backlog.base);
  std::fill_n(round.chosen, kMaxStepTokens, token);
  std::ranges::copy(backlog.tokens, round.chosen);
  round.forcedCount =
      int(std::min<size_t>(forcedShares.size(), std::size(round.forced)));
  std::copy_n(forcedShares.begin(), round.forcedCount, round.forced);
  round.forcedRounds = uint64_t(nextPosition);
  placeRound(round, int(backlog.first), int(drafts + 1));
  round.trunk.pending = int(pendingTokens);
  LATHE_RETURN_IF_ERROR(send(trunkInput(), &token, sizeof token));
  return send(roundAt(0), &round, sizeof round);
}

StatusOr<Round> CudaEngine::draftAndVerify(int32_t token, int64_t drafts) {
  // The rows that the MTP layer waits for must be the trunk's last output.
  if (const int64_t last = nextPosition - lastRunStart;
      last <= drafts + 1 && 2 * last <= backlog.rows)
    LATHE_RETURN_IF_ERROR(feedMtp(last));
  const PlannedEntry *mtp = plan.find("mtp", drafts + 1);
  if (lastRunStart != backlog.first || backlog.rows > lastHidden.rows ||
      backlog.rows > drafts + 1 || !mtp || mtp->prefill)
    return Engine::draftAndVerify(token, drafts);
  cuda::GraphExec &graph = roundGraphs[drafts];
  if (!graph) {
    int count = 0;
    LATHE_ASSIGN_OR_RETURN(graph, stream.capture([&] {
      return queueRound(drafts, RoundPart::All, &count);
    }));
  }
  if (placed != Placed{drafts, nextPosition, token})
    LATHE_RETURN_IF_ERROR(prepareRound(token, drafts));
  placed = {};
  LATHE_RETURN_IF_ERROR(stream.launch(graph));
  LATHE_RETURN_IF_ERROR(tokenReady.record(stream));
  LATHE_RETURN_IF_ERROR(tokenReady.synchronize());
  nextSlot = 0;
  LatheRound found;
  std::memcpy(&found, roundBack.data(), sizeof found);
  for (int64_t i = 0; i < drafts; ++i)
    LATHE_RETURN_IF_ERROR(checkChoice(found.draftStatus[i]));
  for (int64_t i = 0; i <= drafts; ++i)
    LATHE_RETURN_IF_ERROR(checkChoice(found.status[i]));
  Round round;
  round.drafts = drafts;
  round.accepted = found.accepted;
  std::copy_n(found.chosen, found.accepted + 1, round.tokens.begin());

  lastRunStart = nextPosition;
  backlog.first = nextPosition;
  backlog.rows = round.accepted + 1;
  backlog.tokens.assign(round.tokens.begin(),
                        round.tokens.begin() + round.accepted);
  rowsAreInTrunk = true;
  lastHidden = outputOf(*plan.find("trunk", drafts + 1), drafts + 1);
  pendingTokens = round.accepted + 1;
  nextPosition += round.accepted + 1;
  devicePosition = deviceToken = -1;
  placed = {drafts, nextPosition, round.chosen().back()};
  return round;
}

StatusOr<CudaEngine::Timing>
CudaEngine::timeRound(int64_t drafts, RoundPart part, int repetitions) {
  backlog.first = nextPosition - 1;
  backlog.rows = 1;
  backlog.tokens.clear();
  LATHE_RETURN_IF_ERROR(prepareRound(13, drafts));
  devicePosition = -1;
  placed = {};
  int count = 0;
  LATHE_ASSIGN_OR_RETURN(cuda::GraphExec graph, stream.capture([&] {
    return queueRound(drafts, part, &count);
  }));
  return timeGraph(graph, count, repetitions);
}

} // namespace lathe
