// Entries outside a band: they are counted for each row, then written to their places.
#include "common.h"

namespace sparsact {
namespace {

constexpr Index GROUP = 32;  // entries that are compared before a branch

struct Band {
  const float *bias, *lower, *upper;

  // A NaN is outside.
  bool excludes(float score, Index column) const {
    return !(score >= lower[column] && score <= upper[column]);
  }
};

bool any_outside(const float* scores, const Band& band, Index first) {
  int count = 0;
  for (Index column = first; column < first + GROUP; ++column) {
    count += band.excludes(scores[column] + band.bias[column], column);
  }
  return count != 0;
}

// Places are found without a branch, group by group: whether an entry is large cannot be predicted.
template <class X, class I>
void write_row(const X* x, const float* level, Index width, I* columns, X* out) {
  for (Index first = 0; first < width; first += GROUP) {
    const Index last = std::min(first + GROUP, width);
    Index found[GROUP], count = 0;
    for (Index column = first; column < last; ++column) {
      found[count] = column;
      count += !(std::fabs(wide(x[column])) <= level[column]);
    }
    for (Index i = 0; i < count; ++i) {
      *columns++ = static_cast<I>(found[i]);
      *out++ = x[found[i]];
    }
  }
}

// Call body with an index of 32 or of 64 bits.
template <class Body>
void with_index(Index bytes, Body body) {
  bytes == 4 ? body(std::int32_t{}) : body(std::int64_t{});
}

}  // namespace

// Count the entries of each row whose score plus bias is outside the band.
EXPORT void band_count(Index threads, Index rows, Index width, const float* scores,
                       const float* bias, const float* lower, const float* upper, Index* counts) {
  const Band band{bias, lower, upper};
  in_ranges(threads, rows, [&](Index start, Index stop) {
    for (Index row = start; row < stop; ++row) {
      const float* line = scores + row * width;
      int count = 0;
      for (Index i = 0; i < width; ++i) count += band.excludes(line[i] + bias[i], i);
      counts[row] = count;
    }
  });
}

// Write these entries; those of a row begin at its offset less the first offset.
EXPORT void band_write(Index threads, Index rows, Index width, const float* scores,
                       const float* bias, const float* lower, const float* upper,
                       const Index* offsets, float* values, Index* columns) {
  const Band band{bias, lower, upper};
  in_ranges(threads, rows, [&](Index start, Index stop) {
    for (Index row = start; row < stop; ++row) {
      const float* line = scores + row * width;
      Index place = offsets[row] - offsets[0];
      for (Index first = 0; first < width; first += GROUP) {
        const Index last = std::min(first + GROUP, width);
        if (last - first == GROUP && !any_outside(line, band, first)) continue;
        for (Index column = first; column < last; ++column) {
          const float score = line[column] + bias[column];
          if (!band.excludes(score, column)) continue;
          columns[place] = column;
          values[place++] = score;
        }
      }
    }
  });
}

// Count the entries of each row with |x| not at most the level of their column.
EXPORT void compress_count(Index threads, Index rows, Index width, const void* x, Index dtype,
                           const float* level, void* counts, Index index_bytes) {
  with_float(dtype, [&](auto like) {
    const auto* entries = static_cast<const decltype(like)*>(x);
    with_index(index_bytes, [&](auto like_index) {
      auto* target = static_cast<decltype(like_index)*>(counts);
      in_ranges(threads, rows, [&](Index start, Index stop) {
        for (Index row = start; row < stop; ++row) {
          const auto* line = entries + row * width;
          int count = 0;
          for (Index i = 0; i < width; ++i) count += !(std::fabs(wide(line[i])) <= level[i]);
          target[row] = count;
        }
      });
    });
  });
}

EXPORT void compress_write(Index threads, Index rows, Index width, const void* x, Index dtype,
                           const float* level, const void* offsets, Index index_bytes,
                           void* columns, void* values) {
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    const auto* entries = static_cast<const X*>(x);
    with_index(index_bytes, [&](auto like_index) {
      using I = decltype(like_index);
      const auto* first = static_cast<const I*>(offsets);
      in_ranges(threads, rows, [&](Index start, Index stop) {
        for (Index row = start; row < stop; ++row) {
          write_row(entries + row * width, level, width, static_cast<I*>(columns) + first[row],
                    static_cast<X*>(values) + first[row]);
        }
      });
    });
  });
}

}  // namespace sparsact
