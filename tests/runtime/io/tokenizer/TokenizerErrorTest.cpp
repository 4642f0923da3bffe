//===- TokenizerErrorTest.cpp - files that are refused, and why -----------===//

#include "runtime/io/File.h"
#include "runtime/io/Json.h"
#include "runtime/io/tokenizer/Tokenizer.h"

#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

namespace lathe {
namespace {

class Refused : public testing::Test {
protected:
  void SetUp() override {
    auto text = readFile(LATHE_TEST_DATA "/tokenizer/gpt2.json", 1 << 20);
    ASSERT_TRUE(text.ok()) << text.status();
    file = Json::parse(*text);
  }

  /// Expects the text to be refused with a message that contains `message`.
  void expectText(std::string_view text, std::string_view message) {
    auto tokenizer = Tokenizer::parse(text, "tokenizer.json");
    ASSERT_FALSE(tokenizer.ok());
    EXPECT_EQ(exitCode(tokenizer.status()), 3);
    std::string found = messageOf(tokenizer.status());
    EXPECT_TRUE(found.starts_with("tokenizer.json: ")) << found;
    EXPECT_NE(found.find(message), std::string::npos) << found;
  }

  void expect(std::string_view message) { expectText(file.dump(), message); }

  void split(std::string_view regex) {
    file["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers",
                              {{{"type", "Split"},
                                {"pattern", {{"Regex", regex}}},
                                {"behavior", "Isolated"}},
                               {{"type", "ByteLevel"}, {"use_regex", false}}}}};
  }

  Json file;
};

TEST_F(Refused, nothing) {
  EXPECT_TRUE(Tokenizer::parse(file.dump(), "tokenizer.json").ok());
}

TEST_F(Refused, noFile) {
  EXPECT_EQ(exitCode(Tokenizer::load("/nonexistent/tokenizer.json").status()),
            3);
}

TEST_F(Refused, badJson) {
  expectText("", "not valid JSON");
  expectText("{\"model\": {", "not valid JSON at byte");
  expectText("[1, 2]", "expected");
  expectText("3", "expected");
  expectText("{\"a\": 1, \"a\": 2}", "\"a\" appears twice");
  expectText(std::string(100, '['), "nested deeper than");
  expectText("{\"model\": {\"vocab\": {\"a\": 0}}} x", "not valid JSON");
}

TEST_F(Refused, missingModel) {
  file.erase("model");
  expect("model");
}

TEST_F(Refused, missingMerges) {
  file["model"].erase("merges");
  expect("tokenizer.json: model.merges: missing; expected the list");
}

TEST_F(Refused, missingVocab) {
  file["model"].erase("vocab");
  expect("model.vocab: missing");
}

TEST_F(Refused, otherModel) {
  file["model"]["type"] = "Unigram";
  expect("model: the type \"Unigram\" is not supported; supported: BPE");
}

TEST_F(Refused, badVocabIds) {
  file["model"]["vocab"]["hello"] = -1;
  expect("model.vocab: \"hello\": expected an id from 0 to 4194303, found -1");
  file["model"]["vocab"]["hello"] = 4194304;
  expect("found 4194304");
  file["model"]["vocab"]["hello"] = 1.5;
  expect("\"hello\": expected an id");
  file["model"]["vocab"]["hello"] = "7";
  expect("\"hello\": expected an id");
  file["model"]["vocab"]["hello"] = Json::array();
  expect("\"hello\": expected an id");
  file["model"]["vocab"]["hello"] = Json::object();
  expect("\"hello\": expected an id");
}

TEST_F(Refused, repeatedIds) {
  file["model"]["vocab"]["hello"] = 0;
  expect("\"hello\" has the id 0, which another token has");
}

TEST_F(Refused, repeatedTokens) {
  std::string text = file.dump();
  text.insert(text.find("\"vocab\":{") + 9, "\"hello\":9999,");
  expectText(text, "\"hello\" appears twice");
}

TEST_F(Refused, vocabIsNoObject) {
  file["model"]["vocab"] = Json::array({1, 2});
  expect("model.vocab: expected an object");
}

TEST_F(Refused, missingByte) {
  file["model"]["vocab"].erase("a");
  expect("no token \"a\" for the byte 97");
}

TEST_F(Refused, badMerges) {
  file["model"]["merges"][3] = "nospace";
  expect("model.merges[3]: expected two tokens");
  file["model"]["merges"][3] = "a b c";
  expect("model.merges[3]: expected two tokens");
  file["model"]["merges"][3] = Json::array({"a"});
  expect("model.merges[3]: expected two tokens");
  file["model"]["merges"][3] = Json::array({"a", "b", "c"});
  expect("model.merges[3]: expected two tokens");
  file["model"]["merges"][3] = Json::array({"a", 1});
  expect("model.merges[3]: expected two tokens");
  file["model"]["merges"][3] = 5;
  expect("model.merges[3]: expected two tokens");
}

TEST_F(Refused, mergeOfUnknownToken) {
  file["model"]["merges"][3] = "zzz a";
  expect("model.merges[3]: \"zzz\" is not in model.vocab");
  file["model"]["merges"][3] = "z q";
  expect("model.merges[3]: \"zq\" is not in model.vocab");
}

TEST_F(Refused, otherBpeOptions) {
  file["model"]["byte_fallback"] = true;
  expect("model: byte_fallback: not supported");
  file["model"]["byte_fallback"] = false;
  file["model"]["dropout"] = 0.1;
  expect("model: dropout: expected none");
  file["model"]["dropout"] = nullptr;
  file["model"]["end_of_word_suffix"] = "</w>";
  expect("model: end_of_word_suffix: expected none, found \"</w>\"");
  file["model"]["end_of_word_suffix"] = nullptr;
  file["model"]["unk_token"] = "<unk>";
  expect("model.unk_token: \"<unk>\" is not in model.vocab");
}

TEST_F(Refused, otherNormalizer) {
  file["normalizer"] = {{"type", "Lowercase"}};
  expect("normalizer: the type \"Lowercase\" is not supported; supported: NFC");
  Json inner = {{"type", "StripAccents"}};
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {inner}}};
  expect("normalizers[0]: the type \"StripAccents\"");
}

