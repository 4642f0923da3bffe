#include "runtime/engine/DraftHeadWeights.h"

#include "runtime/io/QuantizeMath.h"

#include <algorithm>
#include <cmath>

namespace lathe {

namespace {

constexpr std::string_view kSuffix = ".draft";

/// Appends `count` elements of `from` at row `row`.
template <class T>
void appendRow(std::vector<T> &to, const std::vector<T> &from, int64_t row,
               int64_t rows) {
  const int64_t count = int64_t(from.size()) / rows;
  to.insert(to.end(), from.begin() + row * count,
            from.begin() + (row + 1) * count);
}

/// Some rows as they are.
HostWeight takeRows(const HostWeight &head, const std::vector<int32_t> &ids,
                    const WeightDesc &desc) {
  HostWeight result{desc, {}, {}, {}, {}, head.globalScale};
  for (int32_t id : ids) {
    appendRow(result.data, head.data, id, head.desc.rows);
    appendRow(result.scales, head.scales, id, head.desc.rows);
    appendRow(result.zeros, head.zeros, id, head.desc.rows);
    appendRow(result.blockScales, head.blockScales, id, head.desc.rows);
  }
  return result;
}

float largestOf(const HostWeight &head, const std::vector<int32_t> &ids) {
  std::vector<float> row(static_cast<size_t>(head.desc.cols));
  float largest = 0;
  for (int32_t id : ids) {
    head.dequantizeRow(id, row.data());
    for (float value : row)
      largest = std::max(largest, std::fabs(value));
  }
  return largest;
}

/// Some rows in four bits, or in eight: two digits of four (draft-head).
HostWeight roundRows(const HostWeight &head, const std::vector<int32_t> &ids,
                     const WeightDesc &desc) {
  HostWeight result;
  result.desc = desc;
  const size_t codes = size_t(desc.cols / 2),
               groups = size_t(desc.cols) / size_t(desc.group);
  const bool int4 = desc.format == WeightFormat::Int4;
  const bool int8 = int4 && desc.cols == 2 * head.desc.cols;
  result.data.resize(ids.size() * codes);
  (int4 ? result.scales.resize(ids.size() * groups)
        : result.blockScales.resize(ids.size() * groups));
  if (!int4)
    result.globalScale = nvFp4GlobalScale(largestOf(head, ids));
  std::vector<float> row(static_cast<size_t>(head.desc.cols));
  for (size_t i = 0; i < ids.size(); ++i) {
    head.dequantizeRow(ids[i], row.data());
    uint8_t *to = result.data.data() + i * codes;
    if (int8)
      quantizeInt8Row(row, desc.group, to, result.scales.data() + i * groups);
    else if (int4)
      quantizeInt4Row(row, desc.group, to, result.scales.data() + i * groups);
    else
      quantizeNvFp4Row(row, result.globalScale, to,
                       result.blockScales.data() + i * groups);
  }
  return result;
}

class DraftHeadWeights : public WeightSource {
public:
  DraftHeadWeights(WeightSource &source, const Plan &plan,
                   std::vector<int32_t> ids)
      : source(source), plan(plan), ids(std::move(ids)) {}

  StatusOr<HostWeight> weight(const std::string &name,
                              const WeightDesc &expected) override {
    if (!name.ends_with(kSuffix))
      return source.weight(name, expected);
    const std::string full = name.substr(0, name.size() - kSuffix.size());
    auto planned = std::ranges::find(plan.weights, full, &PlannedWeight::name);
    if (planned == plan.weights.end() || int64_t(ids.size()) != expected.rows)
      return internalError("the plan's " + name + " is the draft head of none");
    LATHE_ASSIGN_OR_RETURN(HostWeight head, source.weight(full, planned->desc));
    for (int32_t id : ids)
      if (id < 0 || id >= head.desc.rows)
        return usageError("the draft vocabulary has token " +
                          std::to_string(id) + ", the model only " +
                          std::to_string(head.desc.rows));
    WeightDesc same = head.desc;
    same.rows = expected.rows;
    return same == expected ? takeRows(head, ids, expected)
                            : roundRows(head, ids, expected);
  }
  StatusOr<std::vector<float>> tensor(const std::string &name,
                                      std::span<const int64_t> shape) override {
    return source.tensor(name, shape);
  }

private:
  WeightSource &source;
  const Plan &plan;
  const std::vector<int32_t> ids;
};

} // namespace

std::unique_ptr<WeightSource> withDraftHead(WeightSource &source,
                                            const Plan &plan,
                                            std::vector<int32_t> ids) {
  return std::make_unique<DraftHeadWeights>(source, plan, std::move(ids));
}

} // namespace lathe
