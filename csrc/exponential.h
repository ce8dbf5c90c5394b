// The exponential function of floats in lanes, and what is made of it.
#pragma once

#include "lanes.h"

namespace sparsact {

typedef std::uint32_t Words __attribute__((vector_size(LANES * sizeof(float))));

template <class V>
using Bits = std::conditional_t<std::is_same_v<V, float>, std::uint32_t, Words>;

template <class V>
inline V constant(float value) {
  return V{} + value;
}

// e^x with a relative error of about 1e-7; x is limited to [-87, 88], and NaN stays NaN.
//
// x = n·ln 2 + r with a whole n. The polynomial of e^r is that of the Cephes library's expf. Adding
// 1.5·2^23 rounds to a whole number, which the lowest bits of the sum then hold.
template <class V>
inline V exponential(V x) {
  const float whole = 12582912.0f;
  x = x < constant<V>(-87.0f) ? constant<V>(-87.0f) : x;
  x = x > constant<V>(88.0f) ? constant<V>(88.0f) : x;
  const V shifted = x * 1.44269504f + whole;
  const V n = shifted - whole;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = constant<V>(1.9875691500e-4f);
  for (float next : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                     5.0000001201e-1f}) {
    p = p * r + next;
  }
  p = p * r * r + r + 1.0f;
  const Bits<V> exponent = (same_bits<Bits<V>>(shifted) - 0x4B400000u + 127u) << 23;
  return p * same_bits<V>(exponent);
}

template <class V>
inline V sigmoid(V x) {
  return 1.0f / (1.0f + exponential(-x));
}

template <class V>
inline V tanh_of(V x) {
  return 2.0f * sigmoid(2.0f * x) - 1.0f;
}

}  // namespace sparsact
