// Wall clocks on the wire, dates on the page, and timers.

const MINUTE_MS = 60_000;

/** Offset of the wire's wall clock from UTC: Korea's, unless the server has another `wire-offset`. */
let wireOffsetMs = 9 * 60 * MINUTE_MS;

/** Sets the offset of the wire's wall clock from UTC, in minutes. */
export function setWireOffset(minutes: number): void {
  if (Number.isFinite(minutes)) wireOffsetMs = minutes * MINUTE_MS;
}

/** Calls back after a delay in milliseconds. Timer ids are never 0. */
export const later = (ms: number, call: () => void): number => setTimeout(call, ms);

/** The current wall clock as it is sent: no zone, milliseconds. */
export const wallClock = (): string => new Date(Date.now() + wireOffsetMs).toISOString().slice(0, 23);

/** The instant of a wall clock as it was sent, `null` if it is no valid time. */
export function parseWallClock(datetime: string): Date | null {
  const time = Date.parse(`${datetime.slice(0, 23)}Z`) - wireOffsetMs;
  return Number.isNaN(time) ? null : new Date(time);
}

/** A random id of 32 hexadecimal digits. `crypto.randomUUID` exists in secure contexts only. */
export function randomId(): string {
  let id = "";
  for (const byte of crypto.getRandomValues(new Uint8Array(16))) id += byte.toString(16).padStart(2, "0");
  return id;
}

/** A date in words: today and yesterday as `words` call them. */
export function formatDay(date: Date, lang: string, words: { today: string; yesterday: string }): string {
  const midnight = (of: Date) => new Date(of).setHours(0, 0, 0, 0);
  const days = Math.round((midnight(new Date()) - midnight(date)) / 864e5);
  if (days === 0) return words.today;
  if (days === 1) return words.yesterday;
  return date.toLocaleDateString(lang, { year: "numeric", month: "long", day: "numeric" });
}

/** A time of day. */
export const formatTime = (date: Date, lang: string): string =>
  date.toLocaleTimeString(lang, { hour: "numeric", minute: "2-digit" });
