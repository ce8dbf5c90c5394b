// Root mean square normalisation of one row.
#pragma once

#include "lanes.h"

namespace sparsact {

template <class X>
inline float sum_of_squares(const X* x, Index width) {
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

template <class X>
inline void normalise(const X* source, const X* weight, Index width, double eps, X* target) {
  const double mean = static_cast<double>(sum_of_squares(source, width)) / width;
  const auto factor = static_cast<float>(1 / std::sqrt(mean + eps));
  for (Index i = 0; i < width; ++i) {
    target[i] = narrow<X>(wide(source[i]) * factor * wide(weight[i]));
  }
}

}  // namespace sparsact
