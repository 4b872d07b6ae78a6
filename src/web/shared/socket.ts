// WebSocket that reconnects automatically and detects dead connections.
import { decode, encode, isRecord } from "./json";
import type { Frame } from "./message";
import { isFirstShow } from "./pause";
import { later, wallClock } from "./time";

const MAX_BACKOFF_MS = 30_000;
const RATE_LIMITED_BACKOFF_MS = 30_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** Time after which an open connection is known to be admitted, because the server closes rejected connections at once. */
const ADMITTED_MS = 5000;

/** Interval between checks for silence and sleep. */
const TICK_MS = 2000;
/** Minimum time without a tick after which the device or the tab is assumed to have been asleep. */
const SLEEP_MS = 10_000;
/** Delay before the first ping on a connection. The ping shows whether the node answers pings. */
const FIRST_PING_MS = 500;
/** Duration of silence after which a ping is sent. */
const PING_MS = 31_000;
/** Timeout for the response to a ping that was sent after silence. */
const PONG_MS = 6000;
/** Timeout for the response to a ping that was sent because the connection may be dead. */
const CHECK_MS = 1500;
/** Maximum time between events that are handled as one. */
const SAME_EVENT_MS = 300;

const RATE_LIMITED = 4029;
/** Close codes after which the client must not reconnect (SPEC 4). */
const FINAL = [1000, 1002, 1007, 1009, 4000, 4001, 4003, 4004, 4009];

export interface SocketHandlers {
  /** Returns the URL to connect to. `resuming` is `true` if the server has admitted an earlier connection of this socket. */
  url(resuming: boolean): URL;
  opened?(): void;
  frame(frame: Frame): void;
  /** Called when the connection is lost. The socket reconnects after `ms`. */
  waiting?(ms: number): void;
  /** Called when the server has permanently closed the socket. */
  ended?(code: number): void;
  /** Returns whether a silent connection is checked with pings. */
  pings?(): boolean;
}

/** Remains connected until `close()` is called or the server permanently closes the socket. Pings require `v=2` in the URL (SPEC 4). */
export class ReconnectingSocket {
  #socket: WebSocket | null = null;
  #attempts = 0;
  #resuming = false;
  /** Timer of the next attempt; 0 if none is scheduled. */
  #timer = 0;
  /** Timer after which the connection is considered dead; 0 while no frame is expected. */
  #deadline = 0;
  #deadlineAt = 0;
  #firstPing = 0;
  readonly #ticker = setInterval(() => this.#tick(), TICK_MS);
  #tickedAt = Date.now();
  #openedAt = 0;
  #receivedAt = 0;
  #pingedAt = 0;
  /** Whether this connection has answered a ping. Nodes of earlier releases ignore pings. */
  #hasPonged = false;

