#include "runtime/io/tokenizer/Tokenizer.h"

#include "runtime/io/File.h"
#include "runtime/io/Json.h"
#include "runtime/io/tokenizer/AddedTokens.h"
#include "runtime/io/tokenizer/Bpe.h"
#include "runtime/io/tokenizer/ByteLevel.h"
#include "runtime/io/tokenizer/PreTokenizer.h"
#include "runtime/io/tokenizer/Utf8.h"

namespace lathe {
namespace {

constexpr size_t kMaxText = size_t(1) << 30;

/// Token spelling -> id. The keys point into the tokenizer's own storage.
using IdMap = absl::flat_hash_map<std::string_view, int32_t,
                                  std::hash<std::string_view>, std::equal_to<>>;

/// Whether `byte` occurs in UTF-8 at all.
bool occursInUtf8(int byte) {
  return byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
}

} // namespace

struct Tokenizer::Impl {
  /// The bytes of a token, in `bytes`.
  struct Token {
    uint32_t offset = 0;
    uint32_t length = 0;
    bool known = false;
    bool special = false;
    bool ordinary = false; ///< in the model's vocabulary and not special
  };

  TokenizerFile file;
  IdMap ids;
  std::string bytes;
  std::vector<Token> tokens;
  std::optional<Bpe> bpe;
  std::optional<PreTokenizer> preTokenizer;
  std::optional<AddedTokens> rawTokens;
  std::optional<AddedTokens> normalizedTokens;

  Status build();
  Status addToken(std::string_view spelling, int32_t id, std::string_view field,
                  bool isByteLevel);
  Status addVocabulary();
  Status addAddedTokens();
  Status createBpe();
  void markSpecial();
  Status addMerges();
  Status createMatchers();

  Status encodeText(std::string_view text, EncodeOptions options,
                    RegexScratch &scratch, std::vector<int32_t> &out) const;
  void encodePiece(std::string_view piece, std::vector<int32_t> &out) const;
};

Status Tokenizer::Impl::build() {
  LATHE_RETURN_IF_ERROR(addVocabulary());
  LATHE_RETURN_IF_ERROR(createBpe());
  markSpecial();
  LATHE_RETURN_IF_ERROR(addMerges());
  LATHE_RETURN_IF_ERROR(addAddedTokens());
  LATHE_RETURN_IF_ERROR(createMatchers());
  LATHE_ASSIGN_OR_RETURN(preTokenizer, PreTokenizer::create(file.steps));
  file.vocab = {};
  file.merges = {};
  file.mergeText = {};
  return absl::OkStatus();
}

/// Added tokens are plain text, those of the vocabulary spell bytes.
Status Tokenizer::Impl::addToken(std::string_view spelling, int32_t id,
                                 std::string_view field, bool isByteLevel) {
  auto fail = [&](const std::string &what) {
    return modelError(file.name + ": " + std::string(field) + ": " +
                      quoteToken(spelling) + what);
  };
  if (size_t(id) >= tokens.size())
    tokens.resize(size_t(id) + 1);
  Token &token = tokens[size_t(id)];
  if (token.known)
    return fail(" has the id " + std::to_string(id) +
                ", which another token has");
  if (!ids.emplace(spelling, id).second)
    return fail(" appears twice");
  token.known = true;
  token.offset = uint32_t(bytes.size());
  if (isByteLevel)
    appendBytesOfSpelling(bytes, spelling);
  else
    bytes += spelling;
  token.length = uint32_t(bytes.size() - token.offset);
  return absl::OkStatus();
}

Status Tokenizer::Impl::addVocabulary() {
  ids.reserve(file.vocab.size() + file.addedTokens.size());
  tokens.reserve(file.vocab.size() + file.addedTokens.size());
  bytes.reserve(file.text.size() / 2);
  for (const auto &entry : file.vocab)
    LATHE_RETURN_IF_ERROR(addToken(file.view(file.text, entry.token), entry.id,
                                   "model.vocab",
                                   /*isByteLevel=*/true));
  return absl::OkStatus();
}

Status Tokenizer::Impl::createBpe() {
  int32_t unknownId = -1;
  if (file.unknownToken) {
    auto unknown = ids.find(*file.unknownToken);
    if (unknown == ids.end())
      return modelError(file.name +
                        ": model.unk_token: " + quoteToken(*file.unknownToken) +
                        " is not in model.vocab");
    unknownId = unknown->second;
  }
  std::array<int32_t, 256> byteIds;
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelling;
    char raw = char(byte);
    appendByteLevelSpelling(spelling, {&raw, 1});
    auto id = ids.find(spelling);
    byteIds[size_t(byte)] = id == ids.end() ? -1 : id->second;
    if (id == ids.end() && unknownId < 0 && occursInUtf8(byte))
      return modelError(file.name + ": model.vocab: no token " +
                        quoteToken(spelling) + " for the byte " +
                        std::to_string(byte) +
                        "; byte-level BPE needs one for every byte");
  }
  bpe.emplace(byteIds, unknownId, file.fuseUnknown);
  return absl::OkStatus();
}

