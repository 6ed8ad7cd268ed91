// The list of events, the newest first: bounded, filtered by text, and paused if asked.

const MOST_SHOWN = 300;
const MOST_PAUSED = 1_000;
const MOST_IMAGES = 5_000;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const written = (value) => JSON.stringify(value, (_key, v) => (typeof v === "bigint" ? String(v) : v));

export class EventList {
  #list;
  #keys;
  #images = new Map(); // the last image of each row that was seen here
  #paused; // what waits while paused
  #dropped = 0;
  #filter = "";

  /** `keys(table)`: the key columns of a table. */
  constructor(list, keys) {
    this.#list = list;
    this.#keys = keys;
  }

  get isPaused() {
    return this.#paused !== undefined;
  }

  pause() {
    this.#paused = [];
  }

  resume() {
    const paused = this.#paused ?? [];
    this.#paused = undefined;
    if (this.#dropped) this.note("paused", `${this.#dropped} older events are not shown`);
    this.#dropped = 0;
    for (const line of paused) this.#show(line);
  }

  clear() {
    this.#list.replaceChildren();
    if (this.#paused) this.#paused = [];
  }

  set filter(text) {
    this.#filter = text.toLowerCase();
    for (const line of this.#list.children) this.#sift(line);
  }

  /** Show a change; returns the function that shows its age. */
  change({ action, table, record, truncated }) {
    const columns = this.#keys(table);
    const key = columns.filter((c) => c in record).map((c) => `${c}=${written(record[c])}`).join(" ");
    const name = `${table} ${key}`;
    const before = this.#images.get(name);
    this.#images.delete(name);
    if (action !== "delete" && !truncated) this.#remember(name, record);
    const { line, age } = this.#line(action, table, key);
    if (truncated) line.append(element("p", "status", "The row is too large to be sent."));
    if (action === "update" && before && !truncated) line.append(this.#diff(before, record));
    const folded = element("details", "record");
    folded.append(element("summary", "", "Record"));
    folded.append(element("pre", "", JSON.stringify(record, null, 2)));
    line.append(folded);
    line.dataset.text = `${action} ${table} ${key} ${written(record)}`.toLowerCase();
    this.#add(line);
    return (milliseconds) => (age.textContent = `${Math.round(milliseconds)} ms`);
  }

  /** Show something that is no change of a row. */
  note(kind, text) {
    const known = ["resync", "truncate", "error"].includes(kind);
    const { line } = this.#line(known ? kind : "note", kind, text);
    line.dataset.text = `${kind} ${text}`.toLowerCase();
    this.#add(line);
  }

  #line(action, subject, key) {
    const line = element("li", "fresh");
    const head = element("div", "line");
    const now = new Date();
    const time = element("time", "", now.toLocaleTimeString());
    time.dateTime = now.toISOString();
    const badge = element("span", "action", action === "note" ? subject : action);
    badge.dataset.action = action;
    const age = element("span", "age");
    const about = action === "note" ? [] : [element("span", "table", subject)];
    head.append(time, badge, ...about, element("span", "key", key), age);
    line.append(head);
    return { line, age };
  }

  #diff(before, record) {
    const diff = element("div", "diff");
    for (const column of Object.keys(record)) {
      const [old, now] = [written(before[column]), written(record[column])];
      if (old === now) continue;
      const row = element("div", "");
      row.append(`${column}: `);
      row.append(element("del", "", old ?? "unseen"), " → ", element("ins", "", now));
      diff.append(row);
    }
    if (!diff.children.length) diff.append("nothing that is visible here has changed");
    return diff;
  }

  #remember(name, record) {
    this.#images.set(name, record);
    if (this.#images.size > MOST_IMAGES) this.#images.delete(this.#images.keys().next().value);
  }

  #add(line) {
    if (!this.#paused) return this.#show(line);
    this.#paused.push(line);
    if (this.#paused.length > MOST_PAUSED) {
      this.#paused.shift();
      this.#dropped += 1;
    }
  }

  #show(line) {
    this.#sift(line);
    this.#list.prepend(line);
    while (this.#list.children.length > MOST_SHOWN) this.#list.lastElementChild.remove();
  }

  #sift(line) {
    line.hidden = !line.dataset.text.includes(this.#filter);
  }
}
