#include "runtime/io/Quantize.h"

#include "runtime/io/QuantizeMath.h"
#include "runtime/io/QuantizePlan.h"
#include "runtime/io/WeightFormats.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <thread>

namespace lathe {

namespace fs = std::filesystem;

static constexpr int64_t kRowsPerTask = 32;
static constexpr uint64_t kCopyBytes = uint64_t(8) << 20;

template <typename T> static std::span<const uint8_t> asBytes(const T &items) {
  return {reinterpret_cast<const uint8_t *>(items.data()),
          items.size() * sizeof(items[0])};
}

/// Runs `task(first row, row count, float rows)` over all rows of `tensor` on
/// `threads` threads, kRowsPerTask rows at a time.
template <typename Task>
static Status forRows(const TensorRef &tensor, int threads, const Task &task) {
  const TensorInfo &info = *tensor.info;
  const int64_t rows = info.shape[0], cols = info.shape[1];
  const int64_t rowBytes = cols * byteSize(info.dtype);
  const int64_t tasks = (rows + kRowsPerTask - 1) / kRowsPerTask;
  std::atomic<int64_t> next{0};
  std::vector<Status> statuses(size_t(std::max(threads, 1)));
  auto work = [&](Status &status) {
    std::vector<uint8_t> bytes(size_t(kRowsPerTask * rowBytes));
    std::vector<float> values(size_t(kRowsPerTask * cols));
    for (int64_t t; status.ok() && (t = next++) < tasks;) {
      const int64_t first = t * kRowsPerTask;
      const int64_t count = std::min(kRowsPerTask, rows - first);
      auto part = std::span(bytes).first(size_t(count * rowBytes));
      status = tensor.read(uint64_t(first * rowBytes), part);
      if (!status.ok())
        break;
      toFloats(info.dtype, part, values.data());
      for (int64_t i = 0; i < count * cols && status.ok(); ++i)
        if (!std::isfinite(values[size_t(i)]))
          status = tensor.error("NaN or infinity in row " +
                                std::to_string(first + i / cols));
      if (status.ok())
        task(first, count, values.data());
    }
    if (!status.ok())
      next = tasks;
  };
  std::vector<std::thread> team;
  for (size_t i = 1; i < statuses.size(); ++i)
    team.emplace_back(work, std::ref(statuses[i]));
  work(statuses[0]);
  for (std::thread &t : team)
    t.join();
  for (const Status &status : statuses)
    LATHE_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

/// Adds up in row order, so that the result does not depend on threads.
static QuantError total(const std::vector<QuantError> &parts) {
  QuantError sum;
  for (const QuantError &e : parts) {
    sum.error += e.error;
    sum.norm += e.norm;
  }
  return sum;
}

static StatusOr<QuantError> writeInt4(const PlanItem &item,
                                      const QuantizeOptions &options,
                                      SafetensorsWriter &writer) {
  const int64_t rows = item.tensor.info->shape[0];
  const int64_t cols = item.tensor.info->shape[1];
  const int64_t groups = cols / options.group, words = cols / 8;
  std::vector<uint32_t> codes(size_t(words * rows));
  std::vector<uint16_t> scales(size_t(groups * rows));
  std::vector<QuantError> errors(static_cast<size_t>(rows));
  auto task = [&](int64_t first, int64_t count, const float *x) {
    std::vector<uint32_t> rowCodes(size_t(count * words));
    std::vector<uint16_t> rowScales(size_t(count * groups));
    for (int64_t r = 0; r < count; ++r)
      errors[size_t(first + r)] = quantizeInt4Row(
          {x + r * cols, size_t(cols)}, options.group,
          reinterpret_cast<uint8_t *>(rowCodes.data() + r * words),
          rowScales.data() + r * groups);
    for (int64_t w = 0; w < words; ++w)
      for (int64_t r = 0; r < count; ++r)
        codes[size_t(w * rows + first + r)] = rowCodes[size_t(r * words + w)];
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t r = 0; r < count; ++r)
        scales[size_t(g * rows + first + r)] =
            rowScales[size_t(r * groups + g)];
  };
  LATHE_RETURN_IF_ERROR(forRows(item.tensor, options.threads, task));
  std::vector<uint32_t> zeros(size_t(groups * rows / 8), 0x77777777);
  const std::string &m = item.module;
  LATHE_RETURN_IF_ERROR(writer.write(m + ".qweight", 0, asBytes(codes)));
  LATHE_RETURN_IF_ERROR(writer.write(m + ".qzeros", 0, asBytes(zeros)));
  LATHE_RETURN_IF_ERROR(writer.write(m + ".scales", 0, asBytes(scales)));
  return total(errors);
}

static StatusOr<QuantError> writeNvFp4(const PlanItem &item,
                                       const QuantizeOptions &options,
                                       SafetensorsWriter &writer) {
  const int64_t rows = item.tensor.info->shape[0];
  const int64_t cols = item.tensor.info->shape[1];
  const int64_t groups = cols / options.group;
  std::vector<float> largest(static_cast<size_t>(rows));
  auto findLargest = [&](int64_t first, int64_t count, const float *x) {
    for (int64_t r = 0; r < count; ++r)
      for (int64_t c = 0; c < cols; ++c)
        largest[size_t(first + r)] =
            std::max(largest[size_t(first + r)], std::fabs(x[r * cols + c]));
  };
  LATHE_RETURN_IF_ERROR(forRows(item.tensor, options.threads, findLargest));
  std::vector<float> global{
      nvFp4GlobalScale(*std::max_element(largest.begin(), largest.end()))};
  std::vector<uint8_t> codes(size_t(rows * cols / 2));
  std::vector<uint8_t> scales(size_t(rows * groups));
  std::vector<QuantError> errors(static_cast<size_t>(rows));
  auto task = [&](int64_t first, int64_t count, const float *x) {
    for (int64_t r = 0; r < count; ++r)
      errors[size_t(first + r)] =
          quantizeNvFp4Row({x + r * cols, size_t(cols)}, global[0],
                           codes.data() + (first + r) * cols / 2,
                           scales.data() + (first + r) * groups);
  };
  LATHE_RETURN_IF_ERROR(forRows(item.tensor, options.threads, task));
  const std::string &m = item.module;
  LATHE_RETURN_IF_ERROR(writer.write(m + ".weight", 0, codes));
  LATHE_RETURN_IF_ERROR(writer.write(m + ".weight_scale", 0, scales));
  LATHE_RETURN_IF_ERROR(
      writer.write(m + ".weight_scale_2", 0, asBytes(global)));
  return total(errors);
}

static Status copyTensor(const TensorRef &tensor, SafetensorsWriter &writer) {
  const TensorInfo &info = *tensor.info;
  std::vector<uint8_t> buffer(std::min(kCopyBytes, info.bytes()));
  for (uint64_t at = 0; at < info.bytes(); at += kCopyBytes) {
    auto part = std::span(buffer).first(
        std::min<uint64_t>(kCopyBytes, info.bytes() - at));
    LATHE_RETURN_IF_ERROR(tensor.read(at, part));
    LATHE_RETURN_IF_ERROR(writer.write(info.name, at, part));
  }
  return absl::OkStatus();
}

namespace {
/// A run of plan items that go to one file.
struct Shard {
  size_t first = 0, end = 0;
  std::vector<TensorSpec> specs;
};

/// The state of one quantizeCheckpoint call.
struct Job {
  const std::string &destination;
  const QuantizeOptions &options;
  std::vector<PlanItem> plan;
  QuantizeSummary summary;
  QuantizeProgress progress;
};
} // namespace

static std::vector<Shard> splitShards(const Job &job) {
  std::vector<Shard> shards(1);
  uint64_t bytes = 0;
  for (size_t i = 0; i < job.plan.size(); ++i) {
    std::vector<TensorSpec> specs = outputSpecs(job.plan[i], job.options);
    uint64_t own = 0;
    for (const TensorSpec &spec : specs)
      own += byteSize(spec);
    if (bytes > 0 && bytes + own > job.options.maxShardBytes) {
      shards.push_back({i, i, {}});
      bytes = 0;
    }
    bytes += own;
    shards.back().end = i + 1;
    std::ranges::move(specs, std::back_inserter(shards.back().specs));
  }
  return shards;
}

static Status writeItem(const PlanItem &item, Job &job,
                        SafetensorsWriter &writer) {
  QuantizeSummary &summary = job.summary;
  if (item.action == PlanItem::Action::Quantize) {
    LATHE_ASSIGN_OR_RETURN(QuantError e,
                           job.options.format == WeightFormat::Int4
                               ? writeInt4(item, job.options, writer)
                               : writeNvFp4(item, job.options, writer));
    summary.meanRelativeSquaredError += e.norm > 0 ? e.error / e.norm : 0;
    ++summary.modulesQuantized;
  } else {
    LATHE_RETURN_IF_ERROR(copyTensor(item.tensor, writer));
    summary.modulesKept += item.action != PlanItem::Action::Copy;
    if (item.action == PlanItem::Action::Misfit)
      summary.keptForShape.push_back(item.module);
  }
  job.progress.bytesRead += item.tensor.info->bytes();
  job.progress.tensor = item.tensor.info->name;
  if (job.options.progress && !job.options.progress(job.progress))
    return cancelled();
  return absl::OkStatus();
}

static Status writeShard(const Shard &shard, const std::string &name,
                         Job &job) {
  LATHE_ASSIGN_OR_RETURN(
      SafetensorsWriter writer,
      SafetensorsWriter::create(joinPath(job.destination, name), shard.specs,
                                {{"format", "pt"}}));
  for (size_t i = shard.first; i < shard.end; ++i)
    LATHE_RETURN_IF_ERROR(writeItem(job.plan[i], job, writer));
  for (const TensorSpec &spec : shard.specs)
    job.summary.bytesOut += byteSize(spec);
  return writer.commit();
}

static std::string shardName(size_t index, size_t count) {
  if (count == 1)
    return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors",
                index + 1, count);
  return name;
}

