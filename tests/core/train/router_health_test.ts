import assert from "node:assert/strict";
import { evenClock } from "../../../core/optim/mod.ts";
import { pretrainConfig, routerFaults, routerHealthConfig } from "../../../core/train/mod.ts";

const clock = evenClock(60_000);

const faultsAt = (step: number, entropy: number, alpha: number[], config = {}) =>
  routerFaults(
    Object.keys(config).length > 0 ? routerHealthConfig.parse(config) : undefined,
    { tau: 2, "router.entropy_norm": entropy, "router.alpha": alpha },
    step,
    clock,
  );

Deno.test("router health: the published limits of each phase", () => {
  const phases = [[0, 0.9, 0.25], [4999, 0.9, 0.25], [5000, 0.75, 0.12], [10_000, 0.7, 0.15]];
  for (const [step, entropy, share] of phases) {
    const rest = (1 - share - 0.001) / 2, fair = [rest, share + 0.001, rest];
    assert.equal(faultsAt(step, entropy + 0.001, fair), undefined);
    const low = faultsAt(step, entropy - 0.001, fair)!;
    assert.match(low.entropy_norm!, new RegExp(`^the router's entropy_norm .* below ${entropy}$`));
    assert.deepEqual(Object.keys(low), ["entropy_norm"]);
    const starved = faultsAt(step, 0.95, [rest + 0.001, share - 0.001, rest + 0.001])!;
    assert.match(starved.min_share!, new RegExp(`^branch 1 gets .*, less than ${share}$`));
    assert.deepEqual(Object.keys(starved), ["min_share"]);
  }
});

Deno.test("router health: a collapse is called one, and other numbers of branches have limits in proportion", () => {
  const faults = faultsAt(20_000, 0.5, [0.05, 0.1, 0.85])!;
  assert.match(faults.entropy_norm!, /^the router has collapsed: its entropy_norm 0\.500/);
  assert.match(faults.max_share!, /^branch 2 gets 0\.850 of the weight, more than 0\.8$/);
  assert.equal(faultsAt(0, 0.95, [0.2, 0.2, 0.2, 0.2, 0.2]), undefined);
  assert.match(faultsAt(0, 0.95, [0.14, 0.2, 0.2, 0.2, 0.26])!.min_share!, /less than 0\.15$/);
  assert.equal(routerFaults(undefined, { tau: 1 }, 0, clock), undefined);
});

Deno.test("router health: limits may be others, and their schedules are checked with the run's", () => {
  assert.equal(
    faultsAt(0, 0.3, [0.9, 0.1], { entropy_norm: 0, min_share: 0, max_share: 1 }),
    undefined,
  );
  const config = {
    model: {
      hidden_size: 8,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 8,
    },
    data: { path: "data" },
    sequence_length: 8,
    batch_size: 1,
    steps: 10,
    optimizer: { kind: "adamw", learning_rate: 0.1 },
    router_health: { entropy_norm: { kind: "points", points: [[8, 0.5], [4, 0.4]] } },
  };
  const { success, error } = pretrainConfig.safeParse(config);
  assert.equal(success, false);
  assert.equal(error!.issues[0].path.join("."), "router_health.entropy_norm.points.1");
});
