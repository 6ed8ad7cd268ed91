/**
 * Realtime changes of Postgres tables, from an ayb-realtime gateway: one module, no dependencies.
 *
 *     import { connect } from "/api/realtime/client.js";
 *
 *     const realtime = connect({ url: "https://api.example.com", token: () => session.token() });
 *     const posts = realtime.subscribe(["posts"], ({ action, record }) => { ... });
 *
 * All subscriptions of a `Realtime` share one stream. It continues after the last change that was
 * received, whatever ended it: nothing is missing and nothing is repeated. What cannot be continued
 * is reported as a `resync`: fetch these tables again.
 *
 * How it is made: `Stream` holds the connection (tokens, delays, positions). `Tabs` lets the tabs
 * of an origin use the stream of one of them. `Realtime` gives each subscription its changes.
 *
 * Licence: Apache-2.0
 */

export const version = "0.1.0";

const FIRST_DELAY = 500;
const LONGEST_DELAY = 30_000;
const SETTLED = 5_000; // a stream that lived this long was no failed attempt
const LINGER = 1_000; // before a stream without subscriptions is closed
const MERGE = 5; // subscriptions made within it open the stream once
const EARLY = 30_000; // how long before its end a token is replaced
const SAVE = 250; // between two positions written to storage
const MOST_QUEUED = 1_000; // items that wait for an iterator before reading pauses

// ---------------------------------------------------------------------------------- positions

const POSITION = /^(?:(\d{1,9})\.)?(\d{1,18})(?:-(\d{1,9}))?$/;

function coordinates(position) {
  const match = POSITION.exec(position);
  if (!match) return [0n, 0n, 0n];
  const [, epoch = "1", batch, index] = match;
  return [BigInt(epoch), BigInt(batch), index === undefined ? 1n << 31n : BigInt(index)];
}

/** Compare two positions in the order in which a stream sends them: negative, 0 or positive. */
export function comparePositions(a, b) {
  if (a === b) return 0;
  const left = coordinates(a);
  const right = coordinates(b);
  for (let i = 0; i < 3; i++) if (left[i] !== right[i]) return left[i] < right[i] ? -1 : 1;
  return 0;
}

// --------------------------------------------------------------------------------------- JSON

const NONCE = `\u0001${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}:`;
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LONG_NUMBER = /\d{16}/;

/**
 * Read JSON. Integers beyond 2^53, which a number cannot hold, become what `integers` says:
 * "number" (inexact, as `JSON.parse` does it), "bigint" or "string".
 */
export function parseJSON(text, integers = "number") {
  if (integers === "number" || !LONG_NUMBER.test(text)) return JSON.parse(text);
  // Such numbers are written as marked strings, and turned into what they should be when read.
  const marked = text.replace(TOKENS, (token) =>
    token[0] !== '"' && /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token))
      ? `${JSON.stringify(NONCE).slice(0, -1)}${token}"`
      : token,
  );
  return JSON.parse(marked, (_key, value) => {
    if (typeof value !== "string" || !value.startsWith(NONCE)) return value;
    const digits = value.slice(NONCE.length);
    return integers === "bigint" ? BigInt(digits) : digits;
  });
}

// -------------------------------------------------------------------------- server-sent events

/**
 * Reads frames from text, as the HTML standard says (section "Server-sent events"): `push` returns
 * those that have become complete.
 */
export class FrameReader {
  #rest = []; // an unfinished line, in the pieces in which it came
  #afterReturn = false;
  #name = "";
  #data = [];
  #id;
  #retry;
  #begun = false;

  push(text) {
    const frames = [];
    if (!this.#begun && text) {
      this.#begun = true;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    let start = 0;
    if (this.#afterReturn && text) {
      if (text[0] === "\n") start = 1;
      this.#afterReturn = false;
    }
    const ending = /\r\n|\n|\r/g;
    ending.lastIndex = start;
    for (let match; (match = ending.exec(text)); start = ending.lastIndex) {
      this.#rest.push(text.slice(start, match.index));
      const line = this.#rest.length === 1 ? this.#rest[0] : this.#rest.join("");
      this.#rest = [];
      if (match[0] === "\r" && ending.lastIndex === text.length) this.#afterReturn = true;
      const frame = this.#line(line);
      if (frame) frames.push(frame);
    }
    if (start < text.length) this.#rest.push(text.slice(start));
    return frames;
  }

  #line(line) {
    if (line === "") return this.#end();
    if (line[0] === ":") return undefined;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value[0] === " ") value = value.slice(1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.#retry = Number(value);
    return undefined;
  }

