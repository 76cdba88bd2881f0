/**
 * `--dry-run` of what trains: what a run takes, on a device that need not be here.
 *
 * @module
 */
import { DeviceError } from "../core/device/types.ts";
import type { Device } from "../core/device/mod.ts";
import { exitCodes, UserError } from "../core/io/errors.ts";
import { plural, significant } from "../core/io/words.ts";
import type { Target } from "../core/plan/mod.ts";
import type {
  DryRun,
  DryStage,
  GivenSizes,
  Memory,
  PlannedConfig,
  SourcePlan,
  TimeEstimate,
} from "../core/train/mod.ts";
import { type DeviceChoice, openChosenDevice } from "./device_options.ts";
import { describeData, namesOfSource } from "./train_sources.ts";
import { memoryOf, resolveWithin, type RunMemory } from "./run_memory.ts";
import type { Looked } from "./train_run.ts";
import { formatBytes, formatCount, formatDuration, formatQuantity } from "./ui/numbers.ts";
import { printFolded } from "./ui/terminal.ts";

/** What a run would be made from. */
export interface DryJob {
  readonly given: GivenSizes & { readonly sequence_length: number };
  readonly looked: Looked;
  /** Its folder. */
  readonly run: string;
}

/** Plans the run and prints its sizes. Throws after that if the device or the disk cannot hold it. */
export async function printDryRun(
  { given, looked, run }: DryJob,
  choice: DeviceChoice & RunMemory & { readonly form: "json" | "text" },
): Promise<void> {
  const { diskShortage, dryRun, estimateTime, planSources, roomOf, tooLarge, withFittingSizes } =
    await import(
      "../core/train/mod.ts"
    );
  const { freeBytesAt } = await import("../core/io/disk.ts");
  await using place = await findPlace(choice);
  const { target, device, limitsOf } = place, { facts: data } = looked, { memory: size } = choice;
  const resolve = looked.resolve.bind(looked);
  const resolved = await resolveWithin(given, { target, device, data, resolve, memory: size });
  const { config } = resolved;
  const found = orElse(
    () => dryRun(config, target),
    (error) => withFittingSizes(error, config, target),
  );
  const memory = memoryOf(target, choice.memory);
  const fits = memory && found.totalBytes <= roomOf(target, memory.bytes);
  const shortage = await diskShortage(config, run), freeBytes = await freeBytesAt(run);
  const sources = planSources(config, data.epochTargets);
  const time = fits === false || !device
    ? undefined
    : await estimateTime(config, device, { heldOut: data.heldOut, plans: found.plans });
  const timedOn = device?.info.name;
  const report: Report = {
    config,
    sources,
    found,
    target,
    memory,
    fits,
    limitsOf,
    time,
    timedOn,
    freeBytes,
  };
  if (choice.form === "json") console.log(JSON.stringify(namesOf(report)));
  else printFolded([...describe(report), ...await looked.notes(resolved)].join("\n"));
  if (fits === false) throw tooLarge(found.totalBytes, memory!, config, target);
  if (shortage) {
    throw new UserError(shortage.message, { hint: shortage.hint, exitCode: exitCodes.failed });
  }
}

function orElse<T>(make: () => T, errorFor: (error: unknown) => unknown): T {
  try {
    return make();
  } catch (error) {
    throw errorFor(error);
  }
}

/** The device that a run would be on. One that is not here has a target alone. */
interface Place extends AsyncDisposable {
  readonly target: Target;
  readonly device: Device | undefined;
  /** Of a GPU: whose limits the plan keeps to. */
  readonly limitsOf: string | undefined;
}

