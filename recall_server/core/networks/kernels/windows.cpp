// A 3x3 convolution with padding 1 of images with few channels, and its gradients, as matrix products with the 3x3
// windows around the pixels. The windows of CHUNK pixels at a time are written out and stay in the first-level cache.
//
// Images are [image][channel][row][column], outputs and their gradients are channels-last, that is
// [image][row][column][filter], and weights are [filter][channel][3][3]. The number of filters is a multiple of PANEL.
// A window is [channel][3][3], like a filter.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tiles.hpp"

namespace {

constexpr int KERNEL = 3, AREA = KERNEL * KERNEL;
constexpr int64_t CHUNK = 96;  // pixels whose windows are written out together
constexpr int64_t GROUP = 8;  // images whose gradients for the weights are summed up by one thread

struct Sizes {
    int64_t images, height, width, inputs, outputs;

    explicit Sizes(const int64_t *sizes)
        : images(sizes[0]), height(sizes[1]), width(sizes[2]), inputs(sizes[3]), outputs(sizes[4]) {}
    int64_t pixels() const { return height * width; }
    int64_t window() const { return inputs * AREA; }
};

// One image, padded with zeros, and the windows of up to CHUNK of its pixels.
template <typename Real>
struct Windows {
    const Sizes &n;
    const int64_t row, plane;
    std::vector<Real> padded;
    const Buffer<Real> windows;

    explicit Windows(const Sizes &n)
        : n(n), row(n.width + 2), plane((n.height + 2) * row), padded(n.inputs * plane), windows(CHUNK * n.window()) {}

    // Offset of the window of a pixel in the first channel's plane.
    int64_t corner(int64_t pixel) const { return pixel / n.width * row + pixel % n.width; }

    void load_image(const Real *image) {
        for (int64_t c = 0; c < n.inputs; ++c)
            for (int64_t y = 0; y < n.height; ++y)
                std::copy_n(image + (c * n.height + y) * n.width, n.width, &padded[c * plane + (y + 1) * row + 1]);
    }

    // The windows of `count` pixels from `first`, one row each.
    const Real *gather(int64_t first, int64_t count) {
        for (int64_t pixel = 0; pixel < count; ++pixel) {
            Real *to = windows.data() + pixel * n.window();
            for (int64_t c = 0; c < n.inputs; ++c)
                for (int i = 0; i < KERNEL; ++i) {
                    const Real *from = &padded[corner(first + pixel) + c * plane + i * row];
                    for (int j = 0; j < KERNEL; ++j) *to++ = from[j];
                }
        }
        return windows.data();
    }

    // Add the windows of `count` pixels from `first` to the padded image: the transpose of gather.
    void scatter_add(int64_t first, int64_t count, const Real *from, int64_t step) {
        for (int64_t pixel = 0; pixel < count; ++pixel)
            for (int64_t c = 0; c < n.inputs; ++c)
                for (int i = 0; i < KERNEL; ++i)
                    for (int j = 0; j < KERNEL; ++j)
                        padded[corner(first + pixel) + c * plane + i * row + j] +=
                            from[pixel * step + c * AREA + i * KERNEL + j];
    }

    void clear() { std::fill(padded.begin(), padded.end(), Real(0)); }

