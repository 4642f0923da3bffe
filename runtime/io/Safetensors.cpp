#include "runtime/io/Safetensors.h"

#include "runtime/io/Json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

namespace lathe {

static constexpr int kMaxHeaderDepth = 8;

namespace {
struct DTypeRow {
  DType type;
  std::string_view name;
  int size;
};
} // namespace

static constexpr DTypeRow kTypes[] = {
    {DType::F64, "F64", 8},        {DType::F32, "F32", 4},
    {DType::F16, "F16", 2},        {DType::BF16, "BF16", 2},
    {DType::F8E4M3, "F8_E4M3", 1}, {DType::F8E5M2, "F8_E5M2", 1},
    {DType::F8E8M0, "F8_E8M0", 1}, {DType::I64, "I64", 8},
    {DType::I32, "I32", 4},        {DType::I16, "I16", 2},
    {DType::I8, "I8", 1},          {DType::U64, "U64", 8},
    {DType::U32, "U32", 4},        {DType::U16, "U16", 2},
    {DType::U8, "U8", 1},          {DType::Bool, "BOOL", 1}};

std::string_view nameOf(DType type) { return kTypes[size_t(type)].name; }

int64_t byteSize(DType type) { return kTypes[size_t(type)].size; }

std::optional<DType> parseDType(std::string_view name) {
  for (const DTypeRow &row : kTypes)
    if (row.name == name)
      return row.type;
  return std::nullopt;
}

std::string shapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

const TensorInfo *SafetensorsHeader::find(std::string_view name) const {
  for (const TensorInfo &t : tensors)
    if (t.name == name)
      return &t;
  return nullptr;
}

uint64_t fnv1a(std::span<const uint8_t> bytes, uint64_t seed) {
  for (uint8_t b : bytes)
    seed = (seed ^ b) * 0x100000001b3;
  return seed;
}

/// dtype size times the product of `shape`; nothing on overflow.
static std::optional<uint64_t> checkedBytes(DType type,
                                            std::span<const int64_t> shape) {
  uint64_t bytes = uint64_t(byteSize(type));
  bool zero = std::find(shape.begin(), shape.end(), 0) != shape.end();
  if (zero)
    return 0;
  for (int64_t d : shape)
    if (__builtin_mul_overflow(bytes, uint64_t(d), &bytes))
      return std::nullopt;
  return bytes;
}

static StatusOr<TensorInfo>
parseTensor(std::string name, const JsonValue &entry, uint64_t dataSize) {
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  TensorInfo info{.name = std::move(name), .shape = {}};
  LATHE_ASSIGN_OR_RETURN(std::string dtype, entry.getString("dtype"));
  std::optional<DType> type = parseDType(dtype);
  if (!type)
    return entry.error("the element type \"" + dtype.substr(0, 40) +
                       "\" is not supported");
  info.dtype = *type;
  LATHE_ASSIGN_OR_RETURN(JsonValue shape, entry.get("shape"));
  LATHE_ASSIGN_OR_RETURN(auto dims, shape.elements());
  for (const JsonValue &dim : dims) {
    LATHE_ASSIGN_OR_RETURN(int64_t d, dim.toInt(0, kAny));
    info.shape.push_back(d);
  }
  LATHE_ASSIGN_OR_RETURN(JsonValue range, entry.get("data_offsets"));
  LATHE_ASSIGN_OR_RETURN(auto ends, range.elements());
  if (ends.size() != 2)
    return range.error("expected [begin, end], found " +
                       std::to_string(ends.size()) + " values");
  LATHE_ASSIGN_OR_RETURN(int64_t begin, ends[0].toInt(0, kAny));
  LATHE_ASSIGN_OR_RETURN(int64_t end, ends[1].toInt(0, kAny));
  info.begin = uint64_t(begin);
  info.end = uint64_t(end);
  std::string span = std::to_string(begin) + " to " + std::to_string(end);
  if (begin > end)
    return range.error("the bytes " + span + " run backwards");
  if (info.end > dataSize)
    return range.error("the bytes " + span + " lie outside the " +
                       std::to_string(dataSize) +
                       " bytes of data; the file is truncated or damaged");
  std::optional<uint64_t> bytes = checkedBytes(*type, info.shape);
  if (!bytes || *bytes != info.bytes())
    return entry.error(dtype + " " + shapeText(info.shape) + " takes " +
                       (bytes ? std::to_string(*bytes) : "over 2^64") +
                       " bytes, but the offsets give it " +
                       std::to_string(info.bytes()));
  return info;
}

/// The tensors, sorted by offset, must tile [0, dataSize).
static Status checkTiling(std::span<const TensorInfo> tensors,
                          uint64_t dataSize, std::string_view file) {
  uint64_t next = 0;
  for (const TensorInfo &t : tensors) {
    if (t.begin != next)
      return modelError(
          std::string(file) + ": " + t.name + ": starts at byte " +
          std::to_string(t.begin) + ", which " +
          (t.begin < next ? "overlaps the tensor before it" : "leaves a hole") +
          " (expected " + std::to_string(next) + ")");
    next = t.end;
  }
  if (next != dataSize)
    return modelError(std::string(file) + ": the tensors end at byte " +
                      std::to_string(next) + " of the data, which has " +
                      std::to_string(dataSize) + " bytes");
  return absl::OkStatus();
}

StatusOr<SafetensorsHeader>
parseSafetensorsHeader(std::span<const uint8_t> headerJson, uint64_t dataSize,
                       std::string_view file) {
  std::string_view text(reinterpret_cast<const char *>(headerJson.data()),
                        headerJson.size());
  if (text.empty() || text[0] != '{')
    return modelError(std::string(file) +
                      ": expected a safetensors header that starts with '{'");
  LATHE_ASSIGN_OR_RETURN(
      JsonDocument document,
      JsonDocument::parse(text, std::string(file), kMaxHeaderDepth));
  LATHE_ASSIGN_OR_RETURN(auto members, document.root().members());
  SafetensorsHeader header;
  for (auto &[name, entry] : members) {
    if (name != "__metadata__") {
      LATHE_ASSIGN_OR_RETURN(TensorInfo info,
                             parseTensor(name, entry, dataSize));
      header.tensors.push_back(std::move(info));
      continue;
    }
    LATHE_ASSIGN_OR_RETURN(auto pairs, entry.members());
    for (auto &[key, value] : pairs) {
      LATHE_ASSIGN_OR_RETURN(std::string string, value.toString());
      header.metadata.emplace_back(key, std::move(string));
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo &a, const TensorInfo &b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });
  LATHE_RETURN_IF_ERROR(checkTiling(header.tensors, dataSize, file));
  return header;
}

SafetensorsFile::SafetensorsFile(File file, SafetensorsHeader header,
                                 uint64_t dataStart, uint64_t hash)
    : file(std::move(file)), content(std::move(header)), dataStart(dataStart),
      hash(hash) {}

StatusOr<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  LATHE_ASSIGN_OR_RETURN(File file, File::open(path));
  if (file.size() < 8)
    return modelError(file.name() +
                      ": expected a safetensors file, found only " +
                      std::to_string(file.size()) + " bytes");
  uint8_t prefix[8];
  LATHE_RETURN_IF_ERROR(file.readAt(0, prefix));
  uint64_t length = 0;
  std::memcpy(&length, prefix, 8);
  uint64_t rest = file.size() - 8;
  if (length > std::min(kMaxSafetensorsHeader, rest))
    return modelError(file.name() + ": the header claims " +
                      std::to_string(length) + " bytes, but only " +
                      std::to_string(std::min(kMaxSafetensorsHeader, rest)) +
                      " are possible; the file is truncated or no safetensors "
                      "file");
  std::vector<uint8_t> text(length);
  LATHE_RETURN_IF_ERROR(file.readAt(8, text));
  LATHE_ASSIGN_OR_RETURN(
      SafetensorsHeader header,
      parseSafetensorsHeader(text, rest - length, file.name()));
  uint64_t hash = fnv1a(text);
  return SafetensorsFile(std::move(file), std::move(header), 8 + length, hash);
}

