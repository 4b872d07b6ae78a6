// What a browser keeps for one conversation, shared by all tabs. What it does not want to keep, this tab remembers.

const memory = new Map();
const attempt = (call) => {
  try {
    return call();
  } catch {
    return undefined;
  }
};

export class Store {
  /** `changed(name)` is called when another tab has changed something. */
  constructor(name, changed) {
    this.prefix = `pintalk:${name}:`;
    this.listener = ({ key }) => key?.startsWith(this.prefix) && changed(key.slice(this.prefix.length));
    addEventListener("storage", this.listener);
  }

  close() {
    removeEventListener("storage", this.listener);
  }

  get(name) {
    const key = this.prefix + name;
    const text = attempt(() => localStorage.getItem(key)) ?? memory.get(key);
    return text == null ? null : (attempt(() => JSON.parse(text)) ?? null);
  }

  set(name, value) {
    const key = this.prefix + name;
    const text = JSON.stringify(value);
    memory.delete(key);
    if (value === null) attempt(() => localStorage.removeItem(key));
    else if (!attempt(() => localStorage.setItem(key, text) ?? true)) memory.set(key, text);
  }

  /** What is still to be sent, oldest first. Each message has a place of its own, so that tabs do not overwrite each other's. */
  list() {
    const prefix = `${this.prefix}out:`;
    const keys = new Set([...memory.keys(), ...(attempt(() => Object.keys(localStorage)) ?? [])]);
    return [...keys]
      .filter((key) => key.startsWith(prefix))
      .map((key) => this.get(key.slice(this.prefix.length)))
      .filter((message) => message)
      .sort((one, other) => one.at - other.at || (one.id < other.id ? -1 : 1));
  }

  put(message) {
    this.set(`out:${message.id}`, message);
  }

  remove(id) {
    this.set(`out:${id}`, null);
  }
}

/** What this tab alone keeps over a reload. */
export const tab = {
  get: (name) => attempt(() => sessionStorage.getItem(`pintalk:${name}`)) ?? "",
  set: (name, value) => attempt(() => sessionStorage.setItem(`pintalk:${name}`, value)),
};
