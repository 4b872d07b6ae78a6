// State of the connection to the server.
import { backOff, endPauses } from "./backoff";

/**
 * Reason why the server did not answer a call. `unreachable`: there was no response. `intercepted`: a captive portal or a proxy sent the response.
 * `unavailable`: the server or a proxy reported that the server is unavailable.
 */
export type Problem = "unreachable" | "intercepted" | "unavailable";

export class Connection {
  problem: Problem | null = null;
  onChanged: () => void = () => {};
  onRecovered: () => void = () => {};
  #isProbing = false;

  /** `probe` makes an inexpensive call and reports its outcome to this object. It returns `null` if no host is logged in. */
  constructor(private readonly probe: () => Promise<void> | null) {}

  /** Records a call that the server answered. */
  succeeded(): void {
    if (!this.problem) return;
    this.problem = null;
    endPauses();
    this.onChanged();
    this.onRecovered();
  }

  /** Records a call that the server did not answer. Probes the server until it answers. */
  failed(problem: Problem): void {
    if (this.problem !== problem) {
      this.problem = problem;
      this.onChanged();
    }
    void this.#probeUntilReached();
  }

  /** Makes one probe if no problem is known, because the server may have become unreachable. */
  check(): void {
    if (!this.problem) void this.probe();
  }

  /** Clears the problem, which ends the probes. */
  reset(): void {
    this.problem = null;
    this.onChanged();
  }

  async #probeUntilReached(): Promise<void> {
    if (this.#isProbing) return;
    this.#isProbing = true;
    for (let attempts = 0; this.problem; attempts++) {
      await backOff(attempts);
      if (!this.problem) break;
      const probe = this.probe();
      if (!probe) break;
      await probe;
    }
    this.#isProbing = false;
  }
}
