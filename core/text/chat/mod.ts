/**
 * Conversations: chat templates, token ids with loss weights, and prompts.
 *
 * @module
 */
export { chatml } from "./chatml.ts";
export { tokenizerConfigName, tokenizerConfigText } from "./config.ts";
export {
  type ConversationOptions,
  cutConversation,
  encodeConversation,
  type EncodedConversation,
  type EncodedPiece,
  encodePrompt,
  endOfTurn,
  missingTokens,
} from "./encode.ts";
export { type Message, type Role, roles } from "./message.ts";
export { findChatTemplate, openChatTemplate } from "./open.ts";
export type { ChatTemplate, Piece } from "./template.ts";