/// Marks the tokens of the vocabulary that are special, so that neither merges
/// nor ignore_merges make them out of ordinary text.
void Tokenizer::Impl::markSpecial() {
  for (const AddedToken &added : file.addedTokens)
    if (auto known = ids.find(added.content);
        added.special && known != ids.end())
      tokens[size_t(known->second)].special = true;
  for (Token &token : tokens)
    token.ordinary = token.known && !token.special;
}

Status Tokenizer::Impl::addMerges() {
  bpe->reserve(file.merges.size());
  std::string merged;
  auto find = [&](std::string_view token) {
    auto entry = ids.find(token);
    return entry == ids.end() ? -1 : entry->second;
  };
  // Vocabularies list what merges make in the order of the merges, so the next
  // entry is nearly always the one to find.
  size_t next = 0;
  auto findMerged = [&] {
    bool isNext = next < file.vocab.size() &&
                  file.view(file.text, file.vocab[next].token) == merged;
    int32_t id = isNext ? file.vocab[next].id : find(merged);
    next = size_t(id) + 1;
    return id;
  };
  for (size_t rank = 0; rank < file.merges.size(); ++rank) {
    std::string_view left = file.view(file.mergeText, file.merges[rank].left);
    std::string_view right = file.view(file.mergeText, file.merges[rank].right);
    merged.assign(left);
    merged += right;
    int32_t leftId = find(left), rightId = find(right);
    int32_t mergedId = findMerged();
    if (leftId < 0 || rightId < 0 || mergedId < 0) {
      std::string_view missing = leftId < 0    ? left
                                 : rightId < 0 ? right
                                               : std::string_view(merged);
      return modelError(file.name + ": model.merges[" + std::to_string(rank) +
                        "]: " + quoteToken(missing) + " is not in model.vocab");
    }
    if (tokens[size_t(mergedId)].ordinary)
      bpe->addMerge(leftId, rightId, int32_t(rank), mergedId);
  }
  return absl::OkStatus();
}

Status Tokenizer::Impl::addAddedTokens() {
  for (AddedToken &added : file.addedTokens) {
    if (file.nfc && added.normalized)
      added.content = toNfc(added.content);
    auto known = ids.find(added.content);
    if (known == ids.end()) {
      LATHE_RETURN_IF_ERROR(addToken(added.content, added.id, "added_tokens",
                                     /*isByteLevel=*/false));
    } else if (known->second != added.id) {
      return modelError(
          file.name + ": added_tokens: " + quoteToken(added.content) +
          " has the id " + std::to_string(added.id) +
          " but already has the id " + std::to_string(known->second));
    }
    tokens[size_t(added.id)].special |= added.special;
  }
  return absl::OkStatus();
}

Status Tokenizer::Impl::createMatchers() {
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken &added : file.addedTokens)
    (added.normalized ? normalized : raw).push_back(added);
  LATHE_ASSIGN_OR_RETURN(rawTokens, AddedTokens::create(std::move(raw)));
  LATHE_ASSIGN_OR_RETURN(normalizedTokens,
                         AddedTokens::create(std::move(normalized)));
  return absl::OkStatus();
}

