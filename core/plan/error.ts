/** A computation that the target cannot hold or bind, with what to change. */
export class PlanError extends Error {
  override name = "PlanError";
  readonly exitCode = 4;
}
