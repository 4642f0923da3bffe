//===- CudaLoaderTest.cpp - parameters on their way to a GPU --------------===//

#include "runtime/base/CudaPacking.h"
#include "runtime/engine/OrderedReader.h"
#include "tests/runtime/engine/FakeModel.h"

#include <algorithm>
#include <cstring>

namespace lathe {
namespace {

class CudaLoaderTest : public CudaModelTest {
protected:
  /// Device memory is host memory here: find it by the trunk's output.
  const std::byte *parameter(CudaEngine &engine, size_t index) {
    EXPECT_TRUE(engine.feed({{1}}).ok());
    return reinterpret_cast<const std::byte *>(engine.hidden().data) -
           engine.memory().io.at("trunk").outputs[0] +
           engine.memory().weights[index];
  }
  HostParameter host(size_t index) {
    return *readParameter(plan.weights[index], source);
  }

  /// That the pieces of `index` cover its rows in order, each with its own
  /// bytes and its own place.
  void expectPacked(CudaEngine &engine, size_t index, size_t pieces) {
    const WeightDesc &desc = plan.weights[index].desc;
    const CudaPacking packing = cudaPacking(desc);
    const HostWeight weight = host(index).weight;
    const std::byte *base = parameter(engine, index);
    const std::byte *end = base + packing.bytes(int(desc.rows), int(desc.cols));
    float scale;
    std::memcpy(&scale, base, sizeof scale);
    EXPECT_EQ(scale,
              desc.format == WeightFormat::NvFp4 ? weight.globalScale : 1.0f);
    int64_t row = 0;
    size_t found = 0;
    for (const SeenPack &seen : packs) {
      const LathePack &pack = seen.pack;
      const auto *to = static_cast<const std::byte *>(pack.packed);
      if (to < base || to >= end)
        continue;
      ++found;
      EXPECT_EQ(seen.entry, "pack");
      EXPECT_EQ(row % 16, 0) << "a piece starts with a tile";
      EXPECT_EQ(to - base,
                kCudaWeightHeader + row / 16 * packing.units(int(desc.cols)) *
                                        packing.unitBytes());
      EXPECT_EQ(pack.format, int(packing.format));
      EXPECT_EQ(pack.columns, desc.cols);
      EXPECT_EQ(pack.group, std::max(desc.group, 1));
      EXPECT_EQ(pack.grain, packing.grain);
      EXPECT_EQ(pack.asymmetric, desc.asymmetric);
      const size_t rowBytes = weight.data.size() / size_t(desc.rows);
      ASSERT_EQ(seen.data.size(), size_t(pack.rows) * rowBytes);
      EXPECT_TRUE(std::equal(seen.data.begin(), seen.data.end(),
                             weight.data.begin() + row * int64_t(rowBytes)))
          << "rows from " << row;
      row += pack.rows;
    }
    EXPECT_EQ(row, desc.rows) << plan.weights[index].name;
    EXPECT_EQ(found, pieces);
  }
};

TEST_F(CudaLoaderTest, EveryParameterArrives) {
  for (bool deferred : {false, true}) {
    config->deferred = deferred;
    packs.clear();
    auto engine = create();
    for (size_t i = 0; i < plan.weights.size(); ++i) {
      const PlannedWeight &weight = plan.weights[i];
      if (weight.layout == Layout::Tiles) {
        expectPacked(*engine, i, 1);
        continue;
      }
      const HostParameter expected = host(i);
      const void *bytes = expected.floats.data();
      size_t size = expected.floats.size() * sizeof(float);
      if (weight.layout == Layout::Rows) {
        bytes = expected.weight.data.data();
        size = expected.weight.data.size();
      }
      EXPECT_EQ(std::memcmp(parameter(*engine, i), bytes, size), 0)
          << weight.name;
    }
  }
}

TEST_F(CudaLoaderTest, TheSourceOfDenseValuesIsKnown) {
  auto engine = create();
  std::vector<int> sources;
  for (const SeenPack &seen : packs)
    if (seen.pack.format == int(CudaFormat::Half) ||
        seen.pack.format == int(CudaFormat::Wide))
      sources.push_back(seen.pack.source);
  EXPECT_EQ(sources, (std::vector<int>{LATHE_PACK_BF16, LATHE_PACK_F32}));
}

/// More than two buffers of upload: pieces alternate between them.
TEST_F(CudaLoaderTest, LargeWeightsGoInPieces) {
  plan.weights[3].desc = {WeightFormat::BF16, 500, 65536, 0, false};
  plan.weights[0].desc = {WeightFormat::BF16, 1000, 20000, 0, false};
  config->deferred = true;
  auto engine = create();
  expectPacked(*engine, 3, 3); // 240, 240 and 20 rows
  const HostParameter table = host(0);
  EXPECT_EQ(std::memcmp(parameter(*engine, 0), table.weight.data.data(),
                        table.weight.data.size()),
            0);
}

TEST_F(CudaLoaderTest, ScalesOfAPieceStandBesideItsRows) {
  auto engine = create();
  for (const SeenPack &seen : packs) {
    const LathePack &pack = seen.pack;
    auto apart = [&](const void *array) {
      return reinterpret_cast<const unsigned char *>(array) - pack.data;
    };
    const auto codes = int64_t(seen.data.size() + 255) / 256 * 256;
    if (pack.format == int(CudaFormat::Int4)) {
      EXPECT_EQ(apart(pack.scales), codes);
      EXPECT_EQ(apart(pack.zeros), codes + 48 * 8 * 2);
    }
    if (pack.format == int(CudaFormat::NvFp4)) {
      EXPECT_EQ(apart(pack.blockScales), codes);
    }
  }
}

TEST_F(CudaLoaderTest, ProgressEndsWithEverything) {
  std::vector<int64_t> done;
  int64_t all = 0;
  engineOptions.progress = [&](int64_t now, int64_t total) {
    done.push_back(now);
    all = total;
  };
  auto engine = create();
  EXPECT_EQ(done.size(), plan.weights.size());
  EXPECT_EQ(*std::ranges::max_element(done), all);
  EXPECT_TRUE(std::ranges::is_sorted(done));
  EXPECT_EQ(all, engine->memory().weightBytes);
}

TEST_F(CudaLoaderTest, SyntheticParametersAreMadeThere) {
  engineOptions.synthetic = true;
  launches.clear();
  auto engine =
      CudaEngine::create(*context, plan, images(), nullptr, engineOptions);
  ASSERT_TRUE(engine.ok()) << messageOf(engine.status());
  auto count = [&](const char *entry) {
    return std::ranges::count(launches, entry, &SeenLaunch::entry);
  };
  EXPECT_EQ(count("fill"), 4);
  EXPECT_EQ(count("fill_floats"), 3);
  EXPECT_EQ(count("fill_bf16"), 1);
  EXPECT_EQ(count("pack"), 0);
  for (const SeenPack &seen : packs) {
    EXPECT_GT(seen.pack.scale, 0);
    EXPECT_NE(seen.pack.seed, 0u);
    EXPECT_EQ(seen.pack.data, nullptr);
  }
}

/// Refuses one parameter, or gives it another format than the plan's.
class BadSource : public SyntheticWeights {
public:
  std::string refused, changed;
  StatusOr<HostWeight> weight(const std::string &name,
                              const WeightDesc &expected) override {
    if (name == refused)
      return modelError("cannot read " + name);
    LATHE_ASSIGN_OR_RETURN(HostWeight weight,
                           SyntheticWeights::weight(name, expected));
    if (name == changed)
      ++weight.desc.rows;
    return weight;
  }
};

TEST_F(CudaLoaderTest, ErrorsOfTheSource) {
  BadSource bad;
  auto failed = [&] {
    return CudaEngine::create(*context, plan, images(), &bad, engineOptions)
        .status();
  };
  bad.refused = "gate";
  EXPECT_EQ(exitCode(failed()), 3);
  EXPECT_TRUE(cuda::contains(failed(), "cannot read gate")) << failed();
  bad.refused.clear();
  bad.changed = "k";
  EXPECT_TRUE(cuda::contains(failed(), "format of k")) << failed();
  EXPECT_EQ(state->buffers + state->pinned, 0);
}

} // namespace
} // namespace lathe
