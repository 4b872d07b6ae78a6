// What a browser keeps for its user. It may refuse (blocked site data, a full quota) or lose everything at any time: then the page keeps its
// own copy until it is closed.
import { decode, encode, isRecord } from "./json";

const attempt = <T>(call: () => T): T | undefined => {
  try {
    return call();
  } catch {
    return undefined;
  }
};

/** Texts by key. No method throws. */
export class SafeStorage {
  readonly #memory = new Map<string, string>();

  constructor(private readonly area: () => Storage) {}

  /** Whether the browser keeps anything for this page. */
  get isAvailable(): boolean {
    return attempt(() => this.area().length) !== undefined;
  }

  get(key: string): string | null {
    return this.#memory.get(key) ?? attempt(() => this.area().getItem(key)) ?? null;
  }

  /** Returns whether the browser keeps it. If not, an older text is removed, so that none contradicts the page's own copy. */
  set(key: string, text: string): boolean {
    this.#memory.delete(key);
    const isKept = attempt(() => (this.area().setItem(key, text), true)) ?? false;
    if (!isKept) {
      attempt(() => this.area().removeItem(key));
      this.#memory.set(key, text);
    }
    return isKept;
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

/** Shared by all tabs of an origin. */
export const local = new SafeStorage(() => localStorage);
/** Of this tab, over reloads. */
export const session = new SafeStorage(() => sessionStorage);

/** A message that is not acknowledged yet. */
export interface Pending {
  id: string;
  message: string;
  /** Wall clock as it is sent. */
  datetime: string;
  /** Milliseconds since the epoch; orders the list. */
  at: number;
}

const asPending = (value: unknown): Pending | null =>
  isRecord(value) && typeof value.id === "string" && typeof value.message === "string" && typeof value.datetime === "string" && typeof value.at === "number"
    ? (value as unknown as Pending)
    : null;

/**
 * Messages that are not acknowledged yet, of all tabs. Each has a key of its own, so that tabs do not overwrite each other's. Those that this tab
 * has put stay when the storage is cleared.
 */
export class Outbox {
  readonly #own = new Map<string, Pending>();

  constructor(
    /** Before the id in the keys of the storage. */
    private readonly prefix: string,
    /** Called when another tab has changed it. */
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

  /** Oldest first. */
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
