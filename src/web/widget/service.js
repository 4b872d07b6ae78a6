// The host's service, as its keys open it: calls, who the host is, and whether he is there.
import { Line, socketUrl } from "../shared/line.js";
import { later } from "../shared/time.js";

const RETRY_MS = 5000;
const SHOWN_MS = 300_000; // whether a host shows again that he is there, is asked after one to two times this

export class Service {
  constructor(base, accessKey, secretKey) {
    this.base = base;
    this.keys = { "X-PinTalk-Access-Key": accessKey, "X-PinTalk-Secret-Key": secretKey };
  }

  /** A guest-side call. An error that time may mend has `retryMs`. */
  async call(method, path, headers) {
    const failed = (message, retryMs) => Object.assign(new Error(message), { retryMs });
    const response = await fetch(new URL(path, this.base), { method, headers: { ...this.keys, ...headers } }).catch(() => {
      throw failed("network", RETRY_MS);
    });
    const body = await response.json().catch(() => null);
    if (response.ok) return body;
    if (response.status === 403) this.refused();
    else if (response.status < 429) this.complain([response.status, body?.detail, JSON.stringify(body?.fields)].join(" "));
    const asked = 1000 * response.headers.get("Retry-After") || RETRY_MS;
    throw failed(body?.detail ?? `${response.status}`, response.status >= 429 && asked * (1 + Math.random() / 2));
  }

  /** What is wrong with what the page says of the service. */
  get wrong() {
    if (!/^https?:/.test(this.base)) return `server="${this.base ?? ""}" is no address. It begins with https://`;
    const areKeys = Object.values(this.keys).every((key) => /^\s*[\w-]+\s*$/.test(key));
    return !areKeys && "the access key and the secret key are not those of a service. The console shows both under Settings.";
  }

  /** Who the host is; asked until somebody answers, or nobody wants to know any more. Nothing if the server does not want this page. */
  async client() {
    if (this.wrong) return this.complain(this.wrong);
    for (let wait = 1; !this.isOver; wait = Math.min(2 * wait, 12)) {
      try {
        return await this.call("GET", "/api/users/client/");
      } catch (error) {
        if (!error.retryMs) return null;
        await new Promise((resolve) => later(error.retryMs * wait, resolve));
      }
    }
  }

  /** Says whether the host is there, whenever that changes. */
  watch(uuid, changed) {
    const line = new Line({
      url: () => socketUrl(this.base, `/ws/status/${uuid}/`),
      // Nothing is sent while he is away.
      opened: () => changed(false),
      frame: (frame) => changed((frame.status ?? frame.message) === "online"),
      waiting: () => changed(false),
      ended: (code) => {
        changed(null);
        if (code === 4009) line.timer = later(SHOWN_MS * (1 + Math.random()), line.soon);
      },
    });
    return line;
  }

  /** For the developer of the page: the visitor cannot do anything about it. */
  refused() {
    const { host, origin } = location;
    this.complain(
      `the server does not talk to ${origin}. Register "${host}" as a domain of your service: in the console ` +
        `(${new URL("/console/", this.base)}) under Settings, Service, or as serviceDomain through the API.`,
    );
  }

  complain(what) {
    if (what !== this.said) console.error(`PinTalk: ${what}`);
    this.said = what;
  }
}