static bool isCompanion(std::string_view name) {
  for (std::string_view prefix :
       {"tokenizer", "generation_config.json", "chat_template", "vocab.json",
        "merges.txt", "special_tokens_map.json", "added_tokens.json",
        "preprocessor_config.json", "video_preprocessor_config.json",
        "processor_config.json", "LICENSE", "LICENCE", "NOTICE"})
    if (name.starts_with(prefix))
      return true;
  return false;
}

static Status copyCompanions(const std::string &source,
                             const std::string &destination) {
  std::error_code error;
  for (const auto &entry : fs::directory_iterator(source, error)) {
    std::string name = entry.path().filename().string();
    if (!isCompanion(name) || !fileExists(entry.path().string()))
      continue;
    std::error_code failure;
    fs::copy_file(entry.path(), joinPath(destination, name), failure);
    if (failure)
      return internalError(name + ": copying failed: " + failure.message());
  }
  return absl::OkStatus();
}

static Status checkOptions(QuantizeOptions &options) {
  bool int4 = options.format == WeightFormat::Int4;
  if (!int4 && options.format != WeightFormat::NvFp4)
    return usageError("expected the format int4 or nvfp4, found " +
                      std::string(nameOf(options.format)));
  if (options.group == 0)
    options.group = int4 ? 128 : 16;
  if (!int4 && options.group != 16)
    return usageError("nvfp4 has groups of 16, found a group size of " +
                      std::to_string(options.group));
  if (int4 && options.group != 32 && options.group != 64 &&
      options.group != 128)
    return usageError("expected a group size of 32, 64 or 128, found " +
                      std::to_string(options.group));
  if (options.threads < 1)
    return usageError("expected at least one thread, found " +
                      std::to_string(options.threads));
  return absl::OkStatus();
}

