#include "runtime/io/tokenizer/TokenizerFile.h"

#include "runtime/io/tokenizer/VocabReader.h"

#include <nlohmann/json.hpp>

namespace lathe {
namespace {

constexpr size_t kMaxAddedTokens = 65536;
constexpr size_t kMaxAddedTokenBytes = 1024;
constexpr size_t kMaxSteps = 16;
constexpr int kMaxSequenceDepth = 4;

/// Calls `visit` for `value`, or for each member of a (nested) Sequence.
template <typename Visit>
Status forEachStep(const JsonValue &value, std::string_view members, int depth,
                   const Visit &visit) {
  LATHE_ASSIGN_OR_RETURN(std::string type, value.getString("type"));
  if (type != "Sequence")
    return visit(value, type);
  if (depth == kMaxSequenceDepth)
    return value.error("Sequences are nested too deeply");
  LATHE_ASSIGN_OR_RETURN(JsonValue list, value.get(members));
  LATHE_ASSIGN_OR_RETURN(std::vector<JsonValue> steps, list.elements());
  for (const JsonValue &step : steps)
    LATHE_RETURN_IF_ERROR(forEachStep(step, members, depth + 1, visit));
  return absl::OkStatus();
}

Status unsupported(const JsonValue &value, std::string_view type,
                   std::string_view supported) {
  return value.error("the type " + quoteToken(type) +
                     " is not supported; supported: " + std::string(supported));
}

Status readNormalizer(const JsonValue &root, TokenizerFile &file) {
  LATHE_ASSIGN_OR_RETURN(auto normalizer, root.find("normalizer"));
  if (!normalizer)
    return absl::OkStatus();
  return forEachStep(
      *normalizer, "normalizers", 0,
      [&](const JsonValue &step, std::string_view type) -> Status {
        if (type != "NFC")
          return unsupported(step, type, "NFC, Sequence");
        file.nfc = true;
        return absl::OkStatus();
      });
}

StatusOr<PreTokenizerStep> readSplit(const JsonValue &split) {
  LATHE_ASSIGN_OR_RETURN(std::string behavior, split.getString("behavior"));
  if (behavior != "Isolated")
    return split.error("behavior: expected \"Isolated\", found " +
                       quoteToken(behavior));
  PreTokenizerStep step;
  LATHE_ASSIGN_OR_RETURN(JsonValue pattern, split.get("pattern"));
  LATHE_ASSIGN_OR_RETURN(auto regex, pattern.find("Regex"));
  step.kind = regex ? PreTokenizerStep::Kind::SplitRegex
                    : PreTokenizerStep::Kind::SplitLiteral;
  std::string_view key = regex ? "Regex" : "String";
  LATHE_ASSIGN_OR_RETURN(step.pattern, pattern.getString(key));
  step.field = split.file() + ": " + pattern.path() + "." + std::string(key);
  return step;
}

StatusOr<PreTokenizerStep> readStep(const JsonValue &value,
                                    std::string_view type) {
  if (type == "Split")
    return readSplit(value);
  if (type != "ByteLevel")
    return unsupported(value, type, "Split, ByteLevel, Sequence");
  PreTokenizerStep step;
  LATHE_ASSIGN_OR_RETURN(step.addPrefixSpace,
                         value.getBoolOr("add_prefix_space", true));
  LATHE_ASSIGN_OR_RETURN(step.useRegex, value.getBoolOr("use_regex", true));
  step.field = value.file() + ": " + value.path();
  return step;
}

Status readPreTokenizer(const JsonValue &root, TokenizerFile &file) {
  LATHE_ASSIGN_OR_RETURN(auto value, root.find("pre_tokenizer"));
  if (!value)
    return root.error("pre_tokenizer: missing; expected ByteLevel, or a "
                      "Sequence that ends in it");
  LATHE_RETURN_IF_ERROR(forEachStep(
      *value, "pretokenizers", 0,
      [&](const JsonValue &item, std::string_view type) -> Status {
        if (file.steps.size() == kMaxSteps)
          return value->error("more than " + std::to_string(kMaxSteps) +
                              " steps");
        if (!file.steps.empty() &&
            file.steps.back().kind == PreTokenizerStep::Kind::ByteLevel)
          return item.error("no step may follow ByteLevel");
        LATHE_ASSIGN_OR_RETURN(PreTokenizerStep step, readStep(item, type));
        file.steps.push_back(std::move(step));
        return absl::OkStatus();
      }));
  if (file.steps.empty() ||
      file.steps.back().kind != PreTokenizerStep::Kind::ByteLevel)
    return value->error("the last step must be ByteLevel: other tokenizers "
                        "than byte-level BPE are not supported");
  return absl::OkStatus();
}

Status checkDecoder(const JsonValue &root) {
  LATHE_ASSIGN_OR_RETURN(auto decoder, root.find("decoder"));
  if (!decoder)
    return root.error("decoder: missing; expected ByteLevel");
  return forEachStep(
      *decoder, "decoders", 0,
      [](const JsonValue &step, std::string_view type) -> Status {
        return type == "ByteLevel" ? absl::OkStatus()
                                   : unsupported(step, type, "ByteLevel");
      });
}

StatusOr<AddedToken> readAddedToken(const JsonValue &value) {
  AddedToken token;
  LATHE_ASSIGN_OR_RETURN(token.content, value.getString("content"));
  if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes)
    return value.error("content: expected 1 to " +
                       std::to_string(kMaxAddedTokenBytes) + " bytes, found " +
                       std::to_string(token.content.size()));
  LATHE_ASSIGN_OR_RETURN(int64_t id, value.getInt("id", 0, kMaxTokenId));
  token.id = int32_t(id);
  LATHE_ASSIGN_OR_RETURN(token.special, value.getBoolOr("special", false));
  LATHE_ASSIGN_OR_RETURN(token.lstrip, value.getBoolOr("lstrip", false));
  LATHE_ASSIGN_OR_RETURN(token.rstrip, value.getBoolOr("rstrip", false));
  LATHE_ASSIGN_OR_RETURN(token.singleWord,
                         value.getBoolOr("single_word", false));
  LATHE_ASSIGN_OR_RETURN(token.normalized,
                         value.getBoolOr("normalized", !token.special));
  return token;
}

Status readAddedTokens(const JsonValue &root, TokenizerFile &file) {
  LATHE_ASSIGN_OR_RETURN(auto list, root.find("added_tokens"));
  if (!list)
    return absl::OkStatus();
  LATHE_ASSIGN_OR_RETURN(std::vector<JsonValue> tokens, list->elements());
  if (tokens.size() > kMaxAddedTokens)
    return list->error("more than " + std::to_string(kMaxAddedTokens) +
                       " tokens");
  for (const JsonValue &value : tokens) {
    LATHE_ASSIGN_OR_RETURN(AddedToken token, readAddedToken(value));
    file.addedTokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

/// Options of BPE that byte-level models leave off, and that would change ids.
Status refuseOtherBpe(const JsonValue &model) {
  LATHE_ASSIGN_OR_RETURN(double dropout, model.getNumberOr("dropout", 0));
  if (dropout != 0)
    return model.error("dropout: expected none, found " +
                       std::to_string(dropout));
  LATHE_ASSIGN_OR_RETURN(bool fallback,
                         model.getBoolOr("byte_fallback", false));
  if (fallback)
    return model.error("byte_fallback: not supported; only byte-level BPE is");
  for (std::string_view key :
       {"continuing_subword_prefix", "end_of_word_suffix"}) {
    LATHE_ASSIGN_OR_RETURN(std::string affix, model.getStringOr(key, ""));
    if (!affix.empty())
      return model.error(std::string(key) + ": expected none, found " +
                         quoteToken(affix));
  }
  return absl::OkStatus();
}

Status readModel(const JsonValue &root, TokenizerFile &file) {
  LATHE_ASSIGN_OR_RETURN(JsonValue model, root.get("model"));
  LATHE_ASSIGN_OR_RETURN(std::string type, model.getStringOr("type", "BPE"));
  if (type != "BPE")
    return unsupported(model, type, "BPE");
  LATHE_ASSIGN_OR_RETURN(auto vocab, model.find("vocab"));
  if (!vocab)
    return root.error(
        "model.vocab: missing; expected an object of tokens and ids");
  if (!vocab->isObject())
    return vocab->mismatch("an object of tokens and ids");
  LATHE_ASSIGN_OR_RETURN(auto merges, model.find("merges"));
  if (!merges)
    return root.error("model.merges: missing; expected the list of BPE merges");
  if (!merges->isArray())
    return merges->mismatch("the list of BPE merges");
  LATHE_RETURN_IF_ERROR(refuseOtherBpe(model));
  LATHE_ASSIGN_OR_RETURN(file.ignoreMerges,
                         model.getBoolOr("ignore_merges", false));
  LATHE_ASSIGN_OR_RETURN(file.fuseUnknown, model.getBoolOr("fuse_unk", false));
  LATHE_ASSIGN_OR_RETURN(auto unknown, model.find("unk_token"));
  if (unknown) {
    LATHE_ASSIGN_OR_RETURN(file.unknownToken, unknown->toString());
  }
  return absl::OkStatus();
}

} // namespace

StatusOr<TokenizerFile> TokenizerFile::parse(std::string_view json,
                                             std::string_view name) {
  TokenizerFile file;
  file.name = name;
  Json rest;
  LATHE_RETURN_IF_ERROR(readTokenizerJson(json, file, rest));
  JsonValue root(rest, file.name, "");
  LATHE_RETURN_IF_ERROR(readModel(root, file));
  LATHE_RETURN_IF_ERROR(readAddedTokens(root, file));
  LATHE_RETURN_IF_ERROR(readNormalizer(root, file));
  LATHE_RETURN_IF_ERROR(readPreTokenizer(root, file));
  LATHE_RETURN_IF_ERROR(checkDecoder(root));
  return file;
}

std::string quoteToken(std::string_view token) {
  constexpr size_t kShown = 40;
  bool isLong = token.size() > kShown;
  if (isLong) {
    size_t end = kShown; // never cut a code point
    while (end > 0 && (uint8_t(token[end]) & 0xC0) == 0x80)
      --end;
    token = token.substr(0, end);
  }
  return '"' + std::string(token) + (isLong ? "...\"" : "\"");
}

} // namespace lathe
