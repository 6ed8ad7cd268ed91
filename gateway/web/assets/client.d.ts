/** Types of `client.js`: realtime changes of Postgres tables, from an ayb-realtime gateway. */

export const version: string;

/** A change of a row that the user may see. */
export interface Change<Row = Record<string, unknown>> {
  type: "change";
  /** `create` and `update` carry the whole new row; `delete` the columns of its primary key. */
  action: "create" | "update" | "delete";
  /** Bare for a table in `public`, otherwise `schema.table`. */
  table: string;
  record: Row;
  /** The row is too large to be sent: `record` holds its key only. */
  truncated?: true;
  /** The position to continue after; of the delete of a changed key, the one before both halves. */
  id: string;
  /** Of the delete of a changed key: the position of the whole change. */
  until?: string;
}

/** Something was missed that cannot be sent any more: fetch these tables again. */
export interface Resync {
  type: "resync";
  reason: "expired" | "unknown" | "overflow";
  tables: string[];
  id?: string;
}

/** The table was emptied. */
export interface Truncate {
  type: "truncate";
  table: string;
  id?: string;
}

/** A policy fails for this user, or the gateway refuses the tables (`error` says why). */
export interface StreamError {
  type: "error";
  message: string;
  error?: RefusedError;
}

export type Item<Row = Record<string, unknown>> = Change<Row> | Resync | Truncate | StreamError;

export interface Handlers<Row = Record<string, unknown>> {
  onEvent?(change: Change<Row>): void;
  onResync?(resync: Resync): void;
  onTruncate?(truncate: Truncate): void;
  onError?(error: StreamError): void;
}

/**
 * `idle`: nothing is subscribed to. `connecting`. `open`: changes arrive. `waiting`: the next
 * attempt comes after `delay` milliseconds. `offline`: the browser says that there is no network.
 * `closed`: by `close()`.
 */
export type State = "idle" | "connecting" | "open" | "waiting" | "offline" | "closed";

export interface StateDetail {
  /** Why the stream ended: the gateway drains, the token is refused, the network fails, ... */
  reason?: "network" | "ended" | "busy" | "closing" | "expired" | "unauthorized" | "token";
  message?: string;
  /** Milliseconds until the next attempt. */
  delay?: number;
  /** How many attempts have failed one after the other. */
  attempt?: number;
  clientId?: string;
  position?: string;
  tables?: string[];
}

/** Why a token is asked for. */
export interface TokenRequest {
  reason: "connect" | "expiring" | "expired" | "refused";
}

export interface ConnectOptions<Row = Record<string, unknown>> extends Handlers<Row> {
  /** Where the gateway is, a path prefix included. Default: where the page comes from. */
  url?: string;
  /** Tables to subscribe to at once, for the handlers given here. */
  tables?: string | Iterable<string>;
  /**
   * The token, or a function that returns it. The function is called for every connection, before
   * a token ends and when one is refused: return one that is valid for a while.
   */
  token?: Token | ((request: TokenRequest) => Token | Promise<Token>);
  /** An update that takes a row out of the user's sight arrives as a `delete`. Default: false. */
  leave?: boolean;
  /** What integers beyond 2^53 become. Default: "number", which is inexact. */
  integers?: "number" | "bigint" | "string";
  /** Continue after this position. */
  lastEventId?: string;
  /** Keep the position under this name over a reload of the page. */
  remember?: string;
  /** Where it is kept. Default: `sessionStorage`. */
  storage?: { getItem(key: string): string | null; setItem(key: string, value: string): void };
  /** Use one stream for all tabs of the origin that give the same value (and the same user). */
  share?: boolean | string;
  /** Seconds without a sign of life after which the stream is opened again. Default: 60. */
  silence?: number;
  /** A `fetch` whose response bodies can be read as they arrive. Default: the platform's. */
  fetch?: Fetch;
  /** Ends the connection. */
  signal?: AbortSignal;
  onState?(state: State, detail: StateDetail): void;
}

type Token = string | null | undefined;

/** What of `fetch` is used, so that those of Expo and others fit, which differ elsewhere. */
export type Fetch = (
  url: string,
  init: { headers: Record<string, string>; signal: AbortSignal; cache: "no-store" },
) => Promise<{
  ok: boolean;
  status: number;
  headers: { get(name: string): string | null };
  body: { getReader(): { read(): Promise<{ done: boolean; value?: Uint8Array }> } } | null;
  json(): Promise<any>;
}>;

/** Open a connection. One is enough for all tables; subscribe as often as you like. */
export function connect<Row = Record<string, unknown>>(options?: ConnectOptions<Row>): Realtime<Row>;

export class Realtime<Row = Record<string, unknown>> implements AsyncIterable<Item<Row>> {
  private constructor(options?: ConnectOptions<Row>);
  readonly state: State;
  /** The position after which the stream continues; undefined before the first connection. */
  readonly position: string | undefined;
  /** Receive the changes of tables, until `unsubscribe()`. */
  subscribe<R = Row>(
    tables: string | Iterable<string>,
    handlers?: Handlers<R> | ((change: Change<R>) => void),
  ): Subscription<R>;
  /** Everything about the tables given to `connect`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Item<Row>>;
  /** End the stream. Call it when a user logs out. */
  close(): void;
}

export class Subscription<Row = Record<string, unknown>> implements AsyncIterable<Item<Row>> {
  private constructor();
  readonly tables: string[];
  /** Resolves when the stream is open: what is committed from then on arrives. */
  readonly ready: Promise<void>;
  unsubscribe(): void;
  [Symbol.asyncIterator](): AsyncIterableIterator<Item<Row>>;
}

/** The gateway refuses a table, or the request as a whole; asking again would not help. */
export class RefusedError extends Error {
  readonly status: number;
}

/** `new AYBRealtime(ayb)` in place of `ayb.realtime`, for those who have `@allyourbase/js`. */
export class AYBRealtime {
  constructor(client: AYBClientLike, options?: Omit<ConnectOptions, "url" | "token" | "tables">);
  /** Returns the function that ends the subscription. */
  subscribe<Row = Record<string, unknown>>(
    tables: string[],
    callback: (change: Change<Row>) => void,
  ): () => void;
  close(): void;
}

export interface AYBClientLike {
  readonly token: string | null;
  readonly refreshToken: string | null;
  readonly auth: { refresh(): Promise<unknown> };

  getBaseURL(): string;
}

/** Negative, 0 or positive: the order in which a stream sends two positions. */
export function comparePositions(a: string, b: string): number;

/** Read JSON; integers beyond 2^53 become what `integers` says. */
export function parseJSON(text: string, integers?: "number" | "bigint" | "string"): unknown;

/** Reads server-sent events from text, piece by piece. */
export class FrameReader {
  push(text: string): { name: string; data: string; id?: string; retry?: number }[];
}
