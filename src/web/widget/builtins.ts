// Built-in objects under their own names: `Map`, `URL` and others are popular names for a page's own scripts. The bundler puts these in place of the global
// names in every module of the widget.

type Names = Record<string, unknown>;

/** Each with a method if it is no constructor. */
const NAMES = "AbortController Blob CustomEvent JSON.parse Map MutationObserver Promise Set URL URLSearchParams WeakSet crypto.getRandomValues performance.now".split(" ");

const own = window as unknown as Names;

function isNative(name: string): boolean {
  const [object = "", method] = name.split(".");
  const code = method ? (own[object] as Names | undefined)?.[method] : own[object];
  return typeof code === "function" && Function.prototype.toString.call(code).includes("[native code]");
}

/** The built-ins of a document that no script of the page has touched. They work after its frame is removed. */
function clean(): Names {
  const frame = document.createElement("iframe");
  frame.hidden = true;
  document.documentElement.appendChild(frame);
  const inside = frame.contentWindow as unknown as Names | null;
  const found: Names = {};
  // All of them: browsers create them when they are read, and no more once the frame is removed.
  for (const [name = ""] of NAMES.map((name) => name.split("."))) found[name] = inside?.[name] ?? own[name];
  document.documentElement.removeChild(frame);
  return found;
}

const from = NAMES.every(isNative) ? own : clean();
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