static Status prepareDestination(const std::string &destination) {
  std::error_code error;
  fs::create_directories(destination, error);
  if (!fs::is_directory(destination, error))
    return usageError(destination + ": cannot create the directory");
  if (!fs::is_empty(destination, error))
    return usageError(destination + ": expected a new or empty directory");
  return absl::OkStatus();
}

/// Writes everything but config.json.
static Status writeFiles(Job &job, const std::string &source) {
  std::vector<Shard> shards = splitShards(job);
  std::vector<std::string> names;
  std::vector<std::vector<TensorSpec>> specs;
  for (size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shardName(i, shards.size()));
    LATHE_RETURN_IF_ERROR(writeShard(shards[i], names[i], job));
    specs.push_back(std::move(shards[i].specs));
  }
  if (shards.size() > 1)
    LATHE_RETURN_IF_ERROR(
        writeFile(joinPath(job.destination, "model.safetensors.index.json"),
                  shardIndex(names, specs)));
  if (job.options.format == WeightFormat::NvFp4)
    LATHE_RETURN_IF_ERROR(
        writeFile(joinPath(job.destination, "hf_quant_config.json"),
                  modelOptConfig(job.plan)));
  return copyCompanions(source, job.destination);
}

StatusOr<QuantizeSummary> quantizeCheckpoint(const std::string &source,
                                             const std::string &destination,
                                             const QuantizeOptions &requested) {
  QuantizeOptions options = requested;
  LATHE_RETURN_IF_ERROR(checkOptions(options));
  LATHE_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::open(source));
  Job job{destination, options, {}, {}, {}};
  LATHE_ASSIGN_OR_RETURN(job.plan, planQuantize(checkpoint, options));
  LATHE_ASSIGN_OR_RETURN(std::string config,
                         quantizedConfig(checkpoint, job.plan, options));
  LATHE_RETURN_IF_ERROR(prepareDestination(destination));
  for (const PlanItem &item : job.plan)
    job.progress.bytesTotal += item.tensor.info->bytes();
  job.summary.bytesIn = job.progress.bytesTotal;
  LATHE_RETURN_IF_ERROR(writeFiles(job, source));
  LATHE_RETURN_IF_ERROR(
      writeFile(joinPath(destination, "config.json"), config));
  job.summary.meanRelativeSquaredError /= double(job.summary.modulesQuantized);
  return job.summary;
}

} // namespace lathe
