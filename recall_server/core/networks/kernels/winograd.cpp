// A 3x3 convolution with padding 1, and its gradients, by minimal filtering (Winograd, 1980; F(4x4, 3x3) of Lavin and
// Gray, 2016). A tile of 4x4 outputs takes 36 products per channel instead of 144.
//
// With the matrices A, B and G of Lavin and Gray, a tile of outputs is y = A^T [(G w G^T) * (B^T x B)] A. Here x is the
// tile's 6x6 window of the image, and * multiplies the numbers at each of 36 points and sums over channels: one matrix
// product per point. y is linear in w, so the gradient for w is the transpose, G^T [(A g A^T) * (B^T x B)] G.
// The gradient for the images is a convolution of g with the weights rotated by 180 degrees.
//
// Images are channels-last, [image][row][column][channel], so that transforms run over vectors of channels; weights are
// [filter][channel][3][3]. The numbers of channels and filters are multiples of PANEL. Each number is summed up in an
// order that does not depend on the number of threads.

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tiles.hpp"

namespace {

constexpr int OUT = 4, IN = 6, POINTS = IN * IN, KERNEL = 3, WEIGHTS = KERNEL * KERNEL;

struct Sizes {
    int64_t images, height, width, inputs, outputs;

    explicit Sizes(const int64_t *sizes)
        : images(sizes[0]), height(sizes[1]), width(sizes[2]), inputs(sizes[3]), outputs(sizes[4]) {}
    int64_t down() const { return (height + OUT - 1) / OUT; }
    int64_t across() const { return (width + OUT - 1) / OUT; }
    int64_t tiles() const { return images * down() * across(); }
    int64_t products() const { return inputs * outputs; }
};

// The distance between the numbers of two points: an odd number of cache lines, so that all 36 points of a tile lie in
// different sets of the caches. Powers of two would put them into one or a few sets, which hold 8 to 16 lines each.
template <typename Real>
int64_t apart(int64_t numbers) {
    constexpr int64_t line = 64 / sizeof(Real);
    return ((numbers + line - 1) / line | 1) * line;
}

// One side of each transform: multiplies a vector, whose numbers are `step` apart, by the matrix.
struct Input {  // B^T
    static constexpr int from = IN, to = IN;
    template <typename V>
    static void apply(const V *x, V *y, int step) {
        const V a = x[0], b = x[step], c = x[2 * step], d = x[3 * step], e = x[4 * step], f = x[5 * step];
        const V even = e - 4 * c, odd = d - 4 * b, near = e - c, far = 2 * (d - b);
        y[0] = 4 * a - 5 * c + e, y[5 * step] = 4 * b - 5 * d + f;
        y[step] = even + odd, y[2 * step] = even - odd, y[3 * step] = near + far, y[4 * step] = near - far;
    }
};

struct Gradient {  // A
    static constexpr int from = OUT, to = IN;
    template <typename V>
    static void apply(const V *x, V *y, int step) {
        const V a = x[0], b = x[step], c = x[2 * step], d = x[3 * step];
        const V even = a + c, odd = b + d, far_even = a + 4 * c, far_odd = 2 * b + 8 * d;
        y[0] = a, y[5 * step] = d;
        y[step] = even + odd, y[2 * step] = even - odd;
        y[3 * step] = far_even + far_odd, y[4 * step] = far_even - far_odd;
    }
};

struct Output {  // A^T
    static constexpr int from = IN, to = OUT;
    template <typename V>
    static void apply(const V *x, V *y, int step) {
        const V near = x[step] + x[2 * step], across = x[step] - x[2 * step];
        const V far = x[3 * step] + x[4 * step], far_across = x[3 * step] - x[4 * step];
        const V first = x[0] + near + far, last = across + 8 * far_across + x[5 * step];
        y[0] = first, y[step] = across + 2 * far_across, y[2 * step] = near + 4 * far, y[3 * step] = last;
    }
};

struct Weight {  // G
    static constexpr int from = KERNEL, to = IN;
    template <typename V>
    static void apply(const V *x, V *y, int step) {
        using Real = std::decay_t<decltype(x[0][0])>;
        constexpr Real sixth = Real(1) / 6, twelfth = Real(1) / 12, small = Real(1) / 24;
        const V a = x[0], b = x[step], c = x[2 * step];
        const V even = (a + c) * sixth, odd = b * sixth, far = a * small + c * sixth, far_odd = b * twelfth;
        y[0] = a / 4, y[5 * step] = c;
        y[step] = -even - odd, y[2 * step] = odd - even, y[3 * step] = far + far_odd, y[4 * step] = far - far_odd;
    }
};

struct ForWeight {  // G^T
    static constexpr int from = IN, to = KERNEL;
    template <typename V>
    static void apply(const V *x, V *y, int step) {
        using Real = std::decay_t<decltype(x[0][0])>;
        constexpr Real sixth = Real(1) / 6, twelfth = Real(1) / 12, small = Real(1) / 24;
        const V near = (x[step] + x[2 * step]) * sixth, far = x[3 * step] + x[4 * step];
        const V odd = (x[2 * step] - x[step]) * sixth + (x[3 * step] - x[4 * step]) * twelfth;
        const V first = x[0] / 4 - near + far * small, last = far * sixth - near + x[5 * step];
        y[0] = first, y[step] = odd, y[2 * step] = last;
    }
};

// T x T^T of one vector of channels: `get(i, j)` reads it, and `put(i, j, vector)` takes the result.
template <typename T, typename Real, typename Get, typename Put>
inline void transform(Get get, Put put) {
    Vector<Real> half[T::to * T::from];
    for (int j = 0; j < T::from; ++j) {
        Vector<Real> column[T::from], result[T::to];
        for (int i = 0; i < T::from; ++i) column[i] = get(i, j);
        T::apply(column, result, 1);
        for (int i = 0; i < T::to; ++i) half[i * T::from + j] = result[i];
    }
    for (int i = 0; i < T::to; ++i) {
        Vector<Real> result[T::to];
        T::apply(half + i * T::from, result, 1);
        for (int j = 0; j < T::to; ++j) put(i, j, result[j]);
    }
}

// Addresses of SIDE x SIDE pixels, from `before` pixels before the tile's first output; `outside` beyond the image.
template <typename Real, int SIDE>
struct Window {
    Real *at[SIDE][SIDE];

