// One part's rows, each of `width` elements, at column `first` of rows of `whole` elements.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i < params.size) {
    store_out((i / params.width) * params.whole + params.first + i % params.width, load_part(i));
  }
}