Status SafetensorsFile::read(const TensorInfo &tensor, uint64_t offset,
                             std::span<uint8_t> out) const {
  if (offset > tensor.bytes() || out.size() > tensor.bytes() - offset)
    return internalError(name() + ": " + tensor.name +
                         ": read past the tensor's end");
  return file.readAt(dataStart + tensor.begin + offset, out);
}

static std::string headerText(const SafetensorsHeader &header) {
  Json root = Json::object();
  // Appending to the vector underneath keeps this linear.
  auto &members = root.get_ref<Json::object_t &>();
  members.reserve(header.tensors.size() + 1);
  if (!header.metadata.empty()) {
    Json metadata = Json::object();
    for (const auto &[key, value] : header.metadata)
      metadata[key] = value;
    members.emplace_back("__metadata__", std::move(metadata));
  }
  for (const TensorInfo &t : header.tensors)
    members.emplace_back(t.name, Json{{"dtype", nameOf(t.dtype)},
                                      {"shape", t.shape},
                                      {"data_offsets", {t.begin, t.end}}});
  std::string text = root.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

SafetensorsWriter::SafetensorsWriter(AtomicFile file, std::string path,
                                     SafetensorsHeader header,
                                     uint64_t dataStart)
    : file(std::move(file)), path(std::move(path)), content(std::move(header)),
      dataStart(dataStart) {
  for (size_t i = 0; i < content.tensors.size(); ++i)
    byName.emplace_back(content.tensors[i].name, i);
  std::sort(byName.begin(), byName.end());
}

StatusOr<SafetensorsWriter> SafetensorsWriter::create(
    const std::string &path, std::vector<TensorSpec> tensors,
    const std::vector<std::pair<std::string, std::string>> &metadata) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorSpec &a, const TensorSpec &b) {
              return std::pair(-byteSize(a.dtype), std::string_view(a.name)) <
                     std::pair(-byteSize(b.dtype), std::string_view(b.name));
            });
  SafetensorsHeader header{.tensors = {}, .metadata = metadata};
  uint64_t offset = 0;
  for (TensorSpec &t : tensors) {
    std::optional<uint64_t> bytes = checkedBytes(t.dtype, t.shape);
    if (!bytes)
      return usageError(path + ": tensor " + t.name + " is too big");
    header.tensors.push_back({std::move(t.name), t.dtype, std::move(t.shape),
                              offset, offset + *bytes});
    offset += *bytes;
  }
  LATHE_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  std::string text = headerText(header);
  uint64_t length = text.size();
  std::vector<uint8_t> bytes(8 + text.size());
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, text.data(), text.size());
  LATHE_RETURN_IF_ERROR(file.writeAt(0, bytes));
  return SafetensorsWriter(std::move(file), path, std::move(header),
                           bytes.size());
}

Status SafetensorsWriter::write(std::string_view name, uint64_t offset,
                                std::span<const uint8_t> bytes) {
  auto it = std::lower_bound(byName.begin(), byName.end(),
                             std::pair(name, size_t(0)));
  if (it == byName.end() || it->first != name)
    return internalError(path + ": no tensor is called " + std::string(name));
  const TensorInfo &tensor = content.tensors[it->second];
  if (offset > tensor.bytes() || bytes.size() > tensor.bytes() - offset)
    return internalError(path + ": " + tensor.name +
                         ": write past the tensor's end");
  written += bytes.size();
  return file.writeAt(dataStart + tensor.begin + offset, bytes);
}

Status SafetensorsWriter::commit() {
  uint64_t total = content.tensors.empty() ? 0 : content.tensors.back().end;
  if (written != total)
    return internalError(path + ": " + std::to_string(written) + " of " +
                         std::to_string(total) + " bytes were written");
  return file.commit();
}

} // namespace lathe
