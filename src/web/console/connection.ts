// Whether calls reach the server.
import { backOff, endPauses } from "./backoff";

/**
 * Why a call got no answer of the server's: there was none, it came from something in between (a captive portal, a proxy), or a proxy
 * reports that the server is unavailable.
 */
export type Problem = "unreachable" | "intercepted" | "unavailable";

export class Connection {
  problem: Problem | null = null;
  onChanged: () => void = () => {};
  onRecovered: () => void = () => {};
  #isProbing = false;

  /** `probe` is a cheap call that reports its outcome here; it returns `null` while there is nothing to call for. */
  constructor(private readonly probe: () => Promise<void> | null) {}

  /** A call was answered by the server. */
  succeeded(): void {
    if (!this.problem) return;
    this.problem = null;
    endPauses();
    this.onChanged();
    this.onRecovered();
  }

  /** A call was not answered by the server. Probes until one is. */
  failed(problem: Problem): void {
    if (this.problem !== problem) {
      this.problem = problem;
      this.onChanged();
    }
    void this.#probeUntilReached();
  }

  /** Makes one probe, because something else suggests that the server cannot be reached. */
  check(): void {
    if (!this.problem) void this.probe();
  }

  /** Ends the probes; the next call decides anew. */
  reset(): void {
    this.problem = null;
    this.onChanged();
  }

  async #probeUntilReached(): Promise<void> {
    if (this.#isProbing) return;
    this.#isProbing = true;
    for (let tries = 0; this.problem; tries++) {
      await backOff(tries);
      if (!this.problem) break;
      const probe = this.probe();
      if (!probe) break;
      await probe;
    }
    this.#isProbing = false;
  }
}