  constructor(private readonly on: SocketHandlers) {
    for (const event of ["online", "pageshow", "focus"]) addEventListener(event, this.#onEvent);
    for (const event of ["resume", "visibilitychange"]) document.addEventListener(event, this.#onEvent);
    this.connect();
  }

  readonly #onEvent = (event: Event): void => {
    if (!document.hidden && !isFirstShow(event)) this.check();
  };

  get isOpen(): boolean {
    return this.#socket?.readyState === 1;
  }

  /** Opens a new connection that replaces the current one. */
  connect(): void {
    this.#drop();
    this.#openedAt = this.#pingedAt = 0;
    this.#hasPonged = false;
    try {
      this.#socket = new WebSocket(this.on.url(this.#resuming).href);
    } catch {
      // The content security policy of the page may block the URL.
      return this.#retryLater(1006, "");
    }
    const socket = this.#socket;
    this.#expectFrame(CONNECT_TIMEOUT_MS, () => this.#retryLater(1006, ""));
    socket.onopen = () => {
      clearTimeout(this.#deadline);
      this.#deadline = 0;
      this.#openedAt = this.#receivedAt = Date.now();
      this.#firstPing = later(FIRST_PING_MS, () => this.#ping());
      this.on.opened?.();
    };
    socket.onmessage = ({ data }: MessageEvent) => this.#receive(data);
    socket.onclose = ({ code, reason }) => {
      if (this.#openedAt && Date.now() - this.#openedAt > ADMITTED_MS) this.#admitted();
      if (FINAL.includes(code)) {
        this.close();
        this.on.ended?.(code);
      } else this.#retryLater(code, reason);
    };
  }

  #receive(data: unknown): void {
    const frame = decode(typeof data === "string" ? data : null);
    if (!isRecord(frame)) return;
    this.#receivedAt = Date.now();
    clearTimeout(this.#deadline);
    this.#deadline = 0;
    if (frame.message === "pong" && frame.type === "notice") {
      this.#hasPonged = true;
      return;
    }
    // The server completes the handshake of a rejected socket and then closes it. A socket is therefore admitted when a frame other than `pong`
    // arrives or when it is still open after `ADMITTED_MS`.
    this.#admitted();
    this.on.frame(frame);
  }

  #admitted(): void {
    this.#attempts = 0;
    this.#resuming = true;
  }

  #retryLater(code: number, reason: string): void {
    const requested = /retry in (\d+) ms/.exec(reason)?.[1];
    const backoff = code === RATE_LIMITED ? RATE_LIMITED_BACKOFF_MS : Math.min(MAX_BACKOFF_MS, 500 * 2 ** this.#attempts++);
    const wait = requested ? +requested : backoff * (0.5 + Math.random() / 2);
    this.#drop();
    this.#timer = later(wait, () => this.connect());
    this.on.waiting?.(Math.round(wait));
  }

  /** Connects at once if an attempt is scheduled for later. */
  retryNow(): void {
    if (this.#timer) this.connect();
  }

  /**
   * Checks the connection. Connects at once if an attempt is scheduled. Otherwise replaces the connection after a timeout if it does not open, or if
   * it has answered a ping before and now does not.
   */
  check(): void {
    const now = (this.#tickedAt = Date.now());
    if (this.#timer) this.connect();
    else if (this.isOpen && now - this.#pingedAt > SAME_EVENT_MS) this.#ping(CHECK_MS);
    else if (!this.isOpen || this.#hasPonged) this.#expectFrame(CHECK_MS, () => this.connect());
  }

  /** Calls `giveUp` if no frame arrives and the connection does not open within `timeout`. Keeps an earlier deadline. */
  #expectFrame(timeout: number, giveUp: () => void): void {
    const at = Date.now() + timeout;
    if (this.#deadline && this.#deadlineAt <= at) return;
    clearTimeout(this.#deadline);
    this.#deadlineAt = at;
    this.#deadline = later(timeout, giveUp);
  }

  #ping(timeout = PONG_MS): void {
    this.#pingedAt = Date.now();
    this.send({ type: "notice", message: "ping", datetime: wallClock() });
    if (this.#hasPonged) this.#expectFrame(timeout, () => this.connect());
  }

  #tick(): void {
    const now = Date.now();
    const wasAsleep = now - this.#tickedAt > SLEEP_MS;
    this.#tickedAt = now;
    if (wasAsleep) this.check();
    else if (this.isOpen && this.#pingedAt && !this.#deadline && now - Math.max(this.#receivedAt, this.#pingedAt) >= PING_MS) {
      if (this.on.pings?.() !== false) this.#ping();
    }
  }

  /** Sends a frame if the connection is open. Returns whether it was passed to the browser, which does not mean that it arrived. */
  send(frame: object): boolean {
    if (this.isOpen) this.#socket?.send(encode(frame));
    return this.isOpen;
  }

  #drop(): void {
    for (const timer of [this.#timer, this.#deadline, this.#firstPing]) clearTimeout(timer);
    this.#timer = this.#deadline = 0;
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  close(): void {
    this.#drop();
    clearInterval(this.#ticker);
    for (const event of ["online", "pageshow", "focus"]) removeEventListener(event, this.#onEvent);
    for (const event of ["resume", "visibilitychange"]) document.removeEventListener(event, this.#onEvent);
  }
}

/** Returns the URL of a socket. `path` has no leading slash, so that it is resolved relative to the path of the server. */
export function socketUrl(base: URL | string, path: string, query: Record<string, string | number> = {}): URL {
  const url = new URL(path, base);
  url.protocol = url.protocol.replace("http", "ws");
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, `${value}`);
  return url;
}
