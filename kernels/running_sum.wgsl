// One thread a channel of a row: it walks along the time.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let first = i / params.channels * params.time;
  let channel = i % params.channels;
  var sum = 0.0;
  var before = first;
  for (var step = 0u; step < params.time; step++) {
    let token = first + select(step, params.time - 1u - step, params.reverse == 1u);
    let goes_on = step > 0u && GOES_ON;
    let at = token * params.channels + channel;
    sum = select(0.0, sum, goes_on) + load_x(at);
    store_out(at, sum);
    before = token;
  }
}
