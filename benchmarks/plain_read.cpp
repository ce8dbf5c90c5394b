// Reads memory and does nothing else: the limit for every kernel whose time is its memory traffic.
#include <cstdint>

// Each thread reads its part from front to back.
extern "C" void read_one_stream(std::int64_t threads, const std::int32_t* data, std::int64_t size,
                                std::int64_t* sums) {
#pragma omp parallel for num_threads(static_cast<int>(threads))
  for (std::int64_t thread = 0; thread < threads; ++thread) {
    std::int32_t total = 0;
    for (std::int64_t i = thread * size / threads; i < (thread + 1) * size / threads; ++i) {
      total ^= data[i];
    }
    sums[thread] = total;
  }
}

// Each thread reads its part as eight streams.
extern "C" void read_eight_streams(std::int64_t threads, const std::int32_t* data,
                                   std::int64_t size, std::int64_t* sums) {
#pragma omp parallel for num_threads(static_cast<int>(threads))
  for (std::int64_t thread = 0; thread < threads; ++thread) {
    const std::int64_t part = size / threads / 8;
    const std::int32_t* r = data + thread * 8 * part;
    std::int32_t total = 0;
    for (std::int64_t i = 0; i < part; ++i) {
      total ^= r[i] ^ r[i + part] ^ r[i + 2 * part] ^ r[i + 3 * part] ^ r[i + 4 * part] ^
               r[i + 5 * part] ^ r[i + 6 * part] ^ r[i + 7 * part];
    }
    sums[thread] = total;
  }
}
