// The sum of the partial sums that the units of elementwise kernels write.
#include "levels.h"

namespace sparsact {

// Add in order, in double precision. Each channel has `per_channel` sums in a row, again and again;
// channels share the totals in turn.
EXPORT void add_partial_sums(Index count, Index channels, Index per_channel, const float* partial,
                             Index totals, double* total) {
  auto sums = room<double>(channels);
  std::fill_n(sums.get(), channels, 0.0);
  for (Index i = 0; i < count; ++i) sums[i / per_channel % channels] += partial[i];
  std::fill_n(total, totals, 0.0);
  for (Index channel = 0; channel < channels; ++channel) total[channel % totals] += sums[channel];
}

}  // namespace sparsact
