#include "runtime/io/QuantizePlan.h"

#include "runtime/io/Json.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace lathe {

static constexpr std::string_view kWeight = ".weight";
/// Small and sensitive: decay and beta projections, routers.
static constexpr std::string_view kKeptParts[] = {
    "in_proj_a", "in_proj_b", "in_proj_ba", "gate", "shared_expert_gate"};

static bool isTied(const JsonValue &config) {
  for (const char *section : {"", "text_config"}) {
    const Json &raw = config.raw();
    const Json *object = &raw;
    if (*section) {
      auto it = raw.find(section);
      if (it == raw.end())
        continue;
      object = &*it;
    }
    auto flag = object->find("tie_word_embeddings");
    if (flag != object->end() && flag->is_boolean() && flag->get<bool>())
      return true;
  }
  return false;
}

/// Whether the options ask for the module with this canonical name.
static bool isWanted(std::string_view module, bool tied,
                     const QuantizeOptions &options) {
  std::string_view last = module.substr(module.find_last_of('.') + 1);
  if (std::ranges::find(kKeptParts, last) != std::end(kKeptParts))
    return false;
  if (module == "embed_tokens")
    return options.embeddings || (options.lmHead && tied);
  if (module == "lm_head")
    return options.lmHead;
  if (module.starts_with("mtp.layers."))
    return options.mtp;
  return module.starts_with("layers.");
}

static PlanItem planTensor(const TensorRef &tensor, bool tied,
                           const QuantizeOptions &options) {
  const TensorInfo &info = *tensor.info;
  PlanItem item{.tensor = tensor, .module = {}};
  std::optional<std::string> name = canonicalName(info.name);
  bool isFloat = info.dtype == DType::BF16 || info.dtype == DType::F16 ||
                 info.dtype == DType::F32;
  if (!name || !isFloat || info.shape.size() != 2 ||
      !name->ends_with(kWeight) || info.bytes() == 0)
    return item;
  item.module = info.name.substr(0, info.name.size() - kWeight.size());
  name->resize(name->size() - kWeight.size());
  if (!isWanted(*name, tied, options))
    item.action = PlanItem::Action::Keep;
  else if (info.shape[1] % options.group != 0 || info.shape[0] % 8 != 0)
    item.action = PlanItem::Action::Misfit;
  else
    item.action = PlanItem::Action::Quantize;
  return item;
}

StatusOr<std::vector<PlanItem>> planQuantize(const Checkpoint &source,
                                             const QuantizeOptions &options) {
  LATHE_ASSIGN_OR_RETURN(
      JsonDocument config,
      JsonDocument::parse(source.configText(), "config.json"));
  if (!config.root().isObject())
    return config.root().mismatch("an object");
  if (source.quantization().method != QuantMethod::None)
    return modelError("config.json: quantization_config: the checkpoint is "
                      "quantised already; start from the BF16 or F16 one");
  bool tied = isTied(config.root());
  std::vector<PlanItem> plan;
  for (const auto &file : source.tensors().files())
    for (const TensorInfo &info : file->header().tensors)
      plan.push_back(planTensor({file.get(), &info}, tied, options));
  if (std::ranges::none_of(plan, [](const PlanItem &item) {
        return item.action == PlanItem::Action::Quantize;
      }))
    return modelError(source.directory() +
                      ": found no linear that the format fits; expected "
                      "matrices called layers.<n>.<name>.weight");
  return plan;
}

std::vector<TensorSpec> outputSpecs(const PlanItem &item,
                                    const QuantizeOptions &options) {
  const TensorInfo &info = *item.tensor.info;
  if (item.action != PlanItem::Action::Quantize)
    return {{info.name, info.dtype, info.shape}};
  const int64_t rows = info.shape[0], cols = info.shape[1];
  const int64_t groups = cols / options.group;
  const std::string &m = item.module;
  if (options.format == WeightFormat::Int4)
    return {{m + ".qweight", DType::I32, {cols / 8, rows}},
            {m + ".qzeros", DType::I32, {groups, rows / 8}},
            {m + ".scales", DType::F16, {groups, rows}}};
  return {{m + ".weight", DType::U8, {rows, cols / 2}},
          {m + ".weight_scale", DType::F8E4M3, {rows, groups}},
          {m + ".weight_scale_2", DType::F32, {}}};
}

