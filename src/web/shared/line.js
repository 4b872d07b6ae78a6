// A WebSocket that comes back by itself, and what both sides of a conversation write on it.
import { later } from "./time.js";

const LONGEST_WAIT_MS = 30_000;
const CROWDED_WAIT_MS = 30_000;
const TOO_MANY = 4029;
// After these, coming back would be no use: the answer would be the same.
const FINAL = [1000, 1002, 1007, 1009, 4000, 4001, 4003, 4004, 4009];

/**
 * `on.url(again)` says where to connect, `again` once the server has taken us before; then `on.opened()`, `on.frame(frame)`,
 * `on.waiting(ms)` when it will come back by itself, and `on.ended(code)` when it will not.
 */
export class Line {
  constructor(on) {
    this.on = on;
    this.tries = 0;
    this.again = false;
    this.soon = () => this.timer && this.connect();
    // Whoever looks does not want to wait.
    this.looked = () => document.hidden || this.soon();
    addEventListener("online", this.soon);
    document.addEventListener("visibilitychange", this.looked);
    this.connect();
  }

  get isOpen() {
    return this.socket?.readyState === 1;
  }

  connect() {
    this.drop();
    const began = Date.now();
    const socket = (this.socket = new WebSocket(this.on.url(this.again)));
    socket.onopen = () => this.on.opened?.();
    socket.onmessage = (event) => {
      // The server refuses by opening and closing, so only a frame, or time, shows that it took us.
      this.taken();
      this.on.frame(JSON.parse(event.data));
    };
    socket.onclose = ({ code, reason }) => {
      if (Date.now() - began > 5000) this.taken();
      if (FINAL.includes(code)) {
        this.close();
        return this.on.ended?.(code);
      }
      const asked = /retry in (\d+) ms/.exec(reason);
      const backoff = code === TOO_MANY ? CROWDED_WAIT_MS : Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.tries++);
      const wait = asked ? +asked[1] : backoff * (0.5 + Math.random() / 2);
      this.timer = later(wait, this.soon);
      this.on.waiting?.(Math.round(wait));
    };
  }

  taken() {
    this.tries = 0;
    this.again = true;
  }

  /** Whether it went out; whether it arrived is another question. */
  send(frame) {
    if (this.isOpen) this.socket.send(JSON.stringify(frame));
    return this.isOpen;
  }

  drop() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.socket) {
      this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
      this.socket.close(1000);
      this.socket = null;
    }
  }

  close() {
    this.drop();
    removeEventListener("online", this.soon);
    document.removeEventListener("visibilitychange", this.looked);
  }
}

/** Where a socket's path is, for a server that is reached at `base`. */
export const socketUrl = (base, path, query = {}) => {
  const url = new URL(path, base);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = new URLSearchParams(query);
  return url;
};
