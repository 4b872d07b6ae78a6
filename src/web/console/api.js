// Calls of the API for a host who is logged in. His access token lives here and nowhere else; what renews it is a cookie that no
// script sees.

const WAITS_MS = [500, 1000, 2000, 4000];
const MAY_PASS = [0, 502, 503, 504]; // what a node that restarts, or nobody, answers

const LONGEST_WAIT_MS = 10_000;
const WRONG_PASSWORD = "Wrong password."; // a 401 that is not about the token

/** Waits before another try: about so long, and never shorter than the server has asked for. */
export const pause = (ms, { retryAfter }) =>
  new Promise((resolve) => setTimeout(resolve, Math.max(ms * (0.5 + Math.random()), 1000 * (retryAfter || 0))));
/** The same for whoever tries until it goes well: longer and longer. */
export const pauseBefore = (tries, error) => pause(Math.min(LONGEST_WAIT_MS, 500 * 2 ** tries), error);

export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? (status ? `HTTP ${status}` : ""));
    Object.assign(this, { status, fields: body?.fields ?? {}, retryAfter });
  }
}

async function once(method, path, { token, body } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const isForm = body instanceof FormData;
  if (body && !isForm) headers["Content-Type"] = "application/json";
  const sent = { method, headers, body: isForm ? body : body && JSON.stringify(body) };
  const response = await fetch(path, sent).catch(() => {
    throw new ApiError(0);
  });
  if (response.ok) return response;
  throw new ApiError(response.status, await response.json().catch(() => null), +response.headers.get("Retry-After"));
}

const json = async (response) => (response.status === 204 ? null : response.json());

export class Api {
  constructor() {
    this.user = null;
    this.token = "";
    this.onended = () => {};
    this.onwaiting = () => {};
  }

  /** A call that needs no login. */
  async open(method, path, body) {
    return json(await once(method, path, { body }));
  }

  /** A call of the host's; its JSON. */
  async call(method, path, body) {
    return json(await this.raw(method, path, body));
  }

  /** The same; the answer itself. */
  async raw(method, path, body) {
    try {
      return await this.patiently(method, path, body);
    } catch (error) {
      if (error.status !== 401 || error.message === WRONG_PASSWORD) throw error;
      await this.refresh();
      return this.patiently(method, path, body);
    }
  }

  /** Asks again where that does no harm: a node that restarts is not worth a word. */
  async patiently(method, path, body) {
    for (const wait of WAITS_MS) {
      try {
        return await once(method, path, { token: this.token, body });
      } catch (error) {
        if (method !== "GET" || !MAY_PASS.includes(error.status)) throw error;
        this.onwaiting();
        await pause(wait, error);
      }
    }
    return once(method, path, { token: this.token, body });
  }

  /** A new access token, by the cookie; once for all who need one. Until a server can say, it is asked again. */
  refresh() {
    this.refreshing ??= (async () => {
      for (let tries = 0; ; tries++) {
        try {
          const answer = await json(await once("POST", "/api/auth/token/refresh/"));
          this.token = answer.accessToken;
          return;
        } catch (error) {
          if (error.status === 401) {
            this.end(true);
            throw error;
          }
          this.onwaiting();
          await pauseBefore(tries, error);
        }
      }
    })().finally(() => (this.refreshing = null));
    return this.refreshing;
  }

  /** Who is logged in on this browser, if anybody. Fails while the server cannot say. */
  async resume() {
    try {
      await this.refresh();
      const claims = JSON.parse(atob(this.token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
      this.user = await this.call("GET", `/api/users/${claims.user_id}/`);
    } catch (error) {
      if (error.status !== 401) throw error;
    }
    return this.user;
  }

  async logIn(email, password) {
    const { accessToken, ...user } = await this.open("POST", "/api/auth/login/", { email, password });
    Object.assign(this, { token: accessToken, user });
  }

  /** Ends this login. Where that fails he is still logged in, and must know it. */
  async logOut() {
    try {
      await this.call("POST", "/api/auth/logout/");
    } catch (error) {
      // Somebody has ended it before.
      if (error.status !== 401) throw error;
    }
    this.end();
  }

  /** Nobody is logged in any more. `byOthers`: it was not he who ended it here. */
  end(byOthers = false) {
    const was = this.user;
    Object.assign(this, { token: "", user: null });
    if (was) this.onended(byOthers);
  }
}
