// In place, halves: one thread a word of the region that a batch's rows can touch; a word on the border of two batches belongs to the
// batch of its first element that is written.
fn source(element: u32) -> i32 {
  let per_cache = params.capacity * params.width;
  let batch = element / per_cache;
  if (batch >= params.batches) { return -1; }
  let t = i32(element % per_cache / params.width) - load_start(batch);
  if (t < 0 || t >= i32(params.time)) { return -1; }
  return i32((batch * params.time + u32(t)) * params.width + element % params.width);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  let batch = i / params.words;
  if (batch >= params.batches) { return; }
  let per_cache = params.capacity * params.width;
  let start = min(u32(max(load_start(batch), 0)), params.capacity);
  let word = (batch * per_cache + start * params.width) / 2u + i % params.words;
  let low = source(2u * word);
  let high = source(2u * word + 1u);
  let owner = select(2u * word + 1u, 2u * word, low >= 0) / per_cache;
  if ((low < 0 && high < 0) || owner != batch) { return; }
  let a = select(load_cache(2u * word), load_rows(u32(max(low, 0))), low >= 0);
  let b = select(load_cache(2u * word + 1u), load_rows(u32(max(high, 0))), high >= 0);
  store2_cache(word, a, b);
}
