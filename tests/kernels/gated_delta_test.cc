// The kernels of Gated DeltaNet, gates and routing: every instruction set against scalar bit for
// bit, scalar against double precision, the rule against its chunked formula.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/vector.h"
#include "platform/cpu.h"
#include "tests/kernels/kernel_test_util.h"

namespace mach::kernels {
namespace {

constexpr uint32_t kSeed = 20261125;
constexpr double kUnit = 0x1p-24;  // relative error of one rounding

TEST(GateKernels, EveryInstructionSetEqualsScalar) {
  std::mt19937 random(kSeed);
  for (int64_t n = 1; n <= 150; ++n) {
    const float spread = std::exp2(static_cast<float>(n % 12) - 5.0F);
    std::vector<float> x = RandomFloats(n + 1, spread, random);
    std::vector<float> y = RandomFloats(n + 1, 3.0F, random);
    if (n % 7 == 0) {
      x[static_cast<size_t>(n / 2)] = n % 2 == 0 ? kInfinity : kNan;
      y[static_cast<size_t>(n / 3)] = -kInfinity;
    }
    x.back() = kGuard;
    y.back() = kGuard;
    const std::vector<float> weight = RandomFloats(4 * (n + 3), 1.0F, random);
    const std::vector<float> older = RandomFloats(n, 1.0F, random);
    const float* rows[4] = {older.data(), y.data(), older.data(), x.data()};
    const auto run = [&](const VectorTable& table) {
      std::vector<std::vector<float>> out(9, std::vector<float>(x.size(), kGuard));
      table.sigmoid(x.data(), n, out[0].data());
      out[1] = x;
      table.sigmoid_gate(out[1].data(), y.data(), n);
      out[2] = x;
      table.add_scaled(out[2].data(), y.data(), 0.37F, n);
      table.softmax(x.data(), n, out[3].data());
      table.conv_silu(rows, weight.data(), n + 3, 1 + n % 4, n, out[4].data());
      table.l2_norm(x.data(), 0.125F, n, out[5].data());
      table.delta_gates(x.data(), y.data(), weight.data(), older.data(), n, out[6].data(),
                        out[7].data());
      table.softplus(x.data(), n, out[8].data());
      return out;
    };
    const auto want = run(kVectorScalar);
    for (const auto& part : want) {
      ASSERT_EQ(part.back(), kGuard);
    }
    for (const Isa isa : SupportedIsas()) {
      const auto got = run(VectorKernels(isa));
      for (size_t part = 0; part < got.size(); ++part) {
        ExpectSame(got[part], want[part],
                   std::string(IsaName(isa)) + ", kernel " + std::to_string(part) + ", n " +
                       std::to_string(n));
      }
    }
  }
}

// exp of -|x| is within 2 u, the quotient, its square and the nine steps of the series add less
// than 7 u more, the last sum one: 10 u. Below the range of exp the result is 0 or a subnormal.
TEST(GateKernels, SoftplusAgreesWithDoublePrecision) {
  std::vector<float> x;
  for (int i = -9000; i < 9000; ++i) {
    x.push_back(static_cast<float>(i) * 0.01171875F);
  }
  for (const float value : {0.0F, -0.0F, 1e-30F, -1e-30F, 1e30F, -1e30F, kInfinity, -kInfinity}) {
    x.push_back(value);
  }
  std::vector<float> out(x.size());
  kVectorScalar.softplus(x.data(), static_cast<int64_t>(x.size()), out.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    const double want = std::max(value, 0.0) + std::log1p(std::exp(-std::fabs(value)));
    if (std::isinf(want)) {
      ASSERT_EQ(out[i], kInfinity);
    } else {
      ASSERT_NEAR(out[i], want, 10 * kUnit * want + 0x1p-126) << x[i];
    }
  }
  float nan = 0;
  kVectorScalar.softplus(&kNan, 1, &nan);
  EXPECT_TRUE(std::isnan(nan));
}

TEST(GateKernels, AgreeWithDoublePrecision) {
  std::mt19937 random(kSeed + 1);
  constexpr int64_t kCount = 3000;
  const std::vector<float> x = RandomFloats(kCount, 6.0F, random);
  const std::vector<float> y = RandomFloats(kCount, 2.0F, random);
  std::vector<float> sigmoid(x.size());
  kVectorScalar.sigmoid(x.data(), kCount, sigmoid.data());
  std::vector<float> gated = y;
  kVectorScalar.sigmoid_gate(gated.data(), x.data(), kCount);
  std::vector<float> sum = y;
  kVectorScalar.add_scaled(sum.data(), x.data(), 0.3F, kCount);
  std::vector<float> decay(x.size());
  std::vector<float> beta(x.size());
  const std::vector<float> a_log = RandomFloats(kCount, 1.0F, random);
  kVectorScalar.delta_gates(x.data(), y.data(), a_log.data(), y.data(), kCount, decay.data(),
                            beta.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = 1 / (1 + std::exp(-static_cast<double>(x[i])));
    ASSERT_NEAR(sigmoid[i], want, 4 * kUnit * want);
    ASSERT_NEAR(gated[i], y[i] * want, 5 * kUnit * std::fabs(y[i] * want));
    ASSERT_EQ(sum[i], std::fma(0.3F, x[i], y[i]));
    ASSERT_NEAR(beta[i], 1 / (1 + std::exp(-static_cast<double>(y[i]))), 4 * kUnit);
    // The relative error of the exponent g, 15 u, and that of a + dt_bias, which softplus passes on
    // with a slope of at most 1, become absolute errors of g and so relative ones of exp(g).
    const double step = static_cast<double>(x[i]) + y[i];
    const double rate = std::exp(static_cast<double>(a_log[i]));
    const double g = -rate * (std::max(step, 0.0) + std::log1p(std::exp(-std::fabs(step))));
    const double slope = 15 * std::fabs(g) + rate * std::fabs(step) + 2;
    ASSERT_NEAR(decay[i], std::exp(g), slope * kUnit * std::exp(g) + 0x1p-126) << x[i];
  }
}

TEST(GateKernels, SoftmaxAgreesWithDoublePrecisionAndSumsToOne) {
  std::mt19937 random(kSeed + 2);
  for (const int64_t n : {1, 2, 16, 17, 128, 256, 300}) {
    const std::vector<float> x = RandomFloats(n, 4.0F, random);
    std::vector<float> out(x.size());
    kVectorScalar.softmax(x.data(), n, out.data());
    const double maximum = *std::max_element(x.begin(), x.end());
    double total = 0;
    for (const float value : x) {
      total += std::exp(value - maximum);
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(x[i] - maximum) / total;
      // The difference is rounded once: an absolute error of the exponent.
      const double relative = 2 * (maximum - x[i]) + 8 + static_cast<double>(n) / 16;
      ASSERT_NEAR(out[i], want, relative * kUnit * want);
    }
  }
}

TEST(GateKernels, L2NormAndConvolutionAgreeWithDoublePrecision) {
  std::mt19937 random(kSeed + 3);
  for (const int64_t n : {1, 16, 40, 128, 256}) {
    const std::vector<float> x = RandomFloats(n, n % 3 == 0 ? 1e-3F : 2.0F, random);
    std::vector<float> out(x.size());
    kVectorScalar.l2_norm(x.data(), 0.5F, n, out.data());
    double sum = 0;
    for (const float value : x) {
      sum += static_cast<double>(value) * value;
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = 0.5 * x[i] / std::sqrt(sum + 1e-6);
      ASSERT_NEAR(out[i], want, (static_cast<double>(n) / 32 + 9) * kUnit * std::fabs(want));
    }
    std::vector<std::vector<float>> rows;
    const float* pointers[4];
    for (size_t tap = 0; tap < 4; ++tap) {
      rows.push_back(RandomFloats(n, 1.0F, random));
    }
    for (size_t tap = 0; tap < 4; ++tap) {
      pointers[tap] = rows[tap].data();
    }
    const std::vector<float> weight = RandomFloats(4 * n, 1.0F, random);
    kVectorScalar.conv_silu(pointers, weight.data(), n, 4, n, out.data());
    for (size_t c = 0; c < out.size(); ++c) {
      double acc = 0;
      double magnitude = 0;
      for (size_t tap = 0; tap < 4; ++tap) {
        const double term =
            static_cast<double>(weight[tap * static_cast<size_t>(n) + c]) * rows[tap][c];
        acc += term;
        magnitude += std::fabs(term);
      }
      // SiLU has a slope of at most 1.1.
      ASSERT_NEAR(out[c], acc / (1 + std::exp(-acc)), kUnit * (4 * 1.1 * magnitude + 6));
    }
  }
}

// A head with everything a call reads, like a model's: unit keys, decays near one.
struct Head {
  Head(int64_t token_count, int64_t key_dim, int64_t value_dim, std::mt19937& random)
      : tokens(token_count),
        k_dim(key_dim),
        v_dim(value_dim),
        q(RandomFloats(tokens * k_dim, 1.0F, random)),
        k(RandomFloats(tokens * k_dim, 1.0F, random)),
        v(RandomFloats(tokens * v_dim, 1.0F, random)),
        state(RandomFloats(k_dim * v_dim, 0.5F, random)) {
    for (int64_t t = 0; t < tokens; ++t) {
      float* key = k.data() + t * k_dim;
      kVectorScalar.l2_norm(key, 1.0F, k_dim, key);
      float* query = q.data() + t * k_dim;
      kVectorScalar.l2_norm(query, 0.25F, k_dim, query);
      std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
      decay.push_back(std::exp(-0.3F * uniform(random)));
      decay.push_back(kGuard);
      beta.push_back(uniform(random));
      beta.push_back(kGuard);
    }
  }

