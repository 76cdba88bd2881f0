// Philox 4x32-10: one thread a block of four numbers. The same words as core/graph/random.ts, so the same bits.
fn multiply_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let cross = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (cross >> 16u);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
  var c = counter;
  var k = key;
  for (var round = 0; round < 10; round++) {
    let high0 = multiply_high(0xd2511f53u, c.x);
    let high1 = multiply_high(0xcd9e8d57u, c.z);
    c = vec4<u32>(high1 ^ c.y ^ k.x, 0xcd9e8d57u * c.z, high0 ^ c.w ^ k.y, 0xd2511f53u * c.x);
    k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let unit = flatGroup(id, grid) * 256u + lane;
  if (unit >= params.rows * params.blocks) { return; }
  let row = unit / params.blocks;
  let block = unit % params.blocks;
  let key = 3u * row;
  let words = philox(vec4<u32>(block, load_key(key + 2u), params.stream, 0u), vec2<u32>(load_key(key), load_key(key + 1u)));
  let numbers = (vec4<f32>(words >> vec4<u32>(9u)) + 0.5) * 1.1920928955078125e-7;
  let place = 4u * block;
  let at = row * params.size + place;
  store_out(at, numbers.x);
  if (place + 1u < params.size) { store_out(at + 1u, numbers.y); }
  if (place + 2u < params.size) { store_out(at + 2u, numbers.z); }
  if (place + 3u < params.size) { store_out(at + 3u, numbers.w); }
}
