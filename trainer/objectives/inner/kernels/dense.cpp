// Training a network with one hidden layer for many steps of SGD with momentum, and the reverse of that training.
//
// The reverse uses forward over reverse mode (Pearlmutter, 1994): the suffix `_dot` marks the derivative of a number
// along the direction mu of the parameters. The tests compare with the step that autograd derives. With few inputs, a
// step is a dozen small matrix products, and torch takes several times as long to start one as to compute it. Here
// nothing lies between them, and all data of a step stay in the second-level cache.
//
// Every product multiplies broadcast numbers by rows of vectors, so rows are hidden units, classes or inputs, padded
// with zeros to whole vectors. Padding has zero weights, and its gradients are zero, so it stays zero. Only the softmax
// needs the true number of classes.
//
// Parameters are one vector: [inputs + 1, hidden], whose last row is the hidden bias, for which every image has an
// input of 1; [classes, hidden]; and the bias of the classes, padded.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tiles.hpp"

namespace {

// C [rows, columns] = A [rows, depth] B [depth, columns], or C += A B; a row of C is a multiple of 64 bytes long.
template <typename Real>
void multiply(int64_t rows, int64_t columns, int64_t depth, Real *c, const Real *a, int64_t a_row, int64_t a_column,
              const Real *b, bool add) {
    constexpr int lanes = Lanes<Real>::count;
    int64_t column = 0;
    if constexpr (VECTOR_BYTES < 64) {
        for (; column < columns; column += 2 * lanes)
            column_of_tiles<Real, 6, 2>(rows, c + column, columns, a, a_row, a_column, b + column, columns, depth, add);
        return;
    }
    for (; column + 4 * lanes <= columns; column += 4 * lanes)
        column_of_tiles<Real, 6, 4>(rows, c + column, columns, a, a_row, a_column, b + column, columns, depth, add);
    if (column + 2 * lanes <= columns) {
        column_of_tiles<Real, 12, 2>(rows, c + column, columns, a, a_row, a_column, b + column, columns, depth, add);
        column += 2 * lanes;
    }
    if (column < columns)
        column_of_tiles<Real, 14, 1>(rows, c + column, columns, a, a_row, a_column, b + column, columns, depth, add);
}

template <typename Real>
void transpose(int64_t rows, int64_t columns, const Real *from, Real *to, int64_t to_row) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column) to[column * to_row + row] = from[row * columns + column];
}

// `wide` is the number of inputs with the input of 1 and padding, `padded` that of classes with padding.
struct Sizes {
    int64_t steps, batch, inputs, hidden, classes, wide, padded;

    explicit Sizes(const int64_t *sizes)
        : steps(sizes[0]), batch(sizes[1]), inputs(sizes[2]), hidden(sizes[3]), classes(sizes[4]), wide(sizes[5]),
          padded(sizes[6]) {}
    int64_t rows() const { return inputs + 1; }
    int64_t second() const { return rows() * hidden; }
    int64_t bias() const { return second() + classes * hidden; }
    int64_t parameters() const { return bias() + padded; }
};

template <typename Real>
struct Training {
    const Sizes n;
    const Real *images;      // [M, wide]: all recalled images, with an input of 1
    const Real *targets;     // [M, padded]: distributions over the classes
    const int64_t *index;    // [steps, batch] into both
    const Real rate, momentum;

    // Buffers for one minibatch.
    std::vector<Real> x, y, active, hidden, logits, probabilities, g_logits, g_hidden;
    std::vector<Real> hidden_dot, logits_dot, g_logits_dot, g_hidden_dot, for_x;
    std::vector<Real> second, second_dot, first, first_dot, gradient;

    Training(const Sizes &sizes, const Real *images, const Real *targets, const int64_t *index, double rate,
             double momentum, bool reversed)
        : n(sizes), images(images), targets(targets), index(index), rate(rate), momentum(momentum) {
        const int64_t units = n.batch * n.hidden, outputs = n.batch * n.padded;
        for (auto *part : {&hidden, &g_hidden}) part->resize(units);
        for (auto *part : {&logits, &probabilities, &g_logits, &y}) part->resize(outputs);
        x.resize(n.batch * n.wide);
        second.resize(n.hidden * n.padded);
        gradient.resize(n.parameters());
        if (!reversed) return;
        for (auto *part : {&hidden_dot, &g_hidden_dot}) part->resize(units);
        for (auto *part : {&logits_dot, &g_logits_dot}) part->resize(outputs);
        for_x.resize(n.batch * n.wide);
        second_dot.resize(n.hidden * n.padded);
        for (auto *part : {&first, &first_dot}) part->resize(n.hidden * n.wide);
    }