  #end() {
    const frame = {
      name: this.#name || "message",
      data: this.#data.join("\n"),
      id: this.#id,
      retry: this.#retry,
    };
    const isComplete = this.#data.length > 0;
    this.#name = "";
    this.#data = [];
    this.#id = this.#retry = undefined;
    return isComplete ? frame : undefined;
  }
}

// ------------------------------------------------------------------------------------- tokens

function claimsOf(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    return parseJSON(new TextDecoder().decode(bytes), "string"); // an id may be a long number
  } catch {
    return undefined; // an API key, say
  }
}

/** Whose token it is: equal for the tokens that one user gets one after the other. */
function identityOf(token) {
  if (!token) return "";
  const claims = claimsOf(token);
  if (!claims) return token;
  const { exp, iat, nbf, jti, ...lasting } = claims;
  return JSON.stringify(Object.entries(lasting).sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function digest(text) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ------------------------------------------------------------------------------- table names

/** A table's name as events have it: bare in `public`, else `schema.table`; without quotes. */
function displayName(name) {
  const parts = partsOf(name);
  return (parts.length > 1 && parts[0] === "public" ? parts.slice(1) : parts).join(".");
}

function partsOf(name) {
  const parts = name.trim().match(/"(?:[^"]|"")*"|[^."]+/g) ?? [name];
  return parts.map((p) => (p[0] === '"' ? p.slice(1, -1).replace(/""/g, '"') : p.trim()));
}

/** Whether events of `table` belong to a subscription to `name`. */
function isTable(name, table) {
  const parts = partsOf(name);
  // A bare name may stand for a table of another schema, if `public` has none of that name.
  return displayName(name) === table || (parts.length === 1 && table.endsWith(`.${parts[0]}`));
}

// -------------------------------------------------------------------------------- connection

/** An answer that will not change: the gateway refuses these tables, or the request. */
export class RefusedError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "RefusedError";
    this.status = status;
  }
}

/**
 * The connection to the gateway, made again and again, always after the last change received.
 *
 * `sink.items(items, from, position)`: what came after `from`, up to `position`. It may return a
 * promise, and reading waits for it. `sink.state(state, detail)`. `sink.refused(tables, error)`.
 */
class Stream {
  position;
  state = "idle";
  detail = {};
  opened = []; // the tables of the open stream

  #options;
  #sink;
  #tables = [];
  #tokenReason = "connect";
  #nextToken;
  #expiry;
  #attempts = 0;
  #refusals = 0;
  #abort;
  #heard = 0; // when the last bytes came
  #isPaused = false;
  #wake = () => {};
  #isClosed = false;
  #events = new AbortController();

  constructor(options, sink, position) {
    this.#options = options;
    this.#sink = sink;
    this.position = position;
    const { signal } = this.#events;
    globalThis.addEventListener?.("online", () => this.#reconnect(), { signal });
    globalThis.addEventListener?.("offline", () => this.#lost(), { signal });
    globalThis.document?.addEventListener(
      "visibilitychange",
      () => document.visibilityState === "visible" && this.#look(options.silence / 2),
      { signal },
    );
    this.#run();
  }

  close() {
    this.#isClosed = true;
    this.#events.abort();
    this.#abort?.abort();
    this.#wake();
    this.#tell("closed");
  }

  /** Ask for these tables from now on; the stream is opened again only if it lacks one of them. */
  setTables(tables) {
    this.#tables = [...tables];
    const lacks = this.#tables.some((table) => !this.opened.includes(table));
    const isUnderWay = this.state === "open" || this.state === "connecting";
    if (this.#tables.length === 0 || this.state === "idle" || (lacks && isUnderWay))
      this.#reconnect();
  }

  /** Continue after an earlier position. */
  goBack(position) {
    if (this.position !== undefined && comparePositions(position, this.position) >= 0) return;
    this.position = position;
    this.#reconnect();
  }

  #reconnect() {
    this.#attempts = 0;
    this.#abort?.abort();
    this.#wake();
  }

  #lost() {
    // "offline" may be wrong, so a stream that goes on is left alone, and a dead one found sooner.
    if (this.state !== "open") this.#tell("offline");
  }

  #look(most) {
    if (this.state === "waiting" || this.state === "offline") this.#reconnect();
    else if (this.state === "open" && !this.#isPaused && Date.now() - this.#heard > most)
      this.#reconnect();
  }

  #tell(state, detail = {}) {
    this.state = state;
    this.detail = detail;
    this.#sink.state(state, detail);
  }