    Window(const Sizes &n, int64_t tile, int64_t before, Real *images, int64_t channels, Real *outside) {
        const int64_t column = tile % n.across() * OUT - before, row = tile / n.across() % n.down() * OUT - before;
        Real *image = images + tile / n.across() / n.down() * n.height * n.width * channels;
        for (int i = 0; i < SIDE; ++i)
            for (int j = 0; j < SIDE; ++j) {
                const int64_t y = row + i, x = column + j;
                const bool inside = y >= 0 && y < n.height && x >= 0 && x < n.width;
                at[i][j] = inside ? image + (y * n.width + x) * channels : outside;
            }
    }
};

// B^T x B of a tile; point p and channel c go to to[p * point + c].
template <typename Real>
void transform_input(const Sizes &n, const Real *images, int64_t tile, const Real *zeros, Real *to, int64_t point) {
    const Window<const Real, IN> window(n, tile, 1, images, n.inputs, zeros);
    for (int64_t c = 0; c < n.inputs; c += Lanes<Real>::count)
        transform<Input, Real>([&](int i, int j) { return load(window.at[i][j] + c); },
                               [&](int i, int j, auto result) { store<Real>(to + (i * IN + j) * point + c, result); });
}

// A g A^T of a tile; point p and filter f go to to[p * point + f / PANEL * panel + f % PANEL].
template <typename Real>
void transform_gradient(const Sizes &n, const Real *g, int64_t tile, const Real *zeros, Real *to, int64_t point,
                        int64_t panel) {
    const Window<const Real, OUT> window(n, tile, 0, g, n.outputs, zeros);
    for (int64_t f = 0; f < n.outputs; f += Lanes<Real>::count) {
        Real *there = to + f / PANEL<Real> * panel + f % PANEL<Real>;
        const auto put = [&](int i, int j, auto result) { store<Real>(there + (i * IN + j) * point, result); };
        transform<Gradient, Real>([&](int i, int j) { return load(window.at[i][j] + f); }, put);
    }
}

// A^T m A of a tile, from m[p * point + f], written to the images.
template <typename Real>
void transform_output(const Sizes &n, const Real *m, int64_t point, int64_t tile, Real *outside, Real *images) {
    const Window<Real, OUT> window(n, tile, 0, images, n.outputs, outside);
    for (int64_t f = 0; f < n.outputs; f += Lanes<Real>::count)
        transform<Output, Real>([&](int i, int j) { return load(m + (i * IN + j) * point + f); },
                                [&](int i, int j, auto result) { store<Real>(window.at[i][j] + f, result); });
}

// Address of a vector of filters in transformed weights [filter / PANEL][channel][filter % PANEL] of one point.
template <typename Real>
Real *in_panel(const Sizes &n, Real *to, int64_t filter, int64_t channel) {
    return to + (filter / PANEL<Real> * n.inputs + channel) * PANEL<Real> + filter % PANEL<Real>;
}

// G w G^T; point p goes to to[p * point], in panels. If `transposed`, w is [channel][filter][3][3] and rotated by 180
// degrees, as the gradient for images needs.
template <typename Real>
void transform_weights(const Sizes &n, const Real *w, bool transposed, Real *to, int64_t point) {
    constexpr int lanes = Lanes<Real>::count;
    const int64_t filter = (transposed ? 1 : n.inputs) * WEIGHTS, channel = (transposed ? n.outputs : 1) * WEIGHTS;
#pragma omp parallel for schedule(static)
    for (int64_t f = 0; f < n.outputs; f += lanes)
        for (int64_t c = 0; c < n.inputs; ++c) {
            const Real *from = w + f * filter + c * channel;
            const auto get = [&](int i, int j) {
                const int k = i * KERNEL + j, at = transposed ? WEIGHTS - 1 - k : k;
                Vector<Real> vector;
                for (int lane = 0; lane < lanes; ++lane) vector[lane] = from[lane * filter + at];
                return vector;
            };
            Real *there = in_panel(n, to, f, c);
            transform<Weight, Real>(
                get, [&](int i, int j, auto result) { store<Real>(there + (i * IN + j) * point, result); });
        }
}

// Padding of a row whose matrix is read along columns; without it, a column would map to a few sets of the cache.
constexpr int64_t SPARE = 16;

// y = the convolution of x with w, or with the transposed and rotated weights. A block is 48 tiles: the factors of its
// 36 products stay in the second-level cache.
template <typename Real>
void convolve(const Sizes &n, const Real *x, const Real *w, bool transposed, Real *y) {
    const int64_t block = 48, row = n.inputs + SPARE;
    const int64_t of_u = apart<Real>(n.products()), of_v = apart<Real>(block * row);
    const int64_t of_m = apart<Real>(block * n.outputs);
    const Buffer<Real> u(POINTS * of_u);
    transform_weights(n, w, transposed, u.data(), of_u);
#pragma omp parallel
    {
        const Buffer<Real> v(POINTS * of_v), m(POINTS * of_m), outside(n.outputs);
        const std::vector<Real> zeros(n.inputs);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < n.tiles(); first += block) {
            const int64_t count = std::min(block, n.tiles() - first);
            for (int64_t t = 0; t < count; ++t)
                transform_input(n, x, first + t, zeros.data(), v.data() + t * row, of_v);
            for (int p = 0; p < POINTS; ++p)
                for (int64_t f = 0; f < n.outputs; f += PANEL<Real>)
                    panel(count, m.data() + p * of_m + f, n.outputs, v.data() + p * of_v, row, 1,
                          u.data() + p * of_u + f * n.inputs, PANEL<Real>, n.inputs, false);
            for (int64_t t = 0; t < count; ++t)
                transform_output(n, m.data() + t * n.outputs, of_m, first + t, outside.data(), y);
        }
    }
}

