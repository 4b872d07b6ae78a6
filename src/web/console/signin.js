// Who is not logged in: signing in, signing up with the mailed code, and passwords that are forgotten.
import { h, icon } from "../shared/dom.js";
import { ICONS } from "./icons.js";
import { field, form, toast, whose } from "./parts.js";
import { spoken } from "./sentences.js";
import { words } from "./words.js";

/** The page says whether the server lets visitors create accounts. */
const isSignUpOpen = document.documentElement.dataset.signUp !== "closed";

function sheet(body) {
  const brand = h("h1", {}, h("span", { class: "brand", "aria-hidden": "true" }, icon(ICONS.bubble)), "PinTalk");
  return h("main", { class: "signin" }, h("div", { class: "sheet" }, brand, body));
}

/** As long as the server does not say who is logged in. */
export class Waiting {
  constructor() {
    this.element = sheet(h("p", { role: "status", text: words.unreachable }));
  }

  close() {}
}

export class SignIn {
  /** `done()` once somebody is logged in; `greeting` is what he reads before. */
  constructor(api, done, greeting) {
    Object.assign(this, { api, done, greeting });
    this.body = h("div");
    this.element = sheet(this.body);
    this.signIn();
  }

  close() {}

  show(title, text, ...parts) {
    this.body.replaceChildren(h("h2", { text: title }), h("p", { class: "faint", text }), ...parts);
    this.body.querySelector("input:not([hidden])")?.focus();
  }

  link(text, go) {
    return h("button", { class: "link", type: "button", text, onclick: go });
  }

  links(...links) {
    return h("p", { class: "links" }, ...links);
  }

  get back() {
    return this.links(this.link(words.backToSignIn, () => this.signIn()));
  }

  signIn() {
    const fields = [
      field("email", words.email, { type: "email", autocomplete: "username" }),
      field("password", words.password, { type: "password", autocomplete: "current-password" }),
    ];
    this.show(
      words.signIn,
      this.greeting,
      form(fields, words.signIn, async ({ email, password }) => {
        await this.api.logIn(email, password);
        this.done();
      }),
      this.links(
        ...(isSignUpOpen ? [this.link(words.signUp, () => this.begin())] : []),
        this.link(words.forgot, () => this.mail(words.forgot, "password-reset")),
        this.link(words.restore, () => this.mail(words.restore, "restore")),
      ),
    );
  }

  mail(title, call) {
    const send = async (values) => {
      const { detail } = await this.api.open("POST", `/api/auth/${call}/`, values);
      toast(spoken(detail));
      this.signIn();
    };
    const email = field("email", words.email, { type: "email", autocomplete: "username" });
    this.show(title, "", form([email], words.mailPassword, send), this.back);
  }

  begin() {
    const send = async (values) => {
      await this.api.open("POST", "/api/auth/check-email/", values);
      await this.api.open("POST", "/api/auth/email-verification/", values);
      this.confirm(values.email);
    };
    const email = field("email", words.email, { type: "email", autocomplete: "username" });
    this.show(words.signUp, "", form([email], words.mailCode, send), this.back);
  }

  confirm(email) {
    const send = async ({ verificationCode }) => {
      await this.api.open("POST", "/api/auth/email-confirmation/", { verificationCode: verificationCode.trim() });
      this.finish(email);
    };
    const code = field("verificationCode", words.code, { inputmode: "numeric", autocomplete: "one-time-code" });
    this.show(words.signUp, words.codeSent, form([code], words.confirm, send), this.back);
  }

  finish(email) {
    const fields = [
      whose(email),
      field("serviceName", words.serviceName),
      field("serviceExpl", words.serviceExpl),
      field("serviceDomain", words.serviceDomain, { hint: words.domainRule, placeholder: "shop.example" }),
      field("password", words.password, { type: "password", autocomplete: "new-password", hint: words.passwordRule }),
    ];
    const send = async (values) => {
      await this.api.open("POST", "/api/auth/signup/", { email, ...values, serviceDomain: values.serviceDomain.trim() || null });
      await this.api.logIn(email, values.password);
      toast(words.signedUp);
      this.done();
    };
    this.show(words.signUp, email, form(fields, words.signUp, send), this.back);
  }
}
