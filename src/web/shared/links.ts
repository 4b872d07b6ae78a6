// Finds web addresses in text. Only http and https addresses become links, so a link cannot run a script.
import { type Child, h } from "./dom";

const MAX_ADDRESS = 2000; // maximum length in characters; browsers and servers reject longer addresses

/**
 * Start of an address: `http://` or `https://` that does not follow an ASCII word character, or `www.` that does not follow a word, an address or a
 * path. An address contains no blanks, double quotation marks, backquotes, angle brackets, CJK brackets or invisible characters.
 */
const START = /(^|[^a-z0-9_])(https?:\/\/)|(^|[^\p{L}\p{N}_@./-])(?=www\.)/giu;
const CHARACTERS = new RegExp(`^[^\\s<>"“”\`（）「」『』【】《》〈〉\\p{Cc}\\p{Cf}]{1,${MAX_ADDRESS}}`, "u");
const AUTHORITY = /^(?:https?:\/\/)?(?:\[[0-9a-f:.]+\]|[\p{L}\p{M}\p{N}._-]+)(?::\d{1,5})?/iu;
/** End of a host name that a Korean particle follows without a blank. */
const PARTICLE = /(\.[a-z]{2,})[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]+$/i;
const PUNCTUATION = /[.,:;!?'’…、。，！？*_~|]+$/;
const BRACKETS: Record<string, string> = { ")": "(", "]": "[", "}": "{" };

/**
 * Removes punctuation of the surrounding sentence from the end of a path, query and fragment. Also removes closing brackets whose opening bracket
 * precedes the address.
 */
function trim(rest: string): string {
  const open: string[] = [];
  let end = 0;
  for (; end < rest.length; end++) {
    const character = rest.charAt(end);
    if ("([{".includes(character)) open.push(character);
    else if (BRACKETS[character] && open.pop() !== BRACKETS[character]) break;
  }
  return rest.slice(0, end).replace(PUNCTUATION, "");
}

/** Returns the address at the beginning of `text`, or an empty string if there is none. */
function addressOf(text: string): string {
  const all = CHARACTERS.exec(text)?.[0] ?? "";
  const authority = AUTHORITY.exec(all)?.[0] ?? "";
  const rest = all.slice(authority.length);
  // Rejects an address that is too long or contains a user name, which readers could mistake for the host of the link.
  if (all.length === MAX_ADDRESS || !authority || /^[^/?#]*@/.test(rest)) return "";
  if (/^[/?#]/.test(rest)) return authority + trim(rest);
  return authority.replace(PUNCTUATION, "").replace(PARTICLE, "$1");
}

function parse(address: string): URL | null {
  const isBare = /^www\./i.test(address);
  if (isBare && !/^www\..+\../i.test(address)) return null;
  try {
    const url = new URL(isBare ? `https://${address}` : address);
    return /^https?:$/.test(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** Converts text to nodes: plain text, and links that open in a new tab without a referrer or an opener. */
export function linkify(text: string): Child[] {
  const nodes: Child[] = [];
  let end = 0;
  START.lastIndex = 0;
  for (let match = START.exec(text); match; match = START.exec(text)) {
    const start = match.index + (match[1] ?? match[3] ?? "").length;
    const address = addressOf(text.slice(start, start + MAX_ADDRESS));
    const url = parse(address);
    START.lastIndex = Math.max(start + (url ? address.length : 0), match.index + 1);
    if (!url) continue;
    nodes.push(text.slice(end, start), h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", text: address }));
    end = start + address.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
