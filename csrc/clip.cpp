// Clipping in one pass over memory; backward also sums the gradients of the bounds.
#include "levels.h"

namespace sparsact {
namespace {

template <class X>
void clip_segment(const X* x, const float* low, const float* high, Index length, X* out) {
  for (Index j = 0; j < length; ++j) {
    const float value = wide(x[j]), raised = value < low[j] ? low[j] : value;
    out[j] = narrow<X>(raised > high[j] ? high[j] : raised);
  }
}

template <class X>
void clip_back(const X* grad, const X* x, const float* low, const float* high, Index length,
               X* grad_x, float* low_sums, float* high_sums) {
  for (Index j = 0; j < length; ++j) {
    const float value = wide(x[j]), pull = wide(grad[j]);
    const bool below = value <= low[j], above = value >= high[j];
    grad_x[j] = below || above ? X{} : grad[j];
    low_sums[j] += below ? pull : 0.0f;
    high_sums[j] += above ? pull : 0.0f;
  }
}

}  // namespace

EXPORT void clip(Index threads, Index units, Index size, Index channels, Index inner, Index dtype,
                 const void* x, const float* lo, const float* hi, void* out) {
  const Layout layout{size, channels, inner};
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_units(threads, units, layout, [&](const Unit& unit) {
      float low_memory[LENGTH], high_memory[LENGTH];
      const float* low = spread(lo, unit, layout, low_memory);
      const float* high = spread(hi, unit, layout, high_memory);
      for (Index i = 0; i < unit.count; ++i) {
        const Index first = unit.first + i * unit.step;
        clip_segment(static_cast<const X*>(x) + first, low, high, unit.length,
                     static_cast<X*>(out) + first);
      }
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
      float low_memory[LENGTH], high_memory[LENGTH], low_sums[LENGTH] = {}, high_sums[LENGTH] = {};
      const float* low = spread(lo, unit, layout, low_memory);
      const float* high = spread(hi, unit, layout, high_memory);
      for (Index i = 0; i < unit.count; ++i) {
        const Index first = unit.first + i * unit.step;
        clip_back(static_cast<const X*>(grad) + first, static_cast<const X*>(x) + first, low, high,
                  unit.length, static_cast<X*>(grad_x) + first, low_sums, high_sums);
      }
      store_sums(low_sums, unit, layout, partial_lo);
      store_sums(high_sums, unit, layout, partial_hi);
    });
  });
}

}  // namespace sparsact