    void gather(int64_t step) {
        for (int64_t i = 0; i < n.batch; ++i) {
            const int64_t from = index[step * n.batch + i];
            std::copy_n(images + from * n.wide, n.wide, x.data() + i * n.wide);
            std::copy_n(targets + from * n.padded, n.padded, y.data() + i * n.padded);
        }
    }

    // Add one row to each of `rows`.
    void add_row(std::vector<Real> &rows, const Real *row) const {
        for (int64_t i = 0; i < n.batch; ++i)
            for (int64_t j = 0; j < n.padded; ++j) rows[i * n.padded + j] += row[j];
    }

    void column_sums(const std::vector<Real> &rows, Real *sums) const {
        std::fill_n(sums, n.padded, Real(0));
        for (int64_t i = 0; i < n.batch; ++i)
            for (int64_t j = 0; j < n.padded; ++j) sums[j] += rows[i * n.padded + j];
    }

    // Compute hidden units, probabilities, and the gradients of the mean loss for logits and hidden units.
    void forward_and_gradients(const Real *theta) {
        const Real *weight = theta + n.second();
        multiply<Real>(n.batch, n.hidden, n.rows(), hidden.data(), x.data(), n.wide, 1, theta, false);
        for (Real &unit : hidden) unit = unit <= 0 ? Real(0) : unit;  // a NaN passes
        transpose(n.classes, n.hidden, weight, second.data(), n.padded);
        multiply<Real>(n.batch, n.padded, n.hidden, logits.data(), hidden.data(), n.hidden, 1, second.data(), false);
        add_row(logits, theta + n.bias());
        for (int64_t i = 0; i < n.batch; ++i) softmax(i);
        multiply<Real>(n.batch, n.hidden, n.classes, g_hidden.data(), g_logits.data(), n.padded, 1, weight, false);
        mask(g_hidden);
    }

    void softmax(int64_t i) {
        const Real *z = logits.data() + i * n.padded, *target = y.data() + i * n.padded;
        Real *p = probabilities.data() + i * n.padded, *g = g_logits.data() + i * n.padded;
        const Real largest = *std::max_element(z, z + n.classes);
        Real sum = 0, mass = 0;
        for (int64_t j = 0; j < n.classes; ++j) {
            p[j] = std::exp(z[j] - largest);
            sum += p[j];
            mass += target[j];
        }
        for (int64_t j = 0; j < n.classes; ++j) {
            p[j] /= sum;
            g[j] = (p[j] * mass - target[j]) / Real(n.batch);
        }
    }

    void mask(std::vector<Real> &units) const {
        for (size_t i = 0; i < units.size(); ++i) units[i] = hidden[i] <= 0 ? Real(0) : units[i];
    }

    // One step from `theta` and `velocity` to `next` and `next_velocity`.
    void forward(int64_t step, const Real *theta, const Real *velocity, Real *next, Real *next_velocity) {
        gather(step);
        forward_and_gradients(theta);
        multiply<Real>(n.rows(), n.hidden, n.batch, gradient.data(), x.data(), 1, n.wide, g_hidden.data(), false);
        multiply<Real>(n.classes, n.hidden, n.batch, gradient.data() + n.second(), g_logits.data(), 1, n.padded,
                       hidden.data(), false);
        column_sums(g_logits, gradient.data() + n.bias());
        for (int64_t i = 0; i < n.parameters(); ++i) {
            next_velocity[i] = momentum * velocity[i] + gradient[i];
            next[i] = theta[i] - rate * next_velocity[i];
        }
    }

    // One step back, in place, of lambda and mu; the gradients for the step's images are added to for_images [M, wide].
    void reverse(int64_t step, const Real *theta, Real *lambda, Real *mu, Real *for_images) {
        for (int64_t i = 0; i < n.parameters(); ++i) mu[i] -= rate * lambda[i];
        gather(step);
        forward_and_gradients(theta);
        const Real *weight = theta + n.second(), *weight_dot = mu + n.second();
        multiply<Real>(n.batch, n.hidden, n.rows(), hidden_dot.data(), x.data(), n.wide, 1, mu, false);
        mask(hidden_dot);
        transpose(n.classes, n.hidden, weight_dot, second_dot.data(), n.padded);
        multiply<Real>(n.batch, n.padded, n.hidden, logits_dot.data(), hidden_dot.data(), n.hidden, 1, second.data(),
                       false);
        multiply<Real>(n.batch, n.padded, n.hidden, logits_dot.data(), hidden.data(), n.hidden, 1, second_dot.data(),
                       true);
        add_row(logits_dot, mu + n.bias());
        for (int64_t i = 0; i < n.batch; ++i) softmax_dot(i);
        multiply<Real>(n.batch, n.hidden, n.classes, g_hidden_dot.data(), g_logits.data(), n.padded, 1, weight_dot,
                       false);
        multiply<Real>(n.batch, n.hidden, n.classes, g_hidden_dot.data(), g_logits_dot.data(), n.padded, 1, weight,
                       true);
        mask(g_hidden_dot);
        add_image_gradients(step, theta, mu, for_images);

        multiply<Real>(n.rows(), n.hidden, n.batch, gradient.data(), x.data(), 1, n.wide, g_hidden_dot.data(), false);
        Real *for_weight = gradient.data() + n.second();
        multiply<Real>(n.classes, n.hidden, n.batch, for_weight, g_logits_dot.data(), 1, n.padded, hidden.data(),
                       false);
        multiply<Real>(n.classes, n.hidden, n.batch, for_weight, g_logits.data(), 1, n.padded, hidden_dot.data(), true);
        column_sums(g_logits_dot, gradient.data() + n.bias());
        for (int64_t i = 0; i < n.parameters(); ++i) {
            lambda[i] += gradient[i];
            mu[i] *= momentum;
        }
    }

