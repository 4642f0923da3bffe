//===- Run.cpp - infer run: a prompt in, text out -------------------------===//

#include "tools/infer/Host.h"
#include "tools/infer/LoadedModel.h"
#include "tools/infer/Verbs.h"

#include "runtime/engine/Generate.h"
#include "runtime/io/Json.h"
#include "runtime/io/Safetensors.h"
#include "runtime/io/tokenizer/TextStream.h"

#include <nlohmann/json.hpp>

#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include <unistd.h>

namespace lathe::cli {

namespace {

std::atomic<bool> interrupted{false};

/// Everything a run knows besides the model.
struct Session {
  std::optional<Tokenizer> tokenizer;
  std::vector<int32_t> prompt;
  GenerateOptions generate;
  std::vector<float> logits; ///< rows of every position, for --logits
};

} // namespace

static StatusOr<std::string> readAll(const std::string &path) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file)
      return usageError(path + ": cannot be read");
  }
  std::istream &in = path == "-" ? std::cin : file;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

/// "1,2,3", or the name of a file that holds such a list (commas or blanks).
static StatusOr<std::vector<int32_t>> parseTokenIds(const std::string &given) {
  std::string list = given;
  if (list.find_first_not_of("0123456789, ") != std::string::npos) {
    LATHE_ASSIGN_OR_RETURN(list, readAll(given));
  }
  std::vector<int32_t> ids;
  const char *p = list.data(), *end = p + list.size();
  while (true) {
    while (p < end && (*p == ',' || isspace(static_cast<unsigned char>(*p))))
      ++p;
    if (p == end)
      return ids;
    int32_t id;
    auto [next, error] = std::from_chars(p, end, id);
    if (error != std::errc())
      return usageError(
          "--token-ids: expected integers separated by commas, "
          "found \"" +
          std::string(p, size_t(std::min<ptrdiff_t>(end - p, 20))) + "\"");
    ids.push_back(id);
    p = next;
  }
}

static StatusOr<std::string> promptText(const RunOptions &options) {
  if (options.prompt)
    return *options.prompt;
  if (!options.promptFile.empty())
    return readAll(options.promptFile);
  if (isatty(STDIN_FILENO))
    return usageError("no prompt: give -p TEXT, --prompt-file FILE, "
                      "--token-ids LIST or text on standard input");
  return readAll("-");
}

static Status readPrompt(const RunOptions &options, Session &session) {
  if (!options.tokenIds.empty()) {
    LATHE_ASSIGN_OR_RETURN(session.prompt, parseTokenIds(options.tokenIds));
    return absl::OkStatus();
  }
  LATHE_ASSIGN_OR_RETURN(std::string text, promptText(options));
  if (!session.tokenizer)
    return modelError(options.model.directory +
                      "/tokenizer.json: missing; give --token-ids instead of "
                      "text");
  EncodeOptions encode;
  encode.parseSpecial = options.special;
  LATHE_ASSIGN_OR_RETURN(session.prompt,
                         session.tokenizer->encode(text, encode));
  return absl::OkStatus();
}

static void setSampling(const RunOptions &options,
                        const GenerationConfig &defaults,
                        SamplerOptions &sampling) {
  // A model that is meant to be sampled says so; otherwise be greedy.
  if (defaults.doSample.value_or(false)) {
    sampling.temperature = float(defaults.temperature.value_or(1.0));
    sampling.topK = defaults.topK.value_or(0);
    sampling.topP = float(defaults.topP.value_or(1.0));
  }
  sampling.temperature = options.temperature.value_or(sampling.temperature);
  sampling.topK = options.topK.value_or(sampling.topK);
  sampling.topP = options.topP.value_or(sampling.topP);
  sampling.minP = options.minP.value_or(sampling.minP);
  sampling.seed = options.seed ? *options.seed : std::random_device()();
}

