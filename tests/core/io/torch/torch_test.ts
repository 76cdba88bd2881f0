import assert from "node:assert/strict";
import { join } from "node:path";
import { openTensorFile } from "../../../../core/io/tensors.ts";
import { openTorch } from "../../../../core/io/torch/file.ts";
import { withTempDir } from "../../../support.ts";
import { python } from "../../../torch_python.ts";
import {
  dict,
  type Entry,
  joined,
  legacyOf,
  orderedDict,
  pickleOf,
  tensor,
  type TensorPlace,
  torchEntries,
  type Value,
  zipOf,
} from "./writer.ts";

const six = Float32Array.of(0, 1, 2, 3, 4, 5);
const matrix: TensorPlace = {
  type: "FloatStorage",
  key: "0",
  numbers: 6,
  shape: [2, 3],
  strides: [3, 1],
};

/** What a file gives: every tensor's shape and numbers, and what was left out. */
async function contentsOf(bytes: Uint8Array) {
  return await withTempDir(async (dir) => {
    const path = join(dir, "it.pt");
    await Deno.writeFile(path, bytes);
    using file = openTorch(path);
    const tensors = [...file.tensors].map(([name, { dtype, shape }]) => [
      name,
      dtype,
      shape,
      Array.from(file.read(name), Number),
    ]);
    return { tensors, leftOut: file.leftOut.map(({ name }) => name) };
  });
}

async function refuses(bytes: Uint8Array, message: RegExp): Promise<void> {
  await withTempDir(async (dir) => {
    const path = join(dir, "it.pt");
    await Deno.writeFile(path, bytes);
    assert.throws(() => openTorch(path), { name: "UserError", message, where: path });
  });
}

const archive = (root: Value, storages: Record<string, ArrayBufferView<ArrayBuffer>>) =>
  zipOf(torchEntries(root, storages));

Deno.test("torch: views of a shared storage, transposed, cut out and empty, come in row-major order", async () => {
  const of = (place: Partial<TensorPlace>) => tensor({ ...matrix, ...place });
  const root = orderedDict({
    plain: of({}),
    turned: of({ shape: [3, 2], strides: [1, 3] }),
    column: of({ offset: 1, shape: [2], strides: [3] }),
    cube: of({ shape: [3, 1, 2], strides: [1, 77, 3] }),
    scalar: of({ offset: 5, shape: [], strides: [] }),
    nothing: of({ shape: [0, 3], strides: [3, 1] }),
    parameter: { call: ["torch._utils _rebuild_parameter", [of({}), true, dict({})]] },
  });
  const { tensors } = await contentsOf(archive(root, { 0: six }));
  assert.deepEqual(tensors, [
    ["plain", "F32", [2, 3], [0, 1, 2, 3, 4, 5]],
    ["turned", "F32", [3, 2], [0, 3, 1, 4, 2, 5]],
    ["column", "F32", [2], [1, 4]],
    ["cube", "F32", [3, 1, 2], [0, 3, 1, 4, 2, 5]],
    ["scalar", "F32", [], [5]],
    ["nothing", "F32", [0, 3], []],
    ["parameter", "F32", [2, 3], [0, 1, 2, 3, 4, 5]],
  ]);
});

Deno.test("torch: parts of tensors are read as f32, whatever their type and strides", async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, "it.bin"), place = { ...matrix, shape: [3, 2], strides: [1, 3] };
    const root = dict({
      f16: tensor({ ...matrix, type: "HalfStorage", key: "h" }),
      bf16: tensor({ ...place, type: "BFloat16Storage", key: "b" }),
      f64: tensor({ ...matrix, type: "DoubleStorage", key: "d", offset: 0 }),
      i64: tensor({ ...matrix, type: "LongStorage", key: "l" }),
    });
    const storages = {
      h: Float16Array.from(six),
      b: new Uint16Array(6).map((_, i) => new Uint32Array(six.buffer)[i] >>> 16),
      d: Float64Array.from(six),
      l: BigInt64Array.from(six, BigInt),
    };
    await Deno.writeFile(path, archive(root, storages));
    using file = await openTensorFile(path);
    const part = (name: string, at: number, count: number) => {
      const into = new Float32Array(count);
      file.readInto(name, into, at);
      return Array.from(into);
    };
    assert.deepEqual(part("f16", 2, 3), [2, 3, 4]);
    assert.deepEqual(part("bf16", 1, 4), [3, 1, 4, 2]);
    assert.deepEqual(part("f64", 0, 6), [0, 1, 2, 3, 4, 5]);
    assert.throws(() => part("f16", 5, 2), /ends before/);
    assert.throws(() => part("i64", 0, 1), /no float/);
  });
});

