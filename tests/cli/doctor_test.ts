import assert from "node:assert/strict";
import { describe, examineDevice, refuseWrong } from "../../cli/doctor.ts";
import { openCpu } from "../../core/device/cpu/device.ts";
import { exitCodes, UserError } from "../../core/io/errors.ts";
import { describeMachine } from "../../core/inspect/mod.ts";
import { wrongAt } from "../core/inspect/wrong_device.ts";
import { quern } from "../support.ts";

const onCpu = ["doctor", "--device", "cpu", "--threads", "1", "--blas", "off"];

Deno.test("quern doctor: shows machine, device, every kernel's error and advice", async () => {
  const { code, stdout, stderr } = await quern(onCpu);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^device +cpu: cpu, 1 thread$/m);
  assert.match(stdout, /^ {2}blas +none$/m);
  assert.match(stdout, /^kernels +all \d+ kernels right/m);
  assert.match(stdout, /^ {2}matmul +\d\.\de-\d +\d\.\de-\d +ok$/m);
  assert.match(stdout, /^ {2}- no system BLAS is used/m);
  assert.match((await quern([...onCpu, "--quiet"])).stdout, /^all \d+ kernels right\n$/);
});

Deno.test("quern doctor --json: one object", async () => {
  const { code, stdout, stderr } = await quern([...onCpu, "--json"]);
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout);
  assert.equal(report.healthy, true);
  assert.equal(report.device.kind, "cpu");
  assert.equal(report.device.threads, 1);
  assert.ok(report.machine.memory_bytes > 0 && report.room.bytes > 0);
  assert.ok(report.kernels.length > 50);
  assert.ok(report.kernels.every(({ right }: { right: boolean }) => right));
});

Deno.test("quern doctor: without the device that is asked for it says what to do, with code 3", async () => {
  // a backend that no system has
  const backend = Deno.build.os === "windows" ? "metal" : "dx12";
  const { code, stdout, stderr } = await quern(["doctor", "--device", "webgpu"], {
    env: { DENO_WEBGPU_BACKEND: backend },
  });
  assert.equal(code, exitCodes.noDevice, stderr);
  assert.equal(stdout, "");
  assert.match(stderr, /^error: there is no WebGPU adapter\nhint: .*DENO_WEBGPU_BACKEND.*cpu/);
});

Deno.test("quern doctor: a wrong kernel is named, and fails it", async () => {
  await using device = await openCpu({ threads: 1, blas: "off" });
  const wrong = wrongAt(device, { rms_norm: (values) => values.map((x) => x + 1) });
  const report = await examineDevice(wrong, describeMachine(), "not asked");
  assert.match(describe(report), /^kernels +1 kernel wrong, \d+ right/m);
  assert.match(describe(report), /^ {2}rms_norm .* WRONG: element 0 is /m);
  assert.throws(() => refuseWrong(report), (error) => {
    assert.ok(error instanceof UserError);
    assert.equal(error.exitCode, exitCodes.failed);
    assert.match(error.message, /rms_norm/);
    return true;
  });
});
