// What a browser keeps of one room, checked when it is read: any script of the page can have written it.
import { isRecord } from "../shared/json";
import { isMessage, isSeq, type Message } from "../shared/message";

export interface RoomRecord {
  name: string;
  /** When the server opened the room. */
  createdAt: string | null;
  /** The newest, oldest first. */
  messages: Message[];
  /** The guest has read up to this number. */
  read: number;
  /** The host has read up to this number. */
  theirRead: number;
}

/** A number up to which messages were read: none of a later message. */
function upTo(value: unknown, messages: Message[]): number {
  const last = messages[messages.length - 1]?.seq;
  return isSeq(value) ? Math.min(value, last ?? value) : 0;
}

/** A record, whole or not at all. Earlier releases stored only the name here. */
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
