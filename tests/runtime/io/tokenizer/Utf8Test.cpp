#include "runtime/io/tokenizer/Utf8.h"
#include "runtime/io/tokenizer/ByteLevel.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

std::string repair(std::string_view bytes) {
  std::string out;
  EXPECT_EQ(appendValidUtf8(out, bytes, /*final=*/true), bytes.size());
  return out;
}

TEST(Utf8, findInvalid) {
  EXPECT_EQ(findInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(findInvalidUtf8("plain ASCII text and \u00E9\uFFFF\U0010FFFF"),
            std::nullopt);
  EXPECT_EQ(findInvalidUtf8("12345678\x80"), 8);
  EXPECT_EQ(findInvalidUtf8("\xE0\x9F\xBF"), 0);     // overlong
  EXPECT_EQ(findInvalidUtf8("a\xED\xA0\x80"), 1);    // surrogate
  EXPECT_EQ(findInvalidUtf8("\xF4\x90\x80\x80"), 0); // above U+10FFFF
  EXPECT_EQ(findInvalidUtf8("ab\xF0\x9F\x98"), 2);   // cut short
}

/// The example of the Unicode standard, table 3-8.
TEST(Utf8, maximalSubparts) {
  EXPECT_EQ(repair("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(repair("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(repair("\xF0\x9F\x98"), "\uFFFD");
}

TEST(Utf8, cutShortIsLeft) {
  std::string out;
  EXPECT_EQ(appendValidUtf8(out, "a\xF0\x9F\x98", /*final=*/false), 1u);
  EXPECT_EQ(out, "a");
}

TEST(Utf8, nfc) {
  EXPECT_EQ(toNfc("e\u0301"), "\u00E9");
  EXPECT_EQ(toNfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(toNfc("\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(toNfc("\u0958"), "\u0915\u093C"); // excluded from composition
  EXPECT_EQ(toNfc("\uFB01"), "\uFB01");       // compatibility stays
}

TEST(ByteLevel, roundTrip) {
  std::string bytes, spelling, back;
  for (int byte = 0; byte < 256; ++byte)
    bytes += char(byte);
  appendByteLevelSpelling(spelling, bytes);
  EXPECT_FALSE(findInvalidUtf8(spelling));
  EXPECT_TRUE(appendBytesOfSpelling(back, spelling));
  EXPECT_EQ(back, bytes);
}

TEST(ByteLevel, spelling) {
  std::string spelling, raw;
  appendByteLevelSpelling(spelling, " a\n\xC3");
  EXPECT_EQ(spelling, "\u0120a\u010A\u00C3");
  EXPECT_FALSE(appendBytesOfSpelling(raw, "a \u0120"));
  EXPECT_EQ(raw, "a \u0120");
}

} // namespace
} // namespace lathe
