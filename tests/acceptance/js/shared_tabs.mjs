// Tabs that share a stream, in one process: node shared_tabs.mjs CLIENT. The first tab, which
// leads, is closed. The second leads from then on, before the third, which is busy, says what it
// wants. Writes which changes each tab received, what was requested, and how many streams two users
// have whose ids are one number in JavaScript.
const { connect } = await import(process.argv[2]);

const turns = new Map();
const request = (name, ...rest) => {
  const callback = rest.pop();
  const [{ signal } = {}] = rest;
  const turn = (turns.get(name) ?? Promise.resolve()).then(() => !signal?.aborted && callback());
  turns.set(name, turn);
  return turn;
};
Object.defineProperty(globalThis, "navigator", { value: { locks: { request } } });

/** A channel of a tab that hears everything later, in order. */
class BusyChannel extends BroadcastChannel {
  set onmessage(receive) {
    super.onmessage = (message) => setTimeout(() => receive(message), 200);
  }
}

const log = [];
const streams = new Set();
const requests = [];

/** A gateway of a few lines: its positions are numbers. */
async function fetch(url, { headers, signal }) {
  const tables = new URL(url).searchParams.get("tables").split(",");
  const after = Number(headers["Last-Event-ID"] ?? 100);
  requests.push(`${[...tables].sort()} after ${after}`);
  const body = new ReadableStream({
    start(controller) {
      const write = (text) => signal.aborted || controller.enqueue(new TextEncoder().encode(text));
      const stream = ([id, table]) => {
        if (id > after && tables.includes(table))
          write(`id: ${id}\ndata: {"action":"create","table":"${table}","record":{}}\n\n`);
      };
      write(`event: connected\nid: ${after}\ndata: {"clientId":"x"}\n\n`);
      log.forEach(stream);
      streams.add(stream);
      signal.addEventListener("abort", () => {
        streams.delete(stream);
        controller.error(signal.reason);
      });
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

function commit(id, table) {
  log.push([id, table]);
  for (const stream of streams) stream([id, table]);
}

const seen = { a: [], b: [] };
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function open(tables) {
  const tab = connect({ url: "http://gateway", token: "token", share: true, fetch });
  for (const table of tables)
    tab.subscribe([table], ({ id }) => seen[table].push(Number(id)));
  return tab;
}

const first = connect({ url: "http://gateway", token: "token", share: true, fetch });
const ready = first.subscribe(["a", "b"], {}).ready;
await sleep(20);
const second = open(["a"]);
await sleep(20);
globalThis.BroadcastChannel = BusyChannel;
const third = open(["b"]);
await ready;
await sleep(600);
first.close();
commit(101, "b");
commit(102, "a");
await sleep(1_000);
commit(103, "b");
commit(104, "a");
await sleep(600);
second.close();
third.close();
await sleep(50);

const before = requests.length;
for (const sub of ["9007199254740992", "9007199254740993"])
  connect({ url: "http://gateway", token: `x.${btoa(`{"sub":${sub}}`)}.x`, share: true, fetch })
    .subscribe(["a"], {});
await sleep(300);
console.log(JSON.stringify({ seen, requests: requests.slice(0, before), users: requests.length - before }));
process.exit(0);