    void store_image(Real *image) const {
        for (int64_t c = 0; c < n.inputs; ++c)
            for (int64_t y = 0; y < n.height; ++y)
                std::copy_n(&padded[c * plane + (y + 1) * row + 1], n.width, image + (c * n.height + y) * n.width);
    }
};

template <typename Real>
void convolve(const Sizes &n, const Real *x, const Real *w, Real *y) {
    constexpr int columns = PANEL<Real>;
    const int64_t depth = n.window();
    std::vector<Real> weights(depth * n.outputs);  // [filter / PANEL][window][PANEL]
    for (int64_t f = 0; f < n.outputs; ++f)
        for (int64_t k = 0; k < depth; ++k)
            weights[f / columns * columns * depth + k * columns + f % columns] = w[f * depth + k];
#pragma omp parallel
    {
        Windows<Real> windows(n);
#pragma omp for schedule(static)
        for (int64_t image = 0; image < n.images; ++image) {
            windows.load_image(x + image * n.inputs * n.pixels());
            for (int64_t first = 0; first < n.pixels(); first += CHUNK) {
                const int64_t count = std::min(CHUNK, n.pixels() - first);
                const Real *rows = windows.gather(first, count);
                Real *to = y + (image * n.pixels() + first) * n.outputs;
                for (int64_t f = 0; f < n.outputs; f += columns)
                    panel(count, to + f, n.outputs, rows, depth, 1, &weights[f * depth], columns, depth, false);
            }
        }
    }
}

template <typename Real>
void for_weight(const Sizes &n, const Real *x, const Real *g, Real *to) {
    const int64_t depth = n.window(), size = depth * n.outputs, groups = (n.images + GROUP - 1) / GROUP;
    std::vector<Real> sums(groups * size);  // [group][window][filter]
#pragma omp parallel
    {
        Windows<Real> windows(n);
#pragma omp for schedule(static)
        for (int64_t group = 0; group < groups; ++group)
            for (int64_t image = group * GROUP; image < std::min(n.images, (group + 1) * GROUP); ++image) {
                windows.load_image(x + image * n.inputs * n.pixels());
                for (int64_t first = 0; first < n.pixels(); first += CHUNK) {
                    const int64_t count = std::min(CHUNK, n.pixels() - first);
                    const Real *rows = windows.gather(first, count);
                    const Real *right = g + (image * n.pixels() + first) * n.outputs;
                    for (int64_t f = 0; f < n.outputs; f += PANEL<Real>)
                        panel(depth, &sums[group * size + f], n.outputs, rows, 1, depth, right + f, n.outputs, count,
                              true);
                }
            }
    }
    for (int64_t f = 0; f < n.outputs; ++f)
        for (int64_t k = 0; k < depth; ++k) {
            Real sum = 0;
            for (int64_t group = 0; group < groups; ++group) sum += sums[group * size + k * n.outputs + f];
            to[f * depth + k] = sum;
        }
}

template <typename Real>
void for_input(const Sizes &n, const Real *g, const Real *w, Real *to) {
    constexpr int columns = PANEL<Real>;
    const int64_t depth = n.window(), wide = (depth + columns - 1) / columns * columns;
    std::vector<Real> weights(n.outputs * wide);  // [filter][window, padded to whole panels]
    for (int64_t f = 0; f < n.outputs; ++f) std::copy_n(w + f * depth, depth, &weights[f * wide]);
#pragma omp parallel
    {
        Windows<Real> windows(n);
        const Buffer<Real> products(CHUNK * wide);
#pragma omp for schedule(static)
        for (int64_t image = 0; image < n.images; ++image) {
            windows.clear();
            for (int64_t first = 0; first < n.pixels(); first += CHUNK) {
                const int64_t count = std::min(CHUNK, n.pixels() - first);
                const Real *left = g + (image * n.pixels() + first) * n.outputs;
                for (int64_t k = 0; k < wide; k += columns)
                    panel(count, products.data() + k, wide, left, n.outputs, 1, &weights[k], wide, n.outputs, false);
                windows.scatter_add(first, count, products.data(), wide);
            }
            windows.store_image(to + image * n.inputs * n.pixels());
        }
    }
}

}  // namespace

// Sizes are images, height, width, channels of x, filters.
#define EXPORT(function, Real, name)                                                       \
    void name(const int64_t *sizes, const Real *left, const Real *right, Real *result) {   \
        function(Sizes(sizes), left, right, result);                                       \
    }

extern "C" {
EXPORT(convolve, float, convolve_float32)  // x, w, y
EXPORT(convolve, double, convolve_float64)
EXPORT(for_weight, float, for_weight_float32)  // x, gradient of y, gradient of w
EXPORT(for_weight, double, for_weight_float64)
EXPORT(for_input, float, for_input_float32)  // gradient of y, w, gradient of x
EXPORT(for_input, double, for_input_float64)
}
