import { exitCodes, UserError } from "../errors.ts";

export function broken(path: string, what: string): UserError {
  return new UserError(`not a readable PyTorch file: ${what}`, {
    where: path,
    exitCode: exitCodes.failed,
  });
}
