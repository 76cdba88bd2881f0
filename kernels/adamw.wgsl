// In place: parameter and moments are found and left in the outputs.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size || load_gate(1u) == 0.0) { return; }
  let lr = load_hyper(0u);
  let g = load_grad(i) * load_gate(0u);
  let first = load_hyper(3u) * load_m(i) + load_hyper(4u) * g;
  let second = load_hyper(5u) * load_v(i) + load_hyper(6u) * g * g;
  store_m(i, first);
  store_v(i, second);
  let decayed = load_param(i) * (1.0 - lr * load_hyper(params.decay));
  let slope = lr / load_hyper(1u) * first;
  store_param(i, decayed - slope / (sqrt(second) / sqrt(load_hyper(2u)) + params.eps));
}
