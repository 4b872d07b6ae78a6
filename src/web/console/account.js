// The host's password, and the end of his account.
import { h } from "../shared/dom.js";
import { ask, card, field, form, toast, whose } from "./parts.js";
import { words } from "./words.js";

export function accountCards(api) {
  const { email } = api.user;
  const password = (name, label, autocomplete, hint) => field(name, label, { type: "password", autocomplete, hint });
  const change = form(
    [
      whose(email),
      password("currentPassword", words.currentPassword, "current-password"),
      password("newPassword", words.newPassword, "new-password", words.passwordRule),
    ],
    words.changePassword,
    async (values) => {
      await api.call("POST", "/api/auth/password-change/", values);
      change.reset();
      toast(words.passwordChanged);
    },
  );
  const leave = form([whose(email), password("password", words.password, "current-password")], words.leaveAccount, async (values) => {
    if (!(await ask(`${words.leaveAccount}?`, words.leaveAccountWhy, words.leaveAccount))) return;
    await api.call("POST", "/api/auth/leave/", values);
    api.end();
  });
  leave.querySelector(".button").classList.add("danger");
  return [card(words.changePassword, change), card(words.account, h("p", { class: "faint", text: words.leaveAccountWhy }), leave)];
}
