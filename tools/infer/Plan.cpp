//===- Plan.cpp - infer plan: memory before it is touched -----------------===//

#include "tools/infer/LoadedModel.h"
#include "tools/infer/Verbs.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace lathe::cli {

Status plan(const PlanOptions &options) {
  MemoryPlan memory;
  int64_t available = 0;
  LATHE_RETURN_IF_ERROR(
      planOnly(options.model, options.target, memory, available).status());
  if (options.json) {
    nlohmann::ordered_json json{{"schema_version", 1},
                                {"context", memory.context},
                                {"total_bytes", memory.total},
                                {"available_bytes", available},
                                {"kv_bytes_per_token", memory.kvBytesPerToken}};
    if (const RoundMemory &rounds = memory.rounds; rounds.drafts > 0)
      json["rounds"] = {{"drafts", rounds.drafts},
                        {"mtp_bytes", rounds.mtp},
                        {"position_bytes", rounds.positions / rounds.drafts}};
    for (const MemoryRow &row : memory.rows)
      json["rows"].push_back({{"what", row.what}, {"bytes", row.bytes}});
    std::printf("%s\n", json.dump(2).c_str());
  } else if (memory.total <= available) {
    std::printf("%savailable now: %lld B\n", memory.table().c_str(),
                static_cast<long long>(available));
  }
  return checkFits(memory, available);
}

} // namespace lathe::cli