/// "model.language_model.layers" for a module inside it; empty for others.
static std::string blockOf(const std::string &module) {
  std::optional<std::string> name = canonicalName(module);
  if (!name || !name->starts_with("layers."))
    return "";
  return module.substr(0, module.find("layers.") + 6);
}

static Json autoRoundConfig(const std::vector<PlanItem> &plan, int group) {
  std::string block;
  Json extra = Json::object();
  for (const PlanItem &item : plan) {
    std::string own = blockOf(item.module);
    bool quantized = item.action == PlanItem::Action::Quantize;
    if (quantized && !own.empty())
      block = own;
    if (item.action == PlanItem::Action::Copy || quantized != own.empty())
      continue;
    extra[item.module] = quantized ? Json{{"bits", 4},
                                          {"group_size", group},
                                          {"sym", true},
                                          {"data_type", "int"}}
                                   : Json{{"bits", 16}, {"data_type", "fp"}};
  }
  Json config{{"bits", 4},
              {"data_type", "int"},
              {"group_size", group},
              {"sym", true},
              {"quant_method", "auto-round"},
              {"packing_format", "auto_round:auto_gptq"}};
  if (!block.empty())
    config["block_name_to_quantize"] = block;
  config["extra_config"] = extra;
  return config;
}

static Json excludedModules(const std::vector<PlanItem> &plan) {
  Json names = Json::array();
  for (const PlanItem &item : plan)
    if (item.action == PlanItem::Action::Keep ||
        item.action == PlanItem::Action::Misfit)
      names.push_back(item.module);
  for (const PlanItem &item : plan)
    if (!canonicalName(item.tensor.info->name)) {
      names.push_back("model.visual*");
      break;
    }
  return names;
}

static Json producer() { return {{"name", "lathe"}, {"version", "0.1.0"}}; }

static Json modelOptSection(const std::vector<PlanItem> &plan) {
  Json weights{{"dynamic", false},
               {"num_bits", 4},
               {"type", "float"},
               {"group_size", 16}};
  Json excluded = excludedModules(plan);
  return {{"config_groups",
           {{"group_0",
             {{"weights", weights}, {"targets", Json::array({"Linear"})}}}}},
          {"ignore", excluded},
          {"exclude_modules", excluded},
          {"quant_algo", "W4A16_NVFP4"},
          {"group_size", 16},
          {"producer", producer()},
          {"quant_method", "modelopt"}};
}

StatusOr<std::string> quantizedConfig(const Checkpoint &source,
                                      const std::vector<PlanItem> &plan,
                                      const QuantizeOptions &options) {
  LATHE_ASSIGN_OR_RETURN(
      JsonDocument document,
      JsonDocument::parse(source.configText(), "config.json"));
  Json config = document.root().raw();
  config["quantization_config"] = options.format == WeightFormat::Int4
                                      ? autoRoundConfig(plan, options.group)
                                      : modelOptSection(plan);
  return config.dump(2) + "\n";
}

std::string modelOptConfig(const std::vector<PlanItem> &plan) {
  Json root{{"producer", producer()},
            {"quantization",
             {{"quant_algo", "W4A16_NVFP4"},
              {"kv_cache_quant_algo", nullptr},
              {"group_size", 16},
              {"exclude_modules", excludedModules(plan)}}}};
  return root.dump(2) + "\n";
}

uint64_t byteSize(const TensorSpec &spec) {
  uint64_t bytes = uint64_t(byteSize(spec.dtype));
  for (int64_t d : spec.shape)
    bytes *= uint64_t(d);
  return bytes;
}

std::string shardIndex(const std::vector<std::string> &files,
                       const std::vector<std::vector<TensorSpec>> &shards) {
  uint64_t total = 0;
  Json map = Json::object();
  auto &members = map.get_ref<Json::object_t &>();
  for (size_t i = 0; i < files.size(); ++i)
    for (const TensorSpec &spec : shards[i]) {
      total += byteSize(spec);
      members.emplace_back(spec.name, files[i]);
    }
  Json root{{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  return root.dump(2) + "\n";
}

} // namespace lathe
