// The chat of one service on one page. It outlives its element: pages move their content, replace it and mount it twice, and the conversation and its
// sockets stay the same.
import type { ConversationHandlers } from "../shared/conversation";
import { h } from "../shared/dom";
import { pause } from "../shared/pause";
import { local, session } from "../shared/storage";
import { later } from "../shared/time";
import type { PinTalkWidget } from "./element";
import { forgetStored, GuestConversation } from "./guest";
import { Launcher } from "./launcher";
import { loading } from "./loading";
import type { Panel, PanelModule } from "./panel";
import { type Client, Service } from "./service";
import { showCount } from "./title";
import { keepInView } from "./top-layer";
import { pickLanguage, WORDS } from "./words";

const PANEL_RETRY_MS = 1000;
const MAX_PANEL_RETRY_MS = 30_000;
const OPEN_KEY = "pintalk:open";

/** By server and keys. */
const chats = new Map<string, Chat>();

export class Chat {
  /** What the element shows. */
  readonly root = h("div", { class: "widget" });
  isOpen = false;
  /** Whether the host is online; `null` if the host does not show it. */
  presence: boolean | null = null;
  conversation: GuestConversation | null = null;
  client: Client | null = null;
  /** The elements of this chat on the page. Only the first shows it. */
  readonly #elements: PinTalkWidget[] = [];
  #lang = "en";
  #launcher: Launcher | null = null;
  #panel: Panel | null = null;
  #panelModule: Promise<PanelModule> | null = null;
  #watcher: { close(): void } | null = null;
  #view: { update(): void; close(): void } | null = null;
  #isStarting = false;
  #isToggled = false;
  #isDue = false;

  private constructor(
    private readonly key: string,
    private readonly service: Service,
  ) {}

