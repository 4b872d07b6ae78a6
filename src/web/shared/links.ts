// Addresses in texts as links. Only http and https: no text becomes a link that runs a script.
import { type Child, h } from "./dom";

const MAX_ADDRESS = 2000; // characters: browsers and servers refuse longer ones
/**
 * What precedes an address, and the address: it begins with `http://`, `https://` or `www.` and not in the middle of a word. It has no blanks,
 * quotes, brackets of markup or CJK, and no invisible characters.
 */
const ADDRESS = new RegExp(
  `(^|[^\\p{L}\\p{N}_@./-])((?:https?://|www\\.)[^\\s<>"“”\`（）「」『』【】《》〈〉\\p{Cc}\\p{Cf}]{1,${MAX_ADDRESS}})`,
  "giu",
);
/** A host name in ASCII with a Korean particle behind it, which follows without a blank. */
const ASCII_HOST = /^(?:https?:\/\/)?[\w.-]*\.[a-z]{2,}(?::\d+)?(?=[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3])/i;
const PUNCTUATION = /[.,:;!?'’…、。，！？*_~|)\]}]$/;
const PAIRS: Record<string, string> = { ")": "(", "]": "[", "}": "{" };

/** An address without the punctuation of the sentence around it. A closing bracket stays if the address opens it. */
function trim(address: string): string {
  for (;;) {
    const last = address.slice(-1);
    if (!PUNCTUATION.test(last)) return address;
    const opening = PAIRS[last];
    if (opening && address.split(opening).length >= address.split(last).length) return address;
    address = address.slice(0, -1);
  }
}

function parse(address: string): URL | null {
  try {
    const url = new URL(/^www\./i.test(address) ? `https://${address}` : address);
    return /^https?:$/.test(url.protocol) && /^((?!www\.)[^.]+\..+|www\..+\..+|localhost|\[.+\])$/i.test(url.hostname) ? url : null;
  } catch {
    return null;
  }
}

/** A text as nodes: plain text, and links that open in a new tab and pass nothing on. */
export function linkify(text: string): Child[] {
  const nodes: Child[] = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const [, before = "", found = ""] = match;
    const start = match.index + before.length;
    const address = trim(ASCII_HOST.exec(found)?.[0] ?? found);
    const url = found.length < MAX_ADDRESS && parse(address);
    if (!url) continue;
    nodes.push(text.slice(end, start), h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", text: address }));
    end = start + address.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
