// One user: signs in, chooses tables, and watches what arrives.
import { connect } from "../api/realtime/client.js";
import { Ages } from "./ages.js";
import { EventList } from "./events.js";
import { Explain } from "./explain.js";
import { Graph } from "./graph.js";

const SAID = { open: "connected", waiting: "reconnecting", idle: "no table is ticked" };

async function call(path, { token, body } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers,
    body: body && JSON.stringify(body),
    cache: "no-store",
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.message ?? `the gateway answers ${response.status}`);
  return answer;
}

export class Pane {
  #options;
  #session; // {token, refreshToken}, of this page only
  #tables = [];
  #realtime;
  #subscriptions = new Map();
  #events;
  #ages;
  #graphs;
  #opened = 0;
  #received = 0;
  #second = { events: 0, delays: [] };
  #ticking;

  constructor(options, number) {
    this.#options = options;
    const template = document.getElementById("pane-template");
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.setAttribute("aria-labelledby", `pane-${number}`);
    const title = this.#find("h2");
    title.id = `pane-${number}`;
    title.textContent = `User ${number}`;
    this.title = title.textContent;
    const close = this.#find(".close");
    close.hidden = number === 1;
    close.addEventListener("click", () => {
      this.#end();
      this.element.remove();
    });
  }

  start() {
    const { login, anonymous, auth, accounts } = this.#options;
    this.#find(".log-in").hidden = !login;
    this.#find(".paste").hidden = !auth;
    this.#find(".anonymous").hidden = auth && !anonymous;
    for (const { email, password } of accounts ?? []) {
      const fill = document.createElement("button");
      fill.type = "button";
      fill.textContent = `Log in as ${email}`;
      fill.addEventListener("click", () => this.#logIn(email, password));
      this.#find(".accounts").append(fill);
    }
    this.#on(".log-in", "submit", (form) => this.#logIn(form.get("email"), form.get("password")));
    this.#on(".paste", "submit", (form) => this.#begin({ token: form.get("token").trim() }));
    this.#on(".anonymous", "click", () => this.#begin({}));
    this.#on(".log-out", "click", () => this.#end());
    this.#on(".pause", "click", () => this.#pause());
    this.#on(".clear", "click", () => this.#events.clear());
    this.#on(".curl", "click", () => this.#copy());
    this.#find(".filter").addEventListener("input", ({ target }) => {
      this.#events.filter = target.value;
    });
    this.#graphs = {
      rate: new Graph(this.#find(".rate"), "Events per second", "events"),
      delay: new Graph(this.#find(".delay"), "Commit to screen", "milliseconds"),
    };
    this.#events = new EventList(this.#find(".events"), (table) => this.#keyOf(table));
    if (this.#options.explain) new Explain(this.#find(".why"), () => this.#token({}));
    if (!auth) this.#begin({});
  }

  focus() {
    this.element.scrollIntoView({ block: "nearest" });
    this.#find("input:not([hidden])")?.focus();
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  /** Act on an event of an element; what goes wrong is shown. */
  #on(selector, name, act) {
    this.#find(selector).addEventListener(name, async (event) => {
      event.preventDefault();
      try {
        await act(name === "submit" ? new FormData(event.target) : undefined);
      } catch (error) {
        this.#find(".failure").textContent = String(error.message ?? error);
      }
    });
  }

  async #logIn(email, password) {
    this.#find(".failure").textContent = "";
    try {
      const session = await call("api/auth/login", { body: { email, password } });
      await this.#begin(session, email);
    } catch (error) {
      this.#find(".failure").textContent = String(error.message ?? error);
    }
  }

  async #begin(session, name) {
    this.#find(".failure").textContent = "";
    const { tables } = await call("api/realtime/tables", session);
    this.#session = session;
    this.#tables = tables;
    const title = this.#find("h2");
    title.textContent = name ?? (session.token ? `${this.title}: by token` : `${this.title}: nobody`);
    this.#find(".sign-in").hidden = true;
    this.#find(".watch").hidden = false;
    this.#find(".log-out").hidden = !this.#options.auth;
    this.#ages = new Ages(() => this.#token({}));
    this.#realtime = connect({
      url: new URL(".", document.baseURI).href, // with the path prefix, if there is one
      token: (about) => this.#token(about),
      onState: (state, detail) => this.#state(state, detail),
    });
    this.#list();
    this.#ticking = setInterval(() => this.#tick(), 1_000);
  }

  #end() {
    clearInterval(this.#ticking);
    this.#realtime?.close();
    this.#ages?.close();
    this.#realtime = this.#session = undefined;
    this.#subscriptions.clear();
    this.#find("h2").textContent = this.title;
    this.#find(".sign-in").hidden = false;
    this.#find(".watch").hidden = true;
    this.#find(".log-out").hidden = true;
    this.#events.clear();
    this.element.querySelectorAll("input[type=password]").forEach((input) => (input.value = ""));
  }

  async #token({ reason = "connect" }) {
    const { refreshToken } = this.#session ?? {};
    if (reason !== "connect" && refreshToken)
      this.#session = await call("api/auth/refresh", { body: { refreshToken } });
    return this.#session?.token;
  }

  #list() {
    const fieldset = this.#find(".tables");
    fieldset.replaceChildren(fieldset.querySelector("legend"));
    for (const { table: name, columns } of this.#tables) {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = name;
      box.addEventListener("change", () => (box.checked ? this.#watch(box) : this.#leave(name)));
      label.append(box, name);
      label.title = columns.map((column) => column.name).join(", ");
      fieldset.append(label);
    }
    if (this.#tables.length === 0) fieldset.append("This user may read no table that is captured.");
  }

  #watch(box) {
    const name = box.value;
    const note = (item) => this.#events.note(item.type, describe(item));
    const subscription = this.#realtime.subscribe([this.#asked(name)], {
      onEvent: (change) => this.#change(change),
      onResync: note,
      onTruncate: note,
      onError: (item) => {
        note(item);
        if (!item.error) return;
        box.checked = false;
        this.#subscriptions.delete(name);
      },
    });
    this.#subscriptions.set(name, subscription);
  }

  #leave(name) {
    this.#subscriptions.get(name)?.unsubscribe();
    this.#subscriptions.delete(name);
  }

  #change(change) {
    this.#received += 1;
    this.#second.events += 1;
    const showAge = this.#events.change(change);
    this.#ages.ask(change.id, (milliseconds) => {
      showAge(milliseconds);
      this.#second.delays.push(milliseconds);
    });
  }

  #state(state, detail) {
    const shown = this.#find(".state");
    shown.textContent = SAID[state] ?? state;
    shown.dataset.state = state;
    const next = detail.delay ? `next attempt in ${(detail.delay / 1_000).toFixed(1)} s` : "";
    const parts = [detail.reason, detail.message, next].filter(Boolean);
    this.#find(".detail").textContent = parts.join(", ");
    if (state === "open") {
      const again = this.#opened > 0;
      this.#opened += 1;
      this.#find(".reconnects").textContent = String(this.#opened - 1);
      const text = again ? `continuing after ${detail.position}` : `live from ${detail.position}`;
      this.#events.note(again ? "replaying" : "connected", `${detail.tables.join(", ")}, ${text}`);
    } else if (state === "waiting") this.#events.note(detail.reason ?? state, detail.message ?? "");
    else if (state === "offline") this.#events.note("offline", "there is no network");
  }

  #tick() {
    const { events, delays } = this.#second;
    this.#second = { events: 0, delays: [] };
    this.#graphs.rate.push(events);
    this.#find(".rate-now").textContent = String(events);
    const median = delays.sort((a, b) => a - b)[Math.floor(delays.length / 2)];
    this.#graphs.delay.push(median ?? 0);
    if (median !== undefined) this.#find(".delay-now").textContent = `${Math.round(median)} ms`;
    this.#find(".received").textContent = String(this.#received);
    this.#find(".position").textContent = this.#realtime?.position ?? "none";
  }

  #pause() {
    const button = this.#find(".pause");
    if (this.#events.isPaused) this.#events.resume();
    else this.#events.pause();
    button.setAttribute("aria-pressed", String(this.#events.isPaused));
    button.textContent = this.#events.isPaused ? "Go on" : "Pause";
  }

  async #copy() {
    const tables = [...this.#subscriptions.keys()].map((name) => this.#asked(name)).join(",");
    const url = new URL("api/realtime", document.baseURI);
    url.searchParams.set("tables", tables || "TABLE");
    const parts = ["curl -N", sh(url.href)];
    const token = await this.#token({});
    if (token) parts.push("-H", sh(`Authorization: Bearer ${token}`));
    if (this.#realtime.position) parts.push("-H", sh(`Last-Event-ID: ${this.#realtime.position}`));
    await navigator.clipboard.writeText(parts.join(" "));
    const said = this.#find(".copied");
    said.textContent = "copied, with your token in it";
    setTimeout(() => (said.textContent = ""), 4_000);
  }

  /** A table's name as a request has it. */
  #asked(name) {
    return this.#tables.find(({ table }) => table === name).parameter;
  }

  #keyOf(table) {
    return this.#tables.find((one) => one.table === table)?.key ?? [];
  }
}

const sh = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function describe(item) {
  if (item.type === "resync") return `${item.tables.join(", ")}: fetch again (${item.reason})`;
  if (item.type === "truncate") return `${item.table} was emptied`;
  return item.message;
}
