// out[i, j] = table[ids[i], j]; zeros for ids outside the table.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let row = load_ids(i / params.width);
  let inside = row >= 0 && u32(row) < params.rows;
  let at = select(0u, u32(row), inside) * params.width + i % params.width;
  if (inside) {
    store_out(i, load_table(at));
  } else {
    store_out(i, 0);
  }
}
