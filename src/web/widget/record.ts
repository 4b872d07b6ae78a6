// Stored record of one room. It is validated when it is read, because any script of the page may have written it.
import { isRecord } from "../shared/json";
import { isMessage, isSeq, type Message } from "../shared/message";

export interface RoomRecord {
  name: string;
  /** When the server opened the room. */
  createdAt: string | null;
  /** The newest messages, oldest first. */
  messages: Message[];
  /** Number up to which the guest has read. */
  read: number;
  /** Number up to which the host has read. */
  theirRead: number;
}

/** Validates a read position, which is at most the number of the last message. */
function upTo(value: unknown, messages: Message[]): number {
  const last = messages[messages.length - 1]?.seq;
  return isSeq(value) ? Math.min(value, last ?? value) : 0;
}

/** Validates a record. Earlier releases stored only the name. */
export function asRecord(value: unknown): RoomRecord | null {
  if (!isRecord(value) || typeof value.name !== "string" || !/^[\w-]{1,64}$/.test(value.name)) return null;
  const messages = Array.isArray(value.messages) && value.messages.every(isMessage) ? value.messages : [];
  return {
    name: value.name,
    createdAt: typeof value.createdAt === "string" && Date.parse(value.createdAt) ? value.createdAt : null,
    messages,
    read: upTo(value.read, messages),
    theirRead: upTo(value.theirRead, messages),
  };
}
