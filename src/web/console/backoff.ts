// Waiting before a call is repeated.
import { later } from "../shared/time";

const FIRST_MS = 500;
const LONGEST_MS = 10_000;
const LONGEST_HIDDEN_MS = 30_000;

/** Resolves after `ms`, or earlier when the network is available again or the page becomes visible. */
function interruptible(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      removeEventListener("online", end);
      removeEventListener("pageshow", end);
      document.removeEventListener("resume", end);
      document.removeEventListener("visibilitychange", shown);
      resolve();
    };
    const shown = (): void => {
      if (!document.hidden) end();
    };
    addEventListener("online", end);
    addEventListener("pageshow", end);
    document.addEventListener("resume", end);
    document.addEventListener("visibilitychange", shown);
    const timer = later(ms, end);
  });
}

/** Waits for about `ms`, and not less than the server has asked for (`Retry-After`, in seconds). */
export async function pause(ms: number, retryAfter = 0): Promise<void> {
  const required = 1000 * retryAfter;
  if (required > 0) await new Promise<void>((resolve) => later(required, resolve));
  const rest = ms * (0.5 + Math.random()) - required;
  if (rest > 0) await interruptible(rest);
}

/** Exponential backoff: waits before the next try. */
export function backOff(tries: number, retryAfter = 0): Promise<void> {
  const longest = document.hidden ? LONGEST_HIDDEN_MS : LONGEST_MS;
  return pause(Math.min(longest, FIRST_MS * 2 ** Math.min(tries, 10)), retryAfter);
}