static Status setUp(const RunOptions &options, const LoadedModel &model,
                    Session &session) {
  LATHE_ASSIGN_OR_RETURN(session.tokenizer, model.files->tokenizer());
  LATHE_RETURN_IF_ERROR(readPrompt(options, session));
  LATHE_ASSIGN_OR_RETURN(GenerationConfig defaults, model.files->generation());
  setSampling(options, defaults, session.generate.sampling);
  session.generate.maxTokens = options.maxTokens;
  session.generate.speculation = model.spec;
  if (!options.ignoreEos)
    session.generate.stopIds = defaults.stopIds;
  if (session.tokenizer)
    session.generate.vocabLimit = session.tokenizer->vocabSize();
  if (!options.logitsFile.empty())
    session.generate.onLogits = [&](RowsView rows) {
      for (int64_t i = 0; i < rows.rows; ++i)
        session.logits.insert(session.logits.end(), rows.row(i).begin(),
                              rows.row(i).end());
      return absl::OkStatus();
    };
  return absl::OkStatus();
}

template <class T>
static std::span<const uint8_t> bytesOf(const std::vector<T> &values) {
  return {reinterpret_cast<const uint8_t *>(values.data()),
          values.size() * sizeof(T)};
}

static Status writeLogits(const std::string &path, const Session &session,
                          const std::vector<int32_t> &output, int64_t vocab) {
  std::vector<int32_t> ids = session.prompt;
  ids.insert(ids.end(), output.begin(), output.end());
  const int64_t rows = int64_t(session.logits.size()) / vocab;
  ids.resize(size_t(rows));
  LATHE_ASSIGN_OR_RETURN(
      SafetensorsWriter writer,
      SafetensorsWriter::create(path,
                                {{"input_ids", DType::I32, {rows}},
                                 {"logits", DType::F32, {rows, vocab}}},
                                {}));
  LATHE_RETURN_IF_ERROR(writer.write("input_ids", 0, bytesOf(ids)));
  LATHE_RETURN_IF_ERROR(writer.write("logits", 0, bytesOf(session.logits)));
  return writer.commit();
}

/// The states that no position tells apart; those of a KV cache end in what the
/// next step overwrites.
static Status writeStates(const std::string &path, const LoadedModel &model) {
  std::vector<TensorSpec> specs;
  std::vector<std::vector<float>> values;
  for (const PlannedState &state : model.compiled->plan.states) {
    if (state.kind == StateKind::Kv)
      continue;
    specs.push_back({state.name, DType::F32, state.dims});
    LATHE_ASSIGN_OR_RETURN(values.emplace_back(),
                           model.engine->state(state.name));
  }
  LATHE_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                         SafetensorsWriter::create(path, specs, {}));
  for (size_t i = 0; i < specs.size(); ++i)
    LATHE_RETURN_IF_ERROR(writer.write(specs[i].name, 0, bytesOf(values[i])));
  return writer.commit();
}

static double rate(int64_t tokens, double milliseconds) {
  return milliseconds > 0 ? double(tokens) / milliseconds * 1e3 : 0;
}

/// Rounds, and how many of the drafts at each place held.
static void printSpeculation(const SpecStats &stats) {
  std::fprintf(
      stderr,
      "rounds      %9lld     %.2f tokens and %.2f ms each; %lld by MTP, "
      "%lld by lookup\n",
      static_cast<long long>(stats.rounds),
      double(stats.tokens) / double(stats.rounds),
      1e3 * stats.seconds / double(stats.rounds),
      static_cast<long long>(stats.roundsBy[1]),
      static_cast<long long>(stats.roundsBy[2]));
  if (stats.proposed[0] == 0)
    return;
  std::fprintf(stderr, "accepted   ");
  for (size_t i = 0; i < stats.proposed.size() && stats.proposed[i] > 0; ++i)
    std::fprintf(stderr, " %lld/%lld",
                 static_cast<long long>(stats.accepted[i]),
                 static_cast<long long>(stats.proposed[i]));
  std::fprintf(stderr, "\n");
}

