// Time and chance.

/** Calls back after a while, in milliseconds; of 0 there is no timer with that number. */
export const later = (ms, call) => setTimeout(call, ms);

const KOREA_MS = 9 * 3600e3;

/** The wall clock in Korea, which is what goes over the wire. */
export const wallClock = () => new Date(Date.now() + KOREA_MS).toISOString().slice(0, 23);

/** What a wall clock in Korea showed, as an instant; `null` if no clock ever shows that. */
export const instantOf = (datetime) => {
  const date = new Date(`${datetime.slice(0, 23)}+09:00`);
  return Number.isNaN(+date) ? null : date;
};

/** 32 hexadecimal digits that nobody guesses. (`crypto.randomUUID` would want https.) */
export const randomId = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The day of an instant, in words: today and yesterday as `words` calls them. */
export const dayOf = (date, lang, words) => {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 864e5);
  const named = [words.today, words.yesterday][days];
  return named ?? date.toLocaleDateString(lang, { year: "numeric", month: "long", day: "numeric" });
};

/** The time of day. */
export const clockOf = (date, lang) => date.toLocaleTimeString(lang, { hour: "numeric", minute: "2-digit" });
