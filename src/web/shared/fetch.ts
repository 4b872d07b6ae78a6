// HTTP requests with a timeout.
import { isRecord } from "./json";

/** The response is not JSON: a captive portal or a proxy sent it. */
export class NotJsonError extends Error {
  constructor(readonly status: number) {
    super("the response is not JSON");
  }
}

/**
 * Sends a request and reads its response. Rejects with a `TypeError` if the server is unreachable and with an `AbortError` after the timeout,
 * which includes reading the body.
 */
export async function fetchWithTimeout<T>(
  url: URL | string,
  init: RequestInit,
  timeoutMs: number,
  read: (response: Response) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), timeoutMs);
  try {
    // A string: scripts of the page that wrap `fetch` expect one.
    return await read(await fetch(`${url}`, { ...init, signal: controller.signal }));
  } finally {
    clearTimeout(timer);
  }
}

/** The JSON object of a response; `null` for 204. Rejects with [`NotJsonError`] if the body is anything else. */
export async function readJson(response: Response): Promise<Record<string, unknown> | null> {
  if (response.status === 204) return null;
  const text = await response.text();
  try {
    const value: unknown = JSON.parse(text);
    if (isRecord(value)) return value;
  } catch {
    // Reported below.
  }
  throw new NotJsonError(response.status);
}