static void printTimings(const LoadedModel &model, const GenerateResult &result,
                         const SamplerOptions &sampling) {
  const CompileStats &stats = model.compiled->stats;
  std::fprintf(
      stderr,
      "\ndevice      %s\n"
      "load        %9.1f ms\n"
      "compile     %9.1f ms  %llu kernels, %llu from the cache\n"
      "prompt      %9.1f ms  %lld tokens, %.1f tok/s\n"
      "generation  %9.1f ms  %zu tokens, %.1f tok/s\n"
      "peak memory %9.1f MiB\n",
      model.device.c_str(), model.loadMs, stats.graphMs + stats.kernelMs,
      static_cast<unsigned long long>(stats.kernels),
      static_cast<unsigned long long>(stats.cacheHits), result.promptMs,
      static_cast<long long>(result.promptTokens),
      rate(result.promptTokens, result.promptMs), result.generationMs,
      result.tokens.size(), rate(result.generationTokens, result.generationMs),
      double(peakMemory()) / (1 << 20));
  if (model.spec.mode != SpecOptions::Mode::Off &&
      result.speculation.rounds > 0)
    printSpeculation(result.speculation);
  if (sampling.temperature > 0)
    std::fprintf(stderr, "seed        %llu\n",
                 static_cast<unsigned long long>(sampling.seed));
  if (!stats.cacheProblem.empty())
    std::fprintf(stderr, "cache: %s\n", stats.cacheProblem.c_str());
}

static void printJson(const LoadedModel &model, const Session &session,
                      const GenerateResult &result, const std::string &text) {
  Json json;
  json["schema_version"] = 1;
  if (session.tokenizer)
    json["text"] = text;
  json["prompt_ids"] = session.prompt;
  json["token_ids"] = result.tokens;
  json["finish_reason"] = std::string(nameOf(result.reason));
  json["seed"] = session.generate.sampling.seed;
  const CompileStats &stats = model.compiled->stats;
  json["device"] = model.device;
  json["timings"] = {
      {"load_ms", model.loadMs},
      {"compile_ms", stats.graphMs + stats.kernelMs},
      {"kernels", stats.kernels},
      {"cache_hits", stats.cacheHits},
      {"prompt_tokens", result.promptTokens},
      {"prompt_ms", result.promptMs},
      {"prompt_tok_s", rate(result.promptTokens, result.promptMs)},
      {"generation_tokens", result.tokens.size()},
      {"generation_ms", result.generationMs},
      {"generation_tok_s", rate(result.generationTokens, result.generationMs)},
      {"peak_memory_bytes", peakMemory()}};
  const SpecStats &rounds = result.speculation;
  json["speculation"] = {
      {"rounds", rounds.rounds},     {"seconds", rounds.seconds},
      {"tokens", rounds.tokens},     {"proposed", rounds.proposed},
      {"accepted", rounds.accepted}, {"rounds_by_source", rounds.roundsBy}};
  std::printf("%s\n", json.dump().c_str());
}

/// Prints ids where there is no tokenizer, text where there is one.
static StatusOr<GenerateResult> stream(const RunOptions &options,
                                       LoadedModel &model, Session &session,
                                       std::string &text) {
  std::optional<TextStream> out;
  if (session.tokenizer) {
    LATHE_ASSIGN_OR_RETURN(
        out, TextStream::create(*session.tokenizer,
                                {options.stops, options.special}));
  }
  auto emit = [&](const std::string &piece) {
    text += piece;
    if (!options.json) {
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    }
  };
  bool first = true;
  session.generate.onToken = [&](int32_t id) {
    emit(out ? out->push(id) : (first ? "" : ",") + std::to_string(id));
    first = false;
    return !interrupted && !(out && out->stopped());
  };
  LATHE_ASSIGN_OR_RETURN(
      GenerateResult result,
      generate(*model.engine, session.prompt, session.generate));
  if (out)
    emit(out->flush());
  return result;
}

Status run(const RunOptions &options) {
  std::signal(SIGINT, [](int) { interrupted = true; });
  LATHE_ASSIGN_OR_RETURN(LoadedModel model, loadModel(options.model));
  Session session;
  LATHE_RETURN_IF_ERROR(setUp(options, model, session));
  std::string text;
  LATHE_ASSIGN_OR_RETURN(GenerateResult result,
                         stream(options, model, session, text));
  if (!options.logitsFile.empty())
    LATHE_RETURN_IF_ERROR(writeLogits(options.logitsFile, session,
                                      result.tokens, model.engine->vocab()));
  if (!options.statesFile.empty())
    LATHE_RETURN_IF_ERROR(writeStates(options.statesFile, model));
  if (options.json)
    printJson(model, session, result, text);
  else
    std::printf("\n");
  if (!options.model.quiet && !options.json)
    printTimings(model, result, session.generate.sampling);
  return interrupted ? cancelled() : absl::OkStatus();
}

} // namespace lathe::cli
