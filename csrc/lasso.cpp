// Lasso problems that share a Gram matrix, by coordinate descent and Newton steps.
//
// Each signal keeps its code z and the correlations c = Dᵀx − Gz. An update of one entry of z
// subtracts a row of the Gram matrix from c; entries that stay zero cost one comparison. After a
// few sweeps the support hardly changes. Then Newton steps solve for all entries of the support
// at once. A step ends at the first entry that would change its sign; that entry leaves the
// support. So do atoms that depend on others of the support: along the combination of atoms that
// changes nothing but the penalty, a step goes on until an entry is zero. Where atoms are strongly
// correlated, sweeps disturb the support again and again; then one entry joins it at a time, as in
// feature-sign search (Lee et al. 2006).
#include "common.h"

namespace sparsact {
namespace {

constexpr Index SWEEPS_BEFORE_NEWTON = 4;
constexpr Index ROUNDS_OF_SWEEPS = 16;    // later, entries join the support one at a time;
constexpr Index MOST_CUTS = 32;           // so they do after a round of this many Newton steps
constexpr Index LARGEST_SUPPORT = 1024;   // entries of a Newton step
constexpr Index IDLE_ROUNDS = 8;          // rounds in which rounding alone moves the gap
constexpr double ROUNDING = 1000;         // gaps that rounding may cause, in units of epsilon

// c −= factor·row
template <class T>
void subtract(T* __restrict c, T factor, const T* row, Index size) {
  for (Index k = 0; k < size; ++k) c[k] -= factor * row[k];
}

template <class T>
T dot(const T* left, const T* right, Index size) {
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (Index k = 0; k < size; ++k) total += left[k] * right[k];
  return total;
}

// What all signals share, and the memory of one thread.
template <class T>
struct Solver {
  const T *gram, *level;
  Index atoms;
  T ridge;
  bool positive;
  Index most = std::min(atoms, LARGEST_SUPPORT), count = 0;
  std::unique_ptr<Index[]> support = room<Index>(most);
  std::unique_ptr<T[]> factor = room<T>(most * most), step = room<T>(most), memory = room<T>(atoms);
  T* c = memory.get();
  static constexpr T FAR = std::numeric_limits<T>::max();

  const T* row(Index atom) const { return gram + atom * atoms; }

  void change(T* z, Index atom, T after) {
    const T difference = after - z[atom];
    z[atom] = after;
    subtract(c, difference, row(atom), atoms);
  }

  void correlate(const T* z, const T* b) {
    std::copy_n(b, atoms, c);
    for (Index j = 0; j < atoms; ++j) {
      if (z[j] != 0) subtract(c, z[j], row(j), atoms);
    }
  }

  // Minimise over one entry.
  void minimise(T* z, Index j) {
    const T before = z[j], bound = level[j], curvature = row(j)[j], u = c[j] + curvature * before;
    T after = 0;
    if (curvature + ridge > 0) {
      if (u > bound) {
        after = (u - bound) / (curvature + ridge);
      } else if (u < -bound && !positive) {
        after = (u + bound) / (curvature + ridge);
      }
    }
    if (after != before) change(z, j, after);
  }

  // Minimise over one entry after the other; entries in the dead band are passed over.
  void sweep(T* z) {
    for (Index j = 0; j < atoms; ++j) {
      if (z[j] != 0 || std::fabs(c[j]) > level[j]) minimise(z, j);
    }
  }

  // Minimise over the entry whose zero violates the optimality condition most; whether there is one.
  bool join(T* z) {
    Index worst = -1;
    T most = 0;
    for (Index j = 0; j < atoms; ++j) {
      const T beyond = (positive ? c[j] : std::fabs(c[j])) - level[j];
      if (z[j] == 0 && beyond > most) most = beyond, worst = j;
    }
    if (worst >= 0) minimise(z, worst);
    return worst >= 0;
  }

  // Minus the derivative to an entry of the support, at its present sign.
  T slope(const T* z, Index j) const {
    return c[j] - (z[j] > 0 ? level[j] : -level[j]) - ridge * z[j];
  }

  // A step becomes that of the upper triangle's system.
  void substitute_back() {
    for (Index i = count - 1; i >= 0; --i) {
      const T* line = factor.get() + i * most;
      step[i] /= line[i];
      subtract(step.get(), step[i], line, i);
    }
  }

  // The Cholesky factor of the Gram matrix of the support; whether no entry became zero.
  //
  // Atoms that depend on others are left out, after a step along their combination.
  bool factorise(T* z) {
    const T least = std::sqrt(std::numeric_limits<T>::epsilon());
    count = 0;
    for (Index j = 0; j < atoms && count < most; ++j) {
      if (z[j] == 0) continue;
      T* line = factor.get() + count * most;
      for (Index i = 0; i < count; ++i) {
        const T* other = factor.get() + i * most;
        line[i] = (row(j)[support[i]] - dot(line, other, i)) / other[i];
      }
      const T diagonal = row(j)[j] + ridge, pivot = diagonal - dot(line, line, count);
      if (pivot > least * diagonal) {
        line[count] = std::sqrt(pivot);
        support[count++] = j;
      } else if (combine(z, j, line, pivot > ROUNDING * std::numeric_limits<T>::epsilon() * diagonal
                                         ? pivot
                                         : T{0})) {
        return false;
      }
    }
    return true;
  }