    void softmax_dot(int64_t i) {
        const Real *p = probabilities.data() + i * n.padded, *z_dot = logits_dot.data() + i * n.padded;
        const Real *target = y.data() + i * n.padded;
        Real *g_dot = g_logits_dot.data() + i * n.padded;
        Real mean = 0, mass = 0;
        for (int64_t j = 0; j < n.classes; ++j) {
            mean += p[j] * z_dot[j];
            mass += target[j];
        }
        for (int64_t j = 0; j < n.classes; ++j) g_dot[j] = p[j] * (z_dot[j] - mean) * mass / Real(n.batch);
    }

    void add_image_gradients(int64_t step, const Real *theta, const Real *mu, Real *for_images) {
        transpose(n.rows(), n.hidden, theta, first.data(), n.wide);
        transpose(n.rows(), n.hidden, mu, first_dot.data(), n.wide);
        multiply<Real>(n.batch, n.wide, n.hidden, for_x.data(), g_hidden.data(), n.hidden, 1, first_dot.data(), false);
        multiply<Real>(n.batch, n.wide, n.hidden, for_x.data(), g_hidden_dot.data(), n.hidden, 1, first.data(), true);
        for (int64_t i = 0; i < n.batch; ++i) {
            Real *sum = for_images + index[step * n.batch + i] * n.wide;
            for (int64_t j = 0; j < n.wide; ++j) sum[j] += for_x[i * n.wide + j];
        }
    }
};

// states [steps + 1, parameters] begins with the first parameters; velocity [parameters] is updated in place.
template <typename Real>
void train(const int64_t *sizes, void *const *at, double rate, double momentum) {
    const Sizes n(sizes);
    Training<Real> training(n, static_cast<const Real *>(at[0]), static_cast<const Real *>(at[1]),
                            static_cast<const int64_t *>(at[2]), rate, momentum, false);
    Real *states = static_cast<Real *>(at[3]), *velocity = static_cast<Real *>(at[4]);
    const bool keep = at[5] != nullptr;  // else the first state is updated in place
    for (int64_t step = 0; step < n.steps; ++step) {
        Real *next = keep ? states + n.parameters() : states;
        training.forward(step, states, velocity, next, velocity);
        states = next;
    }
}

// lambda and mu [parameters] are given at the end of the training and replaced by those at its start.
template <typename Real>
void reverse(const int64_t *sizes, void *const *at, double rate, double momentum) {
    const Sizes n(sizes);
    Training<Real> training(n, static_cast<const Real *>(at[0]), static_cast<const Real *>(at[1]),
                            static_cast<const int64_t *>(at[2]), rate, momentum, true);
    const Real *states = static_cast<const Real *>(at[3]);
    Real *lambda = static_cast<Real *>(at[4]), *mu = static_cast<Real *>(at[5]), *gain = static_cast<Real *>(at[6]);
    for (int64_t step = n.steps - 1; step >= 0; --step)
        training.reverse(step, states + step * n.parameters(), lambda, mu, gain);
}

}  // namespace

extern "C" {
void train_float32(const int64_t *sizes, void *const *at, double rate, double momentum) {
    train<float>(sizes, at, rate, momentum);
}
void train_float64(const int64_t *sizes, void *const *at, double rate, double momentum) {
    train<double>(sizes, at, rate, momentum);
}
void reverse_float32(const int64_t *sizes, void *const *at, double rate, double momentum) {
    reverse<float>(sizes, at, rate, momentum);
}
void reverse_float64(const int64_t *sizes, void *const *at, double rate, double momentum) {
    reverse<double>(sizes, at, rate, momentum);
}
}
