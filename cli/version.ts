import project from "../deno.json" with { type: "json" };

/** quern's version, as deno.json has it. */
export const version: string = project.version;
