// Stored record of a room. It is validated on every read, because any script of the page may have written it.
import { isRecord } from "../shared/json";
import { isMessage, isSeq, type Message } from "../shared/message";

export interface RoomRecord {
  name: string;
  /** Time at which the server opened the room. */
  createdAt: string | null;
  /** The newest messages, the oldest of them first. */
  messages: Message[];
  /** Number of the last message that the guest has read. */
  read: number;
  /** Number of the last message that the host has read. */
  theirRead: number;
}

/** Validates a read position and limits it to the number of the last message. Returns 0 if it is invalid. */
function upTo(value: unknown, messages: Message[]): number {
  const last = messages[messages.length - 1]?.seq;
  return isSeq(value) ? Math.min(value, last ?? value) : 0;
}

/** Validates a record. Returns `null` if it is invalid. Earlier releases stored only the name of the room. */
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
