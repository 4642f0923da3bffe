//===- CudaChoices.cpp - tokens chosen on the GPU -------------------------===//

#include "runtime/base/CudaSampling.h"
#include "runtime/engine/CudaEngine.h"

#include <algorithm>
#include <cstring>

namespace lathe {

using cuda::DeviceAddress;

Status CudaEngine::setSampling(const SamplerOptions &options,
                               int32_t vocabLimit) {
  LATHE_RETURN_IF_ERROR(Sampler::create(options).status());
  sampling = options;
  sampledVocab = int32_t(
      vocabLimit > 0 ? std::min<int64_t>(vocabLimit, vocabSize) : vocabSize);
  return sendSampling();
}

Status CudaEngine::sendSampling() {
  LatheSampling to{};
  to.temperature = sampling.temperature;
  to.topK = sampling.topK;
  to.topP = sampling.topP;
  to.minP = sampling.minP;
  to.seed = sampling.seed;
  to.vocab = sampledVocab;
  to.stride = int(activationStride(vocabSize));
  const DeviceAddress at = buffer.address() + layout.sampling;
  LATHE_RETURN_IF_ERROR(send(at, &to, sizeof to));
  if (draftVocab() > 0) {
    to.vocab = int(draftVocab());
    to.stride = int(activationStride(draftVocab()));
    to.ids = reinterpret_cast<const int *>(buffer.address() + layout.draftIds);
  }
  return send(at + kDraftSamplingAt, &to, sizeof to);
}

Status CudaEngine::queueChoosing(const Choosing &from, int *count) {
  LatheLaunch ctx = launchContext(from.step);
  DeviceAddress options =
      buffer.address() + layout.sampling + (from.draft ? kDraftSamplingAt : 0);
  DeviceAddress logits = from.logits, token = from.tokens, status = from.status;
  void *choosing[] = {&ctx, &logits, &options, &token, &status};
  void *weighing[] = {&ctx, &logits, &options, &status};
  const int64_t width =
      from.draft && draftVocab() > 0 ? draftVocab() : vocabSize;
  cuda::LaunchShape shape{.gridX = unsigned(sampleBlocks(int(width))),
                          .gridY = unsigned(from.rows),
                          .threads = kSampleThreads,
                          .dynamicShared = kSampleSharedBytes};
  for (auto [function, arguments] : {std::pair{&sampleHighest, choosing},
                                     {&sampleWeigh, weighing},
                                     {&sampleChoose, choosing}}) {
    shape.programmatic = this->options.programmatic && *count > 0;
    LATHE_RETURN_IF_ERROR(stream.launch(*function, shape, arguments));
    ++*count;
  }
  return absl::OkStatus();
}

Status CudaEngine::queueChoice(DeviceAddress logits, const PlannedEntry &entry,
                               int *count, int64_t rows, bool draft) {
  DeviceAddress tokens = buffer.address() + layout.sampling + kChoiceAt;
  LATHE_RETURN_IF_ERROR(queueChoosing({logits, rows, stepAddress(entry), draft,
                                       tokens, tokens + kChoiceBytes / 2},
                                      count));
  DeviceAddress host = choice.address();
  int words = int(kChoiceBytes / sizeof(int));
  void *arguments[] = {&tokens, &host, &words};
  return stream.launch(deliver,
                       {.threads = 32, .programmatic = options.programmatic},
                       arguments);
}

StatusOr<int32_t> CudaEngine::takeChoice() {
  int32_t token = 0;
  LATHE_RETURN_IF_ERROR(takeChoices({&token, 1}));
  return token;
}

Status CudaEngine::takeChoices(std::span<int32_t> tokens) {
  LATHE_RETURN_IF_ERROR(tokenReady.record(stream));
  LATHE_RETURN_IF_ERROR(tokenReady.synchronize());
  nextSlot = 0;
  int found[2][kMaxStepTokens];
  std::memcpy(found, choice.data(), sizeof found);
  for (size_t i = 0; i < tokens.size(); ++i) {
    LATHE_RETURN_IF_ERROR(checkChoice(found[1][i]));
    tokens[i] = found[0][i];
  }
  return absl::OkStatus();
}

Status CudaEngine::checkChoice(int status) {
  switch (status) {
  case LATHE_SAMPLE_CHOSEN:
    return absl::OkStatus();
  case LATHE_SAMPLE_NAN:
    return internalError("a logit is not a number");
  case LATHE_SAMPLE_INFINITE:
    return internalError("a logit is infinite");
  default:
    return internalError("no logit is finite");
  }
}

StatusOr<int32_t> CudaEngine::sample() {
  LATHE_ASSIGN_OR_RETURN(Input input, lastRow());
  LATHE_ASSIGN_OR_RETURN(RowsView logits,
                         run("head", {&input, 1}, 1, nextPosition - 1));
  int count = 0;
  LATHE_RETURN_IF_ERROR(
      queueChoice(reinterpret_cast<DeviceAddress>(logits.data),
                  *plan.find("head", 1), &count));
  return takeChoice();
}

Status CudaEngine::choose(std::string_view head, RowsView hidden,
                          int64_t position, std::span<int32_t> tokens) {
  Input input;
  input.rows = hidden;
  LATHE_ASSIGN_OR_RETURN(RowsView logits,
                         run(head, {&input, 1}, hidden.rows, position - 1));
  int count = 0;
  LATHE_RETURN_IF_ERROR(queueChoice(
      reinterpret_cast<DeviceAddress>(logits.data),
      *entryFor(head, hidden.rows), &count, hidden.rows, head == "draft_head"));
  return takeChoices(tokens);
}

} // namespace lathe
