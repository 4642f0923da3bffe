#include "runtime/artifact/PlanJson.h"

#include "runtime/artifact/JsonFields.h"

// Records are taken apart by structured bindings on purpose: a field that is
// added to Plan.h does not compile until it is written, read and tested.

namespace lathe {
namespace {

const std::initializer_list<std::string_view> kLayouts = {
    "rows", "tiles", "vector", "transposed"};
const std::initializer_list<std::string_view> kStateKinds = {"kv", "conv",
                                                             "recurrent"};
const std::initializer_list<std::string_view> kSpaces = {
    "arena", "weight", "state", "input", "output"};
const std::initializer_list<std::string_view> kFormats = {"f32", "f16", "bf16",
                                                          "int4", "nvfp4"};

template <typename Enum>
std::string_view nameIn(std::initializer_list<std::string_view> names,
                        Enum value) {
  return names.begin()[size_t(value)];
}

Json toJson(const PlannedStage &stage);
Json toJson(const PlannedKernel &kernel);
Json toJson(const PlannedWeight &weight);
Json toJson(const PlannedState &state);
Json toJson(const PlannedIo &io);
Json toJson(const PlannedLaunch &launch);
Json toJson(const PlannedEntry &entry);
Json toJson(const PlannedStep &step);

template <typename T> Json arrayOf(const std::vector<T> &records) {
  Json array = Json::array();
  for (const T &record : records)
    array.push_back(toJson(record));
  return array;
}

Json toJson(const PlannedStage &stage) {
  const auto &[entry, threads, blocks, tokensPerBlock, dynamicShared, grain,
               registers, spillBytes, stackBytes] = stage;
  return {{"entry", entry},
          {"threads", threads},
          {"blocks", blocks},
          {"tokens_per_block", tokensPerBlock},
          {"dynamic_shared", dynamicShared},
          {"grain", grain},
          {"registers", registers},
          {"spill_bytes", spillBytes},
          {"stack_bytes", stackBytes}};
}

PlannedStage stageFrom(JsonFields fields) {
  PlannedStage stage;
  auto &[entry, threads, blocks, tokensPerBlock, dynamicShared, grain,
         registers, spillBytes, stackBytes] = stage;
  entry = fields.text("entry");
  threads = fields.integer<int32_t>("threads");
  blocks = fields.integer<int32_t>("blocks");
  tokensPerBlock = fields.integer<int32_t>("tokens_per_block");
  dynamicShared = fields.integer<int32_t>("dynamic_shared");
  grain = fields.integer<int32_t>("grain");
  registers = fields.integer<int32_t>("registers");
  spillBytes = fields.integer<int32_t>("spill_bytes");
  stackBytes = fields.integer<int32_t>("stack_bytes");
  fields.finish();
  return stage;
}

Json toJson(const PlannedKernel &kernel) {
  const auto &[name, sharedBytes, bytesPerPosition, localBytes, stages] =
      kernel;
  return {{"name", name},
          {"shared_bytes", sharedBytes},
          {"bytes_per_position", bytesPerPosition},
          {"local_bytes", localBytes},
          {"stages", arrayOf(stages)}};
}

PlannedKernel kernelFrom(JsonFields fields) {
  PlannedKernel kernel;
  auto &[name, sharedBytes, bytesPerPosition, localBytes, stages] = kernel;
  name = fields.text("name");
  sharedBytes = fields.integer<int64_t>("shared_bytes");
  bytesPerPosition = fields.integer<int64_t>("bytes_per_position");
  localBytes = fields.integer<int64_t>("local_bytes");
  stages = fields.objects("stages", stageFrom);
  fields.finish();
  return kernel;
}

Json toJson(const PlannedWeight &weight) {
  const auto &[name, layout, desc, shape] = weight;
  const auto &[format, rows, cols, group, asymmetric] = desc;
  return {{"name", name},
          {"layout", nameIn(kLayouts, layout)},
          {"format", nameIn(kFormats, format)},
          {"rows", rows},
          {"cols", cols},
          {"group", group},
          {"asymmetric", asymmetric},
          {"shape", shape}};
}

PlannedWeight weightFrom(JsonFields fields) {
  PlannedWeight weight;
  auto &[name, layout, desc, shape] = weight;
  auto &[format, rows, cols, group, asymmetric] = desc;
  name = fields.text("name");
  layout = Layout(fields.oneOf("layout", kLayouts));
  format = WeightFormat(fields.oneOf("format", kFormats));
  rows = fields.integer<int64_t>("rows");
  cols = fields.integer<int64_t>("cols");
  group = fields.integer<int32_t>("group");
  asymmetric = fields.boolean("asymmetric");
  shape = fields.integers("shape", 0);
  fields.finish();
  return weight;
}

Json toJson(const PlannedState &state) {
  const auto &[name, kind, dims, elementBytes, ring] = state;
  return {{"name", name},
          {"kind", nameIn(kStateKinds, kind)},
          {"dims", dims},
          {"element_bytes", elementBytes},
          {"ring", ring}};
}

PlannedState stateFrom(JsonFields fields) {
  PlannedState state;
  auto &[name, kind, dims, elementBytes, ring] = state;
  name = fields.text("name");
  kind = StateKind(fields.oneOf("kind", kStateKinds));
  dims = fields.integers("dims", 1);
  elementBytes = fields.integer<int32_t>("element_bytes");
  ring = fields.integer<int32_t>("ring");
  fields.finish();
  return state;
}

Json toJson(const PlannedIo &io) {
  const auto &[width] = io;
  return width;
}

std::vector<PlannedIo> iosFrom(JsonFields &fields, const char *key) {
  std::vector<PlannedIo> ios;
  for (int64_t width : fields.integers(key, 0))
    ios.push_back({width});
  return ios;
}

Json toJson(const PlannedLaunch &launch) {
  const auto &[kernel, operands] = launch;
  Json array = {kernel};
  for (const PlannedOperand &operand : operands) {
    const auto &[space, value] = operand;
    array.push_back(nameIn(kSpaces, space));
    array.push_back(value);
  }
  return array;
}

/// The launches of an entry. Their elements have no names, so problems name
/// the launch.
class LaunchReader {
public:
  LaunchReader(const Json &value, std::string path, JsonProblem &problem)
      : value(value), path(std::move(path)), problem(problem) {}

