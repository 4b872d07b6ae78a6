// The element: `<pintalk-widget access-key secret-key>`, or what the script's own tag asks for.
import { Store } from "../shared/store.js";
import { Panel } from "./panel.js";
import { Service } from "./service.js";
import { STYLE } from "./style.js";
import { Talk } from "./talk.js";
import { pick, WORDS } from "./words.js";

const script = document.currentScript ?? document.querySelector('script[src*="/widget.js"]');
const style = new CSSStyleSheet();
style.replaceSync(STYLE);

class PinTalkWidget extends HTMLElement {
  constructor() {
    super();
    this.root = this.attachShadow({ mode: "open" });
    this.root.adoptedStyleSheets = [style];
  }

  async connectedCallback() {
    const at = (name) => this.getAttribute(name);
    const service = new Service(at("server") ?? script?.src, at("access-key") ?? "", at("secret-key") ?? "");
    this.service = service;
    const client = await service.client();
    if (!client || service.isOver) return;
    const lang = pick(at("lang"), this.closest("[lang]")?.lang, navigator.language);
    const store = new Store(client.uuid, (name) => {
      talk.heardOf(name);
      panel.showSound();
    });
    let panel = null;
    const talk = new Talk(service, store, {
      // Once for all that happens at one moment.
      changed: () => (this.due ??= Promise.resolve().then(() => ((this.due = null), panel?.show()))),
      typing: () => panel?.showTyping(),
      news: (news) => (panel?.news(), this.tell({ type: "received", seq: news.at(-1).seq })),
      happened: (what) => this.tell(what),
    });
    const toggled = (open) => this.toggleAttribute("open", open);
    panel = new Panel(this.root, client, talk, { words: WORDS[lang], lang, store, toggled });
    this.panel = panel;
    if (this.wish != null) panel.toggle(this.wish, !this.wish);
    const watch = client.configs.useOnlineStatus && service.watch(client.uuid, (online) => panel.showPresence(online));
    this.stop = () => {
      for (const part of [talk, store, panel]) part.close();
      if (watch) watch.close();
      this.root.replaceChildren();
      this.panel = this.wish = null;
    };
  }

  disconnectedCallback() {
    this.service.isOver = true;
    this.stop?.();
    this.stop = null;
  }

  /** Opens the panel, or closes it. */
  toggle(open) {
    if (this.panel) this.panel.toggle(open);
    // Nobody has answered yet.
    else this.wish = open ?? !this.wish;
  }

  /** Tells the page what happened. */
  tell(detail) {
    this.dispatchEvent(new CustomEvent("pintalk", { detail, bubbles: true, composed: true }));
  }
}

customElements.get("pintalk-widget") ?? customElements.define("pintalk-widget", PinTalkWidget);

const add = () => {
  const { accessKey, secretKey } = script?.dataset ?? {};
  if ((accessKey ?? secretKey) == null || document.querySelector("pintalk-widget")) return;
  const widget = document.createElement("pintalk-widget");
  for (const [name, value] of Object.entries(script.dataset)) {
    widget.setAttribute(name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`), value);
  }
  document.body.append(widget);
};
if (document.body) add();
else addEventListener("DOMContentLoaded", add);
