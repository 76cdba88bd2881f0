// One thread a column, found from the top down; it reads back only what it wrote itself.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let unit = flatGroup(id, grid) * 64u + lane;
  if (unit >= params.columns) { return; }
  let n = params.n;
  let first = unit / n * n * n;
  let column = unit % n;
  for (var row = 0u; row < n; row++) {
    var sum = select(0.0, 1.0, row == column);
    for (var k = column; k < row; k++) {
      sum += load_a(first + row * n + k) * load_out(first + k * n + column);
    }
    store_out(first + row * n + column, sum);
  }
}
