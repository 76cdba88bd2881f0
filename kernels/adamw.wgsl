// In place: parameter and moments are found and left in the outputs.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(id, grid) * 256u + lane;
  if (i >= params.size || load_gate(1u) == 0.0) { return; }
  let lr = load_hyper(0u);
  let g = load_grad(i) * load_gate(0u);
  let first = params.beta1 * load_m(i) + params.rest1 * g;
  let second = params.beta2 * load_v(i) + params.rest2 * g * g;
  store_m(i, first);
  store_v(i, second);
  let decayed = load_param(i) * (1.0 - lr * params.weight_decay);
  let slope = lr / load_hyper(1u) * first;
  store_param(i, decayed - slope / (sqrt(second) / sqrt(load_hyper(2u)) + params.eps));
}
