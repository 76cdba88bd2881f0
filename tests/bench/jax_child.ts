/**
 * jax-js's wasm backend, alone in a process, as it may hang at large sizes. For each line "n" it
 * answers the milliseconds of one n × n product.
 */

const threads = Number(Deno.args[0]);
// The library starts one worker for each core that it is told of.
Object.defineProperty(navigator, "hardwareConcurrency", { value: threads });
const { defaultDevice, init, numpy } = await import("@jax-js/jax");
await init("wasm");
defaultDevice("wasm");

const matrices = new Map<number, ReturnType<typeof numpy.array>>();

function matrix(n: number) {
  const known = matrices.get(n);
  if (known) return known;
  const values = Float32Array.from({ length: n * n }, (_, i) => Math.sin(i));
  const made = numpy.array(values).reshape([n, n]);
  matrices.set(n, made);
  return made;
}

const text = new TextEncoder();
for await (const line of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const x = matrix(Number(line));
  await x.ref.blockUntilReady();
  const start = performance.now();
  const product = numpy.matmul(x.ref, x.ref);
  await product.blockUntilReady();
  const ms = performance.now() - start;
  product.dispose();
  await Deno.stdout.write(text.encode(`${ms}\n`));
}
