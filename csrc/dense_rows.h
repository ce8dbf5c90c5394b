// Linear layers whose weight is (out, in), as nn.Linear has it, for one row of x.
#pragma once

#include "gather_rows.h"

namespace sparsact {

// Four rows of the weight share the loads of x.
template <class W>
inline void dot_four(const float* x, Index inputs, const W* weight, float* out) {
  const W *w0 = weight, *w1 = w0 + inputs, *w2 = w1 + inputs, *w3 = w2 + inputs;
  Floats s0 = {}, s1 = {}, s2 = {}, s3 = {};
  Index i = 0;
  for (; i + LANES <= inputs; i += LANES) {
    const Floats value = load_lanes(x + i);
    s0 += value * load_lanes(w0 + i);
    s1 += value * load_lanes(w1 + i);
    s2 += value * load_lanes(w2 + i);
    s3 += value * load_lanes(w3 + i);
  }
  out[0] = sum(s0), out[1] = sum(s1), out[2] = sum(s2), out[3] = sum(s3);
  for (; i < inputs; ++i) {
    out[0] += x[i] * wide(w0[i]), out[1] += x[i] * wide(w1[i]);
    out[2] += x[i] * wide(w2[i]), out[3] += x[i] * wide(w3[i]);
  }
}

template <class W>
inline float dot(const float* x, Index inputs, const W* weight) {
  float total = 0;
  for (Index i = 0; i < inputs; ++i) total += x[i] * wide(weight[i]);
  return total;
}

// Compute the outputs from `start` to `stop`, counted over all weights.
template <class W>
inline void dense_outputs(Index start, Index stop, const Source* sources, Index weights,
                          const float* x, Index inputs) {
  Index first = 0;
  for (const Source* source = sources; source < sources + weights; ++source) {
    const Index last = std::min(stop - first, source->width);
    const W* weight = reinterpret_cast<const W*>(source->weight);
    float* y = reinterpret_cast<float*>(source->output);
    const Index begin = std::max(Index{0}, start - first);
    Index place = begin;
    for (; place + 4 <= last; place += 4) dot_four(x, inputs, weight + place * inputs, y + place);
    for (; place < last; ++place) y[place] = dot(x, inputs, weight + place * inputs);
    if (begin < last) finish(y + begin, begin, last - begin, *source, y + begin);
    first += source->width;
  }
}

}  // namespace sparsact
