// One thread an element.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let token = i / params.channels;
  let channel = i % params.channels;
  let place = token % params.time;
  let room = select(place, params.time - 1u - place, params.ahead == 1u);
  let own = OWN;
  var sum = 0.0;
  for (var back = 0u; back < min(params.taps, room + 1u); back++) {
    let other = select(token - back, token + back, params.ahead == 1u);
    let tap = (params.taps - 1u - back) * params.channels + channel;
    let x = select(0.0, load_x(other * params.channels + channel), IS_SEEN);
    sum += load_weight(tap) * x;
  }
  store_out(i, sum);
}
