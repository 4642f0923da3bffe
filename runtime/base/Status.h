//===- Status.h - errors that say whose fault they are ----------*- C++ -*-===//
//
// Every fallible function of the runtime and the tools returns absl::Status or
// absl::StatusOr. The code says whose fault it is and decides the exit code:
//
//   usageError     the command line or a caller's argument        exit 2
//   modelError     a checkpoint, tokenizer, graph or bundle file  exit 3
//   capacityError  does not fit in memory, or the device is busy  exit 4
//   cancelled      the user interrupted                           exit 130
//   anything else  a failure of the machine or of Lathe           exit 1
//
// A message is one sentence that names the file and the field, what was
// expected, what was found and, where it helps, what to do.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_STATUS_H
#define LATHE_RUNTIME_BASE_STATUS_H

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include <string>
#include <string_view>
#include <utility>

namespace lathe {

using absl::Status;
using absl::StatusOr;

Status usageError(std::string_view message);
Status modelError(std::string_view message);
Status capacityError(std::string_view message);
Status internalError(std::string_view message);
Status cancelled();

/// Returns `status` with `context` and ": " in front of its message.
Status annotate(const Status &status, std::string_view context);

/// The process exit code for `status`, as in the table above.
int exitCode(const Status &status);

/// The message as a std::string (Debian's absl::string_view is its own type).
std::string messageOf(const Status &status);

} // namespace lathe

#define LATHE_CONCAT_INNER(a, b) a##b
#define LATHE_CONCAT(a, b) LATHE_CONCAT_INNER(a, b)

#define LATHE_RETURN_IF_ERROR(expr)                                            \
  do {                                                                         \
    if (auto status_ = (expr); !status_.ok())                                  \
      return status_;                                                          \
  } while (false)

#define LATHE_ASSIGN_OR_RETURN(lhs, expr)                                      \
  LATHE_ASSIGN_OR_RETURN_IMPL(LATHE_CONCAT(statusOr_, __LINE__), lhs, expr)
#define LATHE_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr)                            \
  auto tmp = (expr);                                                           \
  if (!tmp.ok())                                                               \
    return tmp.status();                                                       \
  lhs = *std::move(tmp)

#endif // LATHE_RUNTIME_BASE_STATUS_H
