// One token through all decoder blocks of a language model and its head, in one call.
//
// All threads run the whole step and meet at barriers: one parallel region for each token costs far
// less than one for each layer. Each thread keeps its own copy of the residual stream, its norms
// and its list of active inputs. These are small, and computing them again is cheaper than one more
// barrier. Outputs of linear layers and heads of the attention are shared out.
#include <chrono>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "attention.h"
#include "dense_rows.h"
#include "gather_rows.h"
#include "norm.h"

namespace sparsact {

// The structures that kernels/cpu/token_step.py writes.

struct Norm {
  const float* weight;  // null: no norm
  double eps;
};

// Weights that read the same input, and write one after the other into one buffer.
struct Linear {
  const Source* sources;
  Index weights, inputs, outputs, dtype;
  const float* level;  // null: dense, with weights (out, in)
  Index per_input;
};

struct Block {
  Norm before_attention, after_attention, before_mlp, after_mlp, query_norm, key_norm;
  Linear qkv, output, gate_up, down;
  void *keys, *values;          // (key heads, positions, head width)
  const float *cosine, *sine;   // (positions, rotated width)
  Index window;                 // how many positions are attended to at most
  double scaling, softcap;      // of the scores; 0: no cap
};

struct Decoder {
  const Block* blocks;
  Index layers, width, hidden, heads, key_heads, head_width, rotated, positions, cache_dtype;
  Index is_gelu;
  Norm last_norm;
  Linear head;
  double softcap;  // of the logits; 0: no cap
  float *stream, *qkv, *attended, *update, *gate_up, *logits;
};

namespace {

constexpr float ZERO = 0;

enum Part { NORMS = 0, LINEAR = 1, ATTENTION = 2, HEAD = 3 };

// Adds the seconds since the last call to a part, if the caller asks for times.
class Stopwatch {
  using Clock = std::chrono::steady_clock;

 public:
  explicit Stopwatch(double* seconds) : seconds(seconds) {
    if (seconds) last = Clock::now();
  }
  void lap(Part part) {
    if (!seconds) return;
    const auto now = Clock::now();
    seconds[part] += std::chrono::duration<double>(now - last).count();
    last = now;
  }

 private:
  double* seconds;
  Clock::time_point last;
};

inline void barrier() {
#pragma omp barrier
}

// What one thread does.
class Worker {
 public:
  Worker(const Decoder& model, Index position, bool is_dense, Index thread, Index threads,
         double* seconds)
      : model(model),
        position(position),
        is_dense(is_dense),
        thread(thread),
        threads(threads),
        stream(room<float>(model.width)),
        normed(room<float>(model.width)),
        scores(room<float>(position + 1)),
        active(1, std::max({model.width, model.hidden, model.heads * model.head_width})),
        watch(seconds) {}

  void run() {
    std::copy_n(model.stream, model.width, stream.get());
    barrier();
    for (Index layer = 0; layer < model.layers; ++layer) {
      attention(model.blocks[layer]);
      mlp(model.blocks[layer]);
    }
    norm(model.last_norm, stream.get());
    watch.lap(NORMS);
    multiply(model.head, normed.get());
    if (model.softcap > 0) cap_logits();
    if (thread == 0) std::copy_n(stream.get(), model.width, model.stream);
    watch.lap(HEAD);
  }

 private:
  void attention(const Block& block) {
    norm(block.before_attention, stream.get());
    watch.lap(NORMS);
    multiply(block.qkv, normed.get());
    barrier();
    watch.lap(LINEAR);
    with_float(model.cache_dtype, [&](auto like) { attend<decltype(like)>(block); });
    barrier();
    watch.lap(ATTENTION);
    multiply(block.output, model.attended);
    barrier();
    watch.lap(LINEAR);
    add_update(block.after_attention);
  }

  void mlp(const Block& block) {
    norm(block.before_mlp, stream.get());
    watch.lap(NORMS);
    multiply(block.gate_up, normed.get());
    barrier();
    activate();
    barrier();
    multiply(block.down, model.gate_up);
    barrier();
    watch.lap(LINEAR);
    add_update(block.after_mlp);
  }

  void norm(const Norm& norm, const float* x) {
    normalise(x, norm.weight, model.width, norm.eps, normed.get());
  }

  void add_update(const Norm& after) {
    const float* update = model.update;
    if (after.weight) {
      norm(after, update);
      update = normed.get();
    }
    float* x = stream.get();
    for (Index i = 0; i < model.width; ++i) x[i] += update[i];
  }

