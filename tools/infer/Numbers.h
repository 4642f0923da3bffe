//===- Numbers.h - numbers as the reports print them ------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_NUMBERS_H
#define LATHE_TOOLS_INFER_NUMBERS_H

#include <cmath>
#include <cstdio>
#include <string>

namespace lathe::cli {

/// With `digits` behind the point; "-" for what is no number.
inline std::string fixed(double value, int digits) {
  if (!std::isfinite(value))
    return "-";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_NUMBERS_H
