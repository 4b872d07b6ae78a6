// Messages as rows of a list. What is there already stays as it is, so that a reader's place, and what he has selected, stays, too.
import { h } from "./dom.js";
import { clockOf, dayOf, instantOf } from "./time.js";

const PATIENCE_MS = 20_000; // after this a message that is not acknowledged is shown as one that may need help
const GROUP_MS = 180_000; // what one side says within this belongs together

/** All that is said, and behind it what is still to be sent. */
export const allOf = (talk) => [
  ...talk.messages,
  ...talk.outbox.list().map((message) => ({
    ...message,
    is_host: talk.isHost,
    state: talk.trouble || Date.now() - message.at > PATIENCE_MS ? "failed" : "sending",
  })),
];

const dateOf = (message) => (message.date ??= instantOf(message.datetime));
const dayKey = (message) => message && (message.day ??= `${dateOf(message)?.toDateString()}`);
const joins = (one, other) =>
  one && other && one.is_host === other.is_host && Math.abs(dateOf(one) - dateOf(other)) < GROUP_MS;

/** A list that shows a range of messages. `context`: `words`, `lang`, `name` of the other side, `retry`. */
export class Rows {
  constructor(list, context) {
    Object.assign(this, { list, context, known: new Map() });
  }

  show(talk, all, from = 0, to = all.length) {
    const used = new Map();
    const mine = (message) => message.is_host === talk.isHost;
    const newest = talk.messages.findLast(mine)?.seq;
    for (const [at, message] of all.slice(from, to).entries()) {
      const [before, after] = [all[from + at - 1], all[from + at + 1]];
      if (dayKey(message) !== dayKey(before)) {
        const { lang, words } = this.context;
        const day = dateOf(message) ? dayOf(dateOf(message), lang, words) : "";
        this.use(used, `day ${message.id}`, day, () => h("li", { class: "day", text: day }));
      }
      const isLast = !joins(message, after);
      const shape = [mine(message) && "mine", !joins(before, message) && "first", isLast && "last", message.state];
      const mark = message.seq && message.seq === newest && (newest <= talk.theirRead ? "read" : "sent");
      let key = `${mine(message)} ${message.id}`;
      // An id may come again when the server has forgotten it.
      if (used.has(key)) key += ` ${message.seq}`;
      this.use(used, key, `${shape} ${mark}`, () => this.make(message, mine(message), shape, isLast, mark));
    }
    this.known = used;
    const { list } = this;
    let next = list.firstChild;
    for (const { row } of used.values()) {
      if (row === next) next = next.nextSibling;
      else list.insertBefore(row, next);
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
  }

  use(used, key, look, make) {
    const known = this.known.get(key);
    used.set(key, { look, row: known?.look === look ? known.row : make() });
  }

  make(message, isMine, shape, isLast, mark) {
    const { words, lang, name, retry } = this.context;
    const { state } = message;
    const clock = isLast && dateOf(message) ? clockOf(dateOf(message), lang) : "";
    const meta = words[state] ?? [clock, words[mark]].filter(Boolean).join(" · ");
    return h(
      "li",
      { class: shape.filter(Boolean).join(" ") },
      h("span", { class: "hear", text: `${isMine ? words.you : name}: ` }),
      h("div", { class: "bubble", dir: "auto", text: message.message }),
      meta &&
        h(
          "div",
          { class: "meta" },
          h("span", { text: meta }),
          state === "failed" ? h("button", { type: "button", text: words.retry, onclick: retry }) : null,
        ),
    );
  }
}
