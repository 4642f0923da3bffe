#include "runtime/io/Json.h"

#include "TestFiles.h"

namespace lathe {

static JsonDocument parse(std::string_view text) {
  auto document = JsonDocument::parse(text, "test.json");
  EXPECT_TRUE(document.ok()) << messageOf(document.status());
  return *std::move(document);
}

TEST(Json, KeepsTheOrderOfMembers) {
  auto document = parse(R"({"z": 1, "a": 2, "m": 3})");
  auto members = document.root().members();
  ASSERT_TRUE(members.ok());
  ASSERT_EQ(members->size(), 3u);
  EXPECT_EQ((*members)[0].first, "z");
  EXPECT_EQ((*members)[2].first, "m");
}

TEST(Json, ReadsNestedValues) {
  auto document = parse(R"({"a": {"b": [1, [true, null], "x"]}, "c": -2.5})");
  auto b = document.root().get("a")->get("b")->elements();
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(*(*b)[0].toInt(), 1);
  EXPECT_TRUE(*(*(*b)[1].elements())[0].toBool());
  EXPECT_TRUE((*(*b)[1].elements())[1].isNull());
  EXPECT_EQ(*(*b)[2].toString(), "x");
  EXPECT_EQ(*document.root().getNumber("c"), -2.5);
}

TEST(Json, NamesFileAndFieldOfAWrongType) {
  auto document = parse(R"({"text_config": {"hidden_size": "abc"}})");
  auto text = document.root().get("text_config");
  auto size = text->getInt("hidden_size", 1, INT64_MAX);
  EXPECT_EQ(messageOf(size.status()),
            "test.json: text_config.hidden_size: expected a positive integer, "
            "found \"abc\"");
}

TEST(Json, NamesAMissingField) {
  auto document = parse(R"({"a": {}})");
  EXPECT_EQ(messageOf(document.root().get("a")->get("b").status()),
            "test.json: a.b: required, but missing");
}

TEST(Json, NamesAnArrayElement) {
  auto document = parse(R"({"ids": [1, "x"]})");
  auto ids = document.root().get("ids")->elements();
  EXPECT_TRUE(refused((*ids)[1].toInt(), "test.json: ids[1]: expected"));
}

TEST(Json, RefusesDuplicateKeys) {
  EXPECT_TRUE(refused(JsonDocument::parse(R"({"a":1,"b":{"c":1,"c":2}})", "f"),
                      "the key \"c\" appears twice"));
}

TEST(Json, AllowsTheSameKeyInDifferentObjects) {
  EXPECT_TRUE(JsonDocument::parse(R"({"a":{"a":1},"b":{"a":1}})", "f").ok());
}

TEST(Json, BoundsTheDepth) {
  std::string deep(5, '['), shut(5, ']');
  EXPECT_TRUE(JsonDocument::parse(deep + shut, "f", 5).ok());
  EXPECT_TRUE(refused(JsonDocument::parse(deep + shut, "f", 4),
                      "nested more than 4 levels"));
}

TEST(Json, SurvivesAMillionBrackets) {
  EXPECT_TRUE(refused(JsonDocument::parse(std::string(1000000, '['), "f"),
                      "nested more than 128"));
}

TEST(Json, ReadsAHundredThousandMembersQuickly) {
  std::string text = "{";
  for (int i = 0; i < 100000; ++i)
    text +=
        (i ? ",\"k" : "\"k") + std::to_string(i) + "\":" + std::to_string(i);
  auto document = parse(text + "}");
  auto members = document.root().members();
  ASSERT_EQ(members->size(), 100000u);
  EXPECT_EQ(*members->back().second.toInt(), 99999);
}

TEST(Json, RefusesTrailingText) {
  EXPECT_TRUE(refused(JsonDocument::parse("{} x", "f"), "not valid JSON"));
}

TEST(Json, RefusesAnEmptyText) {
  EXPECT_TRUE(refused(JsonDocument::parse("", "f"), "not valid JSON"));
}

TEST(Json, RefusesInvalidUtf8) {
  EXPECT_TRUE(refused(JsonDocument::parse("\"\xff\"", "f"), "not valid JSON"));
}

TEST(Json, RefusesFractionsWhereAnIntegerIsExpected) {
  auto document = parse("[3.0]");
  EXPECT_TRUE(refused((*document.root().elements())[0].toInt(),
                      "expected an integer, found 3.0"));
}

TEST(Json, RefusesIntegersBeyondInt64) {
  auto document = parse("[9223372036854775808, -9223372036854775808]");
  auto elements = document.root().elements();
  EXPECT_FALSE((*elements)[0].toInt().ok());
  EXPECT_EQ(*(*elements)[1].toInt(), INT64_MIN);
}

TEST(Json, RefusesIntegersOutOfRange) {
  auto document = parse("[7]");
  EXPECT_TRUE(refused((*document.root().elements())[0].toInt(1, 6),
                      "expected an integer from 1 to 6, found 7"));
}

TEST(Json, TreatsNullAsMissing) {
  auto document = parse(R"({"a": null})");
  EXPECT_EQ(*document.root().getIntOr("a", 4, 0, 9), 4);
  EXPECT_FALSE(document.root().find("a")->has_value());
}

TEST(Json, RefusesMembersOfANonObject) {
  auto document = parse("[1]");
  EXPECT_TRUE(refused(document.root().get("a"),
                      "test.json: expected an object, found an array"));
}

TEST(Json, ReadNamesTheMissingFile) {
  EXPECT_TRUE(refused(JsonDocument::read("/nonexistent/x.json"),
                      "/nonexistent/x.json: cannot open"));
}

} // namespace lathe
