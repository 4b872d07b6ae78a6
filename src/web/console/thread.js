// A conversation of any length: messages lie in chunks by their numbers, and a chunk far from sight is an empty box as high as it
// was. So ten thousand messages cost no more than what can be seen.
import { h } from "../shared/dom.js";
import { allOf, Rows } from "../shared/rows.js";

const CHUNK = 50; // messages
const AROUND_PX = 1500; // from sight
const NEAR_PX = 60; // as good as at the end
const OLDER_PX = 1500; // from the beginning at which more is asked for

export class Thread {
  constructor(talk, context) {
    Object.assign(this, { talk, context, chunks: new Map() });
    const { words } = context;
    this.body = h("div", { class: "chunks" });
    this.newer = h("button", { class: "newer button main", type: "button", hidden: true, text: words.latest, onclick: () => this.toEnd() });
    this.element = h(
      "div",
      { class: "talk", role: "log", tabindex: 0, "aria-label": words.messages, onscroll: () => this.scrolled() },
      this.body,
      this.newer,
    );
    const root = this.element;
    this.observer = new IntersectionObserver((entries) => this.moved(entries), { root, rootMargin: `${AROUND_PX}px 0px` });
  }

  get isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }

  show() {
    const { talk, element } = this;
    const wasAtEnd = this.isAtEnd;
    const below = element.scrollHeight - element.scrollTop;
    const first = this.first;
    this.all = allOf(talk);
    this.first = this.all[0]?.id;
    this.divide();
    if (wasAtEnd) this.toEnd();
    else if (first !== this.first) element.scrollTop = element.scrollHeight - below;
    const isSeen = wasAtEnd && !document.hidden;
    if (isSeen) talk.look();
    this.newer.hidden = isSeen || wasAtEnd || talk.last === this.seen;
    if (wasAtEnd) this.seen = talk.last;
    if (element.scrollHeight <= element.clientHeight) talk.older();
  }

  /** Finds which messages are whose chunk's, and shows those in sight. */
  divide() {
    const ranges = new Map();
    const last = Math.floor(this.talk.last / CHUNK);
    this.all.forEach(({ seq }, at) => {
      // What is still to be sent stands with the newest.
      const key = seq ? Math.floor(seq / CHUNK) : last;
      const range = ranges.get(key) ?? ranges.set(key, [at, at]).get(key);
      range[1] = at + 1;
    });
    for (const [key, chunk] of this.chunks) {
      if (ranges.has(key)) continue;
      this.observer.unobserve(chunk.list);
      chunk.list.remove();
      this.chunks.delete(key);
    }
    let next = this.body.firstChild;
    for (const [key, range] of [...ranges].sort(([one], [other]) => one - other)) {
      const chunk = this.chunks.get(key) ?? this.begin(key);
      chunk.range = range;
      if (chunk.list === next) next = next.nextSibling;
      else this.body.insertBefore(chunk.list, next);
      if (chunk.isNear) chunk.rows.show(this.talk, this.all, ...range);
    }
  }

  begin(key) {
    const list = h("ol");
    const chunk = { list, rows: new Rows(list, this.context), isNear: true };
    list.chunk = chunk;
    this.chunks.set(key, chunk);
    this.observer.observe(list);
    return chunk;
  }

  moved(entries) {
    const wasAtEnd = this.isAtEnd;
    for (const { target, isIntersecting } of entries) {
      const { chunk } = target;
      if (chunk.isNear === isIntersecting) continue;
      chunk.isNear = isIntersecting;
      if (isIntersecting) {
        this.fill(chunk);
      } else {
        target.style.height = `${target.offsetHeight}px`;
        target.replaceChildren();
        chunk.rows.known.clear();
      }
    }
    if (wasAtEnd) this.toEnd();
  }

  fill(chunk) {
    chunk.isNear = true;
    chunk.list.style.height = "";
    chunk.rows.show(this.talk, this.all, ...chunk.range);
  }

  /** What comes in sight there is filled in before: it may be higher than it was, and the end further down. */
  toEnd() {
    let left = this.element.clientHeight + AROUND_PX;
    for (const [, chunk] of [...this.chunks].sort(([one], [other]) => other - one)) {
      if (!chunk.isNear) this.fill(chunk);
      left -= chunk.list.offsetHeight;
      if (left < 0) break;
    }
    this.element.scrollTop = this.element.scrollHeight;
  }

  scrolled() {
    if (this.element.scrollTop < OLDER_PX) this.talk.older();
    if (this.isAtEnd && !this.newer.hidden) this.show();
  }

  close() {
    this.observer.disconnect();
  }
}
