// Principal coordinates of a few vectors: the two directions in which they differ most.

const STEPS = 300; // of the power iteration; two figures are enough for a drawing

/** Coordinates [n][2] of vectors [n][d], which are brought to the same length first. */
export function principalCoordinates(vectors) {
  const unit = vectors.map((vector) => {
    const length = Math.hypot(...vector) || 1;
    return Array.from(vector, (value) => value / length);
  });
  const mean = unit[0].map((_, at) => unit.reduce((sum, vector) => sum + vector[at], 0) / unit.length);
  const centred = unit.map((vector) => vector.map((value, at) => value - mean[at]));
  const gram = centred.map((one) => centred.map((other) => dot(one, other)));
  const first = eigenvector(gram, []);
  const second = eigenvector(gram, [first]);
  return first.map((value, index) => [value, second[index]]);
}

/** The eigenvector of the largest eigenvalue among those orthogonal to `found`, times the root of the eigenvalue. */
function eigenvector(matrix, found) {
  let vector = matrix.map((_, index) => Math.sin(1 + index)); // any start that is not orthogonal to the result
  let size = 0;
  for (let step = 0; step < STEPS; step += 1) {
    vector = matrix.map((row) => dot(row, vector));
    for (const other of found) {
      const share = dot(vector, other) / (dot(other, other) || 1);
      vector = vector.map((value, index) => value - share * other[index]);
    }
    size = Math.sqrt(dot(vector, vector)) || 1;
    vector = vector.map((value) => value / size);
  }
  return vector.map((value) => value * Math.sqrt(size));
}

function dot(one, other) {
  let sum = 0;
  for (let index = 0; index < one.length; index += 1) sum += one[index] * other[index];
  return sum;
}
