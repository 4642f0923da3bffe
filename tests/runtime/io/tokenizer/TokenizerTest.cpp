//===- TokenizerTest.cpp - ids against the `tokenizers` package -----------===//
//
// cases.json comes from tests/data/tokenizer/make_ids.py.
//
//===----------------------------------------------------------------------===//

#include "runtime/io/tokenizer/Tokenizer.h"
#include "runtime/io/File.h"
#include "runtime/io/Json.h"
#include "runtime/io/tokenizer/TextStream.h"

#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include <algorithm>
#include <random>
#include <thread>

namespace lathe {
namespace {

using Ids = std::vector<int32_t>;

class Cases : public testing::TestWithParam<const char *> {
protected:
  void SetUp() override {
    auto text =
        readFile(LATHE_TEST_DATA "/tokenizer/cases.json", kMaxJsonBytes);
    ASSERT_TRUE(text.ok()) << text.status();
    group = Json::parse(*text)[GetParam()];
    auto loaded = Tokenizer::load(std::string(LATHE_SOURCE_DIR "/") +
                                  group["file"].get<std::string>());
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokenizer.emplace(std::move(*loaded));
  }

  Ids encode(const std::string &text, bool parseSpecial) {
    auto ids = tokenizer->encode(text, {.parseSpecial = parseSpecial});
    EXPECT_TRUE(ids.ok()) << ids.status();
    return ids.ok() ? *ids : Ids();
  }

  /// What a stream prints for `ids`.
  std::string stream(const Ids &ids, bool printSpecial) {
    TextStream out = *TextStream::create(*tokenizer, {{}, printSpecial});
    std::string text;
    for (int32_t id : ids)
      text += out.push(id);
    return text + out.flush();
  }

  Json group;
  std::optional<Tokenizer> tokenizer;
};

TEST_P(Cases, encode) {
  for (const Json &entry : group["cases"]) {
    std::string text = entry["text"];
    SCOPED_TRACE(entry["text"].dump());
    Ids plain = entry["plain"];
    EXPECT_EQ(encode(text, false), plain);
    EXPECT_EQ(encode(text, true), entry.value("parsed", plain));
  }
}

TEST_P(Cases, decodeAndStream) {
  for (const Json &entry : group["cases"]) {
    SCOPED_TRACE(entry["text"].dump());
    Ids ids = entry.value("parsed", entry["plain"].get<Ids>());
    std::string decoded =
        entry.value("decoded", entry["text"].get<std::string>());
    std::string hidden = entry.value("hidden", decoded);
    EXPECT_EQ(tokenizer->decode(ids, false), decoded);
    EXPECT_EQ(tokenizer->decode(ids, true), hidden);
    EXPECT_EQ(stream(ids, true), decoded);
    EXPECT_EQ(stream(ids, false), hidden);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Cases,
                         testing::Values("demo", "gpt2", "options", "unknown"),
                         [](const auto &info) { return info.param; });

class Demo : public testing::Test {
protected:
  Tokenizer tokenizer =
      *Tokenizer::load(LATHE_SOURCE_DIR "/models/demo/tokenizer.json");
};

TEST_F(Demo, vocabulary) {
  EXPECT_EQ(tokenizer.vocabSize(), 4082);
  EXPECT_EQ(tokenizer.idOf("<|im_end|>"), 4079);
  EXPECT_EQ(tokenizer.idOf("no such token"), std::nullopt);
  EXPECT_TRUE(tokenizer.isSpecial(4079));
  EXPECT_FALSE(tokenizer.isSpecial(4080)); // <think>
  EXPECT_FALSE(tokenizer.isSpecial(-1));
  EXPECT_FALSE(tokenizer.isSpecial(1 << 30));
  EXPECT_EQ(tokenizer.bytesOf(4079), "<|im_end|>");
  EXPECT_EQ(tokenizer.bytesOf(*tokenizer.idOf("Ġ")), " ");
  EXPECT_EQ(tokenizer.bytesOf(4082), "");
  EXPECT_EQ(tokenizer.bytesOf(-1), "");
}

/// Not even a file whose merges spell a control token lets users write one.
TEST(Tokenizer, mergesNeverMakeSpecialTokens) {
  auto text = readFile(LATHE_TEST_DATA "/tokenizer/gpt2.json", 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  for (bool ignoreMerges : {false, true}) {
    Json file = Json::parse(*text);
    int32_t hello = file["model"]["vocab"]["hello"];
    file["model"]["ignore_merges"] = ignoreMerges;
    file["pre_tokenizer"]["add_prefix_space"] = false;
    file["added_tokens"][0]["content"] = "hello";
    file["added_tokens"][0]["id"] = hello;
    auto tokenizer = Tokenizer::parse(file.dump(), "tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    Ids plain = *tokenizer->encode("hello");
    EXPECT_EQ(std::count(plain.begin(), plain.end(), hello), 0);
    EXPECT_EQ(tokenizer->decode(plain, true), "hello");
    EXPECT_EQ(*tokenizer->encode("hello", {.parseSpecial = true}), Ids{hello});
  }
}

TEST_F(Demo, decodeIgnoresUnknownIds) {
  int32_t a = *tokenizer.idOf("a");
  EXPECT_EQ(tokenizer.decode(Ids{a, -5, 4095, 1 << 30, a}, false), "aa");
}

TEST_F(Demo, invalidUtf8IsRefused) {
  for (std::string text : {"abcdefghij\xFF", "abcdefghij\xED\xA0\x80",
                           "abcdefghij\xC3", "abcdefghij\xC0\x80"}) {
    auto ids = tokenizer.encode(text);
    ASSERT_FALSE(ids.ok());
    EXPECT_EQ(exitCode(ids.status()), 2);
    EXPECT_NE(messageOf(ids.status()).find("byte 10"), std::string::npos);
  }
}

/// A piece of a megabyte must not take time quadratic in its length: this test
/// would not end.
TEST_F(Demo, longPieces) {
  std::string letters(1 << 20, 'x'), marks, spaces(1 << 20, ' ');
  for (int i = 0; i < 1 << 18; ++i)
    marks += "\xCC\x81\xCC\xA3"; // U+0301 and U+0323: out of order
  std::minstd_rand random(7);
  for (char &c : letters)
    c = char('a' + random() % 26);
  for (const std::string &text : {letters, spaces}) {
    auto ids = tokenizer.encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(tokenizer.decode(*ids, false), text);
  }
  EXPECT_TRUE(tokenizer.encode(marks).ok());
}

TEST_F(Demo, threadsAgree) {
  auto text =
      readFile(LATHE_SOURCE_DIR "/tests/data/tokenizer/make_ids.py", 1 << 20);
  ASSERT_TRUE(text.ok());
  Ids expected = *tokenizer.encode(*text);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids &result : results)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i)
        result = *tokenizer.encode(*text);
    });
  for (std::thread &thread : threads)
    thread.join();
  for (const Ids &result : results)
    EXPECT_EQ(result, expected);
}

} // namespace
} // namespace lathe
