// Products with compressed sparse rows.
//
// Rows are split among threads by their work, which is the number of entries plus one, so that
// other threads do not wait for a crowded row. The order of the sums in a row depends on that row
// alone: the bits of the result do not depend on the number of threads.
#include "lanes.h"

namespace sparsact {
namespace {

// The first row that starts at or after this amount of work.
Index row_at(Index work, const Index* offsets, Index rows) {
  Index low = 0, high = rows;
  while (low < high) {
    const Index middle = (low + high) / 2;
    if (offsets[middle] + middle < work) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Call body(first, last) for the ranges of rows of the threads.
template <class Body>
void for_rows(Index threads, const Index* offsets, Index rows, Body body) {
  in_ranges(threads, offsets[rows] + rows, [&](Index start, Index stop) {
    body(row_at(start, offsets, rows), row_at(stop, offsets, rows));
  });
}

template <int COUNT, class W>
void add(float* __restrict total, Index width, const float* values, const Index* indices,
         const W* weight_t) {
  const W* row[COUNT];
  float value[COUNT];
  for (int i = 0; i < COUNT; ++i) {
    row[i] = weight_t + indices[i] * width;
    value[i] = values[i];
  }
  by_lanes(width, [&](auto like, Index column) {
    using V = decltype(like);
    V sum = load<V>(total + column);
    for (int i = 0; i < COUNT; ++i) sum += value[i] * load<V>(row[i] + column);
    store(total + column, sum);
  });
}

template <class W>
void sum_rows(Index first, Index last, const float* values, const Index* offsets,
              const Index* indices, const W* weight_t, const float* bias, Index width, W* out) {
  auto memory = room<float>(width);
  float* total = memory.get();
  for (Index row = first; row < last; ++row) {
    if (bias) {
      std::copy_n(bias, width, total);
    } else {
      std::fill_n(total, width, 0.0f);
    }
    Index place = offsets[row];
    const Index end = offsets[row + 1];
    for (; place + 8 <= end; place += 8) {
      add<8>(total, width, values + place, indices + place, weight_t);
    }
    if (place + 4 <= end) {
      add<4>(total, width, values + place, indices + place, weight_t);
      place += 4;
    }
    for (; place < end; ++place) {
      add<1>(total, width, values + place, indices + place, weight_t);
    }
    W* target = out + row * width;
    by_lanes(width, [&](auto like, Index column) {
      store(target + column, load<decltype(like)>(total + column));
    });
  }
}

template <int COUNT, class L, class R>
void dots(const L* left, const R* right, Index width, const Index* indices, float* values) {
  const R* row[COUNT];
  for (int i = 0; i < COUNT; ++i) row[i] = right + indices[i] * width;
  Floats many[COUNT] = {};
  float rest[COUNT] = {};
  by_lanes(width, [&](auto like, Index column) {
    using V = decltype(like);
    const V factor = load<V>(left + column);
    for (int i = 0; i < COUNT; ++i) {
      const V product = factor * load<V>(row[i] + column);
      if constexpr (std::is_same_v<V, float>) {
        rest[i] += product;
      } else {
        many[i] += product;
      }
    }
  });
  for (int i = 0; i < COUNT; ++i) values[i] = sum(many[i]) + rest[i];
}

}  // namespace

// Writes the least and the greatest index. Returns whether the offsets are sound.
EXPORT Index csr_examine(const Index* offsets, Index rows, const Index* indices, Index entries,
                         Index* range) {
  Index low = entries ? indices[0] : 0, high = entries ? indices[0] : -1;
  for (Index i = 0; i < entries; ++i) {
    low = std::min(low, indices[i]);
    high = std::max(high, indices[i]);
  }
  range[0] = low, range[1] = high;
  bool sound = offsets[0] == 0 && offsets[rows] == entries;
  for (Index row = 0; row < rows; ++row) sound &= offsets[row] <= offsets[row + 1];
  return sound;
}

EXPORT void csr_product(Index threads, Index rows, const float* values, const Index* offsets,
                        const Index* indices, const void* weight_t, Index weight_dtype,
                        const float* bias, Index width, void* out) {
  with_float(weight_dtype, [&](auto like) {
    using W = decltype(like);
    for_rows(threads, offsets, rows, [&](Index first, Index last) {
      sum_rows(first, last, values, offsets, indices, static_cast<const W*>(weight_t), bias, width,
               static_cast<W*>(out));
    });
  });
}

EXPORT void csr_sample(Index threads, Index rows, const void* left, Index left_dtype,
                       const void* right, Index right_dtype, const Index* offsets,
                       const Index* indices, Index width, float* values) {
  with_float(left_dtype, [&](auto like_left) {
    with_float(right_dtype, [&](auto like_right) {
      const auto* lefts = static_cast<const decltype(like_left)*>(left);
      const auto* rights = static_cast<const decltype(like_right)*>(right);
      for_rows(threads, offsets, rows, [&](Index first, Index last) {
        for (Index row = first; row < last; ++row) {
          const auto* factors = lefts + row * width;
          Index place = offsets[row];
          const Index end = offsets[row + 1];
          for (; place + 4 <= end; place += 4) {
            dots<4>(factors, rights, width, indices + place, values + place);
          }
          for (; place < end; ++place) {
            dots<1>(factors, rights, width, indices + place, values + place);
          }
        }
      });
    });
  });
}

// Counting sort by feature, stable: the rows of each feature ascend.
EXPORT void csr_transpose(Index rows, Index features, const float* values, const Index* offsets,
                          const Index* indices, Index* starts, Index* sorted_rows,
                          float* sorted_values) {
  std::fill_n(starts, features + 1, Index{0});
  for (Index i = 0; i < offsets[rows]; ++i) ++starts[indices[i] + 1];
  for (Index feature = 0; feature < features; ++feature) starts[feature + 1] += starts[feature];
  auto place = room<Index>(features);
  std::copy_n(starts, features, place.get());
  for (Index row = 0; row < rows; ++row) {
    for (Index source = offsets[row]; source < offsets[row + 1]; ++source) {
      const Index target = place[indices[source]]++;
      sorted_rows[target] = row;
      sorted_values[target] = values[source];
    }
  }
}

}  // namespace sparsact
