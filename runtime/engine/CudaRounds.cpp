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

/// Whether `call`, which comes next in the round, is to be queued.
bool CudaEngine::RoundQueue::take(const RoundCall &call) {
  seen.push_back(call);
  return seen.size() <= calls && (part == RoundPart::All || part == call.part);
}

Status CudaEngine::queueEntry(const PlannedEntry &entry, RoundPart part,
                              const Bindings &bindings, RoundQueue &queue) {
  for (const PlannedLaunch &planned : entry.launches)
    if (queue.take({part, entry.function, &planned}))
      LATHE_RETURN_IF_ERROR(
          launch(entry, planned, entry.tokens, bindings, &queue.launches));
  return absl::OkStatus();
}

Status CudaEngine::queueRoundChoice(const Choosing &choosing, RoundPart part,
                                    RoundQueue &queue) {
  return queue.take({part, "choice"}) ? queueChoosing(choosing, &queue.launches)
                                      : absl::OkStatus();
}

static DeviceAddress addressOf(RowsView rows) {
  return reinterpret_cast<DeviceAddress>(rows.data);
}

/// The MTP layer's row behind the last accepted token to where drafts take it.
Status CudaEngine::queueRow(const PlannedEntry &mtp, RoundQueue &queue) {
  if (!queue.take({RoundPart::Drafts, "row"}))
    return absl::OkStatus();
  DeviceAddress round = roundAt(0), rows = addressOf(outputOf(mtp, 1));
  DeviceAddress hidden = buffer.address() + layout.draftRow;
  int vectors = int(activationStride(mtp.inputs[1].width) / 4);
  void *arguments[] = {&round, &rows, &hidden, &vectors};
  ++queue.launches;
  return stream.launch(roundRow,
                       {.threads = 256, .programmatic = options.programmatic},
                       arguments);
}

/// The drafts into the trunk's tokens from the second one on.
Status CudaEngine::queueDrafts(int64_t drafts, RoundQueue &queue) {
  constexpr RoundPart kPart = RoundPart::Drafts;
  const bool draftHead = draftVocab() > 0;
  const PlannedEntry &many = *plan.find("mtp", drafts + 1);
  const PlannedEntry &one = *plan.find("mtp", 1);
  const PlannedEntry &head = *plan.find(draftHead ? "draft_head" : "head", 1);
  LATHE_RETURN_IF_ERROR(
      queueEntry(many, kPart,
                 {{roundAt(offsetof(LatheRound, chosen)),
                   addressOf(outputOf(*plan.find("trunk", 1), 1))},
                  roundAt(offsetof(LatheRound, slots))},
                 queue));
  LATHE_RETURN_IF_ERROR(queueRow(one, queue));
  DeviceAddress hidden = buffer.address() + layout.draftRow;
  for (int64_t i = 0; i < drafts; ++i) {
    const size_t step = size_t(i) * sizeof(LatheStep);
    const DeviceAddress token = trunkInput() + size_t(i) * sizeof(int);
    if (i > 0) {
      LATHE_RETURN_IF_ERROR(queueEntry(
          one, kPart,
          {{token, hidden}, roundAt(offsetof(LatheRound, slot) + step)},
          queue));
      hidden = addressOf(outputOf(one, 1));
    }
    LATHE_RETURN_IF_ERROR(queueEntry(head, kPart, {{hidden}, 0}, queue));
    LATHE_RETURN_IF_ERROR(queueRoundChoice(
        {addressOf(outputOf(head, 1)), 1,
         roundAt(offsetof(LatheRound, before) + step), draftHead,
         token + sizeof(int),
         roundAt(offsetof(LatheRound, draftStatus) + size_t(i) * sizeof(int))},
        kPart, queue));
  }
  return absl::OkStatus();
}

Status CudaEngine::queueVerify(int64_t drafts, RoundQueue &queue) {
  constexpr RoundPart kPart = RoundPart::Verify;
  const int64_t tokens = drafts + 1;
  const PlannedEntry &trunk = *plan.find("trunk", tokens);
  const PlannedEntry &head = *plan.find("head", tokens);
  const DeviceAddress step = roundAt(offsetof(LatheRound, trunk));
  LATHE_RETURN_IF_ERROR(queueEntry(trunk, kPart, {{}, step}, queue));
  LATHE_RETURN_IF_ERROR(queueEntry(
      head, kPart, {{addressOf(outputOf(trunk, tokens))}, step}, queue));
  return queueRoundChoice({addressOf(outputOf(head, tokens)), tokens, step,
                           false, roundAt(offsetof(LatheRound, choices)),
                           roundAt(offsetof(LatheRound, status))},
                          kPart, queue);
}

Status CudaEngine::queueAccept(int64_t drafts, RoundQueue &queue) {
  if (!queue.take({RoundPart::Accept, "accept"}))
    return absl::OkStatus();
  DeviceAddress round = roundAt(0), tokens = trunkInput();
  DeviceAddress host = roundBack.address();
  int number = int(drafts);
  void *arguments[] = {&round, &tokens, &number, &host};
  const bool first = queue.launches++ == 0;
  return stream.launch(
      roundAccept,
      {.threads = 32, .programmatic = options.programmatic && !first},
      arguments);
}

Status CudaEngine::queueRound(int64_t drafts, RoundQueue &queue) {
  LATHE_RETURN_IF_ERROR(queueDrafts(drafts, queue));
  LATHE_RETURN_IF_ERROR(queueVerify(drafts, queue));
  return queueAccept(drafts, queue);
}

StatusOr<std::vector<CudaEngine::RoundCall>>
CudaEngine::roundCalls(int64_t drafts) {
  RoundQueue queue{.calls = 0};
  LATHE_RETURN_IF_ERROR(queueRound(drafts, queue));
  return std::move(queue.seen);
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
    RoundQueue queue;
    LATHE_ASSIGN_OR_RETURN(
        graph, stream.capture([&] { return queueRound(drafts, queue); }));
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

StatusOr<CudaEngine::Timing> CudaEngine::timeRound(int64_t drafts,
                                                   RoundPart part,
                                                   int repetitions,
                                                   size_t calls) {
  constexpr int32_t kToken = 13;
  constexpr int64_t kMoreThanTheL2Cache = 256 << 20;
  const int64_t tokens = drafts + 1;
  skipTo(std::max(nextPosition, tokens));
  backlog.first = nextPosition - tokens;
  backlog.rows = pendingTokens = tokens;
  backlog.tokens.assign(size_t(drafts), kToken);
  RoundQueue queue{.part = part, .calls = calls};
  LATHE_ASSIGN_OR_RETURN(cuda::GraphExec graph, stream.capture([&] {
    return queueRound(drafts, queue);
  }));
  auto timing = timeGraph(graph, queue.launches, repetitions, [&]() -> Status {
    int64_t read = 0;
    LATHE_RETURN_IF_ERROR(prepareRound(kToken, drafts));
    return readWeights(kMoreThanTheL2Cache, &read);
  });
  skipTo(nextPosition);
  return timing;
}

} // namespace lathe
