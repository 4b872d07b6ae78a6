// The element `<pintalk-widget>`: attributes, methods and events for the page. Its content belongs to the chat.
import { later } from "../shared/time";
import { Chat } from "./chat";
import { contain } from "./isolation";
import { adoptStyle } from "./style";
import style from "./widget.css";

export class PinTalkWidget extends HTMLElement {
  static readonly observedAttributes = ["access-key", "secret-key", "server", "hidden", "lang"];

  /** Whether the page has removed the element with `remove()`. */
  isRemoved = false;
  #chat: Chat | null = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    adoptStyle(root, style);
    contain(root);
  }

  connectedCallback(): void {
    this.isRemoved = false;
    // Scripts may set the keys after they have added the element. If the keys are missing, the chat is attached in a later task.
    if (this.hasAttribute("access-key") && this.hasAttribute("secret-key")) this.#attach();
    else later(0, () => this.isConnected && !this.#chat && this.#attach());
  }

  #attach(): void {
    // This code runs outside the zone of Angular, which would otherwise check the whole page for changes after each timer.
    const { Zone } = window as unknown as { Zone?: { root: { run(call: () => void): void } } };
    const attach = () => {
      this.#chat = Chat.attach(this);
    };
    if (Zone?.root) Zone.root.run(attach);
    else attach();
  }

  disconnectedCallback(): void {
    this.#chat?.detach(this);
    this.#chat = null;
  }

  attributeChangedCallback(name: string, before: string | null, value: string | null): void {
    if (!this.#chat || before === value) return;
    if (name === "lang") return this.#chat.setLanguage();
    if (name === "hidden") return this.#chat.hiddenChanged();
    this.disconnectedCallback();
    this.#attach();
  }

  /** Opens or closes the panel. Without an argument, toggles it. */
  toggle(open?: boolean): void {
    this.#chat?.toggle(open);
  }

  /** Shows the widget after a call to `hide()`. */
  show(): void {
    this.hidden = false;
  }

  /** Hides the launcher and the panel. The conversation remains connected, and `toggle(true)` still opens the panel. */
  hide(): void {
    this.hidden = true;
  }

  /** Ends the conversation in this browser and deletes its local copy. */
  reset(): void {
    this.#chat?.reset();
  }

  override remove(): void {
    this.isRemoved = true;
    this.parentNode?.removeChild(this);
  }
}