TEST_F(Refused, otherPreTokenizer) {
  file["pre_tokenizer"] = {{"type", "Metaspace"}};
  expect("pre_tokenizer: the type \"Metaspace\" is not supported; supported: "
         "Split, ByteLevel");
  file["pre_tokenizer"] = nullptr;
  expect("pre_tokenizer: missing");
}

TEST_F(Refused, splitBehavior) {
  split("a");
  file["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed";
  expect("behavior: expected \"Isolated\", found \"Removed\"");
}

TEST_F(Refused, byteLevelIsNotLast) {
  split("a");
  auto &steps = file["pre_tokenizer"]["pretokenizers"];
  std::swap(steps[0], steps[1]);
  expect("pretokenizers[1]: no step may follow ByteLevel");
  steps.erase(0);
  expect("the last step must be ByteLevel");
}

TEST_F(Refused, badRegex) {
  split("a(b");
  expect("pre_tokenizer.pretokenizers[0].pattern.Regex: the regex does not "
         "compile at offset 3");
  split("\\p{Nonsense}");
  expect("the regex does not compile at offset");
  split("ab\\w");
  expect("offset 2: \\w is not supported");
  split("[a[b]]");
  expect("offset 2: nested sets");
  split("[a&&b]");
  expect("offset 2: set intersections");
  split("a\\");
  expect("offset 1: it ends in a backslash");
}

TEST_F(Refused, regexOverItsLimit) {
  split("(a+a+)+$|b");
  auto tokenizer = Tokenizer::parse(file.dump(), "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto ids = tokenizer->encode(std::string(60, 'a') + "c");
  ASSERT_FALSE(ids.ok());
  EXPECT_NE(messageOf(ids.status()).find("the regex cannot be matched"),
            std::string::npos);
}

TEST_F(Refused, otherDecoder) {
  file["decoder"] = {{"type", "WordPiece"}};
  expect("decoder: the type \"WordPiece\" is not supported; supported: "
         "ByteLevel");
  file.erase("decoder");
  expect("decoder: missing");
}

TEST_F(Refused, badAddedTokens) {
  Json &token = file["added_tokens"][0];
  token["id"] = -1;
  expect("added_tokens[0].id: expected an integer");
  token["id"] = 3;
  expect("\"<|endoftext|>\" has the id 3, which another token has");
  token["content"] = "hello";
  expect("\"hello\" has the id 3 but already has the id");
  token["content"] = "";
  expect("added_tokens[0]: content: expected 1 to 1024 bytes");
  token["content"] = 5;
  expect("added_tokens[0].content: expected");
}

TEST_F(Refused, fieldsOfTheWrongType) {
  file["added_tokens"][0]["special"] = "yes";
  expect("added_tokens[0].special");
  file["added_tokens"] = 3;
  expect("added_tokens");
}

} // namespace
} // namespace lathe
