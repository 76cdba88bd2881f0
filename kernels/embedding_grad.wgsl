// One workgroup a row of the table: it adds the row's tokens in the order of their list, so the sum never varies.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = flatGroup(id, grid);
  if (row >= params.rows) { return; }
  let begin = u32(load_starts(row));
  let end = u32(load_starts(row + 1u));
  for (var j = lane; j < params.width; j += 256u) {
    var sum = 0.0;
    for (var at = begin; at < end; at++) {
      sum += load_dy(u32(load_order(at)) * params.width + j);
    }
    store_out(row * params.width + j, sum);
  }
}
