// What a browser keeps of one room, checked when it is read: any script of the page can have written it.
import type { Message } from "../shared/conversation";
import { isRecord } from "../shared/json";

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

const isNumber = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const isMessage = (value: unknown): value is Message =>
  isRecord(value) &&
  isNumber(value.seq) &&
  typeof value.id === "string" &&
  typeof value.is_host === "boolean" &&
  typeof value.message === "string" &&
  typeof value.datetime === "string";

/** A record, whole or not at all. Earlier releases stored only the name here. */
export function asRecord(value: unknown): RoomRecord | null {
  if (!isRecord(value) || typeof value.name !== "string" || !/^[\w-]{1,64}$/.test(value.name)) return null;
  const messages = Array.isArray(value.messages) && value.messages.every(isMessage) ? value.messages : [];
  return {
    name: value.name,
    createdAt: typeof value.createdAt === "string" && Date.parse(value.createdAt) ? value.createdAt : null,
    messages,
    read: isNumber(value.read) ? value.read : 0,
    theirRead: isNumber(value.theirRead) ? value.theirRead : 0,
  };
}
