/**
 * quern as a library: the parts behind the commands, re-exported.
 *
 * @module
 */
export { UserError } from "./core/io/errors.ts";
