// HTTP requests that end: with a response, an error or a timeout.
import { isRecord } from "./json";

/** A response whose body is not JSON although JSON was expected: a captive portal or a proxy answered. */
export class NotJsonError extends Error {
  constructor(readonly status: number) {
    super("the response is not JSON");
  }
}

/**
 * A response with its body read as text. Rejects with a `TypeError` if the server cannot be reached and with an `AbortError` after the
 * timeout, which covers the body as well.
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
    // A text: scripts of the page wrap `fetch` and expect one.
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
