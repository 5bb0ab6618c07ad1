// Instance norm, ReLU and 2x2 average pooling of a convolution's output as one operation, with its gradient, and the
// derivatives of both along a direction: all that a ConvNet block computes besides its convolution.
//
// The formulas are in blocks.py, whose TorchBlocks is the reference of the tests; a prime there is a suffix _dot here.
// All images are channels-last: a[image][row][column][channel]. A task is one image and as many channels as a vector
// has lanes. Every sum runs over pixels within a lane, so results do not depend on the number of threads. Numbers that
// a task reads more than once are gathered first: vectors one pixel apart map to few sets of the cache, and would evict
// each other. A NaN is not "<= 0", so it passes the ReLU and training stops on it.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "tiles.hpp"

namespace {

// The upper half of a float, rounded to nearest even.
struct Bfloat16 {
    uint16_t bits;
};

typedef uint32_t Words __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(VECTOR_BYTES / 2)));

// Loads and stores numbers of type `Stored` as vectors of `Real`; FULL if the group has a channel for every lane.
template <typename Stored, typename Real, bool FULL>
struct Memory {
    int channels;  // of this group; the lanes beyond them read as zero and are not written

    int bytes(int each) const { return (FULL ? Lanes<Real>::count : channels) * each; }

    Vector<Real> load(const Stored *from) const {
        if constexpr (std::is_same_v<Stored, Bfloat16>) {
            Halves halves = {};
            std::memcpy(&halves, from, bytes(sizeof(Stored)));
            return (Vector<Real>)(__builtin_convertvector(halves, Words) << 16);
        } else {
            Vector<Real> vector = {};
            std::memcpy(&vector, from, bytes(sizeof(Stored)));
            return vector;
        }
    }

    void store(Stored *to, Vector<Real> vector) const {
        if constexpr (std::is_same_v<Stored, Bfloat16>) {
            const Words words = (Words)vector;
            const Halves halves = __builtin_convertvector((words + 0x7fff + ((words >> 16) & 1)) >> 16, Halves);
            std::memcpy(to, &halves, bytes(sizeof(Stored)));
        } else {
            std::memcpy(to, &vector, bytes(sizeof(Stored)));
        }
    }
};

// Where a task finds its numbers: offsets of pixels in a full-size image and in a pooled one.
struct Task {
    int64_t height, width, channels, image, channel;

    int64_t pixels() const { return height * width; }
    int64_t statistic() const { return image * channels + channel; }
    int64_t pixel(int64_t index) const { return (image * pixels() + index) * channels + channel; }
    int64_t pooled(int64_t row, int64_t column) const {
        return ((image * (height / 2) + row) * (width / 2) + column) * channels + channel;
    }
    int64_t corner(int64_t row, int64_t column, int index) const {
        return (2 * row + index / 2) * width + 2 * column + index % 2;
    }
};

// The values of all pixels of a task, and their derivatives.
template <typename Real>
struct Gathered {
    std::vector<Vector<Real>> value, value_dot;

    Gathered(int64_t pixels, bool tangent) : value(pixels), value_dot(tangent ? pixels : 0) {}
};

// The pointers that only a pass with derivatives needs are null otherwise.
template <typename Stored, typename Real>
struct Forward {
    const Stored *a;
    Stored *a_dot;
    const Stored *a_dot_more;
    const Real *scale, *shift, *scale_dot, *shift_dot;
    Stored *y, *y_dot;
    Real *mean, *rstd, *mean_dot, *slope;
    Real epsilon;