  // This thread's range of the outputs; threads begin at cache lines.
  void multiply(const Linear& linear, const float* x) {
    const Index lines = blocks(linear.outputs, LINE);
    const Index start = begin(lines) * LINE, stop = end(lines) * LINE;
    if (!linear.level) {
      with_float(linear.dtype, [&](auto like) {
        dense_outputs<decltype(like)>(start, stop, linear.sources, linear.weights, x,
                                      linear.inputs);
      });
      return;
    }
    active.inputs = linear.inputs;
    compact_one_row(x, is_dense ? &ZERO : linear.level, is_dense ? 0 : linear.per_input, active);
    with_weight(linear.dtype, [&](auto like) {
      outputs<float, decltype(like)>(start, stop, linear.sources, linear.weights, 1, active);
    });
  }

  template <class T>
  void attend(const Block& block) {
    const Index heads = model.heads, all = heads + model.key_heads;
    for (Index head = begin(all); head < end(all); ++head) prepare<T>(block, head);
    barrier();
    const Index width = model.head_width, last = position + 1;
    const Index first = std::max(Index{0}, last - block.window);
    for (Index head = begin(heads); head < end(heads); ++head) {
      const Index offset = head * model.key_heads / heads * model.positions * width;
      const Cached<T> keys{static_cast<const T*>(block.keys) + offset, width};
      const Cached<T> values{static_cast<const T*>(block.values) + offset, width};
      score(model.qkv + head * width, keys, first, last, scores.get());
      softmax(scores.get(), last - first, static_cast<float>(block.scaling),
              static_cast<float>(block.softcap));
      mix(scores.get(), values, first, last, model.attended + head * width);
    }
  }

  // Normalise and rotate one head of the queries or keys; append a key and its value.
  template <class T>
  void prepare(const Block& block, Index head) {
    const Index width = model.head_width, key_head = head - model.heads;
    const Norm& norm = key_head < 0 ? block.query_norm : block.key_norm;
    float* x = model.qkv + head * width;
    if (norm.weight) normalise(x, norm.weight, width, norm.eps, x);
    rotate(block, x);
    if (key_head < 0) return;
    const float* value = x + model.key_heads * width;
    const Index place = (key_head * model.positions + position) * width;
    for (Index i = 0; i < width; ++i) {
      static_cast<T*>(block.keys)[place + i] = narrow<T>(x[i]);
      static_cast<T*>(block.values)[place + i] = narrow<T>(value[i]);
    }
  }

  void rotate(const Block& block, float* x) {
    const Index half = model.rotated / 2;
    const float* cosine = block.cosine + position * model.rotated;
    const float* sine = block.sine + position * model.rotated;
    for (Index i = 0; i < half; ++i) {
      const float a = x[i], b = x[half + i];
      x[i] = a * cosine[i] - b * sine[i];
      x[half + i] = b * cosine[half + i] + a * sine[half + i];
    }
  }

  // gate = activation(gate) · up, where GELU's tanh form is x·sigmoid(2·√(2/π)·(x + 0.044715·x³)).
  void activate() {
    const Index start = begin(model.hidden), size = end(model.hidden) - start;
    float *gate = model.gate_up + start, *up = gate + model.hidden;
    by_lanes(size, [&](auto like, Index i) {
      using V = decltype(like);
      const V x = load<V>(gate + i);
      const V inner = model.is_gelu ? 1.5957691216f * (x + 0.044715f * x * x * x) : x;
      store(gate + i, x * sigmoid(inner) * load<V>(up + i));
    });
  }

  void cap_logits() {
    const Index lines = blocks(model.head.outputs, LINE);
    const Index start = begin(lines) * LINE;
    const Index size = std::min(end(lines) * LINE, model.head.outputs) - start;
    const auto cap = static_cast<float>(model.softcap);
    by_lanes(size, [&](auto like, Index i) {
      using V = decltype(like);
      float* logits = model.logits + start + i;
      store(logits, cap * tanh_of(load<V>(logits) / cap));
    });
  }

  Index begin(Index work) const { return thread * work / threads; }
  Index end(Index work) const { return (thread + 1) * work / threads; }

  const Decoder& model;
  const Index position;
  const bool is_dense;
  const Index thread, threads;
  std::unique_ptr<float[]> stream, normed, scores;
  Active active;
  Stopwatch watch;
};

}  // namespace

// Updates model.stream, writes model.logits, and appends to the caches at `position`. With `is_dense`
// thresholds are 0. `seconds` is null, or four sums: norms, linear layers, attention, head.
EXPORT void token_step(Index threads, const Decoder* model, Index position, Index is_dense,
                       double* seconds) {
#if defined(_OPENMP)
  if (threads > 1) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
      const Index thread = omp_get_thread_num();
      Worker(*model, position, is_dense, thread, omp_get_num_threads(), thread ? nullptr : seconds)
          .run();
    }
    return;
  }
#endif
  Worker(*model, position, is_dense, 0, 1, seconds).run();
}

}  // namespace sparsact