  PlannedLaunch read() {
    PlannedLaunch launch{};
    if (!value.is_array() || value.size() % 2 != 1) {
      problem.add(path, "expected [kernel, space, value, space, value, ...]");
      return launch;
    }
    launch.kernel = int32_t(number(0, std::numeric_limits<int32_t>::max()));
    for (size_t i = 1; i < value.size(); i += 2)
      launch.operands.push_back(
          {space(i), number(i + 1, std::numeric_limits<int64_t>::max())});
    return launch;
  }

private:
  int64_t number(size_t index, int64_t max) {
    const Json &element = value[index];
    if (element.is_number_unsigned() &&
        element.get<uint64_t>() <= uint64_t(max))
      return element.get<int64_t>();
    problem.add(path, "expected an integer from 0 to " + std::to_string(max) +
                          " as element " + std::to_string(index));
    return 0;
  }

  PlannedOperand::Space space(size_t index) {
    const Json &element = value[index];
    for (size_t i = 0; i < kSpaces.size(); ++i)
      if (element.is_string() && element == kSpaces.begin()[i])
        return PlannedOperand::Space(i);
    problem.add(path, "expected arena, weight, state, input or output as "
                      "element " +
                          std::to_string(index));
    return {};
  }

  const Json &value;
  std::string path;
  JsonProblem &problem;
};

Json toJson(const PlannedEntry &entry) {
  const auto &[function, tokens, prefill, arenaBytes, inputs, outputs,
               launches] = entry;
  return {{"function", function},         {"tokens", tokens},
          {"prefill", prefill},           {"arena_bytes", arenaBytes},
          {"inputs", arrayOf(inputs)},    {"outputs", arrayOf(outputs)},
          {"launches", arrayOf(launches)}};
}

PlannedEntry entryFrom(JsonFields fields, JsonProblem &problem) {
  PlannedEntry entry;
  auto &[function, tokens, prefill, arenaBytes, inputs, outputs, launches] =
      entry;
  function = fields.text("function");
  tokens = fields.integer<int64_t>("tokens");
  prefill = fields.boolean("prefill");
  arenaBytes = fields.integer<int64_t>("arena_bytes");
  inputs = iosFrom(fields, "inputs");
  outputs = iosFrom(fields, "outputs");
  for (const auto &[path, value] : fields.elements("launches"))
    launches.push_back(LaunchReader(*value, path, problem).read());
  fields.finish();
  return entry;
}

Json toJson(const PlannedProfile &profile) {
  const auto &[arch, sms] = profile;
  return {{"arch", arch}, {"sms", sms}};
}

PlannedProfile profileFrom(JsonFields fields) {
  PlannedProfile profile;
  auto &[arch, sms] = profile;
  arch = fields.text("arch");
  sms = fields.integer<int32_t>("sms");
  fields.finish();
  return profile;
}

Json toJson(const PlannedStep &step) {
  const auto &[tokens, kernel, covers] = step;
  return {{"tokens", tokens}, {"kernel", kernel}, {"covers", covers}};
}

PlannedStep stepFrom(JsonFields fields) {
  PlannedStep step;
  auto &[tokens, kernel, covers] = step;
  tokens = fields.integer<int64_t>("tokens");
  kernel = fields.integer<int32_t>("kernel");
  for (int64_t covered : fields.integers("covers", 0))
    covers.push_back(int32_t(covered));
  fields.finish();
  return step;
}

} // namespace

std::string planToJson(const Plan &plan) {
  const auto &[target, profile, kernels, weights, states, entries, steps] =
      plan;
  return readableText({{"target", target},
                       {"profile", toJson(profile)},
                       {"kernels", arrayOf(kernels)},
                       {"weights", arrayOf(weights)},
                       {"states", arrayOf(states)},
                       {"entries", arrayOf(entries)},
                       {"steps", arrayOf(steps)}});
}

StatusOr<Plan> planFromJson(std::string_view text, const std::string &file) {
  LATHE_ASSIGN_OR_RETURN(Json root, parseStrictly(text, file));
  JsonProblem problem{file, {}};
  JsonFields fields(root, "", problem);
  Plan plan;
  auto &[target, profile, kernels, weights, states, entries, steps] = plan;
  target = fields.text("target");
  fields.object("profile", [&, &profile = profile](JsonFields object) {
    profile = profileFrom(std::move(object));
  });
  kernels = fields.objects("kernels", kernelFrom);
  weights = fields.objects("weights", weightFrom);
  states = fields.objects("states", stateFrom);
  entries = fields.objects("entries", [&](JsonFields entry) {
    return entryFrom(std::move(entry), problem);
  });
  steps = fields.objects("steps", stepFrom);
  fields.finish();
  LATHE_RETURN_IF_ERROR(problem.status);
  LATHE_RETURN_IF_ERROR(annotate(checkPlan(plan), file));
  return plan;
}

} // namespace lathe
