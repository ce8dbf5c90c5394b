// Shrinkage in one pass over memory; backward also sums the gradient of λ.
#include "levels.h"

namespace sparsact {
namespace {

enum Window { RECTANGLE = 0, TRIANGLE = 1, SIGMOID = 2 };

// Write the window of the straight-through gradient; separate loops vectorise.
template <class X>
void fill_window(const X* source, const float* bound, Index length, float width, Index window,
                 float* weight) {
  if (window == RECTANGLE) {
    const float height = 1 / width, half = width * 0.5f;
    for (Index j = 0; j < length; ++j) {
      weight[j] = std::fabs(std::fabs(wide(source[j])) - bound[j]) < half ? height : 0.0f;
    }
  } else if (window == TRIANGLE) {
    for (Index j = 0; j < length; ++j) {
      const float height = 1 - std::fabs(std::fabs(wide(source[j])) - bound[j]) / width;
      weight[j] = (height < 0 ? 0.0f : height) / width;
    }
  } else {
    const float rate = 4 / width;
    for (Index j = 0; j < length; ++j) {
      const float decay = std::exp(-std::fabs(rate * (std::fabs(wide(source[j])) - bound[j])));
      weight[j] = rate * decay / ((1 + decay) * (1 + decay));
    }
  }
}

template <class X>
void soft(const X* x, const float* bound, Index length, X* out) {
  for (Index j = 0; j < length; ++j) {
    const float value = wide(x[j]);
    const float raised = value < -bound[j] ? -bound[j] : value;
    out[j] = narrow<X>(value - (raised > bound[j] ? bound[j] : raised));
  }
}

template <class X>
void hard(const X* x, const float* bound, Index length, X* out) {
  for (Index j = 0; j < length; ++j) out[j] = std::fabs(wide(x[j])) <= bound[j] ? X{} : x[j];
}

template <class X>
void soft_back(const X* grad, const X* output, Index length, X* grad_x, float* sums) {
  for (Index j = 0; j < length; ++j) {
    const float value = wide(output[j]), slope = wide(grad[j]);
    grad_x[j] = value == 0 ? X{} : grad[j];
    const float pull = value == 0 ? 0.0f : slope;
    sums[j] += value > 0 ? -pull : (value < 0 ? pull : 0 * pull);
  }
}

template <class X>
void hard_back(const X* grad, const X* x, const float* bound, const float* weight, Index length,
               X* grad_x, float* sums) {
  for (Index j = 0; j < length; ++j) {
    const float value = wide(x[j]), slope = wide(grad[j]);
    grad_x[j] = std::fabs(value) <= bound[j] ? X{} : grad[j];
    const float push = bound[j] * weight[j] * slope;
    sums[j] += value > 0 ? -push : (value < 0 ? push : 0 * push);
  }
}

// Call segment(bound, first entry, length) for all segments.
template <class Segment>
void for_segments(Index threads, Index units, const Layout& layout, const float* level,
                  Segment segment) {
  for_units(threads, units, layout, [&](const Unit& unit) {
    float memory[LENGTH];
    const float* bound = spread(level, unit, layout, memory);
    for (Index i = 0; i < unit.count; ++i) {
      segment(bound, unit.first + i * unit.step, unit.length);
    }
  });
}

}  // namespace

EXPORT void softshrink(Index threads, Index units, Index size, Index channels, Index inner,
                       Index dtype, const void* x, const float* level, void* out) {
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_segments(threads, units, {size, channels, inner}, level,
                 [&](const float* bound, Index first, Index length) {
                   soft(static_cast<const X*>(x) + first, bound, length,
                        static_cast<X*>(out) + first);
                 });
  });
}

EXPORT void hardshrink(Index threads, Index units, Index size, Index channels, Index inner,
                       Index dtype, const void* x, const float* level, void* out) {
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_segments(threads, units, {size, channels, inner}, level,
                 [&](const float* bound, Index first, Index length) {
                   hard(static_cast<const X*>(x) + first, bound, length,
                        static_cast<X*>(out) + first);
                 });
  });
}

// The level is not needed: outputs of 0 say where it is.
EXPORT void softshrink_backward(Index threads, Index units, Index size, Index channels,
                                Index inner, Index dtype, const void* grad, const void* output,
                                const float*, void* grad_x, float* partial) {
  const Layout layout{size, channels, inner};
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_units(threads, units, layout, [&](const Unit& unit) {
      float sums[LENGTH] = {};
      for (Index i = 0; i < unit.count; ++i) {
        const Index first = unit.first + i * unit.step;
        soft_back(static_cast<const X*>(grad) + first, static_cast<const X*>(output) + first,
                  unit.length, static_cast<X*>(grad_x) + first, sums);
      }
      store_sums(sums, unit, layout, partial);
    });
  });
}

EXPORT void hardshrink_backward(Index threads, Index units, Index size, Index channels,
                                Index inner, Index dtype, const void* grad, const void* x,
                                const float* level, void* grad_x, float* partial, double width,
                                Index window) {
  const Layout layout{size, channels, inner};
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_units(threads, units, layout, [&](const Unit& unit) {
      float memory[LENGTH], weight[LENGTH], sums[LENGTH] = {};
      const float* bound = spread(level, unit, layout, memory);
      for (Index i = 0; i < unit.count; ++i) {
        const Index first = unit.first + i * unit.step;
        const X* source = static_cast<const X*>(x) + first;
        fill_window(source, bound, unit.length, static_cast<float>(width), window, weight);
        hard_back(static_cast<const X*>(grad) + first, source, bound, weight, unit.length,
                  static_cast<X*>(grad_x) + first, sums);
      }
      store_sums(sums, unit, layout, partial);
    });
  });
}

}  // namespace sparsact
