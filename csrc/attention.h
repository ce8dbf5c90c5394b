// Attention of one query to a cache of keys and values.
#pragma once

#include "exponential.h"

namespace sparsact {

// The keys or values of one head: (positions, width).
template <class T>
struct Cached {
  const T* rows;
  Index width;
  const T* row(Index position) const { return rows + position * width; }
};

// scores[t - first] = query · key_t. Four positions are summed side by side.
template <class T>
inline void score(const float* query, Cached<T> keys, Index first, Index last, float* scores) {
  const Index width = keys.width;
  Index t = first;
  for (; t + 4 <= last; t += 4) {
    Floats sums[4] = {};
    float rest[4] = {};
    by_lanes(width, [&](auto like, Index i) {
      using V = decltype(like);
      const V q = load<V>(query + i);
      for (int k = 0; k < 4; ++k) {
        const V product = q * load<V>(keys.row(t + k) + i);
        if constexpr (std::is_same_v<V, float>) {
          rest[k] += product;
        } else {
          sums[k] += product;
        }
      }
    });
    for (int k = 0; k < 4; ++k) scores[t - first + k] = sum(sums[k]) + rest[k];
  }
  for (; t < last; ++t) {
    float total = 0;
    for (Index i = 0; i < width; ++i) total += query[i] * wide(keys.row(t)[i]);
    scores[t - first] = total;
  }
}

// Replace scores by their softmax, after scaling and, if `cap` is positive, cap·tanh(score / cap).
inline void softmax(float* scores, Index count, float scaling, float cap) {
  float largest = -std::numeric_limits<float>::infinity();
  by_lanes(count, [&](auto like, Index i) {
    using V = decltype(like);
    V value = load<V>(scores + i) * scaling;
    if (cap > 0) value = cap * tanh_of(value / cap);
    store(scores + i, value);
  });
  for (Index i = 0; i < count; ++i) largest = std::max(largest, scores[i]);
  by_lanes(count, [&](auto like, Index i) {
    using V = decltype(like);
    store(scores + i, exponential<V>(load<V>(scores + i) - largest));
  });
  double total = 0;
  for (Index i = 0; i < count; ++i) total += scores[i];
  const float factor = static_cast<float>(1 / total);
  for (Index i = 0; i < count; ++i) scores[i] *= factor;
}

// out = the sum of scores[t - first] · value_t.
template <class T>
inline void mix(const float* scores, Cached<T> values, Index first, Index last,
                float* __restrict out) {
  const Index width = values.width;
  std::fill_n(out, width, 0.0f);
  Index t = first;
  for (; t + 4 <= last; t += 4) {
    const float* p = scores + (t - first);
    const T *v0 = values.row(t), *v1 = values.row(t + 1), *v2 = values.row(t + 2),
            *v3 = values.row(t + 3);
    by_lanes(width, [=](auto like, Index i) {
      using V = decltype(like);
      store(out + i, load<V>(out + i) + (p[0] * load<V>(v0 + i) + p[1] * load<V>(v1 + i) +
                                         p[2] * load<V>(v2 + i) + p[3] * load<V>(v3 + i)));
    });
  }
  for (; t < last; ++t) {
    const float p = scores[t - first];
    const T* value = values.row(t);
    for (Index i = 0; i < width; ++i) out[i] += p * wide(value[i]);
  }
}

}  // namespace sparsact
