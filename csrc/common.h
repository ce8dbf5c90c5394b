// What every kernel uses: scalars of each dtype, ranges of work for threads, exported names.
//
// Kernels have a plain C interface: addresses, sizes and numbers. Python checks the arguments. A
// library of this kind works with every version of Python and torch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>

#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace sparsact {

using Index = std::int64_t;

// The codes of dtypes, the same as in kernels/cpu/library.py.
enum Dtype { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, FLOAT64 = 3, INT4 = 4 };

// The upper half of a float32.
struct Bfloat16 {
  std::uint16_t bits;
};

template <class To, class From>
inline To same_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof(To));
  return result;
}

// A scalar as float; a double stays a double.
inline float wide(float value) { return value; }
inline double wide(double value) { return value; }
inline float wide(std::int8_t value) { return value; }
inline float wide(Bfloat16 value) {
  return same_bits<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

// A float as a scalar of type T; bfloat16 is rounded to nearest, ties to even.
template <class T>
inline T narrow(float value) {
  return value;
}
template <>
inline Bfloat16 narrow<Bfloat16>(float value) {
  const auto bits = same_bits<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return {static_cast<std::uint16_t>(value != value ? 0x7FC0 : rounded)};
}

// Call body(T{}) with the type of a dtype.
template <class Body>
inline auto with_float(Index dtype, Body body) {
  return dtype == BFLOAT16 ? body(Bfloat16{}) : body(float{});
}
template <class Body>
inline auto with_real(Index dtype, Body body) {
  return dtype == FLOAT64 ? body(double{}) : body(float{});
}

// Call body(start, stop) for equal ranges of the work, one for each thread.
template <class Body>
inline void in_ranges(Index threads, Index work, Body body) {
  if (threads <= 1) {
    body(Index{0}, work);
    return;
  }
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static, 1)
  for (Index part = 0; part < threads; ++part) {
    body(part * work / threads, (part + 1) * work / threads);
  }
}

// Memory that is not initialised.
template <class T>
inline std::unique_ptr<T[]> room(Index size) {
  return std::unique_ptr<T[]>(new T[std::max(size, Index{1})]);
}

// How many blocks of a length cover a size.
inline Index blocks(Index size, Index length) { return (size + length - 1) / length; }

}  // namespace sparsact