  const float* state_data() const { return state.data(); }
  static float* AlignedTo64(float* p) {
    return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof(float);
  }

  int64_t tokens;
  int64_t k_dim;
  int64_t v_dim;
  std::vector<float> q, k, v, state;
  std::vector<float> decay, beta;  // every second element
};

struct HeadResult {
  std::vector<float> out;
  std::vector<float> delta;
  std::vector<float> state;
};

// Runs a head in calls of `part` tokens; every second one writes its state in place.
HeadResult RunHead(const VectorTable& table, const Head& head, int64_t part) {
  HeadResult result;
  const auto values = static_cast<size_t>(head.tokens * head.v_dim);
  const auto state_floats = static_cast<size_t>(head.k_dim * head.v_dim);
  result.out.assign(values, kGuard);
  result.delta.assign(values, kGuard);
  std::vector<float> memory[2] = {std::vector<float>(state_floats + 16),
                                  std::vector<float>(state_floats + 16)};
  const float* from = head.state_data();
  int turn = 0;
  for (int64_t first = 0; first < head.tokens; first += part) {
    turn += static_cast<int>(first / part % 2);
    float* to = Head::AlignedTo64(memory[turn % 2].data());
    table.gated_delta({.tokens = std::min(part, head.tokens - first),
                       .k_dim = head.k_dim,
                       .v_dim = head.v_dim,
                       .q = head.q.data() + first * head.k_dim,
                       .k = head.k.data() + first * head.k_dim,
                       .v = head.v.data() + first * head.v_dim,
                       .decay = head.decay.data() + 2 * first,
                       .beta = head.beta.data() + 2 * first,
                       .gate_stride = 2,
                       .state = from,
                       .new_state = to,
                       .out = result.out.data() + first * head.v_dim,
                       .delta = result.delta.data() + first * head.v_dim});
    from = to;
  }
  result.state.assign(from, from + state_floats);
  return result;
}

TEST(GatedDeltaKernel, EveryInstructionSetAndEveryCutGiveTheSame) {
  std::mt19937 random(kSeed + 4);
  struct Size {
    int64_t tokens, k_dim, v_dim;
  };
  for (const Size size : {Size{1, 128, 128}, Size{2, 16, 16}, Size{70, 128, 128}, Size{33, 7, 48},
                          Size{65, 64, 80}, Size{5, 192, 112}}) {
    const Head head(size.tokens, size.k_dim, size.v_dim, random);
    const HeadResult want = RunHead(kVectorScalar, head, size.tokens);
    for (const Isa isa : SupportedIsas()) {
      for (const int64_t part : {1, 3, 7, 16, 64, 1000}) {
        const HeadResult got = RunHead(VectorKernels(isa), head, part);
        const std::string what = std::string(IsaName(isa)) + ", part " + std::to_string(part);
        ExpectSame(got.out, want.out, what + ", out");
        ExpectSame(got.delta, want.delta, what + ", delta");
        ExpectSame(got.state, want.state, what + ", state");
      }
    }
  }
}

TEST(GatedDeltaKernel, ReplayPassesThroughTheSameStates) {
  std::mt19937 random(kSeed + 5);
  const Head head(12, 64, 48, random);
  const HeadResult whole = RunHead(kVectorScalar, head, 12);
  for (const Isa isa : SupportedIsas()) {
    for (int64_t keep = 1; keep <= head.tokens; ++keep) {
      Head cut = head;
      cut.tokens = keep;
      const HeadResult want = RunHead(VectorKernels(isa), cut, keep);
      std::vector<float> state(head.state_data(), head.state_data() + head.k_dim * head.v_dim);
      VectorKernels(isa).delta_replay({.tokens = keep,
                                       .k_dim = head.k_dim,
                                       .v_dim = head.v_dim,
                                       .k = head.k.data(),
                                       .delta = whole.delta.data(),
                                       .decay = head.decay.data(),
                                       .gate_stride = 2,
                                       .state = state.data(),
                                       .new_state = state.data()});
      ExpectSame(state, want.state, std::string(IsaName(isa)) + " " + std::to_string(keep));
    }
  }
}

// The state of double precision: rows [k_dim][v_dim].
using Matrix = std::vector<std::vector<double>>;

double DotRows(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += static_cast<double>(a[i]) * b[i];
  }
  return sum;
}

Matrix StateOf(const Head& head) {
  Matrix state(static_cast<size_t>(head.k_dim));
  for (size_t i = 0; i < state.size(); ++i) {
    const float* row = head.state_data() + static_cast<int64_t>(i) * head.v_dim;
    state[i].assign(row, row + head.v_dim);
  }
  return state;
}

// The rule as it is published, with a plain loop for every term.
Matrix NaiveRule(const Head& head, Matrix state) {
  Matrix out;
  for (int64_t t = 0; t < head.tokens; ++t) {
    const float* k = head.k.data() + t * head.k_dim;
    const float* q = head.q.data() + t * head.k_dim;
    out.emplace_back();
    for (size_t c = 0; c < static_cast<size_t>(head.v_dim); ++c) {
      double memory = 0;
      for (size_t i = 0; i < state.size(); ++i) {
        state[i][c] *= head.decay[static_cast<size_t>(2 * t)];
        memory += state[i][c] * k[i];
      }
      const double v = head.v[static_cast<size_t>(t * head.v_dim) + c];
      const double delta = head.beta[static_cast<size_t>(2 * t)] * (v - memory);
      double o = 0;
      for (size_t i = 0; i < state.size(); ++i) {
        state[i][c] += k[i] * delta;
        o += state[i][c] * q[i];
      }
      out.back().push_back(o);
    }
  }
  return out;
}

// The chunked form: all tokens as one chunk, by forward substitution.
Matrix ChunkedRule(const Head& head, const Matrix& state) {
  const auto tokens = static_cast<size_t>(head.tokens);
  std::vector<double> g(tokens);
  for (size_t t = 0; t < tokens; ++t) {
    g[t] = std::log(static_cast<double>(head.decay[2 * t])) + (t == 0 ? 0 : g[t - 1]);
  }
  const auto key = [&](size_t t) { return head.k.data() + static_cast<int64_t>(t) * head.k_dim; };
  const auto query = [&](size_t t) { return head.q.data() + static_cast<int64_t>(t) * head.k_dim; };
  const auto beta = [&](size_t t) { return static_cast<double>(head.beta[2 * t]); };
  const auto through_state = [&](const float* row, size_t c) {
    double sum = 0;
    for (size_t i = 0; i < state.size(); ++i) {
      sum += row[i] * state[i][c];
    }
    return sum;
  };
  Matrix out(tokens, std::vector<double>(static_cast<size_t>(head.v_dim)));
  for (size_t c = 0; c < static_cast<size_t>(head.v_dim); ++c) {
    std::vector<double> deltas(tokens);  // column c of V' = U - W S0
    for (size_t i = 0; i < tokens; ++i) {
      const double v = head.v[i * static_cast<size_t>(head.v_dim) + c];
      deltas[i] = beta(i) * (v - std::exp(g[i]) * through_state(key(i), c));
      for (size_t j = 0; j < i; ++j) {
        deltas[i] -=
            beta(i) * DotRows(key(i), key(j), head.k_dim) * std::exp(g[i] - g[j]) * deltas[j];
      }
      out[i][c] = std::exp(g[i]) * through_state(query(i), c);
      for (size_t j = 0; j <= i; ++j) {
        out[i][c] += DotRows(query(i), key(j), head.k_dim) * std::exp(g[i] - g[j]) * deltas[j];
      }
    }
  }
  return out;
}

// The rule contracts (unit keys, beta and decay at most 1), so the error of a token is that of the
// last few: chains of k_dim steps over terms whose sum of magnitudes is at most |S| |k| < 12.
TEST(GatedDeltaKernel, AgreesWithTheRuleAndItsChunkedFormInDoublePrecision) {
  std::mt19937 random(kSeed + 6);
  const Head head(64, 128, 32, random);
  const HeadResult got = RunHead(kVectorScalar, head, 64);
  const Matrix state = StateOf(head);
  const Matrix naive = NaiveRule(head, state);
  const Matrix chunked = ChunkedRule(head, state);
  double worst = 0;
  for (size_t t = 0; t < naive.size(); ++t) {
    for (size_t c = 0; c < naive[t].size(); ++c) {
      ASSERT_NEAR(naive[t][c], chunked[t][c], 1e-11) << t << " " << c;
      const double error = std::fabs(got.out[t * naive[t].size() + c] - naive[t][c]);
      worst = std::max(worst, error);
    }
  }
  EXPECT_LT(worst, 128 * kUnit * 12);
}

}  // namespace
}  // namespace mach::kernels
