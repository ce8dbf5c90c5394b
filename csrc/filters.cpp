// Analysis and synthesis of a filter bank along the middle dim of (before, size, after).
//
// If after > 1, a unit of work is a row of the result. If after = 1, samples are first sorted by
// their phase into a short buffer, so that every sum runs along memory.
#include "common.h"

namespace sparsact {
namespace {

// Sample q meets coefficient k at tap j where q = k·stride + j·dilation − start.
struct Geometry {
  Index before, samples, after, coefficients, taps, stride, dilation, start;
};

Index floor_div(Index value, Index unit) {
  return value / unit - (value % unit != 0 && (value % unit < 0) != (unit < 0));
}

Index mirror(Index place, Index size) {
  place %= 2 * size;
  if (place < 0) place += 2 * size;
  return place < size ? place : 2 * size - 1 - place;
}

template <class T>
void add_both(T* __restrict first, T* __restrict second, const T* source, Index size, T first_tap,
              T second_tap) {
  for (Index i = 0; i < size; ++i) {
    const T value = source[i];
    first[i] += first_tap * value;
    second[i] += second_tap * value;
  }
}

template <class T>
void add_from_both(T* __restrict total, const T* first, const T* second, Index size, T first_tap,
                   T second_tap) {
  for (Index i = 0; i < size; ++i) total[i] += first_tap * first[i] + second_tap * second[i];
}

// Set inside[i] to the sample at i·stride + offset, mirrored beyond both borders.
template <class T>
void one_phase(const T* line, const Geometry& g, Index offset, T* inside, Index reach) {
  const Index stride = g.stride, size = g.samples;
  const Index first = std::min(reach, std::max(Index{0}, -floor_div(offset, stride)));
  const Index end = floor_div(size - 1 - offset, stride) + 1;
  const Index last = std::max(first, std::min(reach, end));
  for (Index i = 0; i < first; ++i) inside[i] = line[mirror(i * stride + offset, size)];
  for (Index i = first; i < last; ++i) inside[i] = line[i * stride + offset];
  for (Index i = last; i < reach; ++i) inside[i] = line[mirror(i * stride + offset, size)];
}

template <class T>
void analyse_rows(Index begin, Index end, const Geometry& g, const T* x, const T* taps, T* out) {
  const Index band = g.before * g.coefficients * g.after;
  for (Index unit = begin; unit < end; ++unit) {
    const Index block = unit / g.coefficients, k = unit % g.coefficients;
    T *low = out + unit * g.after, *high = low + band;
    std::fill_n(low, g.after, T{0});
    std::fill_n(high, g.after, T{0});
    for (Index j = 0; j < g.taps; ++j) {
      const Index q = mirror(k * g.stride + j * g.dilation - g.start, g.samples);
      add_both(low, high, x + (block * g.samples + q) * g.after, g.after, taps[j],
               taps[g.taps + j]);
    }
  }
}

template <class T>
void analyse_lines(Index begin, Index end, const Geometry& g, const T* x, const T* taps, T* out) {
  const Index reach = g.coefficients + (g.taps - 1) * g.dilation / g.stride + 1;
  auto memory = room<T>(g.stride * reach);
  for (Index block = begin; block < end; ++block) {
    T* phases = memory.get();
    for (Index p = 0; p < g.stride; ++p) {
      one_phase(x + block * g.samples, g, p - g.start, phases + p * reach, reach);
    }
    T* low = out + block * g.coefficients;
    T* high = low + g.before * g.coefficients;
    std::fill_n(low, g.coefficients, T{0});
    std::fill_n(high, g.coefficients, T{0});
    for (Index j = 0; j < g.taps; ++j) {
      const Index place = j * g.dilation;
      const T* source = phases + place % g.stride * reach + place / g.stride;
      add_both(low, high, source, g.coefficients, taps[j], taps[g.taps + j]);
    }
  }
}

template <class T>
void synthesise_rows(Index begin, Index end, const Geometry& g, const T* low, const T* high,
                     const T* taps, T* out) {
  for (Index unit = begin; unit < end; ++unit) {
    const Index block = unit / g.samples, q = unit % g.samples;
    T* total = out + unit * g.after;
    std::fill_n(total, g.after, T{0});
    for (Index j = 0; j < g.taps; ++j) {
      const Index place = q + g.start - j * g.dilation, k = floor_div(place, g.stride);
      if (place % g.stride != 0 || k < 0 || k >= g.coefficients) continue;
      const Index row = (block * g.coefficients + k) * g.after;
      add_from_both(total, low + row, high + row, g.after, taps[j], taps[g.taps + j]);
    }
  }
}

template <class T>
void synthesise_lines(Index begin, Index end, const Geometry& g, const T* low, const T* high,
                      const T* taps, T* out) {
  auto total = room<T>(blocks(g.samples, g.stride));
  for (Index block = begin; block < end; ++block) {
    const T *lows = low + block * g.coefficients, *highs = high + block * g.coefficients;
    T* signal = out + block * g.samples;
    for (Index p = 0; p < g.stride; ++p) {
      const Index size = std::max(Index{0}, blocks(g.samples - p, g.stride));
      std::fill_n(total.get(), size, T{0});
      for (Index j = 0; j < g.taps; ++j) {
        const Index place = p + g.start - j * g.dilation;
        if (place % g.stride != 0) continue;
        const Index shift = place / g.stride;  // from a sample's index in its phase to k
        const Index first = std::max(Index{0}, -shift);
        const Index last = std::max(first, std::min(size, g.coefficients - shift));
        add_from_both(total.get() + first, lows + first + shift, highs + first + shift,
                      last - first, taps[j], taps[g.taps + j]);
      }
      for (Index i = 0; i < size; ++i) signal[i * g.stride + p] = total[i];
    }
  }
}

// The taps of both filters in the dtype of the samples.
template <class T>
std::unique_ptr<T[]> taps_as(const double* taps, Index count) {
  auto result = room<T>(count);
  for (Index i = 0; i < count; ++i) result[i] = static_cast<T>(taps[i]);
  return result;
}

}  // namespace

EXPORT void filter_mirrored(Index threads, const Index* numbers, Index dtype, const void* x,
                            const double* both_taps, void* out) {
  const Geometry& g = *reinterpret_cast<const Geometry*>(numbers);
  with_real(dtype, [&](auto like) {
    using T = decltype(like);
    auto taps = taps_as<T>(both_taps, 2 * g.taps);
    const auto* samples = static_cast<const T*>(x);
    auto* bands = static_cast<T*>(out);
    const auto run = g.after > 1 ? analyse_rows<T> : analyse_lines<T>;
    const Index units = g.after > 1 ? g.before * g.coefficients : g.before;
    in_ranges(threads, units, [&](Index begin, Index end) {
      run(begin, end, g, samples, taps.get(), bands);
    });
  });
}

EXPORT void filter_transposed(Index threads, const Index* numbers, Index dtype, const void* low,
                              const void* high, const double* both_taps, void* out) {
  const Geometry& g = *reinterpret_cast<const Geometry*>(numbers);
  with_real(dtype, [&](auto like) {
    using T = decltype(like);
    auto taps = taps_as<T>(both_taps, 2 * g.taps);
    const auto run = g.after > 1 ? synthesise_rows<T> : synthesise_lines<T>;
    const Index units = g.after > 1 ? g.before * g.samples : g.before;
    in_ranges(threads, units, [&](Index begin, Index end) {
      run(begin, end, g, static_cast<const T*>(low), static_cast<const T*>(high), taps.get(),
          static_cast<T*>(out));
    });
  });
}

}  // namespace sparsact
