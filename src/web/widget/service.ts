// Client of the guest API: calls with the service's keys, the public profile of the host, and the presence of the host.
import { fetchWithTimeout, NotJsonError, readJson } from "../shared/fetch";
import { isRecord } from "../shared/json";
import { pause } from "../shared/pause";
import { ReconnectingSocket, socketUrl } from "../shared/socket";
import { later } from "../shared/time";

const TIMEOUT_MS = 15_000;
const RETRY_MS = 5000;
const MAX_RETRY_FACTOR = 12;
const PRESENCE_OFF_RETRY_MS = 300_000; // minimum delay before a disabled online status is requested again; the actual delay is up to twice as long

/** Public profile of the host (SPEC 2, `Client`). */
export interface Client {
  uuid: string;
  profileName: string;
  profileImage: string | null;
  serviceName: string;
  usesOnlineStatus: boolean;
}

/** Error of a call. `retryMs` is the delay before a retry, or 0 if a retry would fail. */
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
  #lastError = "";

  /** `base` is the URL of the server with a trailing slash; empty if it is unknown. */
  constructor(
    readonly base: string,
    accessKey: string,
    secretKey: string,
  ) {
    this.#keys = { "X-PinTalk-Access-Key": accessKey, "X-PinTalk-Secret-Key": secretKey };
  }

  /** Calls the API. Resolves to the JSON object in the response; rejects with a [`ServiceError`]. `path` has no leading slash. */
  async call(method: string, path: string, headers: Record<string, string> = {}): Promise<Record<string, unknown>> {
    const retryMs = RETRY_MS * (1 + Math.random() / 2);
    const read = async (response: Response) => ({ response, body: await readJson(response) });
    const init: RequestInit = { method, headers: { ...this.#keys, ...headers }, credentials: "omit" };
    const { response, body } = await fetchWithTimeout(new URL(path, this.base), init, TIMEOUT_MS, read).catch((error: unknown) => {
      throw new ServiceError(error instanceof NotJsonError ? `not JSON (${error.status})` : "network", retryMs);
    });
    if (response.ok && body) return body;
    const { status } = response;
    // Error responses of the server contain the status as `code`. Other bodies come from a proxy or a captive portal.
    if (body?.code !== status) throw new ServiceError(`${status}`, retryMs);
    if (status === 403) this.logRejectedOrigin();
    else if (status < 429) this.#logError(`${status} ${String(body.detail)} ${body.fields ? JSON.stringify(body.fields) : ""}`);
    const retryAfterMs = 1000 * Number(response.headers.get("Retry-After"));
    throw new ServiceError(String(body.detail), status >= 429 ? retryAfterMs || retryMs : 0);
  }

  /** Description of an error in the settings of the page; `null` if there is none. */
  get #settingsError(): string | null {
    if (!/^https?:\/\/./.test(this.base)) return `server="${this.base}" is not a URL: it must begin with https://`;
    for (const key of Object.values(this.#keys)) {
      if (!/^\s*[\w-]+\s*$/.test(key)) {
        return "the access key or the secret key is invalid. Copy both from the console, under Settings.";
      }
    }
    return null;
  }

  /**
   * Resolves to the profile of the host. Retries until the server answers, while `isWanted()` returns `true`. Resolves to `null` if the settings are
   * invalid, the server rejects this page, or the profile is no longer wanted.
   */
  async client(isWanted: () => boolean): Promise<Client | null> {
    if (this.#settingsError) this.#logError(this.#settingsError);
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

  /**
   * Calls `changed` with whether the host is online: `false` while the socket is not connected, `null` after the server has permanently closed it,
   * for example because the host has disabled the online status.
   */
  watch(uuid: string, changed: (online: boolean | null) => void, pings: () => boolean): { close(): void } {
    let timer = 0;
    const start = (): ReconnectingSocket =>
      new ReconnectingSocket({
        url: () => socketUrl(this.base, `ws/status/${uuid}/`, { v: 2 }),
        // The server sends nothing if the host is offline, so the host is shown as offline until a frame arrives.
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

  /** Logs that the server rejected the origin of the page. The message is addressed to the developers of the page. */
  logRejectedOrigin(): void {
    const { host, origin } = location;
    this.#logError(
      `the server rejected ${origin}. Register "${host}" as a domain of your service in the console (${new URL("console/", this.base).href}), under Settings.`,
    );
  }

  #logError(message: string): void {
    if (message !== this.#lastError) console.error(`PinTalk: ${message}`);
    this.#lastError = message;
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
