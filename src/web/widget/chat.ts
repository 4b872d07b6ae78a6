// The chat of one service on one page. It exists independently of its element. A page can therefore move, replace or duplicate its content without
// interrupting the conversation and its sockets.
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

/** Chats by server and keys. */
const chats = new Map<string, Chat>();

export class Chat {
  /** Content of the element's shadow root. */
  readonly root = h("div", { class: "widget" });
  isOpen = false;
  /** Whether the host is online; `null` if the host has disabled the online status. */
  presence: boolean | null = null;
  conversation: GuestConversation | null = null;
  client: Client | null = null;
  /** Elements of this chat on the page. Only the first one shows the chat. */
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

  /**
   * Attaches an element to the chat for its server and keys, and returns that chat. Creates the chat if none exists. The element shows the chat
   * unless another element already does.
   */
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
    // An element that is moved or replaced is attached again in the same task, so the chat is closed only in a later one.
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

  /** Applies the language of the element, of the page or of the browser, in this order. */
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

  /** Whether the panel is visible. */
  get isShown(): boolean {
    return this.isOpen && (!this.#elements[0]?.hidden || this.root.classList.contains("requested"));
  }

  /** Called when the page has set or removed the `hidden` attribute of the element. */
  hiddenChanged(): void {
    this.root.classList.remove("requested");
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

  /** Opens or closes the panel. Can be called before the server has answered. */
  toggle(open = !this.isShown): void {
    this.#isToggled = true;
    this.isOpen = open;
    // A page with its own button may hide the element, but the panel must be shown.
    this.root.classList.toggle("requested", open && Boolean(this.#elements[0]?.hidden));
    if (this.client) void this.#showOpen(true);
  }

  /** Applies `isOpen`. `isRequested` is `true` if a user or the page requested the change. In that case, the focus moves. */
  async #showOpen(isRequested: boolean): Promise<void> {
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
    this.#panel?.toggle(this.isOpen, isRequested);
    if (!this.isOpen && isRequested) this.#launcher?.element.focus({ preventScroll: true });
    this.#show();
  }

  get #isClosed(): boolean {
    return chats.get(this.key) !== this;
  }

  /** Loads the script of the panel once. Retries until it is loaded. */
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

  /** Schedules one update for all changes that occur in the current task. */
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

  /** Whether new messages play a sound. Guests can turn it on in each browser. */
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

  /** Storage of the tab. It is passed to the panel, because the script of the panel contains a separate copy of the storage module. */
  readonly storage = session;
}
