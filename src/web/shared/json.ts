// Encodes and decodes JSON independently of scripts of the page. Some old libraries add `toJSON` to the prototype of arrays.

/** Serialises a plain value. Ignores `toJSON` methods and omits properties whose value is `undefined`. */
export function encode(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const parts: string[] = [];
  if (Array.isArray(value)) {
    for (const item of value) parts.push(encode(item));
    return `[${parts.join(",")}]`;
  }
  for (const [name, item] of Object.entries(value)) {
    if (item !== undefined) parts.push(`${JSON.stringify(name)}:${encode(item)}`);
  }
  return `{${parts.join(",")}}`;
}

/** Parses JSON. Returns `null` if the string is invalid or `null`. */
export function decode(text: string | null): unknown {
  try {
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

/** Returns whether a parsed value is an object that is not an array. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