// The gradient of <g, convolve(x, w)> for the weights [filter][channel][3][3].
template <typename Real>
void for_weight(const Sizes &n, const Real *x, const Real *g, Real *to) {
    constexpr int lanes = Lanes<Real>::count, columns = PANEL<Real>;
    const int64_t block = std::min<int64_t>(96, n.tiles()), row = n.inputs + SPARE;
    const int64_t of_u = apart<Real>(n.products()), of_v = apart<Real>(block * row);
    const int64_t of_q = apart<Real>(block * n.outputs);
    const Buffer<Real> u(POINTS * of_u), v(POINTS * of_v), q(POINTS * of_q);
    const std::vector<Real> zeros(std::max(n.inputs, n.outputs));
    if (!n.tiles()) std::fill_n(u.data(), POINTS * of_u, Real(0));
#pragma omp parallel
    {
        for (int64_t first = 0; first < n.tiles(); first += block) {
            const int64_t count = std::min(block, n.tiles() - first);
#pragma omp for schedule(static)
            for (int64_t t = 0; t < count; ++t) {
                transform_input(n, x, first + t, zeros.data(), v.data() + t * row, of_v);
                transform_gradient(n, g, first + t, zeros.data(), q.data() + t * columns, of_q, block * columns);
            }
#pragma omp for schedule(static)
            for (int p = 0; p < POINTS; ++p)
                for (int64_t f = 0; f < n.outputs; f += columns)
                    panel(n.inputs, u.data() + p * of_u + f * n.inputs, columns, v.data() + p * of_v, 1, row,
                          q.data() + p * of_q + f * block, columns, count, first > 0);
        }
#pragma omp for schedule(static)
        for (int64_t f = 0; f < n.outputs; f += lanes)
            for (int64_t c = 0; c < n.inputs; ++c) {
                const Real *from = in_panel(n, u.data(), f, c);
                const auto put = [&](int i, int j, auto result) {
                    for (int lane = 0; lane < lanes; ++lane)
                        to[((f + lane) * n.inputs + c) * WEIGHTS + i * KERNEL + j] = result[lane];
                };
                transform<ForWeight, Real>([&](int i, int j) { return load(from + (i * IN + j) * of_u); }, put);
            }
    }
}

}  // namespace

// Sizes are images, height, width, channels of x, channels of y; `transposed` is 0 or 1.
extern "C" {
void convolve_float32(const int64_t *sizes, const float *x, const float *w, int64_t transposed, float *y) {
    convolve(Sizes(sizes), x, w, transposed != 0, y);
}
void convolve_float64(const int64_t *sizes, const double *x, const double *w, int64_t transposed, double *y) {
    convolve(Sizes(sizes), x, w, transposed != 0, y);
}
void for_weight_float32(const int64_t *sizes, const float *x, const float *g, float *to) {
    for_weight(Sizes(sizes), x, g, to);
}
void for_weight_float64(const int64_t *sizes, const double *x, const double *g, double *to) {
    for_weight(Sizes(sizes), x, g, to);
}
}
