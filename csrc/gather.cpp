// Linear layers that skip inactive inputs.
#include "gather_rows.h"

namespace sparsact {

// Returns 0, with nothing computed, if more inputs are active than `inputs_at_most`.
EXPORT Index gather_linear(Index threads, Index lines, Index line, const Index* numbers,
                           Index weights, const void* x, Index x_dtype, Index rows, Index inputs,
                           const float* level, Index per_input, Index inputs_at_most,
                           Index weight_dtype) {
  Active active(rows, inputs);
  with_float(x_dtype, [&](auto like) {
    auto entries = static_cast<const decltype(like)*>(x);
    if (rows == 1) {
      compact_one_row(entries, level, per_input, active);
    } else {
      compact_rows(entries, rows, level, per_input, active);
    }
  });
  if (active.count > inputs_at_most) return 0;
  const auto* sources = reinterpret_cast<const Source*>(numbers);
  with_float(x_dtype, [&](auto like_x) {
    with_weight(weight_dtype, [&](auto like_weight) {
      in_ranges(threads, lines, [&](Index start, Index stop) {
        outputs<decltype(like_x), decltype(like_weight)>(start * line, stop * line, sources,
                                                         weights, rows, active);
      });
    });
  });
  return 1;
}

}  // namespace sparsact
