// Exports the native built-ins for the widget, because scripts of the page may have replaced globals such as `Map` or `URL`. In every module of the
// widget, the bundler replaces the global names with these exports.

type Names = Record<string, unknown>;

/** Names of the built-ins: constructors, and one method of each object that is not a constructor. */
const NAMES = "AbortController Blob CustomEvent JSON.parse Map MutationObserver Promise Set URL URLSearchParams WeakSet crypto.getRandomValues performance.now".split(" ");

const page = window as unknown as Names;

function isNative(name: string): boolean {
  const [object = "", method] = name.split(".");
  const code = method ? (page[object] as Names | undefined)?.[method] : page[object];
  return typeof code === "function" && Function.prototype.toString.call(code).includes("[native code]");
}

/**
 * Returns the built-ins of a new document, which scripts of the page have not replaced. They remain usable after the frame of the document is
 * removed.
 */
function clean(): Names {
  const frame = document.createElement("iframe");
  frame.hidden = true;
  document.documentElement.appendChild(frame);
  const inside = frame.contentWindow as unknown as Names | null;
  const found: Names = {};
  // All built-ins are read before the frame is removed, because browsers create them on first access.
  for (const [name = ""] of NAMES.map((name) => name.split("."))) found[name] = inside?.[name] ?? page[name];
  document.documentElement.removeChild(frame);
  return found;
}

const from = NAMES.every(isNative) ? page : clean();
const builtin = <T>(name: string): T => from[name] as T;

const AbortController_ = builtin<typeof AbortController>("AbortController");
const Blob_ = builtin<typeof Blob>("Blob");
const CustomEvent_ = builtin<typeof CustomEvent>("CustomEvent");
const JSON_ = builtin<typeof JSON>("JSON");
const Map_ = builtin<typeof Map>("Map");
const MutationObserver_ = builtin<typeof MutationObserver>("MutationObserver");
const Promise_ = builtin<typeof Promise>("Promise");
const Set_ = builtin<typeof Set>("Set");
const URL_ = builtin<typeof URL>("URL");
const WeakSet_ = builtin<typeof WeakSet>("WeakSet");
const crypto_ = builtin<Crypto>("crypto");
const performance_ = builtin<Performance>("performance");

export {
  AbortController_ as AbortController,
  Blob_ as Blob,
  CustomEvent_ as CustomEvent,
  JSON_ as JSON,
  Map_ as Map,
  MutationObserver_ as MutationObserver,
  Promise_ as Promise,
  Set_ as Set,
  URL_ as URL,
  WeakSet_ as WeakSet,
  crypto_ as crypto,
  performance_ as performance,
};