Deno.test("torch: of a checkpoint the model's dict is taken, and what else there is is named", async () => {
  const w = tensor(matrix), moments = dict({ state: new Map([[0, dict({ exp_avg: w })]]) });
  const taken = async (root: Value) => {
    const { tensors, leftOut } = await contentsOf(archive(root, { 0: six }));
    return [tensors.map(([name]) => name), leftOut];
  };
  const training = { optimizer: moments, epoch: 3, lr: 0.5, best: null, done: true, tags: ["a"] };
  const rest = Object.keys(training);
  assert.deepEqual(await taken(dict({ model: orderedDict({ w }), ...training })), [["w"], rest]);
  assert.deepEqual(
    await taken(dict({ ...training, model_state_dict: dict({ w }), rng_state: w })),
    [
      ["w"],
      [...rest, "rng_state"],
    ],
  );
  assert.deepEqual(await taken(dict({ generator: dict({ w }), ...training })), [["w"], rest]);
  assert.deepEqual(await taken(dict({ model: dict({ state_dict: dict({ w }), step: 1 }) })), [
    ["w"],
    ["model.step"],
  ]);
  assert.deepEqual(await taken(dict({ a: dict({ w }), b: dict({ w, n: 1 }) })), [
    ["a.w", "b.w"],
    ["b.n"],
  ]);
  assert.deepEqual(await taken(dict({ w, step: 1 })), [["w"], ["step"]]);
});

