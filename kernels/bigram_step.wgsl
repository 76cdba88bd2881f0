// One thread a token: its pair's bucket, and of a row's first the token that comes before the next ones.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size) { return; }
  let row = i / params.time;
  let place = i % params.time;
  let pairs = i32(params.buckets) - 1;
  var bucket = pairs;
  if (place > 0u || load_start(row) > 0) {
    var before = load_last(row);
    if (place > 0u) { before = load_ids(i - 1u); }
    bucket = ((36313 * load_ids(i)) ^ (27191 * before)) % pairs;
    if (bucket < 0) { bucket += pairs; }
  }
  store_out(i, bucket);
  if (place > 0u) { return; }
  let own = LENGTH;
  var last = load_last(row);
  if (own > 0) { last = load_ids(i + u32(own) - 1u); }
  store_next(row, last);
}