  /** Shows the chat of an element's attributes in it, unless another element of the page shows it. */
  static attach(element: PinTalkWidget): Chat {
    const at = (name: string) => element.getAttribute(name) ?? "";
    const base = element.hasAttribute("server") ? at("server").replace(/\/*$/, "/") : loading.base;
    const key = [base, at("access-key"), at("secret-key")].join(" ");
    const chat = chats.get(key) ?? new Chat(key, new Service(base, at("access-key"), at("secret-key")));
    chats.set(key, chat);
    chat.#elements.push(element);
    chat.#place();
    return chat;
  }

  detach(element: PinTalkWidget): void {
    const at = this.#elements.indexOf(element);
    if (at >= 0) this.#elements.splice(at, 1);
    if (this.#elements.length) this.#place();
    // Moved or replaced elements are added at once.
    else later(0, () => this.#elements.length || this.#close());
  }

  #place(): void {
    const element = this.#elements[0];
    const shadow = element?.shadowRoot;
    if (!element || !shadow) return;
    if (this.root.parentNode !== shadow) shadow.appendChild(this.root);
    element.toggleAttribute("open", this.isOpen);
    this.#view?.update();
    if (this.client) this.#panel?.moved();
    else void this.#start();
  }

  async #start(): Promise<void> {
    if (this.#isStarting) return;
    this.#isStarting = true;
    const client = await this.service.client(() => this.#elements.length > 0);
    this.#isStarting = false;
    if (!client || !this.#elements.length) return;
    this.client = client;
    this.setLanguage();
    this.#view = keepInView(this.root, () => this.setLanguage());
    this.#view.update();
    const handlers: ConversationHandlers = {
      changed: () => this.changed(),
      typing: () => this.#panel?.showTyping(),
      received: (messages) => {
        this.#panel?.received();
        if (this.hasSound && (document.hidden || !this.isShown)) void this.#loadPanel().then(({ playSound }) => playSound());
        this.#dispatch({ type: "received", seq: messages[messages.length - 1]?.seq });
      },
      event: (detail) => this.#dispatch(detail),
    };
    this.conversation = new GuestConversation(this.service, client.uuid, handlers, () => this.#dropDraft());
    if (client.usesOnlineStatus) {
      this.#watcher = this.service.watch(client.uuid, (online) => this.#showPresence(online), () => this.isOpen && !document.hidden);
      this.#showPresence(false);
    }
    if (!this.#isToggled) this.isOpen = session.get(OPEN_KEY) === "1";
    document.addEventListener("visibilitychange", this.#onVisible);
    addEventListener("pageshow", this.#onVisible);
    void this.#showOpen(this.#isToggled);
  }

  /** Shows the texts in the language of the element, the page or the browser. */
  setLanguage(): void {
    const element = this.#elements[0];
    if (!element || !this.client) return;
    const lang = pickLanguage(element.getAttribute("lang"), element.closest<HTMLElement>("[lang]")?.lang, navigator.language);
    const before = this.#launcher?.element;
    if (before && lang === this.#lang) return;
    this.#lang = lang;
    this.#launcher = new Launcher(WORDS[lang] ?? WORDS.en!, () => this.toggle(), () => void this.#loadPanel());
    this.root.appendChild(this.#launcher.element);
    if (!before) return;
    this.root.removeChild(before);
    if (this.#panel) this.root.removeChild(this.#panel.element);
    this.#panel?.close();
    this.#panel = null;
    this.#launcher.showPresence(this.presence);
    void this.#showOpen(false);
  }

  /** Whether a guest sees the panel. */
  get isShown(): boolean {
    return this.isOpen && (!this.#elements[0]?.hidden || this.root.classList.contains("asked"));
  }

  /** The page hides the element, or shows it again. */
  hiddenChanged(): void {
    this.root.classList.remove("asked");
    this.changed();
  }

  readonly #onVisible = (): void => {
    this.conversation?.sync();
    if (!document.hidden && this.isOpen) this.conversation?.probe();
    this.changed();
  };

  #close(): void {
    chats.delete(this.key);
    document.removeEventListener("visibilitychange", this.#onVisible);
    removeEventListener("pageshow", this.#onVisible);
    for (const part of [this.conversation, this.#watcher, this.#panel, this.#view]) part?.close();
    showCount(0);
    if (this.root.parentNode) this.root.parentNode.removeChild(this.root);
  }

  /** Opens the panel, or closes it; before the server has answered as well. */
  toggle(open = !this.isShown): void {
    this.#isToggled = true;
    this.isOpen = open;
    // A page with a button of its own hides the launcher.
    this.root.classList.toggle("asked", open && Boolean(this.#elements[0]?.hidden));
    if (this.client) void this.#showOpen(true);
  }

  /** `isAsked`: by a person or the page, so the focus follows. */
  async #showOpen(isAsked: boolean): Promise<void> {
    const { isOpen } = this;
    session.set(OPEN_KEY, isOpen ? "1" : "");
    this.#elements[0]?.toggleAttribute("open", isOpen);
    this.root.classList.toggle("open", isOpen);
    if (isOpen) {
      this.conversation?.probe();
      this.#show();
      const module = await this.#loadPanel();
      if (!this.conversation || !this.client || this.#isClosed) return;
      if (!this.#panel) {
        this.#panel = new module.Panel(this, this.conversation, this.client, this.#lang);
        this.root.insertBefore(this.#panel.element, this.root.firstChild);
        this.#panel.showPresence(this.presence);
      }
    }
    this.#panel?.toggle(this.isOpen, isAsked);
    if (!this.isOpen && isAsked) this.#launcher?.element.focus({ preventScroll: true });
    this.#show();
  }

  get #isClosed(): boolean {
    return chats.get(this.key) !== this;
  }

  /** Loads the panel's script, as often as it takes. */
  #loadPanel(): Promise<PanelModule> {
    return (this.#panelModule ??= (async () => {
      for (let attempt = 0; ; attempt++) {
        const url = `${loading.base}${loading.assets}/widget-panel.js${attempt ? `?${attempt}` : ""}`;
        try {
          return (await import(url)) as PanelModule;
        } catch (error) {
          if (this.#isClosed) throw error;
          await pause(Math.min(MAX_PANEL_RETRY_MS, PANEL_RETRY_MS * 2 ** attempt));
        }
      }
    })());
  }

  /** Shows what has changed, once for all that happens in one task. */
  changed(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    void Promise.resolve().then(() => {
      this.#isDue = false;
      this.#show();
    });
  }

  #show(): void {
    if (!this.conversation || this.#isClosed) return;
    this.#panel?.show();
    const { unread } = this.conversation;
    this.#launcher?.show(this.isOpen, unread);
    showCount(document.hidden || !this.isShown ? unread : 0);
  }

  #showPresence(online: boolean | null): void {
    this.presence = online;
    this.#launcher?.showPresence(online);
    this.#panel?.showPresence(online);
  }

  /** Whether a new message is audible, which guests turn on in this browser. */
  get hasSound(): boolean {
    return local.get(`pintalk:${this.client?.uuid}:sound`) === "true";
  }

  set hasSound(isOn: boolean) {
    local.set(`pintalk:${this.client?.uuid}:sound`, `${isOn}`);
  }

  /** Ends the conversation in this browser. */
  reset(): void {
    this.#dropDraft();
    if (this.conversation) this.conversation.end();
    else forgetStored();
    this.changed();
  }

  #dropDraft(): void {
    session.remove("pintalk:draft");
    this.#panel?.reset();
  }

  #dispatch(detail: object): void {
    this.#elements[0]?.dispatchEvent(new CustomEvent("pintalk", { detail, bubbles: true, composed: true }));
  }

  /** Shared with the panel, whose script has a copy of its own. */
  readonly storage = session;
}
