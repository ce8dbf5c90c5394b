// The median of the entries above a floor, by counting.
//
// The bits of positive floats ascend with their values. Passes over the row count 16 of these bits
// at a time, from the highest, among the entries that share the bits found so far. Nothing is moved
// or sorted.
#include "common.h"

namespace sparsact {
namespace {

constexpr int DIGIT = 16;
constexpr Index DIGITS = Index{1} << DIGIT;

template <class T>
using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

// The entry with this rank, from 0, among those above the floor. `counts` has DIGITS places.
template <class T>
T ranked(const T* row, Index size, T floor, Index rank, std::int32_t* counts) {
  Bits<T> found = 0;
  for (int shift = 8 * sizeof(T) - DIGIT; shift >= 0; shift -= DIGIT) {
    const bool is_first = shift + DIGIT == 8 * sizeof(T);
    std::fill_n(counts, DIGITS, 0);
    for (Index i = 0; i < size; ++i) {
      const T value = std::fabs(row[i]);
      if (!(value > floor)) continue;
      const auto bits = same_bits<Bits<T>>(value);
      if (is_first || bits >> shift >> DIGIT == found) ++counts[(bits >> shift) & (DIGITS - 1)];
    }
    Index digit = 0;
    while (rank >= counts[digit]) rank -= counts[digit++];
    found = (is_first ? 0 : found << DIGIT) | static_cast<Bits<T>>(digit);
  }
  return same_bits<T>(found);
}

template <class T>
T median(const T* row, Index size, T floor, std::int32_t* counts) {
  Index count = 0;
  for (Index i = 0; i < size; ++i) count += std::fabs(row[i]) > floor;  // NaN is not
  if (count == 0) return std::numeric_limits<T>::quiet_NaN();
  const T lower = ranked(row, size, floor, (count - 1) / 2, counts);
  if (count % 2 == 1) return lower;
  Index up_to = 0;
  T above = std::numeric_limits<T>::infinity();
  for (Index i = 0; i < size; ++i) {
    const T value = std::fabs(row[i]);
    up_to += value > floor && value <= lower;
    above = value > lower ? std::min(above, value) : above;
  }
  return (lower + (2 * up_to > count ? lower : above)) / 2;
}

}  // namespace

EXPORT void median_above(Index threads, Index rows, Index size, Index dtype, const void* x,
                         const void* floor, void* out) {
  with_real(dtype, [&](auto like) {
    using T = decltype(like);
    in_ranges(threads, rows, [&](Index start, Index stop) {
      auto counts = room<std::int32_t>(DIGITS);
      for (Index row = start; row < stop; ++row) {
        static_cast<T*>(out)[row] = median(static_cast<const T*>(x) + row * size, size,
                                           static_cast<const T*>(floor)[row], counts.get());
      }
    });
  });
}

}  // namespace sparsact
