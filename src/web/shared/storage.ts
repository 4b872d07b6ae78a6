// Storage of the browser. It may reject data, because site data is blocked or the quota is reached, and it may lose data at any time. Rejected data
// is kept in memory until the page is closed.
import { decode, encode, isRecord } from "./json";

const attempt = <T>(call: () => T): T | undefined => {
  try {
    return call();
  } catch {
    return undefined;
  }
};

/** Map from keys to strings. No method throws. */
export class SafeStorage {
  readonly #memory = new Map<string, string>();

  constructor(private readonly area: () => Storage) {}

  /** Whether the browser stores data for this page. */
  get isAvailable(): boolean {
    return attempt(() => this.area().length) !== undefined;
  }

  get(key: string): string | null {
    return this.#memory.get(key) ?? attempt(() => this.area().getItem(key)) ?? null;
  }

  /** Stores a string. Returns whether the browser has stored it. If not, removes the previous string, which would contradict the copy in memory. */
  set(key: string, text: string): boolean {
    this.#memory.delete(key);
    const isStored = attempt(() => (this.area().setItem(key, text), true)) ?? false;
    if (!isStored) {
      attempt(() => this.area().removeItem(key));
      this.#memory.set(key, text);
    }
    return isStored;
  }

  remove(key: string): void {
    this.#memory.delete(key);
    attempt(() => this.area().removeItem(key));
  }

  keys(): string[] {
    const stored = attempt(() => Object.keys(this.area())) ?? [];
    return [...new Set([...this.#memory.keys(), ...stored])];
  }
}

/** Storage that all tabs of an origin share. */
export const local = new SafeStorage(() => localStorage);
/** Storage of this tab, which survives reloads. */
export const session = new SafeStorage(() => sessionStorage);

/** Message that has not been acknowledged. */
export interface Pending {
  id: string;
  message: string;
  /** Wall-clock time in wire format. */
  datetime: string;
  /** Time in milliseconds since the epoch. The list is ordered by it. */
  at: number;
}

const asPending = (value: unknown): Pending | null =>
  isRecord(value) && typeof value.id === "string" && typeof value.message === "string" && typeof value.datetime === "string" && typeof value.at === "number"
    ? (value as unknown as Pending)
    : null;

/**
 * Unacknowledged messages of all tabs. Each message has its own key, so that tabs do not overwrite each other's messages. Messages of this tab are
 * also kept in memory, so they remain if the storage is cleared.
 */
export class Outbox {
  readonly #own = new Map<string, Pending>();

  constructor(
    /** Prefix of the storage keys. The id of the message follows it. */
    private readonly prefix: string,
    /** Called when another tab has changed the outbox. */
    public changed: () => void = () => {},
  ) {
    addEventListener("storage", this.#onStorage);
  }

  readonly #onStorage = ({ key, newValue }: StorageEvent): void => {
    if (!key?.startsWith(this.prefix)) return;
    if (newValue === null) this.#own.delete(key.slice(this.prefix.length));
    this.changed();
  };

  close(): void {
    removeEventListener("storage", this.#onStorage);
  }

  /** Returns all messages, the oldest first. */
  list(): Pending[] {
    const all = new Map(this.#own);
    for (const key of local.keys()) {
      if (!key.startsWith(this.prefix)) continue;
      const message = asPending(decode(local.get(key)));
      if (message) all.set(message.id, message);
      else local.remove(key);
    }
    return [...all.values()].sort((one, other) => one.at - other.at || (one.id < other.id ? -1 : 1));
  }

  put(message: Pending): void {
    this.#own.set(message.id, message);
    local.set(this.prefix + message.id, encode(message));
  }

  remove(id: string): void {
    this.#own.delete(id);
    local.remove(this.prefix + id);
  }

  clear(): void {
    for (const { id } of this.list()) this.remove(id);
  }
}
