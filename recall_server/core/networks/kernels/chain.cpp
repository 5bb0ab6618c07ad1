// The blocks of a ConvNet one after another, in one call and without a gradient.
//
// A thread gives up Python's lock for each call of a compiled function, and asks for it again afterwards. While another
// thread runs Python, it waits for a whole turn of that thread each time. One call for all blocks waits once.
//
// The functions come from the libraries of the other files, so results are the same to the bit as those of single calls.

#include <cstdint>

namespace {

template <typename Real>
struct Functions {
    void (*windows)(const int64_t *sizes, const Real *x, const Real *w, Real *y);
    void (*winograd)(const int64_t *sizes, const Real *x, const Real *w, int64_t transposed, Real *y);
    void (*normalise_pool)(const int64_t *sizes, void **pointers, double epsilon);
};

// Sizes are images, height, width, channels, filters, blocks; each block has the parameters weight, scale and shift.
// The first convolution is that of `windows`, of images that are not channels-last. `a` has room for its result, `y`
// for a quarter of that, and `statistics` for two numbers of each channel of each image. y is channels-last at the end.
template <typename Real>
void chain(const int64_t *sizes, const Functions<Real> &functions, void **parameters, const Real *images, Real *a,
           Real *y, Real *statistics, double epsilon) {
    const int64_t count = sizes[0], filters = sizes[4], blocks = sizes[5];
    int64_t height = sizes[1], width = sizes[2];
    for (int64_t block = 0; block < blocks; ++block, height /= 2, width /= 2) {
        void **const own = parameters + 3 * block;
        const auto weight = static_cast<const Real *>(own[0]);
        const int64_t convolution[] = {count, height, width, block ? filters : sizes[3], filters};
        if (block)
            functions.winograd(convolution, y, weight, 0, a);
        else
            functions.windows(convolution, images, weight, a);
        const int64_t norm[] = {count, height, width, filters};
        void *pointers[] = {a, nullptr, nullptr, own[1], own[2], nullptr, nullptr,
                            y, nullptr, statistics, statistics + count * filters, nullptr, nullptr};
        functions.normalise_pool(norm, pointers, epsilon);
    }
}

}  // namespace

#define EXPORT(Real, name)                                                                                            \
    void name(const int64_t *sizes, const Functions<Real> *functions, void **parameters, const Real *images, Real *a, \
              Real *y, Real *statistics, double epsilon) {                                                            \
        chain(sizes, *functions, parameters, images, a, y, statistics, epsilon);                                      \
    }

extern "C" {
EXPORT(float, chain_float32)
EXPORT(double, chain_float64)
}