    template <bool FULL, bool TANGENT>
    void run(const Task &task, int channels, Gathered<Real> &gathered) const {
        const Memory<Stored, Real, FULL> images{channels};
        const Memory<Real, Real, FULL> vectors{channels};
        const Real pixels = task.pixels();
        Vector<Real> *const value = gathered.value.data(), *const value_dot = gathered.value_dot.data();

        Vector<Real> m = {}, m_dot = {}, v = {}, k = {};
        for (int64_t p = 0; p < task.pixels(); ++p) {
            const int64_t at = task.pixel(p);
            m += value[p] = images.load(a + at);
            if constexpr (TANGENT) {
                Vector<Real> dot = images.load(a_dot + at);
                if (a_dot_more) {  // the derivative is the sum of two convolutions, added up here
                    dot += images.load(a_dot_more + at);
                    images.store(a_dot + at, dot);
                }
                m_dot += value_dot[p] = dot;
            }
        }
        m /= pixels, m_dot /= pixels;
        for (int64_t p = 0; p < task.pixels(); ++p) {
            const Vector<Real> centred = value[p] -= m;
            v += centred * centred;
            if constexpr (TANGENT) k += centred * (value_dot[p] -= m_dot);
        }
        Vector<Real> r;
        for (int lane = 0; lane < Lanes<Real>::count; ++lane) r[lane] = 1 / std::sqrt(v[lane] / pixels + epsilon);
        k *= r / pixels;
        vectors.store(mean + task.statistic(), m);
        vectors.store(rstd + task.statistic(), r);
        if constexpr (TANGENT) {
            vectors.store(mean_dot + task.statistic(), m_dot);
            vectors.store(slope + task.statistic(), k);
        }

        const Vector<Real> s = vectors.load(scale + task.channel), b = vectors.load(shift + task.channel);
        Vector<Real> s_dot = {}, b_dot = {};
        if constexpr (TANGENT) {
            s_dot = vectors.load(scale_dot + task.channel), b_dot = vectors.load(shift_dot + task.channel);
        }
        for (int64_t row = 0; row < task.height / 2; ++row) {
            for (int64_t column = 0; column < task.width / 2; ++column) {
                Vector<Real> sum = {}, sum_dot = {};
                for (int index = 0; index < 4; ++index) {
                    const int64_t p = task.corner(row, column, index);
                    const Vector<Real> n = value[p] * r;
                    const Vector<Real> z = s * n + b;
                    sum += z <= 0 ? 0 : z;
                    if constexpr (TANGENT) {
                        const Vector<Real> n_dot = r * (value_dot[p] - n * k);
                        sum_dot += z <= 0 ? 0 : s_dot * n + s * n_dot + b_dot;
                    }
                }
                images.store(y + task.pooled(row, column), sum / 4);
                if constexpr (TANGENT) images.store(y_dot + task.pooled(row, column), sum_dot / 4);
            }
        }
    }
};

template <typename Stored, typename Real>
struct Backward {
    const Stored *a, *a_dot;
    const Real *mean, *rstd, *mean_dot, *slope;
    const Real *scale, *shift, *scale_dot;
    const Stored *gy;
    Stored *gy_dot;
    const Stored *gy_dot_more;
    Stored *ga, *ga_dot;
    Real *for_scale, *for_shift;

    template <bool FULL, bool TANGENT>
    void run(const Task &task, int channels, Gathered<Real> &gathered) const {
        const Memory<Stored, Real, FULL> images{channels};
        const Memory<Real, Real, FULL> vectors{channels};
        const Vector<Real> m = vectors.load(mean + task.statistic()), r = vectors.load(rstd + task.statistic());
        const Vector<Real> s = vectors.load(scale + task.channel), b = vectors.load(shift + task.channel);
        Vector<Real> m_dot = {}, k = {}, s_dot = {};
        if constexpr (TANGENT) {
            m_dot = vectors.load(mean_dot + task.statistic()), k = vectors.load(slope + task.statistic());
            s_dot = vectors.load(scale_dot + task.channel);
        }
        Vector<Real> *const normalised = gathered.value.data(), *const normalised_dot = gathered.value_dot.data();

        // Sums over pixels of gz and gz n, and of their derivatives, where gz = [z > 0] gy / 4.
        Vector<Real> sum = {}, sum_n = {}, sum_dot = {}, sum_n_dot = {};
        for (int64_t row = 0; row < task.height / 2; ++row) {
            for (int64_t column = 0; column < task.width / 2; ++column) {
                const int64_t pooled = task.pooled(row, column);
                const Vector<Real> quarter = images.load(gy + pooled) / 4;
                Vector<Real> quarter_dot = {};
                if constexpr (TANGENT) {
                    quarter_dot = images.load(gy_dot + pooled);
                    if (gy_dot_more) {
                        quarter_dot += images.load(gy_dot_more + pooled);
                        images.store(gy_dot + pooled, quarter_dot);
                    }
                    quarter_dot /= 4;
                }
                for (int index = 0; index < 4; ++index) {
                    const int64_t p = task.corner(row, column, index), at = task.pixel(p);
                    const Vector<Real> n = normalised[p] = (images.load(a + at) - m) * r;
                    const auto cut = s * n + b <= 0;
                    const Vector<Real> gz = cut ? 0 : quarter;
                    sum += gz;
                    sum_n += gz * n;
                    if constexpr (TANGENT) {
                        const Vector<Real> n_dot = r * (images.load(a_dot + at) - m_dot - n * k);
                        normalised_dot[p] = n_dot;
                        const Vector<Real> gz_dot = cut ? 0 : quarter_dot;
                        sum_dot += gz_dot;
                        sum_n_dot += gz_dot * n + gz * n_dot;
                    }
                }
            }
        }
        vectors.store(for_scale + task.statistic(), TANGENT ? sum_n_dot : sum_n);
        vectors.store(for_shift + task.statistic(), TANGENT ? sum_dot : sum);

        const Real pixels = task.pixels();
        const Vector<Real> first = s * sum / pixels, second = s * sum_n / pixels;
        const Vector<Real> first_dot = (s_dot * sum + s * sum_dot) / pixels;
        const Vector<Real> second_dot = (s_dot * sum_n + s * sum_n_dot) / pixels;
        for (int64_t row = 0; row < task.height / 2; ++row) {
            for (int64_t column = 0; column < task.width / 2; ++column) {
                const int64_t pooled = task.pooled(row, column);
                const Vector<Real> quarter = images.load(gy + pooled) / 4;
                Vector<Real> quarter_dot = {};
                if constexpr (TANGENT) quarter_dot = images.load(gy_dot + pooled) / 4;
                for (int index = 0; index < 4; ++index) {
                    const int64_t p = task.corner(row, column, index), at = task.pixel(p);
                    const Vector<Real> n = normalised[p];
                    const auto cut = s * n + b <= 0;
                    const Vector<Real> gz = cut ? 0 : quarter;
                    const Vector<Real> u = s * gz - first - n * second;
                    images.store(ga + at, r * u);
                    if constexpr (TANGENT) {
                        const Vector<Real> n_dot = normalised_dot[p];
                        const Vector<Real> gz_dot = cut ? 0 : quarter_dot;
                        const Vector<Real> u_dot =
                            s_dot * gz + s * gz_dot - first_dot - n_dot * second - n * second_dot;
                        images.store(ga_dot + at, r * (u_dot - r * k * u));
                    }
                }
            }
        }
    }
};

