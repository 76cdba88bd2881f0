/**
 * Conversations from data sets in the common shapes.
 *
 * @module
 */
export { readingFields } from "./config.ts";
export {
  type Conversation,
  type ConversationAttempt,
  type ConversationReading,
  conversationsOf,
  readConversations,
  type ReadingEvents,
} from "./read.ts";
export { checkFieldMap, type FieldMap, type ShapeName, shapeNames } from "./shapes.ts";
