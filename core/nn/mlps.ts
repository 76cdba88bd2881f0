/** Mlps: what happens to each position between two mixers. */

import { z } from "zod";
import { branchConfigs, branches } from "./branches.ts";
import { polyglu } from "./polyglu.ts";
import { polymorphic } from "./polymorphic.ts";

export const mlps = { ...branches, polyglu, polymorphic };
export const mlpConfig = z.discriminatedUnion("kind", [
  ...branchConfigs,
  polyglu.config,
  polymorphic.config,
]);
