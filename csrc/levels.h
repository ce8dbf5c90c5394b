// Elementwise kernels with levels that vary along at most one dim: how work is cut and summed.
//
// The cut into units depends on the shapes alone. Each unit has its own partial sum, and these are
// added in order, so the bits of a level's gradient do not depend on the number of threads.
#pragma once

#include "lanes.h"

namespace sparsact {

// threshold_levels.py has the same two numbers.
constexpr Index STRIP = 64;     // rows of a unit if levels vary along memory
constexpr Index LENGTH = 2048;  // entries of a segment at most

// Entries in memory order: `channels` levels, `inner` entries from one channel to the next.
struct Layout {
  Index size, channels, inner;
};

// Segments of one unit: all have the same levels.
struct Unit {
  Index first, step, count, length, channel, partial;
};

inline Unit unit_at(Index number, const Layout& at) {
  if (at.inner > 1) {
    const Index per_line = blocks(at.inner, LENGTH);
    const Index line = number / per_line, start = number % per_line * LENGTH;
    return {line * at.inner + start, at.inner, 1, std::min(LENGTH, at.inner - start),
            line % at.channels, number};
  }
  const Index per_strip = blocks(at.channels, LENGTH);
  const Index strip = number / per_strip, channel = number % per_strip * LENGTH;
  return {strip * STRIP * at.channels + channel,
          at.channels,
          std::min(STRIP, at.size / at.channels - strip * STRIP),
          std::min(LENGTH, at.channels - channel),
          channel,
          strip * at.channels + channel};
}

// The level of each entry of a segment; `memory` has LENGTH places.
inline const float* spread(const float* level, const Unit& unit, const Layout& at, float* memory) {
  if (at.inner == 1) return level + unit.channel;
  std::fill_n(memory, unit.length, level[unit.channel]);
  return memory;
}

// Write the sums of a unit to their place.
inline void store_sums(const float* sums, const Unit& unit, const Layout& at, float* partial) {
  if (at.inner == 1) {
    std::copy_n(sums, unit.length, partial + unit.partial);
    return;
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (Index j = 0; j < unit.length; ++j) total += sums[j];
  partial[unit.partial] = total;
}

// A segment as floats; `memory` has LENGTH places and holds those of bfloat16.
inline const float* widened(const float* source, Index, float*) { return source; }
inline const float* widened(const Bfloat16* source, Index length, float* memory) {
  by_lanes(length, [&](auto like, Index j) {
    store(memory + j, load<decltype(like)>(source + j));
  });
  return memory;
}

// Where the results of a segment are computed; `narrowed` then brings them to their place.
inline float* computed(float* target, float*) { return target; }
inline float* computed(Bfloat16*, float* memory) { return memory; }
inline void narrowed(const float*, Index, float*) {}
inline void narrowed(const float* memory, Index length, Bfloat16* target) {
  by_lanes(length, [&](auto like, Index j) {
    store(target + j, load<decltype(like)>(memory + j));
  });
}

// Call compute(first entry, results) for each segment of a unit, and bring the results to `out`.
template <class X, class Compute>
inline void for_segments(const Unit& unit, X* out, Compute compute) {
  float memory[LENGTH];
  for (Index i = 0; i < unit.count; ++i) {
    const Index first = unit.first + i * unit.step;
    float* results = computed(out + first, memory);
    compute(first, results);
    narrowed(results, unit.length, out + first);
  }
}

// Call body(unit) for each unit.
template <class Body>
inline void for_units(Index threads, Index units, const Layout& layout, Body body) {
  in_ranges(threads, units, [&](Index start, Index stop) {
    for (Index number = start; number < stop; ++number) body(unit_at(number, layout));
  });
}

}  // namespace sparsact
