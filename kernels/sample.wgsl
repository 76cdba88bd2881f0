// One workgroup a row of logits. Thresholds (top-k, top-p) are found on the logits' ordered bits, three at a time, so the row is
// never sorted; then the token is the first, in the order of ids, at which the kept weights' running sum passes uniform * total.
const LANES = 256u;
var<workgroup> numbers: array<f32, LANES>;
var<workgroup> words: array<u32, LANES>;
var<workgroup> low_masses: array<vec4<f32>, LANES>;
var<workgroup> high_masses: array<vec4<f32>, LANES>;

// Unsigned integers in the order of the floats; both zeros are one.
fn ordered(x: f32) -> u32 {
  let bits = select(bitcast<u32>(x), 0u, x == 0.0);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn sum_of(lane: u32, x: f32) -> f32 {
  numbers[lane] = x;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { numbers[lane] += numbers[lane + half]; }
    workgroupBarrier();
  }
  let sum = numbers[0];
  workgroupBarrier();
  return sum;
}

fn greatest(lane: u32, x: u32) -> u32 {
  words[lane] = x;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { words[lane] = max(words[lane], words[lane + half]); }
    workgroupBarrier();
  }
  let top = words[0];
  workgroupBarrier();
  return top;
}

// The largest t (of at least `floor`) such that what is counted among logits with ordered bits >= t reaches `wanted`: tokens, or,
// where `inverse` is not zero, weights exp((z - top) * inverse) of tokens at or above `floor`.
fn threshold(lane: u32, first: u32, floor: u32, wanted: f32, top: f32, inverse: f32) -> u32 {
  var found = 0u;
  for (var shift = 30i; shift >= 0; shift -= 3) {
    let step = vec4<u32>(1u, 2u, 3u, 4u);
    let beyond = vec4<u32>(0xffffffffu);
    let low = select(found + (step << vec4<u32>(u32(shift))), beyond, vec4<bool>(false, false, false, shift == 30));
    let high = select(found + ((step + 4u) << vec4<u32>(u32(shift))), beyond, vec4<bool>(shift == 30, shift == 30, shift == 30, true));
    var low_mass = vec4<f32>(0.0);
    var high_mass = vec4<f32>(0.0);
    for (var j = lane; j < params.vocab; j += LANES) {
      let z = load_logits(first + j);
      let key = ordered(z);
      let mass = select(select(0.0, exp_of((z - top) * inverse), key >= floor), 1.0, inverse == 0.0);
      low_mass += select(vec4<f32>(0.0), vec4<f32>(mass), vec4<u32>(key) >= low);
      high_mass += select(vec4<f32>(0.0), vec4<f32>(mass), vec4<u32>(key) >= high);
    }
    low_masses[lane] = low_mass;
    high_masses[lane] = high_mass;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
      if (lane < half) {
        low_masses[lane] += low_masses[lane + half];
        high_masses[lane] += high_masses[lane + half];
      }
      workgroupBarrier();
    }
    let reached = vec4<f32>(low_masses[0]) >= vec4<f32>(wanted);
    let reached_high = vec4<f32>(high_masses[0]) >= vec4<f32>(wanted);
    // The candidates rise, so the last one that is reached is the largest.
    let before = found;
    if (reached.x) { found = low.x; }
    if (reached.y) { found = low.y; }
    if (reached.z) { found = low.z; }
    if (reached.w && shift < 30) { found = low.w; }
    if (reached_high.x && shift < 30) { found = high.x; }
    if (reached_high.y && shift < 30) { found = high.y; }
    if (reached_high.z && shift < 30) { found = high.z; }
    found = max(found, before);
    workgroupBarrier();
  }
  return max(found, floor);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = flatGroup(id, grid);
  if (row >= params.batch) { return; }
  let first = row * params.vocab;

  var top_key = 0u;
  for (var j = lane; j < params.vocab; j += LANES) { top_key = max(top_key, ordered(load_logits(first + j))); }
  top_key = greatest(lane, top_key);
  // The first of the likeliest, as the largest complement.
  var likeliest = 0u;
  for (var j = lane; j < params.vocab; j += LANES) {
    if (ordered(load_logits(first + j)) == top_key) { likeliest = max(likeliest, ~j); }
  }
  let best = ~greatest(lane, likeliest);
  let top = load_logits(first + best);
  var part = 0.0;
  for (var j = lane; j < params.vocab; j += LANES) { part += exp_of(load_logits(first + j) - top); }
  let whole = sum_of(lane, part);

  var token = best;
  let temperature = load_settings(0u);
  if (temperature > 0.0) {
    let inverse = 1.0 / temperature;
    let top_k = load_settings(1u);
    let top_p = load_settings(2u);
    let min_p = load_settings(3u); // of the likeliest's weight, which is 1
    var floor = 0u;
    if (top_k > 0.0 && top_k < f32(params.vocab)) { floor = threshold(lane, first, 0u, top_k, top, 0.0); }
    if (top_p < 1.0) {
      part = 0.0;
      for (var j = lane; j < params.vocab; j += LANES) {
        let z = load_logits(first + j);
        part += select(0.0, exp_of((z - top) * inverse), ordered(z) >= floor);
      }
      floor = threshold(lane, first, floor, top_p * sum_of(lane, part), top, inverse);
    }
    // Each lane has a stretch of neighbours, so that running sums go in the order of ids.
    let stretch = (params.vocab + LANES - 1u) / LANES;
    let begin = min(lane * stretch, params.vocab);
    let end = min(begin + stretch, params.vocab);
    var kept = 0.0;
    for (var j = begin; j < end; j++) {
      let z = load_logits(first + j);
      let weight = exp_of((z - top) * inverse);
      kept += select(0.0, weight, ordered(z) >= floor && weight >= min_p);
    }
    numbers[lane] = kept;
    workgroupBarrier();
    var running = 0.0;
    var left = 0.0;
    for (var other = 0u; other < LANES; other++) {
      if (other == lane) { running = left; }
      left += numbers[other];
    }
    let goal = load_chances(row) * left;
    var passed = 0u;
    var last = 0u;
    for (var j = begin; j < end; j++) {
      let z = load_logits(first + j);
      var weight = exp_of((z - top) * inverse);
      weight = select(0.0, weight, ordered(z) >= floor && weight >= min_p);
      running += weight;
      if (weight > 0.0) {
        last = j + 1u;
        if (running > goal && passed == 0u) { passed = ~j; }
      }
    }
    workgroupBarrier();
    passed = greatest(lane, passed);
    last = greatest(lane, last);
    // Where nothing has a weight (a logit is infinite or not a number) the likeliest is taken: always an id.
    token = select(select(best, last - 1u, last != 0u), ~passed, passed != 0u);
  }
  if (lane == 0u) {
    store_token(row, i32(token));
    store_logprob(row, load_logits(first + token) - top - log_of(whole));
  }
}