void Tokenizer::Impl::encodePiece(std::string_view piece,
                                  std::vector<int32_t> &out) const {
  if (file.ignoreMerges) {
    std::string spelling;
    appendByteLevelSpelling(spelling, piece);
    auto id = ids.find(spelling);
    if (id != ids.end() && tokens[size_t(id->second)].ordinary) {
      out.push_back(id->second);
      return;
    }
  }
  bpe->encode(piece, out);
}

Status Tokenizer::Impl::encodeText(std::string_view text, EncodeOptions options,
                                   RegexScratch &scratch,
                                   std::vector<int32_t> &out) const {
  std::string normal;
  if (file.nfc) {
    normal = toNfc(text);
    text = normal;
  }
  LATHE_ASSIGN_OR_RETURN(
      std::vector<Segment> segments,
      normalizedTokens->split(text, options.parseSpecial, scratch));
  for (const Segment &segment : segments) {
    if (segment.id >= 0)
      out.push_back(segment.id);
    else
      LATHE_RETURN_IF_ERROR(preTokenizer->split(
          segment.text, scratch,
          [&](std::string_view piece) { encodePiece(piece, out); }));
  }
  return absl::OkStatus();
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer &&) noexcept = default;
Tokenizer &Tokenizer::operator=(Tokenizer &&) noexcept = default;
Tokenizer::~Tokenizer() = default;

StatusOr<Tokenizer> Tokenizer::load(const std::string &path) {
  LATHE_ASSIGN_OR_RETURN(std::string json,
                         readFile(path, uint64_t(kMaxJsonBytes)));
  return parse(json, path.substr(path.rfind('/') + 1));
}

StatusOr<Tokenizer> Tokenizer::parse(std::string_view json,
                                     std::string_view fileName) {
  auto impl = std::make_unique<Impl>();
  LATHE_ASSIGN_OR_RETURN(impl->file, TokenizerFile::parse(json, fileName));
  LATHE_RETURN_IF_ERROR(impl->build());
  return Tokenizer(std::move(impl));
}

StatusOr<std::vector<int32_t>> Tokenizer::encode(std::string_view text,
                                                 EncodeOptions options) const {
  if (text.size() > kMaxText)
    return usageError("the text has " + std::to_string(text.size()) +
                      " bytes, the limit is " + std::to_string(kMaxText));
  if (auto offset = findInvalidUtf8(text))
    return usageError("the text is not valid UTF-8 at byte " +
                      std::to_string(*offset));
  std::vector<int32_t> out;
  RegexScratch scratch;
  LATHE_ASSIGN_OR_RETURN(
      std::vector<Segment> segments,
      impl->rawTokens->split(text, options.parseSpecial, scratch));
  for (const Segment &segment : segments) {
    if (segment.id >= 0)
      out.push_back(segment.id);
    else
      LATHE_RETURN_IF_ERROR(
          impl->encodeText(segment.text, options, scratch, out));
  }
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> ids,
                              bool skipSpecial) const {
  std::string raw;
  for (int32_t id : ids)
    if (!skipSpecial || !isSpecial(id))
      raw += bytesOf(id);
  std::string text;
  appendValidUtf8(text, raw, /*final=*/true);
  return text;
}

std::string_view Tokenizer::bytesOf(int32_t id) const {
  if (id < 0 || id >= vocabSize())
    return {};
  const Impl::Token &token = impl->tokens[size_t(id)];
  return std::string_view(impl->bytes).substr(token.offset, token.length);
}

int32_t Tokenizer::vocabSize() const { return int32_t(impl->tokens.size()); }

bool Tokenizer::isSpecial(int32_t id) const {
  return id >= 0 && id < vocabSize() && impl->tokens[size_t(id)].special;
}

std::optional<int32_t> Tokenizer::idOf(std::string_view token) const {
  auto id = impl->ids.find(token);
  return id == impl->ids.end() ? std::nullopt : std::optional(id->second);
}

} // namespace lathe
