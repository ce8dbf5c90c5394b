// The k largest entries of each row of a product that is made block by block.
//
// Each row keeps a heap of its k largest entries so far. The smallest of them is a threshold, and
// nearly all entries of the next block are below it; many are compared at a time.
//
// A score and its feature are packed into one integer, the key. Its upper half holds the bits of
// the float, mapped so that integers compare as floats do, with NaN greatest. Its lower half
// holds the complement of the feature's index: of equal scores, the lower feature has the greater
// key.
#include "common.h"

namespace sparsact {
namespace {

constexpr Index GROUP = 32;  // entries that are compared before a branch
constexpr std::int64_t LOWER = 0xFFFFFFFF, SIGNLESS = 0x7FFFFFFF;

std::int64_t key_of(float score, Index feature) {
  std::int64_t bits = same_bits<std::int32_t>(score + 0.0f);  // -0 + 0 is 0
  if (score != score) {
    bits = SIGNLESS;
  } else if (bits < 0) {
    bits ^= SIGNLESS;
  }
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(bits) << 32) | (LOWER - feature);
}

float score_of(std::int64_t key) {
  std::int64_t bits = key >> 32;
  if (bits < 0) bits ^= SIGNLESS;
  return same_bits<float>(static_cast<std::int32_t>(bits));
}

// Replace the least key of the heap.
void sift(std::int64_t* heap, Index size, std::int64_t key) {
  Index place = 0;
  for (Index child = 1; child < size; child = 2 * place + 1) {
    if (child + 1 < size && heap[child + 1] < heap[child]) ++child;
    if (heap[child] >= key) break;
    heap[place] = heap[child];
    place = child;
  }
  heap[place] = key;
}

template <class S>
bool any_above(const S* scores, const float* bias, float threshold, Index count) {
  int passed = 0;
  if (count == GROUP) {  // a constant count is vectorised
    for (Index i = 0; i < GROUP; ++i) passed += !(wide(scores[i]) + bias[i] <= threshold);
  } else {
    for (Index i = 0; i < count; ++i) passed += !(wide(scores[i]) + bias[i] <= threshold);
  }
  return passed != 0;
}

template <class S>
void merge_row(const S* scores, const float* bias, Index width, std::int64_t* heap, Index size,
               Index feature) {
  float threshold = score_of(heap[0]);  // NaN while a place is empty: then every entry passes
  for (Index first = 0; first < width; first += GROUP) {
    const Index last = std::min(first + GROUP, width);
    if (!any_above(scores + first, bias + first, threshold, last - first)) continue;
    for (Index column = first; column < last; ++column) {
      const float score = wide(scores[column]) + bias[column];
      if (score <= threshold) continue;
      const std::int64_t key = key_of(score, feature + column);
      if (key > heap[0]) {
        sift(heap, size, key);
        threshold = score_of(heap[0]);
      }
    }
  }
}

}  // namespace

// Merge a block of scores, whose first column is `feature`, into the heaps.
EXPORT void topk_merge(Index threads, Index rows, const void* scores, Index dtype, Index width,
                       const float* bias, std::int64_t* keys, Index k, Index feature) {
  with_float(dtype, [&](auto like) {
    const auto* entries = static_cast<const decltype(like)*>(scores);
    in_ranges(threads, rows, [&](Index start, Index stop) {
      for (Index row = start; row < stop; ++row) {
        merge_row(entries + row * width, bias, width, keys + row * k, k, feature);
      }
    });
  });
}

// Make a heap of the scores of each row.
EXPORT void topk_pack(Index threads, Index rows, Index k, const float* scores,
                      const std::int64_t* features, std::int64_t* keys) {
  in_ranges(threads, rows, [&](Index start, Index stop) {
    for (Index row = start; row < stop; ++row) {
      std::int64_t* heap = keys + row * k;
      std::fill_n(heap, k, std::numeric_limits<std::int64_t>::min());
      for (Index i = row * k; i < (row + 1) * k; ++i) sift(heap, k, key_of(scores[i], features[i]));
    }
  });
}

// Empty each heap from its least key, so that the scores descend.
EXPORT void topk_unpack(Index threads, Index rows, Index k, std::int64_t* keys, float* scores,
                        std::int64_t* features) {
  in_ranges(threads, rows, [&](Index start, Index stop) {
    for (Index row = start; row < stop; ++row) {
      std::int64_t* heap = keys + row * k;
      for (Index place = k - 1; place >= 0; --place) {
        const std::int64_t key = heap[0];
        sift(heap, place, heap[place]);
        scores[row * k + place] = score_of(key);
        features[row * k + place] = LOWER - (key & LOWER);
      }
    }
  });
}

}  // namespace sparsact
