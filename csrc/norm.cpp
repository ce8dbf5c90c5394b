// Root mean square normalisation of a few rows.
#include "norm.h"

namespace sparsact {

EXPORT void rms_norm(Index dtype, const void* x, const void* weight, void* out, Index rows,
                     Index width, double eps) {
  with_float(dtype, [&](auto like) {
    using X = decltype(like);
    for (Index row = 0; row < rows; ++row) {
      normalise(static_cast<const X*>(x) + row * width, static_cast<const X*>(weight), width, eps,
                static_cast<X*>(out) + row * width);
    }
  });
}

}  // namespace sparsact
