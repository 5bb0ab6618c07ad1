// Vectors as wide as the processor's registers, and matrix products in tiles that stay in registers.

#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

// AVX-512 has 32 registers of 64 bytes; for other processors, tiles are made for 16 registers of 32 bytes. A tile that
// does not fit is spilled to memory at every product and takes ten times as long, and so does a vector that is wider.
#ifdef __AVX512F__
constexpr int VECTOR_BYTES = 64;
#else
constexpr int VECTOR_BYTES = 32;
#endif

template <typename Real>
struct Lanes {
    static constexpr int count = VECTOR_BYTES / sizeof(Real);
    typedef Real Vector __attribute__((vector_size(VECTOR_BYTES)));
};

template <typename Real>
using Vector = typename Lanes<Real>::Vector;

// Numbers in memory need not be aligned, and their type is not Vector: a copy of known size is one move instruction.
template <typename Real>
inline Vector<Real> load(const Real *from) {
    Vector<Real> vector;
    std::memcpy(&vector, from, sizeof(vector));
    return vector;
}

template <typename Real>
inline void store(Real *to, const Vector<Real> &vector) {
    std::memcpy(to, &vector, sizeof(vector));
}

// An uninitialised buffer; a std::vector would fill it with zeros first.
template <typename Real>
class Buffer {
    std::unique_ptr<Real[]> numbers;

  public:
    explicit Buffer(int64_t count) : numbers(new Real[count]) {}
    Real *data() const { return numbers.get(); }
};

// One tile of C = A B, or C += A B: R rows of V vectors, held in registers. A(r, k) is a[r * a_row + k * a_column].
template <typename Real, int R, int V>
inline void tile(Real *c, int64_t c_row, const Real *a, int64_t a_row, int64_t a_column, const Real *b, int64_t b_row,
                 int64_t depth, bool add) {
    constexpr int lanes = Lanes<Real>::count;
    Vector<Real> sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = add ? load(c + r * c_row + v * lanes) : Vector<Real>{};
    for (int64_t k = 0; k < depth; ++k) {
        Vector<Real> right[V];
        for (int v = 0; v < V; ++v) right[v] = load(b + k * b_row + v * lanes);
        for (int r = 0; r < R; ++r) {
            const Real left = a[r * a_row + k * a_column];
            for (int v = 0; v < V; ++v) sum[r][v] += left * right[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store<Real>(c + r * c_row + v * lanes, sum[r][v]);
}

// The remaining rows, fewer than a tile has; the recursion turns their number into the constant R.
template <typename Real, int R, int V>
inline void last_rows(int64_t rows, Real *c, int64_t c_row, const Real *a, int64_t a_row, int64_t a_column,
                      const Real *b, int64_t b_row, int64_t depth, bool add) {
    if constexpr (R > 0) {
        if (rows == R)
            tile<Real, R, V>(c, c_row, a, a_row, a_column, b, b_row, depth, add);
        else
            last_rows<Real, R - 1, V>(rows, c, c_row, a, a_row, a_column, b, b_row, depth, add);
    }
}

// All rows of V vectors, R rows at a time. R and V are chosen so that accumulators and factors fill the registers.
template <typename Real, int R, int V>
inline void column_of_tiles(int64_t rows, Real *c, int64_t c_row, const Real *a, int64_t a_row, int64_t a_column,
                            const Real *b, int64_t b_row, int64_t depth, bool add) {
    int64_t row = 0;
    for (; row + R <= rows; row += R)
        tile<Real, R, V>(c + row * c_row, c_row, a + row * a_row, a_row, a_column, b, b_row, depth, add);
    last_rows<Real, R - 1, V>(rows - row, c + row * c_row, c_row, a + row * a_row, a_row, a_column, b, b_row, depth,
                              add);
}

// The tile that suits most products: two vectors, and as many rows as the other registers allow.
constexpr int ROWS = VECTOR_BYTES == 64 ? 12 : 6;

template <typename Real>
constexpr int PANEL = 2 * Lanes<Real>::count;  // columns of such a tile

// C [rows, PANEL] = A [rows, depth] B [depth, PANEL], or C += A B with `add`.
template <typename Real>
inline void panel(int64_t rows, Real *c, int64_t c_row, const Real *a, int64_t a_row, int64_t a_column, const Real *b,
                  int64_t b_row, int64_t depth, bool add) {
    column_of_tiles<Real, ROWS, 2>(rows, c, c_row, a, a_row, a_column, b, b_row, depth, add);
}