  async #run() {
    while (!this.#isClosed) {
      if (this.#tables.length === 0) {
        if (this.state !== "idle") this.#tell("idle");
        await this.#sleep(2 ** 31 - 1);
        continue;
      }
      const { delay, ...detail } = await this.#connect();
      this.opened = [];
      if (this.#isClosed) return;
      if (delay > 0) {
        const isOffline = globalThis.navigator?.onLine === false;
        this.#tell(isOffline ? "offline" : "waiting", { ...detail, delay });
        await this.#sleep(delay);
      }
    }
  }

  #sleep(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Longer after each failure, and random, so that the clients of a restarted gateway spread. */
  #backoff() {
    const most = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempts++);
    return most / 2 + (Math.random() * most) / 2;
  }

  async #freshToken() {
    const next = this.#nextToken;
    this.#nextToken = undefined;
    if (next !== undefined) return next;
    const token = (await this.#options.token({ reason: this.#tokenReason })) ?? "";
    this.#options.onToken?.(token);
    return token;
  }

  async #connect() {
    const abort = new AbortController();
    this.#abort = abort;
    this.#tell("connecting", { attempt: this.#attempts });
    this.#heard = Date.now();
    const { silence } = this.#options;
    const watch = setInterval(() => {
      if (!this.#isPaused && Date.now() - this.#heard > silence)
        abort.abort(new Error("nothing was heard for too long"));
    }, Math.min(1_000, silence / 4));
    try {
      return await this.#attempt(abort.signal);
    } catch (error) {
      if (abort.signal.aborted && abort.signal.reason?.name === "AbortError") return { delay: 0 };
      return { delay: this.#backoff(), reason: "network", message: String(error?.message ?? error) };
    } finally {
      clearInterval(watch);
      clearTimeout(this.#expiry);
      abort.abort();
    }
  }

  async #attempt(signal) {
    let token;
    try {
      token = await this.#freshToken();
    } catch (error) {
      return { delay: this.#backoff(), reason: "token", message: String(error?.message ?? error) };
    }
    if (signal.aborted) return { delay: 0 };
    const tables = this.#tables;
    const query = new URLSearchParams({ tables: tables.join(",") });
    if (this.#options.leave) query.set("leave", "true");
    const headers = { Accept: "text/event-stream" };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (this.position !== undefined) headers["Last-Event-ID"] = this.position;
    const response = await this.#options.fetch(`${this.#options.url}/api/realtime?${query}`, {
      headers,
      signal,
      cache: "no-store",
    });
    const isStream = (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
    if (!response.ok || !isStream) return await this.#refusal(response);
    this.#replaceTokenIn(token, signal);
    return await this.#read(response, tables, signal);
  }

  async #refusal(response) {
    const { status } = response;
    let message = `the server answered ${status}`;
    let isOurs = false; // and not the page of some proxy
    try {
      const body = await response.json();
      isOurs = body.code === status;
      message = body.message ?? message;
    } catch {
      // no JSON
    }
    if (status === 401) {
      this.#tokenReason = "refused";
      const delay = this.#refusals++ === 0 ? 0 : this.#backoff();
      return { delay, reason: "unauthorized", message };
    }
    if (isOurs && [400, 403, 414].includes(status)) {
      const error = new RefusedError(status, message);
      const named = /^(?:unknown table|permission denied for table): (.*)$/.exec(message)?.[1];
      const wanted = named === undefined ? [] : this.#tables.filter((t) => matches(t, named));
      this.#sink.refused(wanted.length ? wanted : this.#tables, error);
      return { delay: 0 };
    }
    const seconds = Number(response.headers.get("retry-after"));
    const delay = seconds > 0 ? seconds * (1_000 + Math.random() * 500) : this.#backoff();
    return { delay, reason: "busy", message };
  }

  /** Ask for a new token before the present one ends, and go over to it by position. */
  #replaceTokenIn(token, signal) {
    const expires = (claimsOf(token)?.exp ?? 0) * 1_000;
    if (!expires) return;
    const left = expires - Date.now();
    const delay = Math.max(left - EARLY, left / 2);
    if (!(delay > 0) || delay > 2 ** 31 - 1) return;
    this.#expiry = setTimeout(async () => {
      try {
        const next = (await this.#options.token({ reason: "expiring" })) ?? "";
        if (signal.aborted || next === token) return;
        this.#options.onToken?.(next);
        this.#nextToken = next;
        this.#reconnect();
      } catch {
        // The stream lives until the token's end, and a token is asked for again then.
      }
    }, delay);
  }

  async #read(response, tables, signal) {
    const decoder = new TextDecoder();
    const frames = new FrameReader();
    const reader = response.body.getReader();
    const began = Date.now();
    let retry;
    let keyDeletes = []; // deletes without an id, which belong to the change after them
    for (;;) {
      const { value, done } = await reader.read();
      signal.throwIfAborted(); // this stream may have been given up with its bytes on the way
      if (done) break;
      this.#heard = Date.now();
      let from = this.position;
      let position = from;
      const items = [];
      let end;
      for (const frame of frames.push(decoder.decode(value, { stream: true }))) {
        retry = frame.retry ?? retry;
        const data = parseJSON(frame.data, this.#options.integers);
        const { id } = frame;
        const before = position;
        if (id !== undefined) position = id;
        if (frame.name === "message") {
          const change = { type: "change", ...data, id };
          if (id === undefined) keyDeletes.push(change);
          else {
            // Whoever continues after one half of a changed key gets both halves again.
            for (const deletion of keyDeletes) items.push({ ...deletion, id: before, until: id });
            keyDeletes = [];
            items.push(change);
          }
        } else if (frame.name === "connected") {
          this.#refusals = 0;
          this.#tokenReason = "connect";
          this.opened = tables;
          from ??= id;
          this.position = id ?? this.position; // none, if a resync follows
          const position = this.position;
          this.#tell("open", { tables, clientId: data.clientId, position });
        } else if (["resync", "truncate", "error"].includes(frame.name)) {
          items.push({ type: frame.name, ...data, id });
        } else if (["expired", "closing", "busy"].includes(frame.name)) {
          end = { reason: frame.name, message: data.message };
        }
      }
      this.position = position;
      if (from !== position || items.length) {
        const taken = this.#sink.items(items, from, position);
        if (taken) {
          this.#isPaused = true;
          await taken;
          this.#isPaused = false;
          this.#heard = Date.now();
          signal.throwIfAborted();
        }
      }
      if (Date.now() - began > SETTLED) this.#attempts = 0;
      if (end) {
        if (end.reason === "expired") {
          this.#tokenReason = "expired";
          // A token that ends as soon as it is accepted: somebody's clock is wrong.
          return { delay: Date.now() - began > 1_000 ? 0 : this.#backoff(), ...end };
        }
        return { delay: (retry ?? FIRST_DELAY) + Math.random() * FIRST_DELAY, ...end };
      }
    }
    return { delay: retry ?? this.#backoff(), reason: "ended", message: "the stream ended" };
  }
}

function matches(name, named) {
  const plain = displayName(name);
  return name.trim() === named || plain === displayName(named) || plain === named;
}

// ---------------------------------------------------------------------------------------- tabs

/**
 * One stream for the tabs of an origin: a browser opens six HTTP/1.1 connections to an origin.
 *
 * The tab that holds a Web Lock leads: it holds the stream, for the tables of all tabs, and sends
 * what arrives on a BroadcastChannel. Whatever ends it, the lock goes to another tab, which
 * continues after its own position. Each tab keeps the position up to which it has received
 * everything, skips what comes again, and if something lies between, asks the leader to go back to
 * it. What comes from a stream that lacks one of its tables does not count: it is received again
 * from the stream that has them all. A tab shows that it is alive by holding a lock of its own, for
 * which the leader waits. A leader that is silent for too long, since the browser has suspended its
 * page, loses the lock to a tab that is looked at.
 *
 * Tabs share a stream only if their tokens say the same of the user.
 */
class Tabs {
  position;
  #id = Math.random().toString(36).slice(2);
  #group;
  #channel;
  #open;
  #sink;
  #tables = [];
  #stream;
  #wants = new Map();
  #stop = new AbortController();
  #isAlive = false; // this tab holds its own lock
  #heard = Date.now(); // when the leading tab last sent something
  #silence;
  #stopped;
  #watch;

  constructor(group, open, sink, position, silence) {
    this.#group = group;
    this.#open = open;
    this.#sink = sink;
    this.position = position;
    this.#channel = new BroadcastChannel(group);
    this.#channel.onmessage = ({ data }) => this.#receive(data);
    this.#silence = silence;
    const { signal } = this.#stop;
    this.#stopped = new Promise((resolve) => signal.addEventListener("abort", resolve));
    const live = () => {
      this.#isAlive = true;
      this.#want();
      return this.#stopped;
    };
    navigator.locks.request(`${group}:${this.#id}`, { signal }, live).catch(() => {});
    this.#stand({ signal });
    this.#watch = setInterval(() => this.#look(), Math.min(15_000, silence / 4));
    globalThis.document?.addEventListener("visibilitychange", () => this.#look(), { signal });
  }

  /** Lead as soon as the lock can be had; with `steal`, at once. */
  #stand(options) {
    const lead = () => {
      this.#lead();
      return this.#stopped;
    };
    navigator.locks.request(this.#group, options, lead).catch(() => this.#lose());
  }

  /** Another tab has taken the lock: it found this one silent, as a page that was suspended is. */
  #lose() {
    if (this.#stop.signal.aborted || !this.#stream) return;
    this.#stream.close();
    this.#stream = undefined;
    this.#wants.clear();
    this.#stand({ signal: this.#stop.signal });
    this.#want();
  }

  #look() {
    const isSeen = globalThis.document?.visibilityState === "visible";
    if (this.#stream) this.#post({ kind: "alive" });
    else if (isSeen && Date.now() - this.#heard > 2 * this.#silence) {
      this.#heard = Date.now();
      this.#stand({ steal: true });
    }
  }

  setTables(tables) {
    this.#tables = [...tables];
    this.#want();
  }

  close() {
    this.#post({ kind: "bye" });
    clearInterval(this.#watch);
    this.#stop.abort();
    this.#stream?.close();
    this.#channel.close();
    this.#sink.state("closed", {});
  }

  #lead() {
    const sink = {
      items: (items, from, position) => {
        this.#post({ kind: "items", items, from, position, tables: this.#stream.opened });
        this.#take(items, from, position); // no tab's slow reader delays the others
      },
      state: (state, detail) => {
        if (state === "closed") return;
        this.#post({ kind: "state", state, detail, position: this.#stream?.position });
        this.#sink.state(state, detail);
      },
      refused: (tables, { status, message }) => {
        for (const want of this.#wants.values())
          want.tables = want.tables.filter((table) => !tables.includes(table));
        this.#post({ kind: "refused", tables, status, message });
        this.#sink.refused(tables, new RefusedError(status, message));
        this.#update();
      },
    };
    this.#stream = this.#open(sink, this.position);
    this.#wants.set(this.#id, { tables: this.#tables });
    this.#post({ kind: "lead" });
    // The others answer with what they want; the stream need not be opened for each of them.
    setTimeout(() => this.#update(), 50);
  }

  #update() {
    const tables = new Set([...this.#wants.values()].flatMap((want) => want.tables));
    this.#stream?.setTables(tables);
  }

  #want() {
    if (this.#stream) {
      this.#wants.set(this.#id, { tables: this.#tables });
      if (this.position !== undefined) this.#stream.goBack(this.position);
      this.#update();
    } else if (this.#isAlive)
      this.#post({ kind: "want", tables: this.#tables, position: this.position });
  }

  #post(message) {
    this.#channel.postMessage({ ...message, tab: this.#id });
  }

  #receive(message) {
    if (message.kind !== "want" && message.kind !== "bye") this.#heard = Date.now();
    if (this.#stream) this.#asLeader(message);
    else this.#asFollower(message);
  }

  #asLeader({ kind, tab, tables, position }) {
    if (kind === "bye") this.#forget(tab);
    if (kind === "lead") this.#lose();
    if (kind !== "want") return;
    const stream = this.#stream;
    if (!this.#wants.has(tab)) {
      const gone = () => this.#stream === stream && this.#forget(tab);
      navigator.locks.request(`${this.#group}:${tab}`, gone).catch(() => {});
    }
    this.#wants.set(tab, { tables });
    if (position !== undefined) stream.goBack(position);
    this.#update();
    const { state, detail } = stream;
    this.#post({ kind: "state", state, detail, position: stream.position });
  }

  #forget(tab) {
    if (this.#wants.delete(tab)) this.#update();
  }

  #asFollower({ kind, items, from, position, state, detail, tables, status, message }) {
    if (kind === "lead") this.#want();
    else if (kind === "items") {
      if (this.#isServedBy(tables)) this.#take(items, from, position);
    } else if (kind === "refused") this.#sink.refused(tables, new RefusedError(status, message));
    else if (kind === "state") {
      if (state === "open" && position !== undefined && this.#isServedBy(detail.tables))
        this.#take([], position, position);
      this.#sink.state(state, detail);
    }
  }

  #isServedBy(tables) {
    return this.#tables.every((table) => tables.includes(table));
  }

  #take(items, from, position) {
    const own = this.position;
    if (own !== undefined && from !== undefined && comparePositions(from, own) > 0) {
      this.#want(); // something lies between: the leader goes back to this tab's position
      return;
    }
    if (own === undefined || comparePositions(position, own) > 0) this.position = position;
    const isNew = ({ id, until = id }) =>
      own === undefined || until === undefined || comparePositions(until, own) > 0;
    this.#sink.items(items.filter(isNew), own, this.position);
  }
}

// -------------------------------------------------------------------------------------- public

/** Open a connection: see `ConnectOptions` in the type declarations. */
export function connect(options = {}) {
  return new Realtime(options);
}

/** A stream of changes and those who subscribe to parts of it. */
export class Realtime {
  state = "idle";

  #options;
  #source; // a Stream or Tabs
  #sourceAsked = false;
  #subscriptions = new Set();
  #opened = [];
  #position;
  #isClosed = false;
  #timer;
  #saver;

  constructor({
    url = "",
    tables,
    token = () => undefined,
    leave = false,
    integers = "number",
    lastEventId,
    remember,
    storage,
    share = false,
    silence = 60,
    fetch = globalThis.fetch.bind(globalThis),
    signal,
    onState,
    ...handlers
  } = {}) {
    if (!["number", "bigint", "string"].includes(integers))
      throw new TypeError(`integers is "number", "bigint" or "string", not ${integers}`);
    if (!(silence > 0)) throw new TypeError("silence is a number of seconds above 0");
    const giveToken = typeof token === "function" ? token : () => token;
    this.#options = {
      url: String(url).replace(/\/+$/, ""),
      token: async (about) => giveToken(about),
      leave,
      integers,
      silence: silence * 1_000,
      fetch,
      share,
      onState,
      storage,
      key: remember === undefined ? undefined : `ayb-realtime:${remember}:position`,
    };
    this.#position = lastEventId ?? this.#remembered();
    if (tables !== undefined) this.subscribe(tables, handlers);
    signal?.addEventListener("abort", () => this.close());
    if (signal?.aborted) this.close();
    globalThis.addEventListener?.("pagehide", this.#onHide);
    globalThis.addEventListener?.("pageshow", this.#onShow);
  }

  /** The position after which the stream continues; undefined before the first connection. */
  get position() {
    return this.#position;
  }

  /**
   * Receive the changes of these tables: a callback for changes, or `{onEvent, onResync, onTruncate,
   * onError}`. The stream is opened again where it lacks a table.
   */
  subscribe(tables, handlers) {
    const names = typeof tables === "string" ? tables.split(",") : [...tables];
    const wanted = names.map((name) => name.trim()).filter(Boolean);
    if (wanted.length === 0) throw new TypeError("name at least one table");
    if (this.#isClosed) throw new Error("the connection is closed");
    const subscription = new Subscription(
      wanted,
      typeof handlers === "function" ? { onEvent: handlers } : (handlers ?? {}),
      () => {
        if (this.#subscriptions.delete(subscription)) this.#later(LINGER);
      },
    );
    this.#subscriptions.add(subscription);
    if (this.#isOpenFor(subscription)) subscription.opened();
    this.#later(MERGE);
    return subscription;
  }

  /** All items of the tables given to `connect`: changes, and `resync`, `truncate` and `error`. */
  [Symbol.asyncIterator]() {
    const first = this.#subscriptions.values().next().value;
    if (!first) throw new Error("name tables in connect(), or iterate over a subscription");
    return first[Symbol.asyncIterator]();
  }

  /** End the stream. Call it when a user logs out. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("pagehide", this.#onHide);
    globalThis.removeEventListener?.("pageshow", this.#onShow);
    this.#save();
    const source = this.#source;
    this.#source = undefined;
    if (source) source.close();
    else this.#tell("closed", {});
    for (const subscription of this.#subscriptions) subscription.end();
    this.#subscriptions.clear();
  }

  #names() {
    return new Set([...this.#subscriptions].flatMap((subscription) => subscription.tables));
  }

  #isOpenFor(subscription) {
    return (
      this.state === "open" && subscription.tables.every((table) => this.#opened.includes(table))
    );
  }

  /** Look a little later which tables are wanted, so that many subscriptions are one request. */
  #later(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#update(), delay);
  }

  async #update() {
    const names = this.#names();
    if (this.#isClosed) return;
    if (this.#source) this.#source.setTables(names);
    else if (names.size && !this.#sourceAsked) {
      this.#sourceAsked = true;
      await this.#begin();
    }
  }

  async #begin() {
    const { share } = this.#options;
    const canShare =
      share && globalThis.navigator?.locks && globalThis.BroadcastChannel && crypto.subtle;
    const sink = this.#sink();
    if (!canShare) sink.source = new Stream(this.#options, sink, this.#position);
    else {
      let token;
      try {
        token = await this.#options.token({ reason: "connect" });
      } catch (error) {
        // Unknown whose it is: alone until a token can be had.
        this.#sourceAsked = false;
        this.#tell("waiting", { reason: "token", message: String(error?.message ?? error) });
        this.#later(FIRST_DELAY * (2 + Math.random() * 8));
        return;
      }
      const identity = identityOf(token);
      const { url, leave, integers } = this.#options;
      const parts = [version, url, leave, integers, share, identity];
      const group = await digest(JSON.stringify(parts));
      if (this.#isClosed) return;
      const onToken = (next) => {
        if (identityOf(next) === identity) return;
        queueMicrotask(() => this.#restart()); // another user: the group is another one
        throw new Error("the token is another user's");
      };
      const open = (out, position) => new Stream({ ...this.#options, onToken }, out, position);
      const { silence } = this.#options;
      sink.source = new Tabs(`ayb-realtime:${group}`, open, sink, this.#position, silence);
    }
    this.#source = sink.source;
    this.#source.setTables(this.#names());
    this.#sourceAsked = false;
  }

  #restart() {
    const source = this.#source;
    this.#source = undefined;
    source?.close();
    this.#update();
  }

  #onHide = (event) => {
    this.#save();
    if (event.persisted && this.#source) {
      // The page may come back from the browser's cache: its connections do not.
      const source = this.#source;
      this.#source = undefined;
      source.close();
      this.#tell("idle", {});
    }
  };

  #onShow = (event) => {
    if (event.persisted) this.#update();
  };

  #sink() {
    const isCurrent = () => sink.source !== undefined && sink.source === this.#source;
    const sink = {
      source: undefined,
      items: (items, _from, position) => {
        if (!isCurrent()) return undefined;
        const waits = [];
        for (const item of items) waits.push(...this.#dispatch(item));
        this.#position = position;
        this.#saveLater();
        return waits.length ? Promise.all(waits) : undefined;
      },
      state: (state, detail) => {
        if (state === "closed" ? !this.#isClosed : !isCurrent()) return;
        this.#opened = state === "open" ? detail.tables : [];
        if (state === "open" && this.#position === undefined) {
          this.#position = detail.position;
          this.#saveLater();
        }
        this.#tell(state, detail);
        if (state !== "open") return;
        for (const subscription of this.#subscriptions)
          if (this.#isOpenFor(subscription)) subscription.opened();
      },
      refused: (tables, error) => {
        if (!isCurrent()) return;
        for (const subscription of [...this.#subscriptions])
          if (subscription.tables.some((table) => tables.includes(table))) {
            this.#subscriptions.delete(subscription);
            subscription.refuse(error);
          }
        this.#source?.setTables(this.#names());
      },
    };
    return sink;
  }

  #dispatch(item) {
    const waits = [];
    for (const subscription of [...this.#subscriptions]) {
      const has = (table) => subscription.tables.some((name) => isTable(name, table));
      let own = item;
      if (item.type === "resync") {
        const tables = item.tables.filter(has);
        if (tables.length === 0) continue;
        own = { ...item, tables };
      } else if (item.table !== undefined && !has(item.table)) continue;
      const wait = subscription.take(own);
      if (wait) waits.push(wait);
    }
    return waits;
  }

  #tell(state, detail) {
    this.state = state;
    call(this.#options.onState, state, detail);
  }

  #remembered() {
    try {
      return this.#options.key && (this.#storage().getItem(this.#options.key) ?? undefined);
    } catch {
      return undefined; // storage is forbidden here
    }
  }

  #storage() {
    return this.#options.storage ?? globalThis.sessionStorage;
  }

  #saveLater() {
    if (this.#options.key && this.#saver === undefined)
      this.#saver = setTimeout(() => this.#save(), SAVE);
  }

  #save() {
    clearTimeout(this.#saver);
    this.#saver = undefined;
    if (!this.#options.key || this.#position === undefined) return;
    try {
      this.#storage().setItem(this.#options.key, this.#position);
    } catch {
      // storage is full or forbidden: the page begins afresh next time
    }
  }
}

/** Receives the changes of some tables until `unsubscribe()`. */
export class Subscription {
  /** Resolves when the stream is open for these tables: what is committed from then on arrives. */
  ready;

  #handlers;
  #leave;
  #opened;
  #refused;
  #queues = new Set();
  #isEnded = false;

  constructor(tables, handlers, leave) {
    this.tables = tables;
    this.#handlers = handlers;
    this.#leave = leave;
    this.ready = new Promise((resolve, reject) => {
      this.#opened = resolve;
      this.#refused = reject;
    });
    this.ready.catch(() => {}); // those who do not wait for it hear of it by onError
  }

  unsubscribe() {
    this.#leave();
    this.end();
  }

  /** Changes, and `resync`, `truncate` and `error`; reading pauses while too many wait. */
  [Symbol.asyncIterator]() {
    const queue = new Queue(() => this.#queues.delete(queue));
    if (this.#isEnded) queue.end();
    else this.#queues.add(queue);
    return queue;
  }

  /** @internal */
  opened() {
    this.#opened();
  }

  /** @internal */
  refuse(error) {
    this.#refused(error);
    call(this.#handlers.onError, { type: "error", message: error.message, error });
    this.#finish(error);
  }

  /** @internal */
  end() {
    this.#refused(new Error("the subscription ended"));
    this.#finish();
  }

  /** @internal */
  take(item) {
    if (this.#isEnded) return undefined;
    const { onEvent, onResync, onTruncate, onError } = this.#handlers;
    const handler = { change: onEvent, resync: onResync, truncate: onTruncate, error: onError };
    call(handler[item.type], item);
    let wait;
    for (const queue of this.#queues) wait = queue.put(item) ?? wait;
    return wait;
  }

  #finish(error) {
    this.#isEnded = true;
    for (const queue of this.#queues) queue.end(error);
    this.#queues.clear();
  }
}

/** The items that an iterator has not taken yet. */
class Queue {
  #items = [];
  #waiting;
  #room;
  #end;
  #leave;

  constructor(leave) {
    this.#leave = leave;
  }

  /** Returns a promise to wait for if there are too many. */
  put(item) {
    if (this.#waiting) {
      this.#waiting.resolve({ value: item, done: false });
      this.#waiting = undefined;
      return undefined;
    }
    this.#items.push(item);
    if (this.#items.length < MOST_QUEUED) return undefined;
    if (this.#items.length >= 10 * MOST_QUEUED) this.#overflow();
    return (this.#room ??= deferred()).promise;
  }

  /** Another tab reads the stream and cannot wait: what was not taken is fetched afresh. */
  #overflow() {
    const tables = [...new Set(this.#items.flatMap((item) => item.tables ?? item.table ?? []))];
    this.#items = [{ type: "resync", reason: "overflow", tables }];
  }

  next() {
    if (this.#items.length) {
      const value = this.#items.shift();
      if (this.#items.length < MOST_QUEUED / 2) this.#makeRoom();
      return Promise.resolve({ value, done: false });
    }
    if (this.#end) {
      const { error } = this.#end;
      this.#end = {};
      return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
    }
    this.#waiting ??= deferred();
    return this.#waiting.promise;
  }

  return() {
    this.#leave();
    this.#items = [];
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  end(error) {
    this.#makeRoom();
    if (this.#waiting) {
      if (error) this.#waiting.reject(error);
      else this.#waiting.resolve({ value: undefined, done: true });
      this.#waiting = undefined;
      this.#end = {};
    } else this.#end ??= { error };
  }

  #makeRoom() {
    this.#room?.resolve();
    this.#room = undefined;
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}

/** Call a handler; its error is reported like any uncaught one, and harms no other handler. */
function call(handler, ...values) {
  if (!handler) return;
  try {
    handler(...values);
  } catch (error) {
    if (globalThis.reportError) globalThis.reportError(error);
    else console.error(error);
  }
}

/**
 * For those who have `@allyourbase/js`: `new AYBRealtime(ayb)` in place of `ayb.realtime`, with the
 * same `subscribe(tables, callback)`. It takes the client's address and tokens, and refreshes them.
 */
export class AYBRealtime {
  #realtime;

  constructor(client, options = {}) {
    this.#realtime = connect({
      url: client.getBaseURL(),
      token: async ({ reason }) => {
        if (reason !== "connect" && client.refreshToken) await client.auth.refresh();
        return client.token;
      },
      ...options,
    });
  }

  /** Returns the function that ends the subscription. */
  subscribe(tables, callback) {
    const subscription = this.#realtime.subscribe(tables, callback);
    return () => subscription.unsubscribe();
  }

  close() {
    this.#realtime.close();
  }
}
