// The element `<pintalk-widget>`: attributes, methods and events for the page. What it shows belongs to its chat.
import { Chat } from "./chat";
import { contain } from "./isolation";
import { adoptStyle } from "./style";
import style from "./widget.css";

export class PinTalkWidget extends HTMLElement {
  static readonly observedAttributes = ["access-key", "secret-key", "server"];

  /** Whether the page has removed it by `remove()`. */
  isRemoved = false;
  private chat: Chat | null = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    adoptStyle(root, style);
    contain(root);
  }

  connectedCallback(): void {
    this.isRemoved = false;
    // zone.js would check the whole page for changes after each timer.
    const { Zone } = window as unknown as { Zone?: { root: { run(call: () => void): void } } };
    const attach = () => {
      this.chat = Chat.attach(this);
    };
    if (Zone?.root) Zone.root.run(attach);
    else attach();
  }

  disconnectedCallback(): void {
    this.chat?.detach(this);
    this.chat = null;
  }

  attributeChangedCallback(_name: string, before: string | null, value: string | null): void {
    if (!this.chat || before === value) return;
    this.disconnectedCallback();
    this.connectedCallback();
  }

  /** Opens the panel, or closes it; without an argument it does the other of both. */
  toggle(open?: boolean): void {
    this.chat?.toggle(open);
  }

  /** Shows the widget again. */
  show(): void {
    this.hidden = false;
  }

  /** Hides the widget. Its conversation stays connected, and its events go on. */
  hide(): void {
    this.hidden = true;
  }

  /** Ends the conversation in this browser: nothing of it is shown or kept here any more. */
  reset(): void {
    this.chat?.reset();
  }

  override remove(): void {
    this.isRemoved = true;
    this.parentNode?.removeChild(this);
  }
}
