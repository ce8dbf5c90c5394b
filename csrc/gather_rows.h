// Sums of the active rows of a weight.
//
// The active inputs are compacted once. Then the threads split the outputs: each reads its slice
// of every active row of the weight. A slice is as long as its accumulators fit into the first
// cache: a row of the weight is one run of memory, and long runs are read fastest.
//
// Eight rows are read at a time, so that accumulators are loaded and stored once for eight rows and
// the hardware prefetchers follow eight long streams. They cannot predict where the next eight rows
// begin, so the first two cache lines of these are fetched explicitly, and short rows entirely.
#pragma once

#include "int4.h"

namespace sparsact {

constexpr Index SLICE = 8192;  // accumulators of a slice for one row of x; four rows share them
constexpr Index QUARTER = SLICE / 4;
constexpr Index LINE = 64;     // bytes in a cache line
constexpr Index SHORT = 4096;  // bytes of a row that ends before the hardware prefetchers help

// One weight and its output. Python writes these five numbers.
struct Source {
  Index weight, bias, scale, output, width;
};

// The inputs that are active in any row, and each row's values there: 0 where it is inactive.
struct Active {
  Index count = 0, inputs, tall;
  std::unique_ptr<Index[]> index;
  std::unique_ptr<float[]> values;  // (tall, inputs)

