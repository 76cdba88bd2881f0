// One thread an element: it turns with its partner by the angle of its token's position.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let channel = i % params.width;
  let x = load_x(i);
  if (channel >= params.rotary_dim) {
    store_out(i, x);
    return;
  }
  let turned = params.rotary_dim / 2u;
  let position = min(u32(max(load_positions(i / params.per_token), 0)), params.last);
  let interleaved = params.interleaved == 1u;
  let is_first = select(channel < turned, channel % 2u == 0u, interleaved);
  let pair = select(channel % turned, channel / 2u, interleaved);
  let step = select(turned, 1u, interleaved);
  let partner = load_x(select(i - step, i + step, is_first));
  let cosine = load_cosines(position * turned + pair);
  let sine = params.direction * load_sines(position * turned + pair);
  store_out(i, x * cosine + select(partner, -partner, is_first) * sine);
}