/** What is here, unless a GPU is asked for that is not: then a card's limits are assumed. */
async function findPlace(choice: DeviceChoice & RunMemory): Promise<Place> {
  const device = await openHere(choice);
  if (device) {
    const { target, info: { kind, name } } = device;
    const close = () => device[Symbol.asyncDispose]();
    const limitsOf = kind === "webgpu" ? name : undefined;
    return { target, device, limitsOf, [Symbol.asyncDispose]: close };
  }
  const { assumedLimits, webgpuTarget } = await import("../core/device/webgpu/mod.ts");
  return {
    target: webgpuTarget(assumedLimits),
    device: undefined,
    limitsOf: "assumed",
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** With `--memory`, a processor that plays a GPU is not what is meant. */
async function openHere(choice: DeviceChoice & RunMemory): Promise<Device | undefined> {
  if (choice.device !== "webgpu") return await openChosenDevice(choice);
  const { findAdapter, isSoftware } = await import("../core/device/webgpu/mod.ts");
  const adapter = await findAdapter();
  if (!adapter || (choice.memory !== undefined && isSoftware(adapter))) return undefined;
  try {
    return await openChosenDevice(choice);
  } catch (error) {
    if (error instanceof DeviceError) return undefined;
    throw error;
  }
}

/** What is printed. */
interface Report {
  readonly config: PlannedConfig;
  readonly sources: readonly SourcePlan[];
  readonly found: DryRun;
  readonly target: Target;
  readonly memory: Memory | undefined;
  readonly fits: boolean | undefined;
  readonly limitsOf: string | undefined;
  /** Undefined where the run does not fit, or the device is not here or too busy. */
  readonly time: TimeEstimate | undefined;
  /** Undefined where the device is not here. */
  readonly timedOn: string | undefined;
  /** On the run's disk. */
  readonly freeBytes: number | undefined;
}

/** Names that scripts rely on. */
function namesOf(report: Report): Record<string, unknown> {
  const { config, sources, found, target, memory, fits, limitsOf, time, timedOn, freeBytes } =
    report;
  const { batch_size, accumulation, sequence_length } = config, { disk, stages } = found;
  const sizesOf = (stage: DryStage) => ({
    tokens_per_update: stage.tokensPerUpdate,
    flops_per_token: Math.round(stage.flopsPerToken),
    dispatches: stage.dispatches,
  });
  return {
    device: target.kind,
    ...limitsOf === undefined ? {} : { limits_of: limitsOf },
    parameters: found.params,
    parts: found.byPart.map(({ part, total, byRole }) => ({ part, total, by_role: byRole })),
    optimizer_groups: found.groups.map(({ kind, role, tensors, total, weightDecay }) => ({
      kind,
      role,
      tensors,
      total,
      weight_decay: weightDecay,
    })),
    batch_size,
    accumulation,
    sequence_length,
    steps: Number.isFinite(found.steps) ? found.steps : null,
    ...sizesOf(stages[0]),
    ...stages.length > 1 && {
      stages: stages.map((stage) => ({
        from: stage.from,
        batch_size: stage.batch_size,
        accumulation: stage.accumulation,
        sequence_length: stage.sequence_length,
        ...sizesOf(stage),
        total_bytes: stage.totalBytes,
      })),
    },
    tokens: Number.isFinite(found.tokens) ? found.tokens : null,
    memory: Object.fromEntries(found.memory.map(({ kind, bytes }) => [kind, bytes])),
    total_bytes: found.totalBytes,
    device_bytes: memory?.bytes ?? null,
    fits: fits ?? null,
    checkpoint_bytes: disk.checkpointBytes,
    checkpoints: disk.checkpoints,
    metrics_bytes: disk.metricsBytes,
    disk_bytes: disk.totalBytes,
    disk_free_bytes: freeBytes ?? null,
    timed_on: time && timedOn || null,
    timed_share: time?.timedShare ?? null,
    time_is_uncertain: time ? time.doubt !== undefined : null,
    time_doubt: time?.doubt ?? null,
    seconds_per_update: time?.update ?? null,
    tokens_per_second: time?.tokensPerSecond ?? null,
    updates_seconds: time?.updates ?? null,
    validation_seconds: time?.validation ?? null,
    saving_seconds: time?.saving ?? null,
    run_seconds: time?.run ?? null,
    run_seconds_at_10_tflops: assumedSeconds(report) ?? null,
    data: sources.map(namesOfSource),
  };
}

function describe(report: Report): string[] {
  const { config, sources, found, target, freeBytes } = report, { disk } = found;
  const total = (n: number) => formatCount(n).padStart(15);
  const parts = found.byPart.map(({ part, total: n, byRole }) =>
    `  ${part.padEnd(20)}${total(n)}  ${
      Object.entries(byRole).map(([role, n]) => `${role} ${formatCount(n)}`).join(", ")
    }`
  );
  const groups = found.groups.map(({ kind, role, tensors, total: n, weightDecay }) =>
    `  ${role.padEnd(20)}${total(n)}  in ${plural(tensors, "tensor")}, ${kind}, weight decay ${
      typeof weightDecay === "number" ? weightDecay : `by schedule: ${weightDecay.kind}`
    }`
  );
  const memory = found.memory.map(({ kind, bytes }) =>
    `  ${kind.padEnd(20)}${formatBytes(bytes).padStart(15)}`
  );
  return [
    `parameters            ${total(found.params)}`,
    ...parts,
    "optimizer groups",
    ...groups,
    ...stageLines(found.stages),
    `the run               ${lengthText(report)}`,
    ...describeData(sources, config.data),
    `memory on ${target.kind.padEnd(12)}${formatBytes(found.totalBytes).padStart(15)}  ${
      memoryText(report)
    }`,
    ...memory,
    ...limitsLine(report),
    `disk                  ${formatBytes(disk.totalBytes).padStart(15)}  ${
      plural(disk.checkpoints, "checkpoint")
    } of ${formatBytes(disk.checkpointBytes)}${
      freeBytes === undefined ? "" : `; ${formatBytes(freeBytes)} are free`
    }`,
    ...timeLines(report),
  ];
}

const shortTime = (seconds: number) =>
  seconds < 1 ? `${significant(1000 * seconds)} ms` : formatDuration(seconds);

/** What a large card reaches in f32 kernels, about a third of its peak: a yardstick for devices that are not here. */
const assumedFlops = 1e13;

function assumedSeconds({ fits, found: { flops } }: Report): number | undefined {
  return fits === false || flops === Infinity ? undefined : flops / assumedFlops;
}

function timeLines(report: Report): string[] {
  const { time, timedOn, fits } = report;
  if (!time) {
    if (fits !== false && timedOn !== undefined) {
      return ["time                  not known: the machine is too busy, or too slow, to be timed"];
    }
    const seconds = assumedSeconds(report);
    const why = fits === false ? "the run does not fit" : "no such device is here to be timed";
    return seconds === undefined ? [`time                  not known: ${why}`] : [
      `time, estimated       ${formatDuration(seconds).padStart(15)}  where ${
        formatQuantity(assumedFlops)
      }FLOP/s are reached, for want of a device to be timed; updates alone`,
    ];
  }
  const { update, tokensPerSecond, updates, validation, saving, run, timedShare, doubt } = time;
  const measured = validation === undefined
    ? "without validation, whose tokens are not known"
    : `validation ${formatDuration(validation)}`;
  const share = timedShare < 0.995 ? `${Math.round(100 * timedShare)} % of it ` : "";
  return [
    `time, estimated       ${formatDuration(run).padStart(15)}  updates ${
      formatDuration(updates)
    }, ${measured}, saving ${formatDuration(saving)}`,
    `  an update           ${shortTime(update).padStart(15)}  ${
      formatCount(tokensPerSecond)
    } tokens/s, ${share}from its kernels, each timed now on ${timedOn}`,
    ...doubt === undefined ? [] : [`  uncertain           ${doubt}`],
  ];
}

/** The updates of each stage. */
function stageLines(stages: readonly DryStage[]): string[] {
  const longest = Math.max(...stages.map(({ sequence_length }) => sequence_length));
  const lines = stages.map((stage) => {
    const { from, batch_size, sequence_length, accumulation, totalBytes } = stage;
    const parted = accumulation > 1 ? ` in ${accumulation} parts` : "";
    const when = stages.length > 1 ? `  from step ${formatCount(from)}` : "an update";
    return `${when.padEnd(22)}${plural(batch_size, "row")} of ${sequence_length}${parted}: ${
      plural(stage.tokensPerUpdate, "token")
    }, ${formatQuantity(stage.flopsPerToken)}FLOPs a token, ${
      formatCount(stage.dispatches)
    } dispatches${stages.length > 1 ? `, ${formatBytes(totalBytes)}` : ""}`;
  });
  return stages.length > 1
    ? ["stages", ...lines, `  validation          rows of ${longest} in all of them`]
    : lines;
}

function lengthText({ config, found: { steps, tokens, flops } }: Report): string {
  const { max_minutes } = config;
  const time = max_minutes > 0 ? `${formatDuration(60 * max_minutes)} (max_minutes)` : "";
  if (steps === Infinity) return `as many updates as ${time} allow`;
  return `${plural(steps, "update")}: ${formatQuantity(tokens)} tokens, ${
    formatQuantity(flops)
  }FLOPs${time && `; at most ${time}`}`;
}

/** No GPU says how much memory it has. */
function memoryText({ memory }: Report): string {
  return memory
    ? `of ${formatBytes(memory.bytes)}, ${memory.source}`
    : "no GPU says what it has: --memory 24GB tells whether the run fits that";
}

/** Whose limits the plan keeps to. */
function limitsLine({ limitsOf, target: { maxTensorBytes, maxOperands } }: Report): string[] {
  if (limitsOf === undefined) return [];
  const whose = limitsOf === "assumed" ? "assumed, as no such adapter is here" : `of ${limitsOf}`;
  return [
    `limits                ${whose}: tensors of up to ${formatBytes(maxTensorBytes)}, ${
      plural(maxOperands, "buffer")
    } a kernel`,
  ];
}
