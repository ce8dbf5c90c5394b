// Shrinkage in one pass over memory; backward also sums the gradient of λ.
#include "levels.h"

namespace sparsact {
namespace {

enum Window { RECTANGLE = 0, TRIANGLE = 1, SIGMOID = 2 };

// Write the window of the straight-through gradient; separate loops vectorise.
void fill_window(const float* x, const float* bound, Index length, float width, Index window,
                 float* weight) {
  if (window == RECTANGLE) {
    const float height = 1 / width, half = width * 0.5f;
    for (Index j = 0; j < length; ++j) {
      weight[j] = std::fabs(std::fabs(x[j]) - bound[j]) < half ? height : 0.0f;
    }
  } else if (window == TRIANGLE) {
    for (Index j = 0; j < length; ++j) {
      const float height = 1 - std::fabs(std::fabs(x[j]) - bound[j]) / width;
      weight[j] = (height < 0 ? 0.0f : height) / width;
    }
  } else {
    const float rate = 4 / width;
    for (Index j = 0; j < length; ++j) {
      const float decay = std::exp(-std::fabs(rate * (std::fabs(x[j]) - bound[j])));
      weight[j] = rate * decay / ((1 + decay) * (1 + decay));
    }
  }
}

void soft(const float* x, const float* bound, Index length, float* __restrict out) {
  for (Index j = 0; j < length; ++j) {
    const float raised = x[j] < -bound[j] ? -bound[j] : x[j];
    out[j] = x[j] - (raised > bound[j] ? bound[j] : raised);
  }
}

void hard(const float* x, const float* bound, Index length, float* __restrict out) {
  for (Index j = 0; j < length; ++j) out[j] = std::fabs(x[j]) <= bound[j] ? 0.0f : x[j];
}

void soft_back(const float* grad, const float* output, Index length, float* __restrict grad_x,
               float* __restrict sums) {
  for (Index j = 0; j < length; ++j) {
    const float value = output[j], pull = value == 0 ? 0.0f : grad[j];
    grad_x[j] = pull;
    sums[j] += value > 0 ? -pull : (value < 0 ? pull : 0 * pull);
  }
}

void hard_back(const float* grad, const float* x, const float* bound, const float* weight,
               Index length, float* __restrict grad_x, float* __restrict sums) {
  for (Index j = 0; j < length; ++j) {
    const float value = x[j], push = bound[j] * weight[j] * grad[j];
    grad_x[j] = std::fabs(value) <= bound[j] ? 0.0f : grad[j];
    sums[j] += value > 0 ? -push : (value < 0 ? push : 0 * push);
  }
}

// Call compute(x, bound, length, out) for all segments, as floats.
template <class Compute>
void map_segments(Index threads, Index units, const Layout& layout, Index dtype, const void* x,
                  const float* level, void* out, Compute compute) {
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_units(threads, units, layout, [&](const Unit& unit) {
      float levels[LENGTH], inputs[LENGTH];
      const float* bound = spread(level, unit, layout, levels);
      for_segments(unit, static_cast<X*>(out), [&](Index first, float* result) {
        const float* input = widened(static_cast<const X*>(x) + first, unit.length, inputs);
        compute(input, bound, unit.length, result);
      });
    });
  });
}

}  // namespace

EXPORT void softshrink(Index threads, Index units, Index size, Index channels, Index inner,
                       Index dtype, const void* x, const float* level, void* out) {
  map_segments(threads, units, {size, channels, inner}, dtype, x, level, out, soft);
}

EXPORT void hardshrink(Index threads, Index units, Index size, Index channels, Index inner,
                       Index dtype, const void* x, const float* level, void* out) {
  map_segments(threads, units, {size, channels, inner}, dtype, x, level, out, hard);
}

// The level is not needed: outputs of 0 say where it is.
EXPORT void softshrink_backward(Index threads, Index units, Index size, Index channels,
                                Index inner, Index dtype, const void* grad, const void* output,
                                const float*, void* grad_x, float* partial) {
  const Layout layout{size, channels, inner};
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for_units(threads, units, layout, [&](const Unit& unit) {
      float slopes[LENGTH], outputs[LENGTH], sums[LENGTH] = {};
      for_segments(unit, static_cast<X*>(grad_x), [&](Index first, float* result) {
        soft_back(widened(static_cast<const X*>(grad) + first, unit.length, slopes),
                  widened(static_cast<const X*>(output) + first, unit.length, outputs),
                  unit.length, result, sums);
      });
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
      float levels[LENGTH], weight[LENGTH], slopes[LENGTH], inputs[LENGTH], sums[LENGTH] = {};
      const float* bound = spread(level, unit, layout, levels);
      for_segments(unit, static_cast<X*>(grad_x), [&](Index first, float* result) {
        const float* slope = widened(static_cast<const X*>(grad) + first, unit.length, slopes);
        const float* input = widened(static_cast<const X*>(x) + first, unit.length, inputs);
        fill_window(input, bound, unit.length, static_cast<float>(width), window, weight);
        hard_back(slope, input, bound, weight, unit.length, result, sums);
      });
      store_sums(sums, unit, layout, partial);
    });
  });
}

}  // namespace sparsact
