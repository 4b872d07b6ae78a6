// Wall-clock times in wire format, dates for display, and timers.

const MINUTE_MS = 60_000;

/** Offset of wall-clock times in wire format from UTC. The default is Korean time; the server can set another value (`wire-offset`). */
let wireOffsetMs = 9 * 60 * MINUTE_MS;

/** Sets the offset of wall-clock times in wire format from UTC, in minutes. */
export function setWireOffset(minutes: number): void {
  if (Number.isFinite(minutes)) wireOffsetMs = minutes * MINUTE_MS;
}

/** Calls `call` after `ms` milliseconds. Returns the id of the timer, which is never 0. */
export const later = (ms: number, call: () => void): number => setTimeout(call, ms);

/** Returns the current wall-clock time in wire format, with milliseconds and without a zone. */
export const wallClock = (): string => new Date(Date.now() + wireOffsetMs).toISOString().slice(0, 23);

/** Parses a wall-clock time in wire format. Returns `null` if it is invalid. */
export function parseWallClock(datetime: string): Date | null {
  const time = Date.parse(`${datetime.slice(0, 23)}Z`) - wireOffsetMs;
  return Number.isNaN(time) ? null : new Date(time);
}

/** Returns a random id of 32 hexadecimal digits. `crypto.randomUUID` is not used, because it exists only in secure contexts. */
export function randomId(): string {
  let id = "";
  for (const byte of crypto.getRandomValues(new Uint8Array(16))) id += byte.toString(16).padStart(2, "0");
  return id;
}

/** Formats a date. Today and yesterday are formatted as the texts in `words`. */
export function formatDay(date: Date, lang: string, words: { today: string; yesterday: string }): string {
  const midnight = (of: Date) => new Date(of).setHours(0, 0, 0, 0);
  const days = Math.round((midnight(new Date()) - midnight(date)) / 864e5);
  if (days === 0) return words.today;
  if (days === 1) return words.yesterday;
  return date.toLocaleDateString(lang, { year: "numeric", month: "long", day: "numeric" });
}

/** Formats a time of day. */
export const formatTime = (date: Date, lang: string): string =>
  date.toLocaleTimeString(lang, { hour: "numeric", minute: "2-digit" });
