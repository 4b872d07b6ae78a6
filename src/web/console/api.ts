// API client of the logged-in host. The access token exists only in the memory of this client. Scripts cannot read the refresh cookie, which renews
// the token.
import { NotJsonError, fetchWithTimeout, readJson } from "../shared/fetch";
import { encode, isRecord } from "../shared/json";
import { backOff, pause } from "./backoff";
import { Connection, type Problem } from "./connection";
import { ShapeError, loginFrom, noContent, tokenFrom, userFrom, userIdFrom, type User } from "./model";
import { pathOf } from "./page";

const CALL_TIMEOUT_MS = 15_000;
const FIRST_REFRESH_TIMEOUT_MS = 7000; // The response may be lost; with this timeout, the retry is sent while the server still accepts the used cookie (10 s).
const SUSPECT_TIMEOUT_MS = 1000; // timeout for the first attempt of a GET while connections are suspect
const SUSPECT_MS = 5000;
const TRANSFER_TIMEOUT_MS = 120_000; // timeout for uploads and downloads
const RETRY_WAITS_MS = [500, 1000, 2000, 4000];
const MAX_RETRY_AFTER_S = 3600;
const UNAVAILABLE = [502, 503, 504]; // statuses of a node that is restarting, or of a proxy that reaches no node
const PROXY_STATUSES = [413, 429, 500]; // statuses that a proxy may return with its own page
const WRONG_PASSWORD = "Wrong password."; // `detail` of a 401 that does not mean that the token is invalid

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** Converts the JSON of a response to a value, or throws a `ShapeError`. */
type Parse<T> = (value: unknown) => T;

/** Makes a call with the given timeout, or with the default. */
type Call<T> = (timeoutMs?: number) => Promise<T>;

/**
 * Error of a call. `status` is the HTTP status, or 0 if there was no valid response. `problem` is set if the server is unreachable or unavailable, or
 * if a captive portal or a proxy intercepted the call.
 */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem | null,
    detail = "",
    readonly fields: Record<string, string> = {},
    readonly retryAfter = 0,
  ) {
    super(detail || (status ? `HTTP ${status}` : ""));
  }

  /** Whether the token is invalid or expired, or the login has ended. */
  get isUnauthorized(): boolean {
    return this.status === 401 && this.message !== WRONG_PASSWORD;
  }
}

interface Sent {
  token?: string;
  body?: unknown;
  timeoutMs?: number;
}

function retryAfterOf(response: Response): number {
  const seconds = Number(response.headers.get("Retry-After") ?? 0);
  return seconds > 0 ? Math.min(seconds, MAX_RETRY_AFTER_S) : 0;
}

function textsOf(fields: unknown): Record<string, string> {
  if (!isRecord(fields)) return {};
  return Object.fromEntries(Object.entries(fields).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

/** Converts an error response. Only JSON of the form `{code, detail}` is treated as a response of the server. */
async function errorOf(response: Response): Promise<ApiError> {
  const { status } = response;
  const retryAfter = retryAfterOf(response);
  const body = await readJson(response).catch(() => null);
  const isUnavailable = UNAVAILABLE.includes(status);
  if (body && body.code === status && typeof body.detail === "string") {
    return new ApiError(status, isUnavailable ? "unavailable" : null, body.detail, textsOf(body.fields), retryAfter);
  }
  // The server sends its errors as JSON, so a 500 without valid JSON comes from a proxy.
  if (isUnavailable || status === 500) return new ApiError(0, "unavailable", "", {}, retryAfter);
  return PROXY_STATUSES.includes(status) ? new ApiError(status, null, "", {}, retryAfter) : new ApiError(0, "intercepted");
}

function initOf(method: Method, { token, body }: Sent): RequestInit {
  const headers: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};
  // The API has no redirects. A redirect comes from a captive portal and leads to its sign-in page.
  const init: RequestInit = { method, headers, redirect: "manual" };
  if (body instanceof FormData) init.body = body;
  else if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = encode(body);
  }
  return init;
}

/** Makes a call without retries and reads the response. Rejects with an `ApiError`. */
async function fetchOnce<T>(method: Method, path: string, sent: Sent, read: (response: Response) => Promise<T>): Promise<T> {
  try {
    return await fetchWithTimeout(pathOf(path), initOf(method, sent), sent.timeoutMs ?? CALL_TIMEOUT_MS, async (response) => {
      if (response.type === "opaqueredirect") throw new ApiError(0, "intercepted");
      if (!response.ok) throw await errorOf(response);
      return read(response);
    });
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(0, error instanceof NotJsonError || error instanceof ShapeError ? "intercepted" : "unreachable");
  }
}

const reader =
  <T>(parse: Parse<T>) =>
  async (response: Response): Promise<T> =>
    parse(await readJson(response));

/** Downloaded file. `name` is `null` if the response contains no valid file name. */
export interface Download {
  name: string | null;
  content: Blob;
}

function decodedName(encoded: string | undefined): string | null {
  try {
    return encoded ? decodeURIComponent(encoded) : null;
  } catch {
    return null;
  }
}

async function readDownload(response: Response): Promise<Download> {
  const disposition = response.headers.get("Content-Disposition");
  if (!disposition?.startsWith("attachment")) throw new ApiError(0, "intercepted");
  return { name: decodedName(/filename\*=UTF-8''([^;]+)/.exec(disposition)?.[1]), content: await response.blob() };
}

