//===- CudaSteps.cpp - decode steps of CudaEngine -------------------------===//

#include "runtime/engine/CudaEngine.h"

#include <algorithm>

namespace lathe {

using cuda::DeviceAddress;

bool CudaEngine::isPersistent(int64_t tokens) const {
  return persistent && plan.findStep(tokens);
}

Status CudaEngine::fillStepTable(const PlannedStep &step, DeviceAddress table) {
  std::vector<LatheStage> stages;
  Bindings bindings;
  for (const char *function : {"trunk", "head"}) {
    const PlannedEntry *entry = plan.find(function, step.tokens);
    if (!entry)
      return internalError(std::string("the plan has a step without a ") +
                           function);
    for (const PlannedLaunch &launch : entry->launches) {
      LatheStage &stage = stages.emplace_back(LatheStage{});
      stage.kernel = launch.kernel;
      if (launch.operands.size() > LATHE_STAGE_OPERANDS)
        return internalError("a kernel of a persistent step has too many "
                             "operands");
      for (size_t i = 0; i < launch.operands.size(); ++i)
        stage.operands[i] = reinterpret_cast<void *>(
            resolve(launch.operands[i], *entry, bindings));
    }
    bindings.inputs[0] =
        reinterpret_cast<DeviceAddress>(outputOf(*entry, step.tokens).data);
  }
  return send(table, stages.data(), stages.size() * sizeof(LatheStage));
}

Status CudaEngine::prepareSteps() {
  if (plan.steps.empty() && options.entry == StepEntry::Persistent)
    return modelError(
        "the bundle has no persistent steps; compile it with "
        "--entry persistent or auto, or run with --entry launches");
  if (plan.steps.empty() || options.entry == StepEntry::Launches)
    return absl::OkStatus();
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const PlannedStage &stage =
        plan.kernels[size_t(plan.steps[i].kernel)].stages.front();
    if (stage.blocks > owner.device().sms && options.entry == StepEntry::Auto)
      return absl::OkStatus();
    if (stage.blocks > owner.device().sms)
      return capacityError("the persistent step was compiled for " +
                           std::to_string(stage.blocks) +
                           " multiprocessors, this GPU has " +
                           std::to_string(owner.device().sms));
    LATHE_RETURN_IF_ERROR(
        fillStepTable(plan.steps[i], buffer.address() + layout.stepTables[i]));
  }
  persistent = true;
  if (options.entry == StepEntry::Auto && plan.findStep(1)) {
    LATHE_ASSIGN_OR_RETURN(persistent, persistentIsFaster());
  }
  return absl::OkStatus();
}

/// Plays a step of one token a few times each way, and forgets what it did.
StatusOr<bool> CudaEngine::persistentIsFaster() {
  constexpr int kRepetitions = 5;
  LATHE_ASSIGN_OR_RETURN(Timing together, timeStep(1, kRepetitions));
  persistent = false;
  LATHE_ASSIGN_OR_RETURN(Timing apart, timeStep(1, kRepetitions));
  LATHE_RETURN_IF_ERROR(reset());
  return together.seconds < apart.seconds;
}

/// Launches [begin, end) of a step's trunk and head.
Status CudaEngine::launchPersistent(const PlannedStep &step, int begin, int end,
                                    int stages, int *count) {
  const PlannedEntry &trunk = *plan.find("trunk", step.tokens);
  const PlannedStage &planned = plan.kernels[size_t(step.kernel)].stages[0];
  LatheLaunch ctx = launchContext(stepAddress(trunk));
  DeviceAddress table = buffer.address() +
                        layout.stepTables[size_t(&step - plan.steps.data())] +
                        DeviceAddress(begin) * sizeof(LatheStage);
  int launches = end - begin;
  void *arguments[] = {&ctx, &table, &launches, &stages};
  cuda::LaunchShape shape;
  shape.gridX = unsigned(planned.blocks);
  shape.threads = unsigned(planned.threads);
  shape.dynamicShared = unsigned(planned.dynamicShared);
  // Its blocks wait for each other. Nothing else of this sequence is on the GPU
  // then but what comes before, which waits for nobody.
  shape.cooperative = *count == 0 || !options.programmatic;
  shape.programmatic = !shape.cooperative;
  ++*count;
  return stream.launch(kernels[size_t(step.kernel)].stages[0].function, shape,
                       arguments);
}

Status CudaEngine::queuePersistent(const PlannedStep &step, int *count) {
  int at = 0, begin = 0, stages = 0; // a run of covered launches
  auto flush = [&]() -> Status {
    if (stages > 0)
      LATHE_RETURN_IF_ERROR(launchPersistent(step, begin, at, stages, count));
    stages = 0;
    return absl::OkStatus();
  };
  Bindings bindings;
  for (const char *function : {"trunk", "head"}) {
    const PlannedEntry &entry = *plan.find(function, step.tokens);
    for (const PlannedLaunch &planned : entry.launches) {
      if (std::ranges::binary_search(step.covers, planned.kernel)) {
        begin = stages == 0 ? at : begin;
        stages += int(plan.kernels[size_t(planned.kernel)].stages.size());
      } else {
        LATHE_RETURN_IF_ERROR(flush());
        LATHE_RETURN_IF_ERROR(
            launch(entry, planned, step.tokens, bindings, count));
      }
      ++at;
    }
    bindings.inputs[0] =
        reinterpret_cast<DeviceAddress>(outputOf(entry, step.tokens).data);
  }
  return flush();
}

Status CudaEngine::queueStep(int64_t tokens, int *count) {
  if (isPersistent(tokens))
    return queuePersistent(*plan.findStep(tokens), count);
  const PlannedEntry *trunk = plan.find("trunk", tokens);
  const PlannedEntry *head = plan.find("head", tokens);
  LATHE_RETURN_IF_ERROR(launchAll(*trunk, tokens, -1, {}, count));
  return launchAll(*head, tokens, -1,
                   {.inputs = {reinterpret_cast<DeviceAddress>(
                        outputOf(*trunk, tokens).data)}},
                   count);
}

} // namespace lathe
