#include "runtime/io/Safetensors.h"

#include "TestFiles.h"

namespace lathe {

static StatusOr<SafetensorsHeader> parse(std::string_view text,
                                         uint64_t dataSize) {
  return parseSafetensorsHeader(
      {reinterpret_cast<const uint8_t *>(text.data()), text.size()}, dataSize,
      "m.safetensors");
}

static std::string entry(std::string_view name, std::string_view dtype,
                         std::string_view shape, std::string_view offsets) {
  return "\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) +
         "\",\"shape\":" + std::string(shape) +
         ",\"data_offsets\":" + std::string(offsets) + "}";
}

TEST(SafetensorsHeader, ReadsTensorsAndMetadata) {
  auto header = parse("{\"__metadata__\":{\"format\":\"pt\"}," +
                          entry("b", "BF16", "[3,1]", "[8,14]") + "," +
                          entry("a", "F32", "[2]", "[0,8]") + "}  ",
                      14);
  ASSERT_TRUE(header.ok()) << messageOf(header.status());
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[1].dtype, DType::BF16);
  EXPECT_EQ(header->tensors[1].shape, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(header->metadata[0].second, "pt");
  EXPECT_EQ(header->find("b")->begin, 8u);
  EXPECT_EQ(header->find("c"), nullptr);
}

TEST(SafetensorsHeader, AcceptsScalarsAndEmptyTensors) {
  EXPECT_TRUE(parse("{" + entry("s", "F32", "[]", "[0,4]") + "," +
                        entry("e", "F32", "[0,7]", "[4,4]") + "}",
                    4)
                  .ok());
}

TEST(SafetensorsHeader, RefusesWhatIsNoObject) {
  EXPECT_TRUE(refused(parse("[]", 0), "starts with '{'"));
  EXPECT_TRUE(refused(parse("", 0), "starts with '{'"));
}

TEST(SafetensorsHeader, RefusesDuplicateTensors) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[1]", "[0,1]") + "," +
                                entry("a", "U8", "[1]", "[1,2]") + "}",
                            2),
                      "the key \"a\" appears twice"));
}

TEST(SafetensorsHeader, RefusesDeepNesting) {
  EXPECT_TRUE(refused(parse("{\"a\":[[[[[[[[1]]]]]]]]}", 0), "8 levels"));
}

TEST(SafetensorsHeader, RefusesUnknownTypes) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "F4", "[2]", "[0,1]") + "}", 1),
                      "m.safetensors: a: the element type \"F4\""));
}

TEST(SafetensorsHeader, RefusesNegativeDimensions) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[-1]", "[0,1]") + "}", 1),
                      "a.shape[0]: expected an integer of at least 0"));
}

TEST(SafetensorsHeader, RefusesShapesThatOverflow) {
  auto text = "{" + entry("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}";
  EXPECT_TRUE(refused(parse(text, 0), "a: F32 [4294967296, 4294967296] takes "
                                      "over 2^64 bytes"));
}

TEST(SafetensorsHeader, RefusesShapesThatDisagreeWithOffsets) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "F32", "[2]", "[0,4]") + "}", 4),
                      "a: F32 [2] takes 8 bytes, but the offsets give it 4"));
}

TEST(SafetensorsHeader, RefusesBackwardOffsets) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[1]", "[2,1]") + "}", 4),
                      "the bytes 2 to 1 run backwards"));
}

TEST(SafetensorsHeader, RefusesOffsetsOutsideTheFile) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[9]", "[0,9]") + "}", 4),
                      "a.data_offsets: the bytes 0 to 9 lie outside the 4"));
}

TEST(SafetensorsHeader, RefusesThreeOffsets) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[1]", "[0,1,2]") + "}", 1),
                      "expected [begin, end], found 3 values"));
}

TEST(SafetensorsHeader, RefusesOverlaps) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[2]", "[0,2]") + "," +
                                entry("b", "U8", "[2]", "[1,3]") + "}",
                            3),
                      "b: starts at byte 1, which overlaps the tensor before"));
}

TEST(SafetensorsHeader, RefusesHoles) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[1]", "[0,1]") + "," +
                                entry("b", "U8", "[1]", "[2,3]") + "}",
                            3),
                      "b: starts at byte 2, which leaves a hole"));
}

TEST(SafetensorsHeader, RefusesBytesAfterTheLastTensor) {
  EXPECT_TRUE(refused(parse("{" + entry("a", "U8", "[1]", "[0,1]") + "}", 5),
                      "the tensors end at byte 1 of the data, which has 5"));
}

TEST(SafetensorsHeader, RefusesMetadataThatIsNoString) {
  EXPECT_TRUE(refused(parse(R"({"__metadata__":{"a":1}})", 0),
                      "__metadata__.a: expected a string"));
}

TEST(SafetensorsFile, RefusesAFileWithoutALength) {
  TempDirectory dir;
  dir.write("m.safetensors", "abc");
  EXPECT_TRUE(refused(SafetensorsFile::open(dir / "m.safetensors"),
                      "m.safetensors: expected a safetensors file, found only "
                      "3 bytes"));
}

TEST(SafetensorsFile, RefusesAHeaderLongerThanTheFile) {
  TempDirectory dir;
  dir.write("m.safetensors", std::string("\x40\0\0\0\0\0\0\0{}", 10));
  EXPECT_TRUE(refused(SafetensorsFile::open(dir / "m.safetensors"),
                      "the header claims 64 bytes, but only 2 are possible"));
}

TEST(SafetensorsFile, RefusesATruncatedFile) {
  TempDirectory dir;
  dir.write("m.safetensors",
            safetensorsBytes("{" + entry("w", "U8", "[9]", "[0,9]") + "}", 5));
  EXPECT_TRUE(refused(SafetensorsFile::open(dir / "m.safetensors"),
                      "m.safetensors: w.data_offsets: the bytes 0 to 9 lie "
                      "outside the 5 bytes of data; the file is truncated"));
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  TempDirectory dir;
  writeTensors(dir / "m.safetensors",
               {{"b", tensorOf<float>(DType::F32, {2}, {1.5f, -2.0f})},
                {"a", tensorOf<uint8_t>(DType::U8, {3}, {7, 8, 9})}});
  auto file = SafetensorsFile::open(dir / "m.safetensors");
  ASSERT_TRUE(file.ok()) << messageOf(file.status());
  std::vector<uint8_t> bytes(2);
  ASSERT_TRUE(file->read(*file->header().find("a"), 1, bytes).ok());
  EXPECT_EQ(bytes, (std::vector<uint8_t>{8, 9}));
  // Wider elements come first, so every tensor is aligned.
  EXPECT_EQ(file->header().tensors[0].name, "b");
}

TEST(SafetensorsWriter, RefusesToCommitAnIncompleteFile) {
  TempDirectory dir;
  auto writer =
      SafetensorsWriter::create(dir / "m", {{"a", DType::F32, {2}}}, {});
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE(writer->commit().ok());
}

TEST(SafetensorsWriter, RefusesToWritePastATensor) {
  TempDirectory dir;
  auto writer =
      SafetensorsWriter::create(dir / "m", {{"a", DType::U8, {2}}}, {});
  EXPECT_FALSE(writer->write("a", 1, std::vector<uint8_t>(2)).ok());
  EXPECT_FALSE(writer->write("b", 0, std::vector<uint8_t>(1)).ok());
}

} // namespace lathe