export class Api {
  token = "";
  readonly connection = new Connection(() => this.#probe());
  /** Called when the login has ended. `elsewhere` is `false` if it was ended in this tab. */
  onEnded: (elsewhere: boolean) => void = () => {};
  #user: User | null = null;
  /** Time until which connections are suspect, in milliseconds since the epoch. */
  #suspectUntil = 0;
  #refreshing: Promise<void> | null = null;

  get isLoggedIn(): boolean {
    return this.#user !== null;
  }

  /** The logged-in host. Throws an `ApiError` if no host is logged in. */
  get user(): User {
    if (!this.#user) throw new ApiError(401, null, "This login has ended.");
    return this.#user;
  }

  set user(user: User) {
    this.#user = user;
  }

  /** Makes a call without a login. */
  callPublic<T>(method: Method, path: string, parse: Parse<T>, body?: unknown): Promise<T> {
    return this.#observed(() => fetchOnce(method, path, { body }, reader(parse)));
  }

  /** Makes a call as the host. Retries a GET if the server does not answer, and renews an expired access token. */
  call<T>(method: Method, path: string, parse: Parse<T>, body?: unknown): Promise<T> {
    const defaultMs = body instanceof FormData ? TRANSFER_TIMEOUT_MS : CALL_TIMEOUT_MS;
    return this.#authorized(method, (timeoutMs = defaultMs) => fetchOnce(method, path, { token: this.token, body, timeoutMs }, reader(parse)));
  }

  /** Downloads a file. */
  download(path: string): Promise<Download> {
    const call = (): Promise<Download> => fetchOnce("GET", path, { token: this.token, timeoutMs: TRANSFER_TIMEOUT_MS }, readDownload);
    return this.#authorized("GET", call);
  }

  /**
   * Marks the open connections of the browser as suspect, because the device was asleep or has changed its network. For a few seconds, a GET has a
   * short timeout for its first attempt. The retry makes the browser open another connection.
   */
  suspectConnections(): void {
    this.#suspectUntil = Date.now() + SUSPECT_MS;
  }

  async #authorized<T>(method: Method, call: Call<T>): Promise<T> {
    try {
      return await this.#retried(method, call);
    } catch (error) {
      if (!(error instanceof ApiError && error.isUnauthorized)) throw error;
      await this.refresh();
      return this.#retried(method, call);
    }
  }

  async #retried<T>(method: Method, call: Call<T>): Promise<T> {
    const isRepeatable = method === "GET";
    if (isRepeatable && Date.now() < this.#suspectUntil) {
      try {
        return await call(SUSPECT_TIMEOUT_MS);
      } catch (error) {
        // If the server did not answer, the next attempt determines whether it is reachable.
        if (!(error instanceof ApiError && error.problem)) throw error;
      }
    }
    for (const wait of isRepeatable ? RETRY_WAITS_MS : []) {
      try {
        return await this.#observed(() => call());
      } catch (error) {
        if (!(error instanceof ApiError && error.problem)) throw error;
        await pause(wait, error.retryAfter);
      }
    }
    return this.#observed(() => call());
  }

  /** Makes a call and reports its outcome to `connection`. */
  async #observed<T>(call: () => Promise<T>): Promise<T> {
    try {
      const answer = await call();
      this.connection.succeeded();
      return answer;
    } catch (error) {
      if (error instanceof ApiError && error.problem) this.connection.failed(error.problem);
      else if (error instanceof ApiError) this.connection.succeeded();
      throw error;
    }
  }

  #probe(): Promise<void> | null {
    return this.#user && this.#probeAs(this.#user.id);
  }

  async #probeAs(id: number): Promise<void> {
    try {
      await this.#observed(() => fetchOnce("GET", `api/users/${id}/`, { token: this.token }, reader(userFrom)));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // `#observed` has already reported the failure to `connection`.
    }
  }

  /** Renews the access token with the refresh cookie. Concurrent callers share one renewal. Retries until the server accepts or rejects it. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refreshUntilAnswered().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #refreshUntilAnswered(): Promise<void> {
    for (let attempts = 0; ; attempts++) {
      try {
        const timeoutMs = attempts ? CALL_TIMEOUT_MS : FIRST_REFRESH_TIMEOUT_MS;
        this.token = await this.#observed(() => fetchOnce("POST", "api/auth/token/refresh/", { timeoutMs }, reader(tokenFrom)));
        return;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.isUnauthorized) {
          this.end(true);
          throw error;
        }
        await backOff(attempts, error.retryAfter);
      }
    }
  }

  /** Resumes the login of this browser. Resolves to `false` if there is none. Rejects if the server does not answer. */
  async resume(): Promise<boolean> {
    try {
      await this.refresh();
      this.#user = await this.call("GET", `api/users/${userIdFrom(this.token)}/`, userFrom);
    } catch (error) {
      if (error instanceof ShapeError) throw new ApiError(0, "intercepted");
      if (!(error instanceof ApiError && error.isUnauthorized)) throw error;
    }
    return this.isLoggedIn;
  }

  async logIn(email: string, password: string): Promise<void> {
    const { accessToken, user } = await this.callPublic("POST", "api/auth/login/", loginFrom, { email, password });
    this.token = accessToken;
    this.#user = user;
  }

  /** Ends the login. Rejects if the call fails; the host then remains logged in. */
  async logOut(): Promise<void> {
    try {
      await this.call("POST", "api/auth/logout/", noContent);
    } catch (error) {
      // An unauthorized response means that the login has already ended.
      if (!(error instanceof ApiError && error.isUnauthorized)) throw error;
    }
    this.end();
  }

  /** Drops the login. `elsewhere` is `false` if the login was ended in this tab. */
  end(elsewhere = false): void {
    const wasLoggedIn = this.isLoggedIn;
    this.token = "";
    this.#user = null;
    if (!wasLoggedIn) return;
    this.connection.reset();
    this.onEnded(elsewhere);
  }
}