  Active(Index rows, Index inputs)
      : inputs(inputs),
        tall(rows == 1 ? 1 : 4 * blocks(rows, 4)),  // several rows are summed in fours
        index(room<Index>(inputs)),
        values(room<float>(tall * inputs)) {}
};

// Every input is written, to avoid a branch.
template <class X>
inline void compact_one_row(const X* x, const float* level, Index step, Active& active) {
  Index count = 0;
  Index* index = active.index.get();
  float* value = active.values.get();
  for (Index i = 0; i < active.inputs; ++i) {
    const float entry = wide(x[i]);
    index[count] = i;
    value[count] = entry;
    count += !(std::fabs(entry) <= level[i * step]);
  }
  active.count = count;
}

template <class X>
inline void compact_rows(const X* x, Index rows, const float* level, Index step, Active& active) {
  const Index inputs = active.inputs;
  Index count = 0;
  float* values = active.values.get();
  std::fill(values + rows * inputs, values + active.tall * inputs, 0.0f);
  for (Index i = 0; i < inputs; ++i) {
    bool any = false;
    for (Index row = 0; row < rows; ++row) {
      const float value = wide(x[row * inputs + i]);
      const bool keep = !(std::fabs(value) <= level[i * step]);
      values[row * inputs + count] = keep ? value : 0.0f;
      any |= keep;
    }
    active.index[count] = i;
    count += any;
  }
  active.count = count;
}

// How the rows of a weight lie in memory: plain entries, or blocks of 4 bits.
template <class W>
struct Layout {
  static constexpr Index UNIT = 1;                 // outputs that belong together
  static constexpr Index SPAN = LINE / sizeof(W);  // outputs in about a cache line
  static Index stride(Index width) { return width; }
  static const W* at(const W* row, Index output) { return row + output; }
};
template <>
struct Layout<Int4> {
  static constexpr Index UNIT = BLOCK;
  static constexpr Index SPAN = LINE / BLOCK_BYTES * BLOCK;
  static Index stride(Index width) { return blocks(width, BLOCK) * BLOCK_BYTES; }
  static const Int4* at(const Int4* row, Index output) {
    return row + output / BLOCK * BLOCK_BYTES;
  }
};

inline void add_eight(float* __restrict acc, Index size, const Int4* weight, Index stride,
                      const Index* index, const float* value) {
  add_blocks<8>(acc, size, weight, stride, index, value);
}

template <class W>
inline void add_eight(float* __restrict acc, Index size, const W* weight, Index stride,
               const Index* index, const float* value) {
  const W *w0 = weight + index[0] * stride, *w1 = weight + index[1] * stride,
          *w2 = weight + index[2] * stride, *w3 = weight + index[3] * stride,
          *w4 = weight + index[4] * stride, *w5 = weight + index[5] * stride,
          *w6 = weight + index[6] * stride, *w7 = weight + index[7] * stride;
  const float v0 = value[0], v1 = value[1], v2 = value[2], v3 = value[3], v4 = value[4],
              v5 = value[5], v6 = value[6], v7 = value[7];
  by_lanes(size, [=](auto like, Index c) {
    using V = decltype(like);
    const V low = v0 * load<V>(w0 + c) + v1 * load<V>(w1 + c) + v2 * load<V>(w2 + c) +
                  v3 * load<V>(w3 + c);
    const V high = v4 * load<V>(w4 + c) + v5 * load<V>(w5 + c) + v6 * load<V>(w6 + c) +
                   v7 * load<V>(w7 + c);
    store(acc + c, load<V>(acc + c) + (low + high));
  });
}

// The same for the rows `index`, while the rows `ahead` are fetched.
template <class W>
inline void add_eight_fetching(float* __restrict acc, Index size, const W* weight, Index stride,
                               const Index* index, const float* value, const Index* ahead) {
  constexpr Index SPAN = Layout<W>::SPAN;
  for (Index c = 0; c < size; c += SPAN) {
    const W* place = Layout<W>::at(weight, c);
    for (Index k = 0; k < 8; ++k) __builtin_prefetch(place + ahead[k] * stride, 0, 3);
    add_eight(acc + c, std::min(SPAN, size - c), place, stride, index, value);
  }
}

inline void add_one(float* __restrict acc, Index size, const Int4* weight, float value) {
  const Index only = 0;
  add_blocks<1>(acc, size, weight, 0, &only, &value);
}

template <class W>
inline void add_one(float* __restrict acc, Index size, const W* weight, float value) {
  by_lanes(size, [=](auto like, Index c) {
    using V = decltype(like);
    store(acc + c, load<V>(acc + c) + value * load<V>(weight + c));
  });
}

// Add four rows of the weight, each read once, to the sums of four rows of x.
template <class W>
inline void add_four_to_four(float* __restrict acc, Index size, const W* weight, Index stride,
                      const Index* index, const float* values, Index pitch) {
  const W *w0 = weight + index[0] * stride, *w1 = weight + index[1] * stride,
          *w2 = weight + index[2] * stride, *w3 = weight + index[3] * stride;
  by_lanes(size, [=](auto like, Index c) {
    using V = decltype(like);
    const V u0 = load<V>(w0 + c), u1 = load<V>(w1 + c), u2 = load<V>(w2 + c),
            u3 = load<V>(w3 + c);
    for (Index row = 0; row < 4; ++row) {
      const float* v = values + row * pitch;
      float* sums = acc + row * QUARTER + c;
      store(sums, load<V>(sums) + (v[0] * u0 + v[1] * u1 + v[2] * u2 + v[3] * u3));
    }
  });
}

template <class W>
inline void sum_one_row(float* acc, Index size, const W* weight, Index stride, const Active& active) {
  const Index* index = active.index.get();
  const float* value = active.values.get();
  const Index count = active.count;
  const Index bytes = Layout<W>::stride(size) * Index{sizeof(W)};
  const Index second_line = std::min(bytes - 1, LINE) / Index{sizeof(W)};
  Index k = 0;
  if (bytes <= SHORT) {
    for (; k + 16 <= count; k += 8) {
      add_eight_fetching(acc, size, weight, stride, index + k, value + k, index + k + 8);
    }
  }
  for (; k + 8 <= count; k += 8) {
    for (Index ahead = k + 8; ahead < std::min(k + 16, count); ++ahead) {
      const W* next = weight + index[ahead] * stride;
      __builtin_prefetch(next, 0, 2);
      __builtin_prefetch(next + second_line, 0, 2);
    }
    add_eight(acc, size, weight, stride, index + k, value + k);
  }
  for (; k < count; ++k) add_one(acc, size, weight + index[k] * stride, value[k]);
}

template <class W>
inline void sum_rows(float* acc, Index size, const W* weight, Index stride, const Active& active) {
  const Index count = active.count, pitch = active.inputs;
  const Index* index = active.index.get();
  const float* values = active.values.get();
  Index k = 0;
  for (; k + 4 <= count; k += 4) {
    for (Index row = 0; row < active.tall; row += 4) {
      add_four_to_four(acc + row * QUARTER, size, weight, stride, index + k,
                       values + row * pitch + k, pitch);
    }
  }
  for (; k < count; ++k) {
    for (Index row = 0; row < active.tall; ++row) {
      add_one(acc + row * QUARTER, size, weight + index[k] * stride, values[row * pitch + k]);
    }
  }
}

// Weights of 4 bits are unpacked one row at a time for all rows of x.
inline void sum_rows(float* acc, Index size, const Int4* weight, Index stride,
                     const Active& active) {
  float unpacked[QUARTER];
  for (Index k = 0; k < active.count; ++k) {
    std::fill_n(unpacked, Layout<Int4>::UNIT * blocks(size, Layout<Int4>::UNIT), 0.0f);
    add_one(unpacked, size, weight + active.index[k] * stride, 1);
    for (Index row = 0; row < active.tall; ++row) {
      add_one(acc + row * QUARTER, size, unpacked, active.values[row * active.inputs + k]);
    }
  }
}

// Scale, add the bias and write one row of a slice.
template <class X>
inline void finish(float* acc, Index start, Index size, const Source& source, X* y) {
  if (source.scale) {
    const float* scale = reinterpret_cast<const float*>(source.scale) + start;
    for (Index c = 0; c < size; ++c) acc[c] *= scale[c];
  }
  if (source.bias) {
    const float* bias = reinterpret_cast<const float*>(source.bias) + start;
    for (Index c = 0; c < size; ++c) acc[c] += bias[c];
  }
  by_lanes(size, [&](auto like, Index c) { store(y + c, load<decltype(like)>(acc + c)); });
}

// Compute the outputs from `start` to `stop`, counted over all weights. Sums begin at whole units, of
// which outputs before `start` are left out.
template <class X, class W>
inline void outputs(Index start, Index stop, const Source* sources, Index weights, Index rows,
                    const Active& active) {
  constexpr Index UNIT = Layout<W>::UNIT;
  const Index reach = rows == 1 ? SLICE : QUARTER;
  auto memory = room<float>(std::max(SLICE, active.tall * QUARTER));
  float* acc = memory.get();
  Index first = 0;
  for (const Source* source = sources; source < sources + weights; ++source) {
    const Index width = source->width, last = std::min(stop - first, width);
    const Index begin = std::max(Index{0}, start - first), stride = Layout<W>::stride(width);
    X* y = reinterpret_cast<X*>(source->output);
    for (Index place = begin / UNIT * UNIT; begin < last && place < last; place += reach) {
      const Index size = std::min(reach, last - place);
      const W* weight = Layout<W>::at(reinterpret_cast<const W*>(source->weight), place);
      for (Index row = 0; row < active.tall; ++row) {
        std::fill_n(acc + row * QUARTER, UNIT * blocks(size, UNIT), 0.0f);
      }
      if (rows == 1) {
        sum_one_row(acc, size, weight, stride, active);
      } else {
        sum_rows(acc, size, weight, stride, active);
      }
      const Index skip = std::max(Index{0}, begin - place);
      for (Index row = 0; row < rows; ++row) {
        finish(acc + row * QUARTER + skip, place + skip, size - skip, *source,
               y + row * width + place + skip);
      }
    }
    first += width;
  }
}

}  // namespace sparsact
