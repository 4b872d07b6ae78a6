// Messages and frames of the wire format (SPEC 4 and 5).
import { isRecord } from "./json";

/** Message of a conversation. */
export interface Message {
  seq: number;
  id: string;
  is_host: boolean;
  message: string;
  datetime: string;
}

/** Fields of all frames from the server. Each frame has some of them. */
export interface Frame {
  type?: unknown;
  message?: unknown;
  is_host?: unknown;
  seq?: unknown;
  status?: unknown;
  chatroom?: unknown;
  preview?: unknown;
  data?: unknown;
}

export const isSeq = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

export const isMessage = (value: unknown): value is Message =>
  isRecord(value) &&
  isSeq(value.seq) &&
  typeof value.id === "string" &&
  typeof value.is_host === "boolean" &&
  typeof value.message === "string" &&
  typeof value.datetime === "string";
