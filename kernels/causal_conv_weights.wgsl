// One thread a weight and a chunk of tokens.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = flatGroup(id, grid);
  let chunk = group / params.groups;
  let i = group % params.groups * 64u + lane;
  let first = chunk * params.rows;
  if (i >= params.size || first >= params.tokens) { return; }
  let channel = i % params.channels;
  let back = params.taps - 1u - i / params.channels;
  var sum = 0.0;
  for (var token = first; token < min(first + params.rows, params.tokens); token++) {
    if (token % params.time < back) { continue; }
    let x = select(0.0, load_x((token - back) * params.channels + channel), IS_SEEN);
    sum += load_dy(token * params.channels + channel) * x;
  }
  store_out(chunk * params.size + i, sum);
}
