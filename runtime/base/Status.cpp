#include "runtime/base/Status.h"

#include "absl/strings/str_cat.h"

namespace lathe {

static absl::string_view view(std::string_view s) {
  return {s.data(), s.size()};
}

Status usageError(std::string_view message) {
  return absl::InvalidArgumentError(view(message));
}

Status modelError(std::string_view message) {
  return absl::DataLossError(view(message));
}

Status capacityError(std::string_view message) {
  return absl::ResourceExhaustedError(view(message));
}

Status internalError(std::string_view message) {
  return absl::InternalError(view(message));
}

Status cancelled() { return absl::CancelledError("interrupted"); }

Status annotate(const Status &status, std::string_view context) {
  if (status.ok())
    return status;
  return Status(status.code(),
                absl::StrCat(view(context), ": ", status.message()));
}

int exitCode(const Status &status) {
  switch (status.code()) {
  case absl::StatusCode::kOk:
    return 0;
  case absl::StatusCode::kInvalidArgument:
    return 2;
  case absl::StatusCode::kDataLoss:
    return 3;
  case absl::StatusCode::kResourceExhausted:
    return 4;
  case absl::StatusCode::kCancelled:
    return 130;
  default:
    return 1;
  }
}

std::string messageOf(const Status &status) {
  return std::string(status.message().data(), status.message().size());
}

} // namespace lathe
