// Weights of 4 bits.
//
// One row of the weight holds the weights of one input, in blocks of 32 outputs: a scale and a
// minimum in bfloat16, then four words of 32 bits. The codes of the outputs 8k + j and 8k + 4 + j
// are the bits from 4k and from 16 + 4k of word j. A weight is scale · code + minimum. A skipped row
// skips its scales.
#pragma once

#include "lanes.h"

namespace sparsact {

constexpr Index BLOCK = 32;           // outputs
constexpr Index BLOCK_BYTES = 4 + 16;

// One byte of a packed row.
struct Int4 {
  std::uint8_t bits;
};

// Call body(W{}) with the type of a weight's dtype.
template <class Body>
inline auto with_weight(Index dtype, Body body) {
  if (dtype == INT4) return body(Int4{});
  return dtype == INT8 ? body(std::int8_t{}) : with_float(dtype, body);
}

// The sums of one block over several rows.
#if defined(__AVX2__)
// A code is masked where it stands in its word, and converted as it is: a power of two too large.
// The sums are divided by it once, at the end. The last codes are shifted, away from the sign bit.
class BlockSums {
 public:
  void add(const Int4* block, float value) {
    std::uint32_t both;
    std::memcpy(&both, block, sizeof(both));
    const __m256i scales = _mm256_set1_epi32(static_cast<int>(both));
    const Floats minimum = floats(_mm256_and_si256(scales, _mm256_set1_epi32(-65536)));
    const Floats factor = value * floats(_mm256_slli_epi32(scales, 16));
    offset += value * minimum;
    const __m256i words =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 4)));
    sums[0] += factor * masked(words, 0);
    sums[1] += factor * masked(words, 4);
    sums[2] += factor * masked(words, 8);
    sums[3] += factor * masked(_mm256_srli_epi32(words, 4), 8);
  }

  void add_to(float* acc) const {
    for (int k = 0; k < 4; ++k) {
      const float low = 1.0f / (1 << 4 * std::min(k, 2)), high = low / (1 << 16);
      const Floats units = {low, low, low, low, high, high, high, high};
      store(acc + 8 * k, load_lanes(acc + 8 * k) + (sums[k] * units + offset));
    }
  }

 private:
  static Floats floats(__m256i bits) { return _mm256_castsi256_ps(bits); }
  static Floats masked(__m256i words, int bit) {
    const int low = 15 << bit, high = low << 16;
    const __m256i mask = _mm256_setr_epi32(low, low, low, low, high, high, high, high);
    return _mm256_cvtepi32_ps(_mm256_and_si256(words, mask));
  }

  Floats sums[4] = {}, offset = {};
};
#else
class BlockSums {
 public:
  void add(const Int4* block, float value) {
    Bfloat16 scales[2];
    std::uint32_t words[4];
    std::memcpy(scales, block, sizeof(scales));
    std::memcpy(words, block + 4, sizeof(words));
    const float factor = value * wide(scales[0]);
    offset += value * wide(scales[1]);
    for (int k = 0; k < 4; ++k) {
      for (int j = 0; j < 4; ++j) {
        sums[8 * k + j] += factor * static_cast<float>(words[j] >> 4 * k & 15);
        sums[8 * k + 4 + j] += factor * static_cast<float>(words[j] >> (16 + 4 * k) & 15);
      }
    }
  }

  void add_to(float* acc) const {
    for (Index i = 0; i < BLOCK; ++i) acc[i] += sums[i] + offset;
  }

 private:
  float sums[BLOCK] = {}, offset = 0;
};
#endif

// Add value_k · row_k for `count` rows to whole blocks of accumulators.
template <int count>
inline void add_blocks(float* __restrict acc, Index outputs, const Int4* weight, Index stride,
                       const Index* index, const float* value) {
  for (Index c = 0; c < outputs; c += BLOCK) {
    const Int4* place = weight + c / BLOCK * BLOCK_BYTES;
    BlockSums sums;
    for (int k = 0; k < count; ++k) sums.add(place + index[k] * stride, value[k]);
    sums.add_to(acc + c);
  }
}

}  // namespace sparsact