Deno.test("torch: what PyTorch wrote before 1.6 is read, too", async () => {
  const w = tensor(matrix, true), b = tensor({ ...matrix, key: "k", type: "HalfStorage" }, true);
  const root = orderedDict({ w, b, again: w });
  const storages = { 0: six, k: Float16Array.from(six) }, widths = { 0: 4, k: 2 };
  const file = legacyOf(root, storages, widths);
  const { tensors } = await contentsOf(file);
  assert.deepEqual(tensors.map(([name, dtype, , values]) => [name, dtype, values]), [
    ["w", "F32", [0, 1, 2, 3, 4, 5]],
    ["b", "F16", [0, 1, 2, 3, 4, 5]],
    ["again", "F32", [0, 1, 2, 3, 4, 5]],
  ]);
  await refuses(file.subarray(0, -1), /storage k is cut short: truncated/);
  await refuses(joined([file, Uint8Array.of(0)]), /1 bytes follow its last storage/);
  await refuses(file.subarray(0, 200), /the pickle is cut short/);
  await refuses(pickleOf(1), /does not begin as torch.save's files/);
});

Deno.test("torch: whatever a pickle names beyond tensors is refused by its name, and nothing is run", async () => {
  const pickle = (root: Value) => archive(root, { 0: six });
  await refuses(
    pickle({ call: ["os system", ["touch /tmp/quern-was-here"]] }),
    /nothing in it is run: it asks for "os.system"/,
  );
  await refuses(
    pickle(dict({ args: { call: ["argparse Namespace", []] }, w: tensor(matrix) })),
    /asks for "argparse.Namespace"/,
  );
  await refuses(pickle(dict({ f: { global: "builtins eval" } })), /asks for "builtins.eval"/);
  const stack = Uint8Array.of(0x8c, 2, 0x6f, 0x73, 0x8c, 6, ...new TextEncoder().encode("system"));
  const entries = (bytes: readonly number[]): Entry[] => [{
    name: "a/data.pkl",
    bytes: Uint8Array.from(bytes),
  }];
  await refuses(zipOf(entries([0x80, 4, ...stack, 0x93, 0x2e])), /asks for "os.system"/);
  await refuses(zipOf(entries([0x80, 2, 0x69, 0x2e])), /instruction 0x69/);
  await refuses(zipOf(entries([0x80, 2, 0x29, 0x29, 0x52, 0x2e])), /applies what is no function/);
  await refuses(zipOf(entries([0x80, 2, 0x58, 255, 255, 255, 255])), /cut short/);
  await refuses(zipOf(entries([0x80, 2, 0x2e])), /its stack is empty/);
  await refuses(zipOf(entries([0x80, 2, 0x5d, 0x2e])), /no dict of tensors/);
  const many = new Array(2 ** 21).fill(0x29);
  await refuses(zipOf(entries([0x80, 2, ...many, 0x2e])), /more than 1048576 objects/);
});

Deno.test("torch: tensors beyond their storage, and storages beyond the file, are refused", async () => {
  const one = (place: Partial<TensorPlace>) =>
    archive(dict({ w: tensor({ ...matrix, ...place }) }), { 0: six });
  await refuses(one({ offset: 1 }), /w \[2,3\] reaches beyond its storage of 6 numbers/);
  await refuses(one({ strides: [4, 1] }), /reaches beyond/);
  await refuses(one({ numbers: 7 }), /storage takes 28 bytes but has 24/);
  await refuses(one({ key: "1" }), /there is no storage 1/);
  await refuses(one({ key: "../0" }), /there is no storage/);
  await refuses(one({ type: "LongStorage" }), /takes 48 bytes but has 24/);
  await refuses(one({ type: "QInt8Storage" }), /asks for "torch.QInt8Storage"/);
  await refuses(one({ shape: [2 ** 40], strides: [0] }), /more numbers than its storage, 6/);
  await refuses(one({ shape: [2 ** 52, 2 ** 52], strides: [2 ** 52, 1] }), /reaches beyond/);
  await refuses(one({ shape: [-1], strides: [1] }), /description of a tensor is damaged/);
  await refuses(one({ shape: [2], strides: [3, 1] }), /description of a tensor is damaged/);
  await refuses(
    archive(dict({ w: { call: ["torch._utils _rebuild_tensor_v2", [1, 2]] } }), {}),
    /description of a tensor is damaged/,
  );
});

Deno.test("torch: dicts within dicts without end, and one dict at many places, take no time", async () => {
  const deep = (levels: number): Value =>
    levels === 0 ? tensor(matrix) : dict({ a: deep(levels - 1), b: 1 });
  await refuses(archive(dict({ a: deep(20), b: 2, c: deep(20) }), { 0: six }), /no dict|deeply/);
  // each dict holds the one before a thousand times: memo 0, 1, …
  const code: number[] = [0x80, 2, 0x7d, 0x71, 0];
  for (let level = 1; level < 8; level++) {
    code.push(0x7d, 0x28);
    for (let i = 0; i < 1000; i++) code.push(0x4d, i & 255, i >> 8, 0x68, level - 1);
    code.push(0x75, 0x71, level);
  }
  const began = performance.now();
  await refuses(zipOf([{ name: "a/data.pkl", bytes: Uint8Array.from([...code, 0x2e]) }]), /names/);
  assert.ok(performance.now() - began < 5000);
});

Deno.test("torch: zip directories are held against the file, entry by entry", async () => {
  const root = dict({ w: tensor(matrix) }), entries = torchEntries(root, { 0: six });
  const change = (name: string, how: Partial<Entry>) =>
    entries.map((entry) => entry.name.endsWith(name) ? { ...entry, ...how } : entry);
  for (const options of [{ wide: true }, { comment: "PK\u0005\u0006 hello" }]) {
    const wide = entries.map((entry) => ({ ...entry, wide: true }));
    const { tensors } = await contentsOf(zipOf("wide" in options ? wide : entries, options));
    assert.equal(tensors.length, 1);
  }
  const whole = zipOf(entries);
  await refuses(whole.subarray(0, -30), /ends without the directory: truncated/);
  const shifted = joined([whole.subarray(0, 4), whole.subarray(68)]);
  await refuses(shifted, /directory does not lie before its end|is damaged/);
  await refuses(zipOf([...entries, entries[2]]), /archive\/data\/0 comes twice/);
  await refuses(zipOf(change("data/0", { method: 8 })), /is compressed \(method 8\)/);
  await refuses(zipOf(change("data/0", { flags: 1 })), /is encrypted/);
  await refuses(zipOf(change("data/0", { size: 1000 })), /ends outside|overlaps/);
  await refuses(zipOf(change("data/0", { size: 90 })), /version overlaps archive\/data\/0/);
  await refuses(zipOf(change("data/0", { size: 2 ** 40, wide: true })), /ends outside/);
  await refuses(zipOf(change("data/0", { local: 0 })), /overlaps|own header/);
  await refuses(zipOf(change("data/0", { local: 1e9 })), /lies outside/);
  for (const name of ["../x", "/x", "a/../../x", "a\\x", "c:x", "a/./x", "a\u0000", ""]) {
    await refuses(zipOf([...entries, { name, bytes: six }] as Entry[]), /it holds the name/);
  }
  await refuses(zipOf([{ name: "x", bytes: new Uint8Array(1) }]), /no data.pkl of torch.save/);
  const script = { name: "archive/constants.pkl", bytes: new Uint8Array() };
  await refuses(zipOf([...entries, script]), /a TorchScript archive, which is a program/);
  await refuses(
    zipOf(change("byteorder", { bytes: new TextEncoder().encode("big") })),
    /big-endian/,
  );
});

Deno.test({
  name: "torch: what Python's torch.save writes is read to the bit",
  ignore: python === undefined,
  async fn() {
    await withTempDir(async (dir) => {
      const script = `
import collections, sys, torch
torch.manual_seed(1)
base = torch.randn(7, 5)
state = collections.OrderedDict(
  base=base, turned=base.t(), part=base[2:5, 1:], half=torch.randn(3, 4).half(),
  brain=torch.randn(2, 3, 4).bfloat16().permute(2, 0, 1), double=torch.randn(3).double(),
  long=torch.tensor([-1, 2**40]), int=torch.arange(3).int(), short=torch.arange(3).short(),
  char=torch.arange(-1, 2).to(torch.int8), byte=torch.arange(3).byte(), bool=torch.tensor([True, False]),
  scalar=torch.tensor(2.5), empty=torch.zeros(0, 3), parameter=torch.nn.Parameter(torch.ones(2)))
layer = torch.nn.Linear(3, 2)
for name, value in layer.state_dict().items(): state['layer.' + name] = value
optimizer = torch.optim.AdamW(layer.parameters())
layer(torch.ones(1, 3)).sum().backward()
optimizer.step()
whole = {'model': state, 'optimizer': optimizer.state_dict(), 'epoch': 1, 'loss': 0.5}
torch.save(whole, 'zip.pt')
torch.save(whole, 'protocol4.pt', pickle_protocol=4)
torch.save(whole, 'old.pt', _use_new_zipfile_serialization=False)
torch.save(layer, 'module.pt')
import json
print(json.dumps({k: v.double().reshape(-1).tolist() for k, v in state.items()}))`;
      const { stdout, stderr, success } = await new Deno.Command(python!, {
        args: ["-c", script],
        cwd: dir,
      }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
      const expected = JSON.parse(new TextDecoder().decode(stdout)) as Record<string, number[]>;
      for (const name of ["zip.pt", "protocol4.pt", "old.pt"]) {
        using file = openTorch(join(dir, name));
        assert.deepEqual([...file.tensors.keys()], Object.keys(expected), name);
        assert.deepEqual(file.leftOut.map(({ name }) => name), ["optimizer", "epoch", "loss"]);
        for (const [key, { dtype }] of file.tensors) {
          const values = file.read(key);
          const numbers = dtype === "BF16"
            ? new Float32Array(Uint32Array.from(values as Uint16Array, (x) => x << 16).buffer)
            : values;
          assert.deepEqual(Array.from(numbers, Number), expected[key], `${name} ${key}`);
        }
      }
      assert.throws(() => openTorch(join(dir, "module.pt")), {
        message: /asks for "torch.nn.modules.linear.Linear"/,
      });
    });
  },
});
