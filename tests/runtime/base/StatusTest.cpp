#include "runtime/base/Status.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

TEST(Status, ExitCodesSayWhoseFaultItIs) {
  EXPECT_EQ(exitCode(absl::OkStatus()), 0);
  EXPECT_EQ(exitCode(internalError("x")), 1);
  EXPECT_EQ(exitCode(usageError("x")), 2);
  EXPECT_EQ(exitCode(modelError("x")), 3);
  EXPECT_EQ(exitCode(capacityError("x")), 4);
  EXPECT_EQ(exitCode(cancelled()), 130);
}

TEST(Status, AnnotateKeepsTheCode) {
  Status status = annotate(modelError("bad"), "file");
  EXPECT_EQ(messageOf(status), "file: bad");
  EXPECT_EQ(exitCode(status), 3);
  EXPECT_TRUE(annotate(absl::OkStatus(), "file").ok());
}

} // namespace
} // namespace lathe
