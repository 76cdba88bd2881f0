// In place: one thread an element of the new rows.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let batch = i / params.per_batch;
  let position = load_start(batch) + i32(i % params.per_batch / params.width);
  if (position < 0 || u32(position) >= params.capacity) { return; }
  store_cache((batch * params.capacity + u32(position)) * params.width + i % params.width, load_rows(i));
}
