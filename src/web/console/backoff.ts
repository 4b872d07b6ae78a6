// Delays between the attempts of a call.
import { pause as wait } from "../shared/pause";

const FIRST_MS = 500;
const MAX_MS = 10_000;
const MAX_HIDDEN_MS = 30_000;
/** Upper bound for `Retry-After`. A maintenance page of a proxy may request an hour, although the server returns within seconds. */
const MAX_RETRY_AFTER_MS = 30_000;

const pauses = new Set<() => void>();

/** Ends all pauses. Called when the server has answered. */
export function endPauses(): void {
  for (const end of [...pauses]) end();
}

/**
 * Waits for 0.5 to 1.5 times `ms`, or for `retryAfter` seconds (at most 30) if that is longer. Ends early when the network becomes available, the
 * page becomes visible or `endPauses` is called.
 */
export async function pause(ms: number, retryAfter = 0): Promise<void> {
  const delayMs = Math.max(ms * (0.5 + Math.random()), Math.min(1000 * retryAfter, MAX_RETRY_AFTER_MS));
  await new Promise<void>((resolve) => {
    const end = (): void => {
      pauses.delete(end);
      resolve();
    };
    pauses.add(end);
    void wait(delayMs).then(end);
  });
}

/** Waits before the next attempt. The delay grows exponentially with `attempts`. */
export function backOff(attempts: number, retryAfter = 0): Promise<void> {
  const max = document.hidden ? MAX_HIDDEN_MS : MAX_MS;
  return pause(Math.min(max, FIRST_MS * 2 ** Math.min(attempts, 10)), retryAfter);
}
