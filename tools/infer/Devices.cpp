//===- Devices.cpp - infer devices: what could run a model ----------------===//

#include "tools/infer/CudaDevice.h"
#include "tools/infer/Host.h"
#include "tools/infer/Verbs.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace lathe::cli {

static nlohmann::ordered_json describe(const cuda::Driver &driver,
                                       const cuda::DeviceInfo &device) {
  nlohmann::ordered_json json{
      {"device", "cuda:" + std::to_string(device.ordinal)},
      {"name", device.name},
      {"uuid", device.uuid},
      {"compute_capability",
       std::to_string(device.major) + "." + std::to_string(device.minor)},
      {"multiprocessors", device.sms},
      {"l2_bytes", device.l2Bytes},
      {"memory_bytes", device.totalBytes}};
  if (auto memory = driver.memory(device.ordinal); memory.ok())
    json["free_bytes"] = memory->freeBytes;
  if (auto target = cudaTargetFor(device.major, device.minor); target.ok())
    json["target"] = target->arch;
  return json;
}

Status devices(const DevicesOptions &options) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  list.push_back({{"device", "cpu"},
                  {"name", std::to_string(coreCount()) + " cores"},
                  {"free_bytes", availableMemory()}});
  std::string problem;
  if (auto driver = openDriver(); !driver.ok()) {
    problem = messageOf(driver.status());
  } else if (auto found = (*driver)->devices(); !found.ok()) {
    problem = messageOf(found.status());
  } else {
    for (const cuda::DeviceInfo &device : *found)
      list.push_back(describe(**driver, device));
  }
  if (options.json) {
    nlohmann::ordered_json json{{"schema_version", 1}, {"devices", list}};
    if (!problem.empty())
      json["cuda_problem"] = problem;
    std::printf("%s\n", json.dump(2).c_str());
    return absl::OkStatus();
  }
  for (const auto &device : list)
    std::printf("%-8s %-32s %-8s %9.2f GiB free\n",
                device["device"].get<std::string>().c_str(),
                device["name"].get<std::string>().c_str(),
                device.value("target", "").c_str(),
                double(device.value("free_bytes", int64_t(0))) / (1 << 30));
  if (!problem.empty())
    std::printf("no GPU: %s\n", problem.c_str());
  return absl::OkStatus();
}

} // namespace lathe::cli
