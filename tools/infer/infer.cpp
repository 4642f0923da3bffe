//===- infer.cpp - the command line of Lathe ------------------------------===//

#include "tools/infer/Verbs.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>

using namespace lathe;
using namespace lathe::cli;

static std::string isDevice(const std::string &name) {
  const bool good =
      name == "auto" || name == "cpu" || name == "cuda" ||
      (name.starts_with("cuda:") && name.size() > 5 && name.size() < 10 &&
       name.find_first_not_of("0123456789", 5) == name.npos);
  return good ? "" : "expected auto, cpu, cuda or cuda:N, found " + name;
}

static void addModelOptions(CLI::App *verb, ModelOptions &model,
                            bool synthetic) {
  auto *directory =
      verb->add_option("model", model.directory,
                       "A Hugging Face checkpoint, or a bundle of infer "
                       "compile");
  if (synthetic) {
    auto *config = verb->add_option(
        "--synthetic", model.synthetic,
        "Random weights in the shapes of this config.json, no checkpoint");
    directory->excludes(config);
    verb->add_option("--format", model.format,
                     "Synthetic weights: f32, f16, bf16, int4, nvfp4");
    verb->add_option("--head-format", model.headFormat,
                     "Synthetic head; default: as --format");
  } else {
    directory->required();
  }
  verb->add_option("-c,--ctx", model.context,
                   "Context in tokens; default: the model's, at most 4096")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, int64_t>{
              {"k", 1000}, {"K", 1024}, {"m", 1000000}, {"M", 1048576}},
          CLI::AsNumberWithUnit::CASE_SENSITIVE))
      ->check(CLI::PositiveNumber);
  verb->add_option("-t,--threads", model.threads, "Default: one per core")
      ->check(CLI::Range(1, 1024));
  verb->add_option("--isa", model.isa, "avx2 or avx512; default: the best");
  verb->add_option("--cache-dir", model.cacheDirectory,
                   "Compiled kernels; default: ~/.cache/lathe");
  verb->add_flag("--no-cache", model.noCache, "Compile every kernel anew");
  verb->add_option("--device", model.device,
                   "auto, cpu, cuda or cuda:N; auto is a GPU if there is one")
      ->check(isDevice);
  verb->add_option("--entry", model.entry,
                   "GPU: a decode step as single launches, as one persistent "
                   "kernel, or as the faster of the two (auto)")
      ->check(CLI::IsMember({"auto", "launches", "persistent"}))
      ->capture_default_str();
  verb->add_option("--kv", model.kv,
                   "KV cache: f16 or f32; default: f16 on "
                   "a GPU, f32 on the CPU")
      ->check(CLI::IsMember({"f16", "f32"}));
  verb->add_option("--model", model.checkpoint,
                   "Where the checkpoint of a bundle is now");
  verb->add_option("--prefill-chunk", model.prefillChunk,
                   "Prompt tokens at once; default: 256 on the CPU, 1024 on "
                   "a GPU");
  verb->add_option("--prefill-activations", model.prefillForm,
                   "With 4-bit weights, CPU: int15 as exact as decode, int8 "
                   "fast, or mixed; GPU: split as exact as f32, half, or "
                   "mixed: half for 4-bit weights only")
      ->capture_default_str();
  verb->add_option("--decode-activations", model.decodeForm,
                   "GPU: split, half or mixed, as for prompts")
      ->check(CLI::IsMember({"mixed", "half", "split"}))
      ->capture_default_str();
  verb->add_option("--graph", model.graph,
                   "Take the graph IR from this .mlir file");
  verb->add_option("--dump", model.dump,
                   "STAGE DIR: write graph, fused, kernel, plan, cpp, "
                   "cuda or all")
      ->expected(2);
  verb->add_option(
          "--spec", model.spec,
          "Drafts per round: auto, none, mtp:1 to mtp:7, or ngram:1 to "
          "ngram:8 out of the text so far; never changes the text")
      ->capture_default_str();
  verb->add_option(
          "--draft-head", model.draftHead,
          "The head that drafts use: full, int8, int4 or nvfp4; default: "
          "full where the head has 4 bits, else int4")
      ->check(CLI::IsMember({"full", "int8", "int4", "nvfp4"}));
  verb->add_option("--draft-vocab", model.draftVocab,
                   "How many tokens drafts choose from, or the file of infer "
                   "tune-vocab; default: by cost");
  verb->add_flag("--strict", model.strict,
                 "Fail when an operation misses its fused kernel");
  verb->add_flag("-q,--quiet", model.quiet, "Print the result only");
}

