// Pages without a login: sign-in, sign-up with an e-mailed code, and password reset.
import { h, icon, type Child } from "../shared/dom";
import { local } from "../shared/storage";
import type { Api } from "./api";
import { ICONS } from "./icons";
import { acceptedFrom, detailFrom, noContent } from "./model";
import { isSignUpOpen } from "./page";
import { field, form, toast, usernameFor, type View } from "./parts";
import { translated } from "./sentences";
import { words } from "./words";

function sheet(...body: Child[]): HTMLElement {
  const brand = h("h1", {}, h("span", { class: "brand", "aria-hidden": "true" }, icon(ICONS.bubble)), "PinTalk");
  return h("main", { class: "signin" }, h("div", { class: "sheet" }, brand, ...body));
}

/** Page that is shown until it is known whether this browser is logged in. */
export class Waiting implements View {
  readonly element: HTMLElement;
  readonly #status = h("p", { role: "status" });

  constructor(text: string) {
    this.element = sheet(this.#status);
    this.update(text);
  }

  update(text: string): void {
    if (this.#status.textContent !== text) this.#status.textContent = text;
  }

  close(): void {}
}

/**
 * Returns whether this browser stores cookies of the page. `navigator.cookieEnabled` alone is not sufficient, because in Chromium it is `true` even
 * if cookies are blocked.
 */
function keepsCookies(): boolean {
  try {
    document.cookie = "pintalk-check=1; SameSite=Lax; Max-Age=60";
    const isKept = document.cookie.includes("pintalk-check=1");
    document.cookie = "pintalk-check=; SameSite=Lax; Max-Age=0";
    return isKept && navigator.cookieEnabled;
  } catch {
    return false;
  }
}

/** Returns a notice about the consequences of blocked site data; `null` if no site data is blocked. */
function siteDataNotice(): HTMLElement | null {
  const text = keepsCookies() ? (local.isAvailable ? "" : words.storageBlocked) : words.cookiesBlocked;
  return text ? h("p", { class: "warning", role: "note", text }) : null;
}

export class SignIn implements View {
  readonly element: HTMLElement;
  readonly #body = h("div");

  /** `done()` is called after a login. `greeting` is shown above the form. */
  constructor(
    private readonly api: Api,
    private readonly done: () => void,
    private readonly greeting: string,
  ) {
    this.element = sheet(this.#body, siteDataNotice());
    this.#showSignIn();
  }

  close(): void {}

  entered(): void {
    this.#body.querySelector<HTMLElement>("input:not([hidden])")?.focus();
  }

  #show(title: string, text: string, ...parts: HTMLElement[]): void {
    this.#body.replaceChildren(h("h2", { text: title }), h("p", { class: "faint", text }), ...parts);
    this.entered();
  }

  #link(text: string, onclick: () => void): HTMLElement {
    return h("button", { class: "link", type: "button", text, onclick });
  }

  #links(...links: HTMLElement[]): HTMLElement {
    return h("p", { class: "links" }, ...links);
  }

  #backToSignIn(): HTMLElement {
    return this.#links(this.#link(words.backToSignIn, () => this.#showSignIn()));
  }

  #showSignIn(): void {
    const fields = [
      field("email", words.email, { type: "email", autocomplete: "username" }),
      field("password", words.password, { type: "password", autocomplete: "current-password" }),
    ];
    const send = async ({ email = "", password = "" }): Promise<void> => {
      await this.api.logIn(email, password);
      this.done();
    };
    this.#show(
      words.signIn,
      this.greeting,
      form(fields, words.signIn, send),
      this.#links(
        ...(isSignUpOpen ? [this.#link(words.signUp, () => this.#showSignUp())] : []),
        this.#link(words.forgot, () => this.#showMail(words.forgot, "password-reset")),
        this.#link(words.restore, () => this.#showMail(words.restore, "restore")),
      ),
    );
  }

  /** Shows the form that requests a temporary password by e-mail. */
  #showMail(title: string, call: "password-reset" | "restore"): void {
    const send = async (values: object): Promise<void> => {
      toast(translated(await this.api.callPublic("POST", `api/auth/${call}/`, detailFrom, values)));
      this.#showSignIn();
    };
    const email = field("email", words.email, { type: "email", autocomplete: "username" });
    this.#show(title, "", form([email], words.mailPassword, send), this.#backToSignIn());
  }

  #showSignUp(): void {
    const send = async (values: Record<string, string>): Promise<void> => {
      await this.api.callPublic("POST", "api/auth/check-email/", acceptedFrom, values);
      await this.api.callPublic("POST", "api/auth/email-verification/", acceptedFrom, values);
      this.#showConfirmation(values.email ?? "");
    };
    const email = field("email", words.email, { type: "email", autocomplete: "username" });
    this.#show(words.signUp, "", form([email], words.mailCode, send), this.#backToSignIn());
  }

  #showConfirmation(email: string): void {
    const send = async ({ verificationCode = "" }): Promise<void> => {
      await this.api.callPublic("POST", "api/auth/email-confirmation/", noContent, { verificationCode: verificationCode.trim() });
      this.#showService(email);
    };
    const code = field("verificationCode", words.code, { inputmode: "numeric", autocomplete: "one-time-code" });
    this.#show(words.signUp, words.codeSent, form([code], words.confirm, send), this.#backToSignIn());
  }

  #showService(email: string): void {
    const fields = [
      usernameFor(email),
      field("serviceName", words.serviceName),
      field("serviceExpl", words.serviceExpl),
      field("serviceDomain", words.serviceDomain, { hint: words.domainRule, placeholder: "shop.example" }),
      field("password", words.password, { type: "password", autocomplete: "new-password", hint: words.passwordRule }),
    ];
    const send = async ({ serviceDomain = "", password = "", ...values }: Record<string, string>): Promise<void> => {
      const account = { email, ...values, password, serviceDomain: serviceDomain.trim() || null };
      await this.api.callPublic("POST", "api/auth/signup/", acceptedFrom, account);
      await this.api.logIn(email, password);
      toast(words.signedUp);
      this.done();
    };
    this.#show(words.signUp, email, form(fields, words.signUp, send), this.#backToSignIn());
  }
}
