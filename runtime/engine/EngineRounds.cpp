//===- EngineRounds.cpp - rounds of speculation on any device -------------===//

#include "runtime/engine/Engine.h"

#include "runtime/base/SamplerMath.h"

#include <algorithm>
#include <cassert>

namespace lathe {

//===----------------------------------------------------------------------===//
// Verification
//===----------------------------------------------------------------------===//

bool Engine::canVerify(int64_t tokens) const {
  if (tokens < 1 || tokens > kMaxStepTokens)
    return false;
  for (std::string_view function : {"trunk", "head"}) {
    const PlannedEntry *entry = plan.find(function, tokens);
    if (!entry || entry->prefill)
      return false;
  }
  return tokens == 1 || replays ||
         std::ranges::all_of(plan.states, [](const PlannedState &state) {
           return state.kind == StateKind::Kv;
         });
}

StatusOr<Round> Engine::verify(int32_t token, std::span<const int32_t> drafts) {
  std::array<int32_t, kMaxStepTokens> fed{token};
  std::ranges::copy(drafts, fed.begin() + 1);
  const size_t count = drafts.size() + 1;
  const int64_t start = nextPosition;
  LATHE_RETURN_IF_ERROR(feed({fed.data(), count}));
  Round round;
  round.drafts = int64_t(drafts.size());
  LATHE_RETURN_IF_ERROR(
      choose("head", lastHidden, start + 1, {round.tokens.data(), count}));
  round.accepted = acceptedOf(drafts, {round.tokens.data(), count});
  std::copy_n(drafts.begin(), round.accepted, round.tokens.begin());
  takeBack(round.drafts - round.accepted);
  return round;
}

int64_t Engine::acceptedOf(std::span<const int32_t> drafts,
                           std::span<const int32_t> chosen) {
  if (forced.empty()) {
    auto wrong = std::ranges::mismatch(drafts, chosen.first(drafts.size()));
    return wrong.in1 - drafts.begin();
  }
  const uint64_t bits = exact::positionKey(1, int64_t(++forcedRounds));
  const double draw = double(bits >> 11) * 0x1p-53;
  size_t accepted = 0;
  while (accepted < drafts.size() && accepted < forced.size() &&
         draw < forced[accepted])
    ++accepted;
  return int64_t(accepted);
}

void Engine::takeBack(int64_t tokens) {
  assert(tokens == 0 || !replays || tokens <= pendingTokens);
  nextPosition -= tokens;
  pendingTokens -= replays ? tokens : 0;
  if (!backlog.on)
    return;
  backlog.rows -= tokens;
  backlog.tokens.resize(size_t(std::max<int64_t>(backlog.rows - 1, 0)));
}

void Engine::forceAcceptance(std::vector<double> shares) {
  forced = std::move(shares);
  forcedRounds = 0;
}

//===----------------------------------------------------------------------===//
// The MTP layer
//===----------------------------------------------------------------------===//

Status Engine::startMtp() {
  return usageError(hasMtp() ? "MTP drafts do not run on this device"
                             : "the model was compiled without an MTP layer");
}

Status Engine::choose(std::string_view, RowsView, int64_t, std::span<int32_t>) {
  return usageError("rounds of several tokens do not run on this device");
}

Status Engine::keepRows(RowsView, int64_t) { return startMtp(); }
RowsView Engine::keptRows(int64_t, int64_t) { return {}; }
Status Engine::settleBacklog() { return absl::OkStatus(); }

int64_t Engine::draftVocab() const {
  const PlannedEntry *head = plan.find("draft_head", 1);
  return head ? head->outputs[0].width : 0;
}

Status Engine::setDraftIds(std::vector<int32_t> ids) {
  if (int64_t(ids.size()) != draftVocab())
    return internalError("the draft head has " + std::to_string(draftVocab()) +
                         " rows, not " + std::to_string(ids.size()));
  draftIds = std::move(ids);
  return absl::OkStatus();
}

/// The MTP layer over `count` rows of the backlog from `at` on.
StatusOr<RowsView> Engine::runMtp(std::span<const int32_t> tokens, int64_t at,
                                  int64_t count) {
  // The next larger decode step beats a prompt's; what it writes behind the
  // rows that count is overwritten.
  int64_t width = count;
  const PlannedEntry *entry = nullptr;
  const int64_t slot = backlog.first + at - backlog.base;
  for (; width <= kMaxStepTokens && slot + width <= contextSize; ++width)
    if ((entry = plan.find("mtp", width)) && !entry->prefill)
      break;
  if (!entry || entry->prefill)
    width = count;
  std::array<int32_t, kMaxStepTokens> padded{};
  Input in[2];
  in[0].tokens = tokens;
  if (width > count) {
    std::ranges::copy(tokens, padded.begin());
    in[0].tokens = {padded.data(), size_t(width)};
  }
  in[1].rows = keptRows(at, width);
  return run("mtp", in, width, slot);
}

/// Forgets the backlog's first rows; the layer never sees them.
void Engine::forget(int64_t rows) {
  backlog.first += rows;
  backlog.rows -= rows;
  backlog.tokens.erase(
      backlog.tokens.begin(),
      backlog.tokens.begin() +
          std::min<int64_t>(rows, int64_t(backlog.tokens.size())));
}

/// Feeds the backlog's first `rows` to the MTP layer, the token behind each
/// being known, and returns the layer's output for the last of them.
StatusOr<RowsView> Engine::runBacklog(int64_t rows) {
  LATHE_RETURN_IF_ERROR(settleBacklog());
  int64_t at = 0;
  if (backlog.limit > 0 && rows > backlog.limit) {
    at = rows - backlog.limit;
    backlog.base = backlog.first + at;
  }
  std::span<const int32_t> tokens = backlog.tokens;
  const int64_t most = plan.maxTokens("mtp");
  RowsView out;
  while (at < rows) {
    const int64_t count = std::min(rows - at, most);
    LATHE_ASSIGN_OR_RETURN(
        out, runMtp(tokens.subspan(size_t(at), size_t(count)), at, count));
    out.data += (count - 1) * out.stride;
    out.rows = 1;
    at += count;
  }
  forget(rows);
  return out;
}

/// Feeds all of the backlog, `next` being the token behind its last row.
StatusOr<RowsView> Engine::catchUp(int32_t next) {
  backlog.tokens.push_back(next);
  return runBacklog(backlog.rows);
}

Status Engine::feedMtp(int64_t keep) {
  const int64_t rows = backlog.rows - keep;
  if (rows <= 0)
    return absl::OkStatus();
  assert(keep >= 1 && keep <= rows);
  LATHE_RETURN_IF_ERROR(runBacklog(rows).status());
  return keepRows(keptRows(rows, keep), 0);
}

/// Makes room in the backlog for `count` rows, `next` being the token behind
/// its last one.
Status Engine::makeRoom(int64_t count, int32_t next) {
  if (backlog.limit == 0)
    return catchUp(next).status();
  // No more than half, so that the copy does not overlap itself.
  const int64_t keep =
      std::min({backlog.limit, backlogCapacity() - count, backlog.rows / 2});
  const int64_t gone = backlog.rows - keep;
  forget(gone);
  backlog.base = backlog.first;
  return keep > 0 ? keepRows(keptRows(gone, keep), 0) : absl::OkStatus();
}

StatusOr<Round> Engine::draftAndVerify(int32_t token, int64_t drafts) {
  const std::string_view head = draftVocab() > 0 ? "draft_head" : "head";
  std::array<int32_t, kMaxStepTokens> draft{};
  LATHE_ASSIGN_OR_RETURN(RowsView hidden, catchUp(token));
  for (int64_t i = 0; i < drafts; ++i) {
    if (i > 0) {
      Input in[2];
      in[0].tokens = {&draft[size_t(i - 1)], 1};
      in[1].rows = hidden;
      LATHE_ASSIGN_OR_RETURN(
          hidden, run("mtp", in, 1, nextPosition - 1 + i - backlog.base));
    }
    LATHE_RETURN_IF_ERROR(
        choose(head, hidden, nextPosition + 1 + i, {&draft[size_t(i)], 1}));
  }
  return verify(token, {draft.data(), size_t(drafts)});
}

} // namespace lathe