static void addProfileOptions(CLI::App *verb, ModelOptions &model) {
  auto *profile = verb->add_option(
      "--profile", model.profile,
      "GPU: plan every kernel within the limits of this architecture (sm_120), "
      "whatever the code is for");
  verb->add_option("--sms", model.profileSms,
                   "Multiprocessors of the profile; default: a common card's")
      ->check(CLI::Range(1, 1024))
      ->needs(profile);
}

static void addRun(CLI::App &app, RunOptions &o) {
  CLI::App *verb = app.add_subcommand("run", "Continue a prompt");
  o.model.spec = "auto";
  addModelOptions(verb, o.model, false);
  auto *prompt = verb->add_option("-p,--prompt", o.prompt, "The prompt");
  auto *file = verb->add_option("--prompt-file", o.promptFile,
                                "Read the prompt from a file, - for stdin");
  auto *ids = verb->add_option("--token-ids", o.tokenIds,
                               "1,2,3 or a file of ids, instead of text");
  prompt->excludes(file)->excludes(ids);
  file->excludes(ids);
  verb->add_option("-n,--n-predict", o.maxTokens,
                   "Most tokens to generate; -1: until the text ends");
  verb->add_option("--temp", o.temperature, "Temperature; 0 is greedy");
  verb->add_option("--top-k", o.topK, "Keep the k likeliest; 0 is off");
  verb->add_option("--top-p", o.topP, "Keep this probability mass; 1 is off");
  verb->add_option("--min-p", o.minP,
                   "Drop what is this much less likely "
                   "than the likeliest; 0 is off");
  verb->add_option("-s,--seed", o.seed, "Default: random");
  verb->add_option("--stop", o.stops, "End the text before this string")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_flag("--special", o.special,
                 "Recognise control tokens in the prompt and print them");
  verb->add_flag("--ignore-eos", o.ignoreEos, "Go on after end of text");
  verb->add_flag("--json", o.json, "One JSON object on stdout");
  verb->add_option("--logits", o.logitsFile,
                   "Write input_ids and logits of every position "
                   "(safetensors); without speculation");
  verb->add_option("--states", o.statesFile,
                   "Write the trunk's conv and recurrent states at the end "
                   "(safetensors)");
}

static void addBench(CLI::App &app, BenchOptions &o) {
  CLI::App *verb =
      app.add_subcommand("bench", "Measure rates and memory bandwidth");
  addModelOptions(verb, o.model, true);
  addProfileOptions(verb, o.model);
  verb->add_option("-p,--n-prompt", o.promptTokens, "Prompt lengths")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  verb->add_option("-n,--n-gen", o.decodeTokens, "Generation lengths")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  verb->add_option("-d,--n-depth", o.depths, "Context depths for generation")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  verb->add_flag("--no-overlap", o.model.noOverlap,
                 "GPU: start no kernel before the one in front of it has "
                 "ended");
  verb->add_option("-T,--step-tokens", o.stepTokens,
                   "GPU: tokens per decode step")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  verb->add_option("--accept", o.accept,
                   "With --spec: count draft i as accepted in this share of "
                   "rounds (0.9,0.8,0.7), for random weights")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("-r,--repetitions", o.repetitions, "Runs per test")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_flag(
      "--ledger", o.ledger,
      "Print where the time goes too: every kernel, on a GPU what it "
      "waits for");
  verb->add_option("--ledger-html", o.ledgerPage,
                   "GPU: write the ledger to this file too, as a page with a "
                   "timeline of each step");
  auto *json = verb->add_flag("--json", o.json, "One JSON object");
  verb->add_flag("--md", o.markdown, "A Markdown table (default)")
      ->excludes(json);
}

static void addPlan(CLI::App &app, PlanOptions &o) {
  CLI::App *verb =
      app.add_subcommand("plan", "Print the memory table, load nothing");
  o.model.spec = "auto";
  addModelOptions(verb, o.model, true);
  verb->add_option("--target", o.target,
                   "For a GPU that need not be there: sm_90a or another "
                   "architecture");
  verb->add_flag("--json", o.json, "JSON instead of a table");
}

static void addCompile(CLI::App &app, CompileCommand &o) {
  CLI::App *verb = app.add_subcommand(
      "compile", "Compile a model ahead of time into a bundle; needs no GPU");
  addModelOptions(verb, o.model, true);
  addProfileOptions(verb, o.model);
  verb->add_option("-o,--output", o.output, "The bundle, a directory")
      ->required();
  verb->add_option("--target", o.targets,
                   "GPU architectures from sm_90 on: sm_120f,sm_90a")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->required();
  verb->add_option("-T,--step-tokens", o.model.decodeTokens,
                   "Tokens per decode step to compile for")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
}

