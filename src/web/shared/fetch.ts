// HTTP requests with a timeout.
import { isRecord } from "./json";

/** Error: the response is not JSON, because a captive portal or a proxy sent it. */
export class NotJsonError extends Error {
  constructor(readonly status: number) {
    super("the response is not JSON");
  }
}

/**
 * Sends a request and reads its response. Rejects with a `TypeError` if the server is unreachable, and with an `AbortError` after the timeout. The
 * timeout includes reading the body.
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
    // The URL is passed as a string, because scripts of the page that wrap `fetch` expect one.
    return await read(await fetch(`${url}`, { ...init, signal: controller.signal }));
  } finally {
    clearTimeout(timer);
  }
}

/** Returns the JSON object in a response, or `null` for 204. Rejects with [`NotJsonError`] if the body is not a JSON object. */
export async function readJson(response: Response): Promise<Record<string, unknown> | null> {
  if (response.status === 204) return null;
  const text = await response.text();
  try {
    const value: unknown = JSON.parse(text);
    if (isRecord(value)) return value;
  } catch {
    // The error is thrown below.
  }
  throw new NotJsonError(response.status);
}
