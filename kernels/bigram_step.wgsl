// One thread a token: its pair's bucket, and of a row's first the token that comes before the next ones.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let row = i / params.time;
  let place = i % params.time;
  let pairs = params.buckets - 1u;
  var bucket = pairs;
  if (place > 0u || load_start(row) > 0) {
    var before = load_last(row);
    if (place > 0u) { before = load_ids(i - 1u); }
    // By magnitude: Vulkan leaves the remainder of a negative number to the driver.
    let hash = (36313 * load_ids(i)) ^ (27191 * before);
    let bits = bitcast<u32>(hash);
    let rest = select(bits, 0u - bits, hash < 0) % pairs;
    bucket = select(rest, (pairs - rest) % pairs, hash < 0);
  }
  store_out(i, i32(bucket));
  if (place > 0u) { return; }
  let own = LENGTH;
  var last = load_last(row);
  if (own > 0) { last = load_ids(i + u32(own) - 1u); }
  store_next(row, last);
}