// Run a pass for every image and every group of channels.
template <typename Real, bool TANGENT, typename Pass>
void run(const int64_t *sizes, const Pass &pass) {
    constexpr int lanes = Lanes<Real>::count;
    const int64_t images = sizes[0], channels = sizes[3], groups = (channels + lanes - 1) / lanes;
#pragma omp parallel
    {
        Gathered<Real> gathered(sizes[1] * sizes[2], TANGENT);
#pragma omp for schedule(static)
        for (int64_t index = 0; index < images * groups; ++index) {
            const Task task = {sizes[1], sizes[2], channels, index / groups, index % groups * lanes};
            if (task.channel + lanes <= channels) {
                pass.template run<true, TANGENT>(task, lanes, gathered);
            } else {
                pass.template run<false, TANGENT>(task, static_cast<int>(channels - task.channel), gathered);
            }
        }
    }
}

// The pointers are in the order of the fields of Forward and Backward.
template <typename Stored, typename Real>
void forward(const int64_t *sizes, void **p, double epsilon) {
    const auto stored = [p](int index) { return static_cast<Stored *>(p[index]); };
    const auto real = [p](int index) { return static_cast<Real *>(p[index]); };
    const Forward<Stored, Real> pass = {stored(0), stored(1), stored(2), real(3),  real(4),  real(5),  real(6),
                                        stored(7), stored(8), real(9),   real(10), real(11), real(12), Real(epsilon)};
    p[1] ? run<Real, true>(sizes, pass) : run<Real, false>(sizes, pass);
}

template <typename Stored, typename Real>
void backward(const int64_t *sizes, void **p) {
    const auto stored = [p](int index) { return static_cast<Stored *>(p[index]); };
    const auto real = [p](int index) { return static_cast<Real *>(p[index]); };
    const Backward<Stored, Real> pass = {stored(0),  stored(1),  real(2),    real(3),    real(4),  real(5),
                                         real(6),    real(7),    real(8),    stored(9),  stored(10), stored(11),
                                         stored(12), stored(13), real(14),   real(15)};
    p[1] ? run<Real, true>(sizes, pass) : run<Real, false>(sizes, pass);
}

}  // namespace

extern "C" {
void forward_float32(const int64_t *sizes, void **p, double epsilon) { forward<float, float>(sizes, p, epsilon); }
void forward_float64(const int64_t *sizes, void **p, double epsilon) { forward<double, double>(sizes, p, epsilon); }
void forward_bfloat16(const int64_t *sizes, void **p, double epsilon) { forward<Bfloat16, float>(sizes, p, epsilon); }
void backward_float32(const int64_t *sizes, void **p) { backward<float, float>(sizes, p); }
void backward_float64(const int64_t *sizes, void **p) { backward<double, double>(sizes, p); }
void backward_bfloat16(const int64_t *sizes, void **p) { backward<Bfloat16, float>(sizes, p); }
}
