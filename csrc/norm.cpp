// Root mean square normalisation of a few rows.
#include "lanes.h"

namespace sparsact {
namespace {

template <class X>
float sum_of_squares(const X* x, Index width) {
  Floats many = {};
  float rest = 0;
  by_lanes(width, [&](auto like, Index place) {
    using V = decltype(like);
    const V value = load<V>(x + place);
    if constexpr (std::is_same_v<V, float>) {
      rest += value * value;
    } else {
      many += value * value;
    }
  });
  return sum(many) + rest;
}

}  // namespace

EXPORT void rms_norm(Index dtype, const void* x, const void* weight, void* out, Index rows,
                     Index width, double eps) {
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    const auto* scale = static_cast<const X*>(weight);
    for (Index row = 0; row < rows; ++row) {
      const X* source = static_cast<const X*>(x) + row * width;
      X* target = static_cast<X*>(out) + row * width;
      const double mean = static_cast<double>(sum_of_squares(source, width)) / width;
      const auto factor = static_cast<float>(1 / std::sqrt(mean + eps));
      for (Index i = 0; i < width; ++i) {
        target[i] = narrow<X>(wide(source[i]) * factor * wide(scale[i]));
      }
    }
  });
}

}  // namespace sparsact
