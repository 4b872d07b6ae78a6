// Calls of the API for a host who is logged in. His access token lives here and nowhere else; what renews it is a cookie that no
// script sees.

const WAITS_MS = [500, 1000, 2000, 4000];
const MAY_PASS = [0, 502, 503, 504]; // what a node that restarts, or nobody, answers

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

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

/** Asks again where that does no harm: a node that restarts is not worth a word. */
async function patiently(method, path, options) {
  for (const wait of WAITS_MS) {
    try {
      return await once(method, path, options);
    } catch (error) {
      if (method !== "GET" || !MAY_PASS.includes(error.status)) throw error;
      await sleep(Math.max(wait, 1000 * (error.retryAfter || 0)) * (0.5 + Math.random()));
    }
  }
  return once(method, path, options);
}

const json = async (response) => (response.status === 204 ? null : response.json());

export class Api {
  constructor() {
    this.user = null;
    this.token = "";
    this.onended = () => {};
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
      return await patiently(method, path, { token: this.token, body });
    } catch (error) {
      if (error.status !== 401 || path.startsWith("/api/auth/")) throw error;
      await this.refresh();
      return patiently(method, path, { token: this.token, body });
    }
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
            this.end();
            throw error;
          }
          await sleep(Math.min(10_000, 500 * 2 ** tries) * (0.5 + Math.random()));
        }
      }
    })().finally(() => (this.refreshing = null));
    return this.refreshing;
  }

  /** Who is logged in on this browser, if anybody. */
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

  async logOut() {
    await this.call("POST", "/api/auth/logout/").catch(() => {});
    this.end();
  }

  end() {
    const was = this.user;
    Object.assign(this, { token: "", user: null });
    if (was) this.onended();
  }
}
