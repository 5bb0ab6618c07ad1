// Reads a tensor from a safetensors file: eight bytes with the length of the header, the header as JSON, and the data.

/** The float32 tensor of this name, as one array of numbers for each index of its first axis. */
export function rowsOf(buffer, name) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { shape, data_offsets: [start, end] } = header[name];
  const values = new Float32Array(buffer.slice(8 + length + start, 8 + length + end));
  const size = values.length / shape[0];
  return Array.from({ length: shape[0] }, (_, index) => values.subarray(index * size, (index + 1) * size));
}
