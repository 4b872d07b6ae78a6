// Parts of pages: forms whose errors stand beside their fields, questions before what cannot be undone, and words in passing.
import { h, icon } from "../shared/dom.js";
import { ICONS } from "./icons.js";
import { ofField, reason, spoken } from "./sentences.js";
import { words } from "./words.js";

/** A button with a picture; its words are for who does not see it, and for who wonders. */
export const tool = (name, label, onclick, more) =>
  h("button", { class: "tool", type: "button", "aria-label": label, title: label, onclick, ...more }, icon(ICONS[name]));

/** A field of a form. */
export function field(name, label, { value = "", hint, tag = "input", ...more } = {}) {
  const id = `field-${name}`;
  const input = h(tag, { id, name, "aria-describedby": `${id}-hint`, ...more });
  input.value = value ?? "";
  return h("div", { class: "field" }, h("label", { for: id, text: label }), input, h("small", { id: `${id}-hint`, text: hint ?? "" }));
}

/** For managers of passwords: whose password a form is about. It is not seen, and not sent. */
export const whose = (email) => h("input", { type: "email", autocomplete: "username", value: email, readonly: true, hidden: true });

/** A box to tick. */
export function check(name, label, on) {
  const box = h("input", { type: "checkbox", name });
  box.checked = on;
  return h("label", { class: "check" }, box, h("span", { text: label }));
}

/** A form: `send(values)` does it, and what is wrong stands where it is wrong. */
export function form(fields, label, send, more = []) {
  const trouble = h("p", { class: "trouble", role: "alert" });
  const button = h("button", { class: "button main", text: label });
  const element = h("form", { class: "form", novalidate: true }, ...fields, trouble, h("div", { class: "buttons" }, button, ...more));
  const show = (error) => {
    const wrong = { ...error?.fields };
    const isElsewhere = error && !Object.keys(wrong).length;
    for (const input of element.elements) {
      const hint = input.name && element.querySelector(`#field-${CSS.escape(input.name)}-hint`);
      if (!hint) continue;
      const why = wrong[input.name];
      delete wrong[input.name];
      hint.dataset.was ??= hint.textContent;
      hint.textContent = why ? spoken(why) : hint.dataset.was;
      hint.classList.toggle("wrong", Boolean(why));
      input.setAttribute("aria-invalid", Boolean(why));
    }
    // What has no place of its own stands below all.
    const others = Object.entries(wrong).map(ofField);
    trouble.textContent = isElsewhere ? reason(error) : others.join("; ");
  };
  element.onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    show(null);
    try {
      await send(Object.fromEntries(new FormData(element)));
    } catch (error) {
      show(error);
    }
    button.disabled = false;
  };
  return element;
}

/** A word in passing; the newest is enough. */
export function toast(text) {
  const said = h("p", { text });
  document.getElementById("toasts").replaceChildren(said);
  setTimeout(() => said.remove(), 4000);
}

/** Does something, and says if it failed. */
export const attempt = (action) => async () => {
  try {
    await action();
  } catch (error) {
    toast(reason(error));
  }
};

/** Asks before something is done. Resolves to what is in the fields, or to nothing. */
export function ask(title, why, label, ...fields) {
  return new Promise((resolve) => {
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { text: title }),
      h("p", { class: "faint", text: why }),
      ...fields,
      h(
        "div",
        { class: "buttons" },
        h("button", { class: "button main danger", value: "yes", text: label }),
        // Whoever presses Enter without having read has done nothing.
        h("button", { class: "button", value: "", autofocus: true, text: words.cancel }),
      ),
    );
    const dialog = h("dialog", { "aria-label": title }, form);
    dialog.onclose = () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? Object.fromEntries(new FormData(form)) : null);
    };
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A switch: `turn(on)` does it; if that fails, it goes back. */
export function toggle(label, on, turn) {
  const input = h("input", { type: "checkbox", role: "switch" });
  input.checked = on;
  input.onchange = async () => {
    input.disabled = true;
    await turn(input.checked).catch((error) => {
      input.checked = !input.checked;
      toast(reason(error));
    });
    input.disabled = false;
  };
  return h("label", { class: "switch" }, input, h("span", { text: label }));
}

/** A picture of somebody, or the first letter of his name. */
export function avatar(name, url) {
  // The server's own address may be another than the one under which this page was opened.
  const picture = url ? h("img", { src: new URL(url).pathname, alt: "" }) : [...name][0];
  return h("span", { class: "avatar", "aria-hidden": "true" }, picture);
}

/** What belongs together, under a title. */
export const card = (title, ...children) =>
  h("section", { class: "card", "aria-label": title }, h("h3", { text: title }), ...children);

/** A text that is there to be copied. */
export function copyable(label, text, hint) {
  const code = h("code", { text, tabindex: 0 });
  const copy = attempt(async () => {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else {
      // A page that came without TLS has no clipboard of that kind.
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    toast(words.copied);
  });
  return h(
    "div",
    { class: "field" },
    h("span", { text: label }),
    h("div", { class: "copyable" }, code, tool("copy", `${words.copy}: ${label}`, copy)),
    hint ? h("small", { text: hint }) : null,
  );
}
