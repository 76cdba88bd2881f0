/**
 * What may be typed in a chat besides messages: `/clear` and the like.
 *
 * @module
 */
import {
  type Chat,
  type ChatModel,
  conversationOf,
  messagesOf,
  systemOf,
} from "../core/generate/mod.ts";
import { didYouMean, exitCodes, UserError } from "../core/io/errors.ts";
import { plural } from "../core/io/words.ts";
import { loadConversation, saveConversation } from "./chat_files.ts";
import {
  changed,
  type ChatSettings,
  describeSettings,
  requireSetting,
  settingNames,
} from "./chat_settings.ts";

/** A chat, with what commands may change. */
export interface ChatState {
  readonly model: ChatModel;
  readonly chat: Chat;
  settings: ChatSettings;
  /** Says something that is no part of the chat. */
  note(text: string): void;
}

/** What follows a command: another message, an answer to the last one, or nothing. */
export type AfterCommand = "message" | "answer" | "leave";

interface ChatCommand {
  readonly argument?: string;
  readonly summary: string;
  run(state: ChatState, argument: string): void | AfterCommand | Promise<void | AfterCommand>;
}

const commands: Readonly<Record<string, ChatCommand>> = {
  help: {
    summary: "this list",
    run: ({ note }) => note(helpText()),
  },
  system: {
    argument: "[TEXT]",
    summary: 'what the system says first; "" is nothing; without TEXT shows it',
    run({ chat, note }, text) {
      if (text !== "") chat.instruct(text === '""' ? undefined : text);
      const system = systemOf(chat.conversation);
      note(system === undefined ? "there is no system message" : `system: ${system}`);
    },
  },
  clear: {
    summary: "forget the conversation, but for the system's message",
    run({ chat, note }) {
      const { turns } = chat.conversation;
      chat.begin();
      note(`${plural(turns.length, "turn")} forgotten`);
    },
  },
  undo: {
    summary: "take the last message and its answer back",
    run({ chat, note }) {
      const said = chat.undo();
      note(said === undefined ? "there is nothing to take back" : `taken back: ${firstLine(said)}`);
    },
  },
  regenerate: {
    summary: "answer the last message anew, by the next seed",
    run: () => "answer",
  },
  set: {
    argument: "[NAME VALUE]",
    summary: "change a setting, such as /set temperature 0.7; alone shows them all",
    run(state, text) {
      const [, name = "", value = ""] = text.match(/^(\S*)\s*(.*)$/s) ?? [];
      if (value !== "") state.settings = changed(state.settings, name, value);
      else if (name !== "") requireSetting(name);
      const wanted = name.replaceAll("_", "-"), lines = describeSettings(state.settings);
      state.note(lines.filter((line) => name === "" || line.split(" ")[0] === wanted).join("\n"));
    },
  },
  save: {
    argument: "FILE",
    summary: "add the conversation to a jsonl file that quern sft reads",
    async run({ chat, note }, file) {
      const messages = messagesOf(chat.conversation);
      if (messages.length === 0) throw failure("there is nothing to save yet");
      const line = await saveConversation(required(file, "/save chats.jsonl"), messages);
      note(`${plural(messages.length, "message")} saved: ${file}:${line}`);
    },
  },
  load: {
    argument: "FILE",
    summary: "go on with the last conversation of such a file, or with the third: FILE:3",
    async run({ chat, note }, file) {
      const messages = await loadConversation(required(file, "/load chats.jsonl"));
      chat.begin(messages);
      const { turns } = conversationOf(messages);
      const isAsked = messages.at(-1)!.role === "user";
      note(
        `${plural(turns.length, "turn")} loaded${
          isAsked ? "; the last has no answer: /regenerate gives one" : ""
        }`,
      );
    },
  },
  quit: {
    summary: "leave, as Ctrl-D does",
    run: () => "leave",
  },
};

const aliases: Readonly<Record<string, string>> = {
  exit: "quit",
  "?": "help",
  retry: "regenerate",
};

/** A command and what follows its name; undefined for a message. A message may begin with `//`. */
export function commandIn(text: string): { name: string; argument: string } | undefined {
  const [, name, argument = ""] = text.match(/^\/([a-z?]+)(?:\s+(.*))?\s*$/is) ?? [];
  return name === undefined ? undefined : { name: name.toLowerCase(), argument: argument.trim() };
}

/** What a line that is no command says. */
export function messageIn(text: string): string {
  return text.startsWith("//") ? text.slice(1) : text;
}

export async function runCommand(
  state: ChatState,
  { name, argument }: { name: string; argument: string },
): Promise<AfterCommand> {
  const known = Object.hasOwn(aliases, name) ? aliases[name] : name;
  if (!Object.hasOwn(commands, known)) {
    const near = didYouMean(name, Object.keys(commands)).replace('"', '"/');
    throw new UserError(`there is no command /${name}${near}`, {
      hint: "/help lists all; a message that begins with / is typed with two of them",
    });
  }
  return await commands[known].run(state, argument) ?? "message";
}

/** What the beginning of a line may be completed to. */
export function completeCommand(line: string): string[] {
  const candidates = line.startsWith("/set ")
    ? settingNames.map((name) => `/set ${name} `)
    : Object.entries(commands).map(([name, { argument }]) => `/${name}${argument ? " " : ""}`);
  return line.startsWith("/") ? candidates.filter((candidate) => candidate.startsWith(line)) : [];
}

function helpText(): string {
  const rows = Object.entries(commands).map(([name, { argument, summary }]) =>
    [`/${name}${argument ? ` ${argument}` : ""}`, summary] as const
  );
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    ...rows.map(([name, summary]) => `${name.padEnd(width)}  ${summary}`),
    'A line is a message. It goes on after \\ at its end, by Alt-Enter, and from """ to """.',
    "Ctrl-C stops an answer, and leaves from an empty line.",
  ].join("\n");
}

function required(argument: string, example: string): string {
  if (argument !== "") return argument;
  throw new UserError("a file is missing", { hint: `for example ${example}` });
}

function failure(message: string): UserError {
  return new UserError(message, { exitCode: exitCodes.failed });
}

function firstLine(text: string): string {
  const [line] = text.split("\n");
  return line === text && line.length <= 60 ? line : `${line.slice(0, 60)}…`;
}
