// An element turned with its partner by the angle of its token's position.
fn rotated(i: u32) -> f32 {
  let channel = i % params.width;
  let x = load_x(i);
  if (channel >= params.rotary_dim) { return x; }
  let apart = params.rotary_dim / 2u;
  let position = min(u32(max(load_positions(i / params.per_token), 0)), params.last);
  let interleaved = params.interleaved == 1u;
  let is_first = select(channel < apart, channel % 2u == 0u, interleaved);
  let pair = select(channel % apart, channel / 2u, interleaved);
  let step = select(apart, 1u, interleaved);
  let partner = load_x(select(i - step, i + step, is_first));
  let cosine = load_cosines(position * apart + pair);
  let sine = params.direction * load_sines(position * apart + pair);
  return x * cosine + select(partner, -partner, is_first) * sine;
}
