#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "base/portable_math.h"

namespace mach::models {
namespace {

constexpr int64_t kMostContext = int64_t{1} << 32;

// What a configuration says about scaling, wherever it says it.
struct Scaling {
  formats::ConfigReader fields;  // without any: an empty object
  std::string type;              // "default" where none is named
};

// Newer files hold everything in rope_parameters, older ones split it between rope_theta at the top
// and rope_scaling.
Scaling ReadScaling(const formats::ConfigReader& config) {
  auto fields = config.OptionalObject("rope_scaling");
  if (!fields || fields->Keys().empty()) {
    fields = config.OptionalObject("rope_parameters");
  }
  Scaling scaling{.fields = fields.value_or(formats::ConfigReader()), .type = "default"};
  for (const char* field : {"type", "rope_type"}) {
    scaling.type = scaling.fields.OptionalString(field).value_or(scaling.type);
  }
  return scaling;
}

// A field that belongs to the scaling or, in either generation of files, stands beside it.
double FieldOr(const formats::ConfigReader& config, const formats::ConfigReader& scaling,
               const char* field, double fallback, double min, double max) {
  std::optional<double> value = scaling.OptionalFloat(field, min, max);
  if (!value) {
    value = config.OptionalFloat(field, min, max);
  }
  if (const auto other = config.OptionalObject("rope_parameters"); other && !value) {
    value = other->OptionalFloat(field, min, max);
  }
  return value.value_or(fallback);
}

int64_t MaxPositions(const formats::ConfigReader& config) {
  return config.IntOr("max_position_embeddings", 2048, 1, kMostContext);
}

// Of YaRN, where the length before scaling may be left out.
double OriginalPositions(const formats::ConfigReader& config,
                         const formats::ConfigReader& scaling) {
  return FieldOr(config, scaling, "original_max_position_embeddings",
                 static_cast<double>(MaxPositions(config)), 1.0, 1e9);
}

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, a band between is
// blended.
void ApplyLlama3(const formats::ConfigReader& scaling, std::vector<double>& inv_freq) {
  const double factor = scaling.RequireFloat("factor", 1.0, 1e6);
  const double low = scaling.RequireFloat("low_freq_factor", 1e-3, 1e6);
  const double high = scaling.RequireFloat("high_freq_factor", 1e-3, 1e6);
  const double original = scaling.RequireFloat("original_max_position_embeddings", 1.0, 1e9);
  if (high <= low) {
    scaling.Fail("high_freq_factor", "a value above low_freq_factor");
  }
  for (double& frequency : inv_freq) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > original / low) {
      frequency /= factor;
    } else if (wavelength >= original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      frequency *= (1 - smooth) / factor + smooth;
    }
  }
}

// YaRN, arXiv 2309.00071 section 3: interpolate slow dimensions, keep fast ones, ramp between.
double ApplyYarn(const formats::ConfigReader& scaling, const formats::ConfigReader& config,
                 double theta, std::vector<double>& inv_freq) {
  const double factor = scaling.RequireFloat("factor", 1.0, 1e6);
  const double beta_fast = scaling.FloatOr("beta_fast", 32, 1e-3, 1e6);
  const double beta_slow = scaling.FloatOr("beta_slow", 1, 1e-3, 1e6);
  const double original = OriginalPositions(config, scaling);
  const auto pairs = static_cast<double>(inv_freq.size());
  const double dims = 2 * pairs;
  // The dimension whose wavelength makes `rotations` turns within the original context.
  const auto dimension = [&](double rotations) {
    const double turns = original / (rotations * 2 * std::numbers::pi);
    return dims * PortableLog(turns) / (2 * PortableLog(theta));
  };
  double low = dimension(beta_fast);
  double high = dimension(beta_slow);
  if (scaling.BoolOr("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1);
  if (low == high) {
    high += 0.001;  // the ramp must not divide by zero
  }
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inv_freq[i] = inv_freq[i] / factor * ramp + inv_freq[i] * (1 - ramp);
  }
  const auto mscale = [&](double m) {
    return factor <= 1 ? 1.0 : 0.1 * m * PortableLog(factor) + 1.0;
  };
  if (const auto given = scaling.OptionalFloat("attention_factor", 1e-3, 1e3)) {
    return *given;
  }
  const double m = scaling.FloatOr("mscale", 0, 0, 1e3);
  const double m_all = scaling.FloatOr("mscale_all_dim", 0, 0, 1e3);
  return m > 0 && m_all > 0 ? mscale(m) / mscale(m_all) : mscale(1);
}

}  // namespace

backend::RopeSpec ReadRope(const formats::ConfigReader& config, int32_t head_dim,
                           double default_rotary_factor) {
  const auto [scaling, type] = ReadScaling(config);
  const double theta = FieldOr(config, scaling, "rope_theta", 10000.0, 1.0, 1e12);
  const double partial =
      FieldOr(config, scaling, "partial_rotary_factor", default_rotary_factor, 0.0, 1.0);
  if (config.BoolOr("rope_traditional", false)) {
    config.Fail("rope_traditional", "false: interleaved rotation is not supported");
  }
  const auto rotated = static_cast<int32_t>(head_dim * partial) / 2 * 2;
  backend::RopeSpec spec;
  for (int32_t i = 0; i < rotated; i += 2) {
    spec.inv_freq.push_back(PortablePow(theta, -static_cast<double>(i) / rotated));
  }
  if (type == "linear") {
    const double factor = scaling.RequireFloat("factor", 1e-3, 1e6);
    for (double& frequency : spec.inv_freq) {
      frequency /= factor;
    }
  } else if (type == "llama3") {
    ApplyLlama3(scaling, spec.inv_freq);
  } else if (type == "yarn") {
    spec.amplitude = ApplyYarn(scaling, config, theta, spec.inv_freq);
  } else if (type != "default") {
    scaling.Fail(scaling.Has("rope_type") ? "rope_type" : "type",
                 "one of default, linear, llama3, yarn");
  }
  return spec;
}

int64_t ReadMaxContext(const formats::ConfigReader& config) {
  const auto [scaling, type] = ReadScaling(config);
  const int64_t positions = MaxPositions(config);
  double context = static_cast<double>(positions);
  if (type == "linear") {
    context *= scaling.RequireFloat("factor", 1e-3, 1e6);
  } else if (type == "yarn") {
    context = OriginalPositions(config, scaling) * scaling.RequireFloat("factor", 1.0, 1e6);
  } else if (type == "llama3") {
    const double original = scaling.RequireFloat("original_max_position_embeddings", 1.0, 1e9);
    if (context <= original) {
      context = original * scaling.RequireFloat("factor", 1.0, 1e6);
    }
  }
  return static_cast<int64_t>(std::clamp(context, 1.0, static_cast<double>(kMostContext)));
}

}  // namespace mach::models
