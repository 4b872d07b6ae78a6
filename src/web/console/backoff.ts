// Waiting before a call is repeated.
import { pause as wait } from "../shared/pause";

const FIRST_MS = 500;
const LONGEST_MS = 10_000;
const LONGEST_HIDDEN_MS = 30_000;
/** A proxy's maintenance page asks for an hour; the server may be back in seconds. */
const LONGEST_REQUIRED_MS = 30_000;

const pauses = new Set<() => void>();

/** Ends every pause: the server has answered. */
export function endPauses(): void {
  for (const end of [...pauses]) end();
}

/** Waits for about `ms`, and for what the server has asked for (`Retry-After`, in seconds) up to half a minute; shorter when the network is back. */
export async function pause(ms: number, retryAfter = 0): Promise<void> {
  const wanted = Math.max(ms * (0.5 + Math.random()), Math.min(1000 * retryAfter, LONGEST_REQUIRED_MS));
  await new Promise<void>((resolve) => {
    const end = (): void => {
      pauses.delete(end);
      resolve();
    };
    pauses.add(end);
    void wait(wanted).then(end);
  });
}

/** Exponential backoff: waits before the next try. */
export function backOff(tries: number, retryAfter = 0): Promise<void> {
  const longest = document.hidden ? LONGEST_HIDDEN_MS : LONGEST_MS;
  return pause(Math.min(longest, FIRST_MS * 2 ** Math.min(tries, 10)), retryAfter);
}
