#include "runtime/io/tokenizer/TextStream.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <random>

namespace lathe {
namespace {

using Ids = std::vector<int32_t>;

class TextStreamTest : public testing::Test {
protected:
  TextStream make(std::vector<std::string> stops, bool printSpecial = false) {
    return *TextStream::create(tokenizer, {std::move(stops), printSpecial});
  }

  /// One id per byte of `text`, the finest cut there is.
  Ids bytes(std::string_view text) {
    Ids ids;
    for (char byte : text)
      for (int32_t id = 0; id < tokenizer.vocabSize(); ++id)
        if (tokenizer.bytesOf(id) == std::string_view(&byte, 1)) {
          ids.push_back(id);
          break;
        }
    EXPECT_EQ(ids.size(), text.size());
    return ids;
  }

  Tokenizer tokenizer =
      *Tokenizer::load(LATHE_SOURCE_DIR "/models/demo/tokenizer.json");
};

TEST_F(TextStreamTest, codePointsAreWhole) {
  TextStream stream = make({});
  Ids ids = bytes("a\xF0\x9F\x98\x80"
                  "b");
  EXPECT_EQ(stream.push(ids[0]), "a");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "");
  EXPECT_EQ(stream.push(ids[3]), "");
  EXPECT_EQ(stream.push(ids[4]), "\xF0\x9F\x98\x80");
  EXPECT_EQ(stream.push(ids[5]), "b");
  EXPECT_EQ(stream.flush(), "");
}

TEST_F(TextStreamTest, brokenCodePointsAreReplaced) {
  TextStream stream = make({});
  Ids ids = bytes("\xE4\xBD\xE4\xBD\xA0\xF0\x9F");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "\uFFFD");
  EXPECT_EQ(stream.push(ids[3]), "");
  EXPECT_EQ(stream.push(ids[4]), "\xE4\xBD\xA0");
  EXPECT_EQ(stream.push(ids[5]), "");
  EXPECT_EQ(stream.push(ids[6]), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
}

TEST_F(TextStreamTest, stopAcrossTokens) {
  TextStream stream = make({"\n\nUser:"});
  std::string text;
  Ids ids = bytes("Hi\n\nUsers\n\nUser: no");
  for (size_t i = 0; i < ids.size(); ++i) {
    text += stream.push(ids[i]);
    if (i == 7) { // "Hi\n\nUser": all of it may begin the stop string
      EXPECT_EQ(text, "Hi");
    } else if (i == 8) {
      EXPECT_EQ(text, "Hi\n\nUsers");
    }
  }
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(text + stream.flush(), "Hi\n\nUsers");
  EXPECT_TRUE(stream.stopped());
}

TEST_F(TextStreamTest, heldTextIsFlushed) {
  TextStream stream = make({"stop"});
  std::string text;
  for (int32_t id : bytes("a sto"))
    text += stream.push(id);
  EXPECT_EQ(text, "a ");
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.flush(), "sto");
}

TEST_F(TextStreamTest, flushMayCompleteAStop) {
  TextStream stream = make({"\uFFFD"});
  std::string text;
  for (int32_t id : bytes("a\xE4"))
    text += stream.push(id);
  EXPECT_EQ(text + stream.flush(), "a");
  EXPECT_TRUE(stream.stopped());
}

TEST_F(TextStreamTest, specialTokens) {
  int32_t end = *tokenizer.idOf("<|im_end|>");
  int32_t think = *tokenizer.idOf("<think>");
  TextStream hidden = make({});
  EXPECT_EQ(hidden.push(end), "");
  EXPECT_EQ(hidden.push(think), "<think>");
  TextStream shown = make({}, /*printSpecial=*/true);
  EXPECT_EQ(shown.push(end), "<|im_end|>");
}

/// The result is the same however the text is cut into tokens.
TEST_F(TextStreamTest, cutsDoNotMatter) {
  std::minstd_rand random(3);
  std::vector<std::vector<std::string>> stopSets = {
      {"abcd", "bc"}, {"aab"}, {"aa", "aba"}, {"b\n", "bab", "ba"}};
  for (int round = 0; round < 400; ++round) {
    std::string text;
    for (size_t i = 0; i < random() % 24; ++i)
      text += "abc\nd"[random() % 5];
    const auto &stops = stopSets[random() % stopSets.size()];
    size_t cut = std::string::npos; // where the first stop to complete begins
    for (size_t end = 1; end <= text.size() && cut == std::string::npos; ++end)
      for (const std::string &stop : stops)
        if (std::string_view(text).substr(0, end).ends_with(stop))
          cut = std::min(cut, end - stop.size());
    std::string expected = text.substr(0, cut);
    for (const Ids &ids : {bytes(text), *tokenizer.encode(text)}) {
      TextStream stream = make(stops);
      std::string printed;
      for (int32_t id : ids)
        printed += stream.push(id);
      EXPECT_EQ(printed + stream.flush(), expected) << text;
      EXPECT_EQ(stream.stopped(), cut != std::string::npos);
    }
  }
}

TEST_F(TextStreamTest, badStops) {
  EXPECT_EQ(exitCode(TextStream::create(tokenizer, {{""}}).status()), 2);
  EXPECT_EQ(exitCode(TextStream::create(tokenizer, {{"\xFF"}}).status()), 2);
}

} // namespace
} // namespace lathe
