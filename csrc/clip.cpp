// Clipping in one pass over memory; backward also sums the gradients of the bounds.
#include "levels.h"

namespace sparsact {
namespace {

void clip_segment(const float* x, const float* low, const float* high, Index length,
                  float* __restrict out) {
  for (Index j = 0; j < length; ++j) {
    const float raised = x[j] < low[j] ? low[j] : x[j];
    out[j] = raised > high[j] ? high[j] : raised;
  }
}

void clip_back(const float* grad, const float* x, const float* low, const float* high,
               Index length, float* __restrict grad_x, float* __restrict low_sums,
               float* __restrict high_sums) {
  for (Index j = 0; j < length; ++j) {
    const bool below = x[j] <= low[j], above = x[j] >= high[j];
    grad_x[j] = below || above ? 0.0f : grad[j];
    low_sums[j] += below ? grad[j] : 0.0f;
    high_sums[j] += above ? grad[j] : 0.0f;
  }
}

}  // namespace

EXPORT void clip(Index threads, Index units, Index size, Index channels, Index inner, Index dtype,
                 const void* x, const float* lo, const float* hi, void* out) {
  const Layout layout{size, channels, inner};
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_units(threads, units, layout, [&](const Unit& unit) {
      float lows[LENGTH], highs[LENGTH], inputs[LENGTH];
      const float *low = spread(lo, unit, layout, lows), *high = spread(hi, unit, layout, highs);
      for_segments(unit, static_cast<X*>(out), [&](Index first, float* result) {
        clip_segment(widened(static_cast<const X*>(x) + first, unit.length, inputs), low, high,
                     unit.length, result);
      });
    });
  });
}

EXPORT void clip_backward(Index threads, Index units, Index size, Index channels, Index inner,
                          Index dtype, const void* grad, const void* x, const float* lo,
                          const float* hi, void* grad_x, float* partial_lo, float* partial_hi) {
  const Layout layout{size, channels, inner};
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_units(threads, units, layout, [&](const Unit& unit) {
      float lows[LENGTH], highs[LENGTH], slopes[LENGTH], inputs[LENGTH];
      float low_sums[LENGTH] = {}, high_sums[LENGTH] = {};
      const float *low = spread(lo, unit, layout, lows), *high = spread(hi, unit, layout, highs);
      for_segments(unit, static_cast<X*>(grad_x), [&](Index first, float* result) {
        clip_back(widened(static_cast<const X*>(grad) + first, unit.length, slopes),
                  widened(static_cast<const X*>(x) + first, unit.length, inputs), low, high,
                  unit.length, result, low_sums, high_sums);
      });
      store_sums(low_sums, unit, layout, partial_lo);
      store_sums(high_sums, unit, layout, partial_hi);
    });
  });
}

}  // namespace sparsact
