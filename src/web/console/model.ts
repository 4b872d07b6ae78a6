// Responses of the server. All values are validated, because a response may come from a captive portal or a proxy.

import { isRecord } from "../shared/json";

/** Error: a response does not have the expected shape. */
export class ShapeError extends Error {}

type Fields = Record<string, unknown>;

export interface User {
  id: number;
  uuid: string;
  email: string;
  profileName: string;
  description: string;
  profileImage: string | null;
  serviceName: string;
  serviceExpl: string;
  serviceDomain: string | null;
  accessKey: string;
  secretKey: string;
}

export interface Login {
  accessToken: string;
  user: User;
}

export interface Room {
  id: number;
  name: string;
  guest: string;
  latestMsg: string | null;
  latestMsgAt: string | null;
  isClosed: boolean;
  isFixed: boolean;
  fixedAt: string | null;
  createdAt: string;
  updatedAt: string;
  unread: number;
  guestOnline: boolean;
}

export interface StoredMessage {
  seq: number;
  id: string;
  message: string;
  datetime: string;
  is_host: boolean;
}

/** One page of a list. */
export interface ListPage<T> {
  results: T[];
  count: number;
  hasNext: boolean;
}

export interface Configs {
  useOnlineStatus: boolean;
  emailNotifications: boolean;
}

export interface Webhook {
  url: string;
  events: string[];
  enabled: boolean;
  secret: string | null;
  oldSecretEndsAt: string | null;
  goneAt: string | null;
}

export interface TestResult {
  delivered: boolean;
  status: string;
  milliseconds: number;
  problem: string | null;
}

export interface Delivery {
  type: string;
  state: string;
  attempts: number;
  createdAt: string;
  dueAt: string | null;
  status: string;
  problem: string | null;
}

function fieldsOf(value: unknown): Fields {
  if (!isRecord(value)) throw new ShapeError("no object");
  return value;
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw new ShapeError(name);
  return value;
}

function integer(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value)) throw new ShapeError(name);
  return value;
}

const optionalText = (fields: Fields, name: string): string | null => (typeof fields[name] === "string" ? text(fields, name) : null);
const number = (fields: Fields, name: string): number => (typeof fields[name] === "number" ? (fields[name] as number) : 0);
const flag = (fields: Fields, name: string): boolean => fields[name] === true;
/** Formats a number or a string for display. Returns an empty string for other values. */
const display = (value: unknown): string => (typeof value === "number" || typeof value === "string" ? `${value}` : "");

/** Validates a response without content (204). */
export function noContent(value: unknown): null {
  if (value !== null) throw new ShapeError("content");
  return null;
}

/** Validates a JSON response whose fields are not used. */
export function acceptedFrom(value: unknown): null {
  fieldsOf(value);
  return null;
}

export function userFrom(value: unknown): User {
  const fields = fieldsOf(value);
  return {
    id: integer(fields, "id"),
    uuid: text(fields, "uuid"),
    email: text(fields, "email"),
    profileName: text(fields, "profileName"),
    description: optionalText(fields, "description") ?? "",
    profileImage: optionalText(fields, "profileImage"),
    serviceName: optionalText(fields, "serviceName") ?? "",
    serviceExpl: optionalText(fields, "serviceExpl") ?? "",
    serviceDomain: optionalText(fields, "serviceDomain"),
    accessKey: text(fields, "accessKey"),
    secretKey: text(fields, "secretKey"),
  };
}

export function tokenFrom(value: unknown): string {
  return text(fieldsOf(value), "accessToken");
}

export function loginFrom(value: unknown): Login {
  return { accessToken: tokenFrom(value), user: userFrom(value) };
}

/** Returns the user id from the claims of an access token. */
export function userIdFrom(token: string): number {
  try {
    const claims: unknown = JSON.parse(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/")));
    return integer(fieldsOf(claims), "user_id");
  } catch {
    throw new ShapeError("accessToken");
  }
}

export function detailFrom(value: unknown): string {
  return text(fieldsOf(value), "detail");
}

export function roomFrom(value: unknown): Room {
  const fields = fieldsOf(value);
  const createdAt = text(fields, "createdAt");
  return {
    id: integer(fields, "id"),
    name: text(fields, "name"),
    guest: text(fields, "guest"),
    latestMsg: optionalText(fields, "latestMsg"),
    latestMsgAt: optionalText(fields, "latestMsgAt"),
    isClosed: flag(fields, "isClosed"),
    isFixed: flag(fields, "isFixed"),
    fixedAt: optionalText(fields, "fixedAt"),
    createdAt,
    updatedAt: optionalText(fields, "updatedAt") ?? createdAt,
    unread: number(fields, "unread"),
    guestOnline: flag(fields, "guestOnline"),
  };
}

export function messageFrom(value: unknown): StoredMessage {
  const fields = fieldsOf(value);
  const seq = integer(fields, "seq");
  return {
    seq,
    id: optionalText(fields, "messageId") ?? `${seq}`,
    message: text(fields, "message"),
    datetime: text(fields, "datetime"),
    is_host: flag(fields, "is_host"),
  };
}

function listFrom<T>(value: unknown, item: (value: unknown) => T): ListPage<T> {
  const fields = fieldsOf(value);
  if (!Array.isArray(fields.results)) throw new ShapeError("results");
  return { results: fields.results.map(item), count: number(fields, "count"), hasNext: typeof fields.next === "string" };
}

export const roomsFrom = (value: unknown): ListPage<Room> => listFrom(value, roomFrom);
export const messagesFrom = (value: unknown): ListPage<StoredMessage> => listFrom(value, messageFrom);
export const deliveriesFrom = (value: unknown): ListPage<Delivery> => listFrom(value, deliveryFrom);

export function configsFrom(value: unknown): Configs {
  const fields = fieldsOf(value);
  if (typeof fields.useOnlineStatus !== "boolean") throw new ShapeError("useOnlineStatus");
  return { useOnlineStatus: fields.useOnlineStatus, emailNotifications: flag(fields, "emailNotifications") };
}

export function webhookFrom(value: unknown): Webhook {
  const fields = fieldsOf(value);
  const events = Array.isArray(fields.events) ? fields.events : [];
  return {
    url: text(fields, "url"),
    events: events.filter((event): event is string => typeof event === "string"),
    enabled: flag(fields, "enabled"),
    secret: optionalText(fields, "secret"),
    oldSecretEndsAt: optionalText(fields, "oldSecretEndsAt"),
    goneAt: optionalText(fields, "goneAt"),
  };
}

export function testResultFrom(value: unknown): TestResult {
  const fields = fieldsOf(value);
  return {
    delivered: flag(fields, "delivered"),
    status: display(fields.status),
    milliseconds: number(fields, "milliseconds"),
    problem: optionalText(fields, "problem"),
  };
}

function deliveryFrom(value: unknown): Delivery {
  const fields = fieldsOf(value);
  return {
    type: text(fields, "type"),
    state: text(fields, "state"),
    attempts: number(fields, "attempts"),
    createdAt: text(fields, "createdAt"),
    dueAt: optionalText(fields, "dueAt"),
    status: display(fields.status),
    problem: optionalText(fields, "problem"),
  };
}
