// The host's service behind a pair of keys: guest-side calls, who the host is, and whether the host is online.
import { fetchWithTimeout, NotJsonError, readJson } from "../shared/fetch";
import { isRecord } from "../shared/json";
import { pause } from "../shared/pause";
import { ReconnectingSocket, socketUrl } from "../shared/socket";
import { later } from "../shared/time";

const TIMEOUT_MS = 15_000;
const RETRY_MS = 5000;
const MAX_RETRY_FACTOR = 12;
const PRESENCE_OFF_RETRY_MS = 300_000; // a host who hides their presence is asked again after one to two times this

/** The host, as guests see them (SPEC 2, `Client`). */
export interface Client {
  uuid: string;
  profileName: string;
  profileImage: string | null;
  serviceName: string;
  usesOnlineStatus: boolean;
}

/** A failed call. `retryMs` is set if it can succeed later. */
export class ServiceError extends Error {
  constructor(
    message: string,
    readonly retryMs = 0,
  ) {
    super(message);
  }
}

export class Service {
  readonly #keys: Record<string, string>;
  #lastComplaint = "";

  /** `base`: URL of the server with a final slash; empty if it is unknown. */
  constructor(
    readonly base: string,
    accessKey: string,
    secretKey: string,
  ) {
    this.#keys = { "X-PinTalk-Access-Key": accessKey, "X-PinTalk-Secret-Key": secretKey };
  }

  /** A guest-side call and the JSON object of its response. `path` has no leading slash. Rejects with [`ServiceError`]. */
  async call(method: string, path: string, headers: Record<string, string> = {}): Promise<Record<string, unknown>> {
    const retryMs = RETRY_MS * (1 + Math.random() / 2);
    const read = async (response: Response) => ({ response, body: await readJson(response) });
    const init: RequestInit = { method, headers: { ...this.#keys, ...headers }, credentials: "omit" };
    const { response, body } = await fetchWithTimeout(new URL(path, this.base), init, TIMEOUT_MS, read).catch((error: unknown) => {
      throw new ServiceError(error instanceof NotJsonError ? `not JSON (${error.status})` : "network", retryMs);
    });
    if (response.ok && body) return body;
    const { status } = response;
    // Only the server's own errors have a code: a proxy or a captive portal may answer anything.
    if (body?.code !== status) throw new ServiceError(`${status}`, retryMs);
    if (status === 403) this.complainOfOrigin();
    else if (status < 429) this.#complain(`${status} ${String(body.detail)} ${body.fields ? JSON.stringify(body.fields) : ""}`);
    const asked = 1000 * Number(response.headers.get("Retry-After"));
    throw new ServiceError(String(body.detail), status >= 429 ? asked || retryMs : 0);
  }

  /** What is wrong with the page's settings, if anything. */
  get #fault(): string | null {
    if (!/^https?:\/\/./.test(this.base)) return `server="${this.base}" is no address. It begins with https://`;
    for (const key of Object.values(this.#keys)) {
      if (!/^\s*[\w-]+\s*$/.test(key)) {
        return "the access key or the secret key is invalid. The console shows both under Settings.";
      }
    }
    return null;
  }

  /** The host; retried while `isWanted()` until the server answers. `null` if the server refuses this page. */
  async client(isWanted: () => boolean): Promise<Client | null> {
    if (this.#fault) this.#complain(this.#fault);
    else {
      for (let factor = 1; isWanted(); factor = Math.min(2 * factor, MAX_RETRY_FACTOR)) {
        try {
          return asClient(await this.call("GET", "api/users/client/"));
        } catch (error) {
          const retryMs = error instanceof ServiceError ? error.retryMs : RETRY_MS;
          if (!retryMs) return null;
          await pause(retryMs * factor);
        }
      }
    }
    return null;
  }

  /** Reports whether the host is online whenever that changes; `null` if the host does not show it. */
  watch(uuid: string, changed: (online: boolean | null) => void, pings: () => boolean): { close(): void } {
    let timer = 0;
    const start = (): ReconnectingSocket =>
      new ReconnectingSocket({
        url: () => socketUrl(this.base, `ws/status/${uuid}/`, { v: 2 }),
        // While the host is offline, nothing is sent.
        opened: () => changed(false),
        frame: (frame) => {
          const status = frame.status ?? frame.message;
          if (status === "online" || status === "offline") changed(status === "online");
        },
        waiting: () => changed(false),
        ended: (code) => {
          changed(null);
          if (code === 4009) timer = later(PRESENCE_OFF_RETRY_MS * (1 + Math.random()), () => (socket = start()));
        },
        pings,
      });
    let socket = start();
    return {
      close() {
        clearTimeout(timer);
        socket.close();
      },
    };
  }

  /** For the developer of the page: visitors cannot do anything about it. */
  complainOfOrigin(): void {
    const { host, origin } = location;
    this.#complain(
      `the server refused ${origin}. Register "${host}" as a domain of your service: in the console (${new URL("console/", this.base).href}) under Settings.`,
    );
  }

  #complain(what: string): void {
    if (what !== this.#lastComplaint) console.error(`PinTalk: ${what}`);
    this.#lastComplaint = what;
  }
}

function asClient(body: Record<string, unknown>): Client {
  const { uuid, profileName, profileImage, serviceName, configs } = body;
  if (typeof uuid !== "string") throw new ServiceError("no host", RETRY_MS);
  return {
    uuid,
    profileName: typeof profileName === "string" ? profileName : "",
    profileImage: typeof profileImage === "string" ? profileImage : null,
    serviceName: typeof serviceName === "string" ? serviceName : "",
    usesOnlineStatus: isRecord(configs) && configs.useOnlineStatus === true,
  };
}