  // Minimise along atom j minus its share in the factorised atoms, whose curvature is the pivot;
  // whether the step ended at an entry that became zero.
  bool combine(T* z, Index j, const T* line, T pivot) {
    std::copy_n(line, count, step.get());
    substitute_back();
    T descent = slope(z, j);
    for (Index i = 0; i < count; ++i) {
      descent -= step[i] * slope(z, support[i]);
      step[i] = -step[i];
    }
    if (descent == 0) return false;
    support[count] = j, step[count] = 1;
    return move(z, count + 1, pivot > 0 ? descent / pivot : std::copysign(FAR, descent));
  }

  // Move the first entries of the support by length·step, at most to the first change of a sign;
  // whether an entry became zero there.
  bool move(T* z, Index entries, T length) {
    Index first = -1;
    for (Index i = 0; i < entries; ++i) {
      const T before = z[support[i]];
      if ((before + length * step[i]) * before < 0) length = -before / step[i], first = i;
    }
    if (std::fabs(length) == FAR) return false;  // only the penalty changes, and no entry shrinks
    for (Index i = 0; i < entries; ++i) {
      const T before = z[support[i]], after = before + length * step[i];
      change(z, support[i], i == first || after * before < 0 ? T{0} : after);
    }
    return first >= 0;
  }

  // The step to the minimum over the support, at the present signs.
  void solve(const T* z) {
    for (Index i = 0; i < count; ++i) {
      const T* line = factor.get() + i * most;
      step[i] = (slope(z, support[i]) - dot(line, step.get(), i)) / line[i];
    }
    substitute_back();
  }

  // Minimise over the support up to the first change of a sign; whether there was none.
  bool newton(T* z) {
    if (!factorise(z)) return false;
    solve(z);
    return !move(z, count, 1);
  }

  // The duality gap over ½‖x‖², as a sum in which large terms do not cancel.
  //
  // With a = c − ridge·z and the scale s that makes the residual feasible, it is
  // ½(1 − s)²·(‖x − Dz‖² + ridge·‖z‖²) + Σ (level·|z| − s·z·a).
  T relative_gap(const T* z, const T* b, T energy) const {
    T scale = 1, linear = 0, square = 0, cross = 0, fit = 0;
    for (Index k = 0; k < atoms; ++k) {
      const T ascent = c[k] - ridge * z[k], size = positive ? ascent : std::fabs(ascent);
      if (size * scale > level[k]) scale = level[k] / size;
    }
#pragma omp simd reduction(+ : linear, square, cross, fit)
    for (Index k = 0; k < atoms; ++k) {
      linear += level[k] * std::fabs(z[k]);
      square += z[k] * z[k];
      cross += z[k] * (c[k] - ridge * z[k]);
      fit += z[k] * (b[k] + c[k]);
    }
    const T residual = std::max(energy - fit, T{0}) + ridge * square;
    const T gap = (1 - scale) * (1 - scale) / 2 * residual + linear - scale * cross;
    return std::max(gap, T{0}) / std::max(energy / 2, std::numeric_limits<T>::min());
  }

  // Solve for one signal; the rounds that it took.
  Index run(T* z, const T* b, T energy, Index rounds, double tol, T* reached) {
    correlate(z, b);
    Index done = 0, idle = 0;
    bool joins = false;
    T gap = relative_gap(z, b, energy), least = gap;
    while (gap > tol && done < rounds && idle < IDLE_ROUNDS) {
      const bool joined = joins && join(z);
      if (!joined) sweep(z);
      if (done >= SWEEPS_BEFORE_NEWTON) {
        const Index most_cuts = joined ? atoms : MOST_CUTS;
        Index cuts = 0;
        while (cuts < most_cuts && !newton(z)) ++cuts;
        joins |= cuts == MOST_CUTS || done == ROUNDS_OF_SWEEPS;
      }
      ++done;
      if (done <= SWEEPS_BEFORE_NEWTON && done < rounds) {
        continue;  // the gap takes as long as some updates, and is not small yet
      }
      gap = relative_gap(z, b, energy);
      ++idle;
      if (gap < least / 2 || least > ROUNDING * std::numeric_limits<T>::epsilon()) {
        least = std::min(gap, least), idle = 0;
      }
      if (gap <= tol || done == rounds || idle == IDLE_ROUNDS) {
        correlate(z, b);  // without what the updates have rounded away
        gap = relative_gap(z, b, energy);
      }
    }
    *reached = gap;
    return done;
  }
};

}  // namespace

EXPORT void lasso_gram(Index threads, Index signals, Index atoms, Index dtype,
                       const void* correlation, const void* gram, const void* energy,
                       const void* level, void* codes, void* gaps, Index* taken, double ridge,
                       Index positive, Index rounds, double tol) {
  with_real(dtype, [&](auto like) {
    using T = decltype(like);
    in_ranges(threads, signals, [&](Index start, Index stop) {
      Solver<T> solver{static_cast<const T*>(gram), static_cast<const T*>(level), atoms,
                       static_cast<T>(ridge), positive != 0};
      for (Index row = start; row < stop; ++row) {
        taken[row] = solver.run(static_cast<T*>(codes) + row * atoms,
                                static_cast<const T*>(correlation) + row * atoms,
                                static_cast<const T*>(energy)[row], rounds, tol,
                                static_cast<T*>(gaps) + row);
      }
    });
  });
}

}  // namespace sparsact