static void addInspect(CLI::App &app, InspectOptions &o) {
  CLI::App *verb = app.add_subcommand("inspect", "Say what a bundle holds");
  verb->add_option("bundle", o.bundle, "A directory of infer compile")
      ->required();
  verb->add_flag("--json", o.json, "JSON instead of a table");
}

static void addDevices(CLI::App &app, DevicesOptions &o) {
  CLI::App *verb = app.add_subcommand("devices", "List what could run a model");
  verb->add_flag("--json", o.json, "JSON instead of a table");
}

static void addTuneVocab(CLI::App &app, TuneVocabCommand &o) {
  CLI::App *verb = app.add_subcommand(
      "tune-vocab", "Count which tokens a text has, for --draft-vocab");
  verb->add_option("model", o.model, "A Hugging Face checkpoint")->required();
  verb->add_option("texts", o.texts, "What the model is to write like")
      ->required();
  verb->add_option("-o,--output", o.output, "The file of ids")->required();
  verb->add_option("-n,--size", o.size,
                   "Tokens to keep, control tokens included")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

static void addQuantize(CLI::App &app, QuantizeCommand &o) {
  CLI::App *verb = app.add_subcommand(
      "quantize", "Write a 4-bit copy of a BF16, F16 or F32 checkpoint");
  verb->add_option("source", o.source, "Model directory")->required();
  verb->add_option("destination", o.destination, "New directory")->required();
  verb->add_option("--format", o.format, "int4 or nvfp4")
      ->check(CLI::IsMember({"int4", "nvfp4"}))
      ->capture_default_str();
  verb->add_option("--group", o.group, "Columns per int4 scale")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  verb->add_flag("--lm-head", o.head, "Quantise the output head too");
  verb->add_flag("--embeddings", o.embeddings, "Quantise the embeddings too");
  verb->add_flag("--mtp", o.mtp, "Quantise the MTP layer too");
  verb->add_option("-t,--threads", o.threads, "Default: one per core");
}

/// `infer-run ARGS` is `infer run ARGS`; `--dump=STAGE DIR` takes two values.
static std::vector<std::string> arguments(int argc, char **argv) {
  std::vector<std::string> args;
  std::string name = std::filesystem::path(argv[0]).filename();
  if (name.starts_with("infer-"))
    args.push_back(name.substr(6));
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    if (arg.starts_with("--dump=")) {
      args.push_back("--dump");
      arg = arg.substr(7);
    }
    args.push_back(arg);
  }
  return args;
}

int main(int argc, char **argv) {
  CLI::App app("Lathe: compiles language models into fused kernels and runs "
               "them",
               "infer");
  app.require_subcommand(1);
  app.set_version_flag("--version", "infer " LATHE_VERSION);
  app.get_formatter()->column_width(32);
  RunOptions runOptions;
  BenchOptions benchOptions;
  PlanOptions planOptions;
  QuantizeCommand quantizeOptions;
  addRun(app, runOptions);
  addBench(app, benchOptions);
  addPlan(app, planOptions);
  addQuantize(app, quantizeOptions);
  CompileCommand compileOptions;
  InspectOptions inspectOptions;
  DevicesOptions devicesOptions;
  addCompile(app, compileOptions);
  addInspect(app, inspectOptions);
  addDevices(app, devicesOptions);
  TuneVocabCommand tuneOptions;
  addTuneVocab(app, tuneOptions);

  auto args = arguments(argc, argv);
  std::reverse(args.begin(), args.end()); // CLI11 pops from the back
  try {
    app.parse(args);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Status status;
  if (app.got_subcommand("run"))
    status = run(runOptions);
  else if (app.got_subcommand("bench"))
    status = bench(benchOptions);
  else if (app.got_subcommand("plan"))
    status = lathe::cli::plan(planOptions);
  else if (app.got_subcommand("compile"))
    status = compile(compileOptions);
  else if (app.got_subcommand("inspect"))
    status = inspect(inspectOptions);
  else if (app.got_subcommand("devices"))
    status = devices(devicesOptions);
  else if (app.got_subcommand("tune-vocab"))
    status = tuneVocab(tuneOptions);
  else
    status = quantize(quantizeOptions);
  if (!status.ok() && !absl::IsCancelled(status))
    std::fprintf(stderr, "infer: %s\n", messageOf(status).c_str());
  return exitCode(status);
}
