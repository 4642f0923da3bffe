#include "runtime/io/TensorTable.h"

#include "runtime/io/Json.h"

#include <algorithm>
#include <map>

namespace lathe {

static constexpr char kSingleFile[] = "model.safetensors";
static constexpr char kIndexFile[] = "model.safetensors.index.json";

std::optional<std::string> canonicalName(std::string_view name) {
  for (std::string_view prefix :
       {"model.language_model.", "language_model.model.", "model.",
        "language_model."})
    if (name.starts_with(prefix)) {
      name.remove_prefix(prefix.size());
      break;
    }
  for (std::string_view tower :
       {"visual.", "vision_tower.", "audio_tower.", "multi_modal_projector.",
        "embed_vision.", "embed_audio."})
    if (name.starts_with(tower))
      return std::nullopt;
  return std::string(name);
}

Status TensorRef::error(std::string_view message) const {
  return modelError(file->name() + ": " + info->name + ": " +
                    std::string(message));
}

Status TensorRef::expect(DType dtype, std::span<const int64_t> shape) const {
  if (info->dtype == dtype && std::ranges::equal(info->shape, shape))
    return absl::OkStatus();
  return error("expected " + std::string(nameOf(dtype)) + " " +
               shapeText(shape) + ", found " +
               std::string(nameOf(info->dtype)) + " " + shapeText(info->shape));
}

static bool isPlainFileName(std::string_view name) {
  return !name.empty() && name != "." &&
         name.find_first_of("/\\") == name.npos &&
         name.find("..") == name.npos && name.find('\0') == name.npos;
}

Status TensorTable::addFile(const std::string &directory,
                            const std::string &name) {
  LATHE_ASSIGN_OR_RETURN(SafetensorsFile file,
                         SafetensorsFile::open(joinPath(directory, name)));
  shards.push_back(std::make_unique<SafetensorsFile>(std::move(file)));
  const SafetensorsFile &shard = *shards.back();
  for (const TensorInfo &info : shard.header().tensors) {
    std::optional<std::string> key = canonicalName(info.name);
    if (!key)
      continue;
    TensorRef ref{&shard, &info};
    auto [it, isNew] = tensors.try_emplace(*key, ref);
    if (!isNew)
      return ref.error("the same weight as " + it->second.info->name + " in " +
                       it->second.file->name());
  }
  return absl::OkStatus();
}

Status TensorTable::openShards(const std::string &directory) {
  LATHE_ASSIGN_OR_RETURN(JsonDocument index,
                         JsonDocument::read(joinPath(directory, kIndexFile)));
  LATHE_ASSIGN_OR_RETURN(JsonValue map, index.root().get("weight_map"));
  LATHE_ASSIGN_OR_RETURN(auto entries, map.members());
  std::map<std::string, std::vector<std::string>> weights;
  for (auto &[weight, value] : entries) {
    LATHE_ASSIGN_OR_RETURN(std::string shard, value.toString());
    if (!isPlainFileName(shard))
      return value.error("expected a plain file name, found \"" +
                         shard.substr(0, 100) + "\"");
    weights[shard].push_back(weight);
  }
  for (auto &[shard, names] : weights) {
    if (!fileExists(joinPath(directory, shard)))
      return modelError(std::string(kIndexFile) + ": the shard " + shard +
                        " does not exist; the download is incomplete");
    LATHE_RETURN_IF_ERROR(addFile(directory, shard));
    std::vector<std::string_view> present;
    for (const TensorInfo &info : shards.back()->header().tensors)
      present.push_back(info.name);
    std::sort(present.begin(), present.end());
    for (const std::string &name : names)
      if (!std::binary_search(present.begin(), present.end(), name))
        return modelError(std::string(kIndexFile) + ": " + name +
                          ": mapped to " + shard +
                          ", which has no such tensor");
    if (present.size() != names.size())
      return modelError(shard + ": holds " + std::to_string(present.size()) +
                        " tensors, but " + kIndexFile + " maps " +
                        std::to_string(names.size()) + " to it");
  }
  return absl::OkStatus();
}

StatusOr<TensorTable> TensorTable::open(const std::string &directory) {
  TensorTable table;
  if (fileExists(joinPath(directory, kIndexFile)))
    LATHE_RETURN_IF_ERROR(table.openShards(directory));
  else if (fileExists(joinPath(directory, kSingleFile)))
    LATHE_RETURN_IF_ERROR(table.addFile(directory, kSingleFile));
  else
    return modelError(directory + ": expected " + kSingleFile + " or " +
                      kIndexFile + "; only safetensors checkpoints are read");
  return table;
}

const TensorRef *TensorTable::find(std::string_view name) const {
  auto it = tensors.find(std::string(name));
  return it == tensors.end() ? nullptr : &it->second;
}

StatusOr<TensorRef> TensorTable::get(std::string_view name) const {
  if (const TensorRef *ref = find(name))
    return *ref;
  return modelError("the checkpoint has no tensor " + std::string(name));
}

std::vector<std::string> TensorTable::names() const {
  std::vector<std::string> out;
  for (const auto &[name, ref] : tensors)
    out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

} // namespace lathe
