/**
 * Where the hub and its cache are and who asks, by the variables that Hugging Face's own tools read.
 *
 * @module
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { UserError } from "../io/errors.ts";

/** A token and where it was found; its value is never shown. */
export interface Token {
  readonly value: string;
  readonly source: string;
}

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: Token | undefined;
  /** The folder of Hugging Face's cache. */
  readonly cache: string;
  /** The variable that forbids the network. */
  readonly offlineBy: string | undefined;
}

/** Reads the variables, empty ones as unset, and the token's file. */
export async function readSettings(
  env: (name: string) => string | undefined,
): Promise<HubSettings> {
  const first = (...names: string[]) => names.find((name) => env(name)?.trim());
  const valueOf = (...names: string[]) =>
    names.map((name) => env(name)?.trim()).find((value) => value);
  const path = (...names: string[]) => valueOf(...names)?.replace(/^~(?=$|[\\/])/, homedir());
  const home = path("HF_HOME") ??
    join(path("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface");
  const tokenName = first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN");
  return {
    endpoint: endpointOf(valueOf("HF_ENDPOINT") ?? "https://huggingface.co"),
    token: tokenName === undefined
      ? await tokenIn(path("HF_TOKEN_PATH") ?? join(home, "token"))
      : requireToken({ value: valueOf(tokenName) ?? "", source: tokenName }),
    cache: path("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") ?? join(home, "hub"),
    offlineBy: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].find((name) =>
      /^(1|on|yes|true)$/i.test(env(name)?.trim() ?? "")
    ),
  };
}

function endpointOf(text: string): string {
  const url = URL.parse(text);
  if (url && /^https?:$/.test(url.protocol) && !url.search && !url.hash && !url.username) {
    return url.href.replace(/\/+$/, "");
  }
  throw new UserError("HF_ENDPOINT is not the address of a hub", {
    hint: "write it like https://huggingface.co, or unset it",
  });
}

async function tokenIn(path: string): Promise<Token | undefined> {
  const text = await Deno.readTextFile(path).catch(() => ""); // no file, no token
  const value = text.trim();
  return value === "" ? undefined : requireToken({ value, source: path });
}

/** A header takes no line break; the token itself may not appear in the message. */
function requireToken(token: Token): Token {
  if (/^[\x21-\x7e]+$/.test(token.value)) return token;
  throw new UserError("the token has spaces or characters that no token has", {
    where: token.source,
  });
}
