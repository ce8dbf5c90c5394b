// Vectors of floats in one register.
//
// Arithmetic uses the compiler's vector types. Only the loads that widen int8 and bfloat16, and the
// store that narrows, name instructions: compilers turn loops over such entries into many shuffles.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "common.h"

namespace sparsact {

#if defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(LANES * sizeof(float))));

inline Floats load_lanes(const float* source) {
  Floats value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

#if defined(__AVX2__)
inline Floats load_lanes(const std::int8_t* source) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(source));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
inline Floats load_lanes(const Bfloat16* source) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
#else
template <class T>
inline Floats load_lanes(const T* source) {
  Floats value;
  for (int i = 0; i < LANES; ++i) value[i] = wide(source[i]);
  return value;
}
#endif

// load<Floats>(p) reads LANES entries as floats, load<float>(p) reads one.
template <class V, class T>
inline V load(const T* source) {
  if constexpr (std::is_same_v<V, float>) {
    return wide(*source);
  } else {
    return load_lanes(source);
  }
}

inline void store(float* target, float value) { *target = value; }
inline void store(float* target, Floats value) { std::memcpy(target, &value, sizeof(value)); }

// Round to nearest, ties to even, as narrow<Bfloat16> does.
inline void store(Bfloat16* target, float value) { *target = narrow<Bfloat16>(value); }
inline void store(Bfloat16* target, Floats value) {
  typedef std::uint32_t Words __attribute__((vector_size(LANES * sizeof(float))));
  const auto bits = reinterpret_cast<Words>(value);
  const auto is_nan = reinterpret_cast<Words>(value != value);
  const Words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const Words upper = (rounded & ~is_nan) | (0x7FC0 & is_nan);
#if defined(__AVX2__)
  const auto words = reinterpret_cast<__m256i>(upper);
  const __m256i halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(target), _mm256_castsi256_si128(halves));
#else
  for (int i = 0; i < LANES; ++i) target[i].bits = static_cast<std::uint16_t>(upper[i]);
#endif
}

inline float sum(Floats value) {
  float total = 0;
  for (int i = 0; i < LANES; ++i) total += value[i];
  return total;
}

// Call body(Floats{}, place) for whole vectors, then body(float{}, place) for the rest.
template <class Body>
inline void by_lanes(Index size, Body body) {
  Index place = 0;
  for (; place + LANES <= size; place += LANES) body(Floats{}, place);
  for (; place < size; ++place) body(float{}, place);
}

}  // namespace sparsact
