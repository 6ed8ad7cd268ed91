// Uses the snippets of docs/clients.md in their frameworks, against a real gateway. Told on standard
// input when rows are written; prints lines of JSON.
import { createInterface } from "node:readline";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import React from "react";
import { act, create } from "react-test-renderer";
import { effectScope } from "vue";
import { latestChanges } from "./rows-store.js";
import { openRealtime } from "./realtime.js";
import { accessToken } from "./session.js";
import { useChanges } from "./use-changes.js";
import { useLiveRows } from "./use-live-query.js";
import { useRows } from "./use-rows.js";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;
const [url, email, password] = process.argv.slice(2);
const session = await (
  await fetch(`${url}/api/auth/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ email, password }),
  })
).json();
const token = accessToken(url, session);
const first = await token({ reason: "connect" });
session.token = await token({ reason: "expiring" });
const realtime = openRealtime({ url, accessToken: () => session.token });
const tell = (value) => console.log(JSON.stringify(value));

let rows = [{ id: 1, title: "fetched" }];
let fetches = 0;
let gate = Promise.resolve();
let release;
/** What a server answers: as the rows are when it is asked, after the gate has opened. */
async function fetchRows() {
  fetches += 1;
  if (fetches === 1) {
    await new Promise((done) => setTimeout(done, 1000));
    return [{ id: 1, title: "from before the subscription was ready" }];
  }
  const found = [...rows];
  await gate;
  return found;
}
const hook = [];
function Changes() {
  useChanges(realtime, ["posts"], ({ action, record }) => hook.push(`${action} ${record.id}`));
  return null;
}
const shown = {};
function Rows() {
  shown.query = useLiveRows(realtime, "posts", fetchRows).data;
  return null;
}
const e = React.createElement;
const queries = new QueryClient();
let tree;
await act(async () => {
  tree = create(e(QueryClientProvider, { client: queries }, e(Changes), e(Rows)));
});
const scope = effectScope();
const vue = scope.run(() => useRows(realtime, "posts", async () => rows));
let svelte = [];
const leave = latestChanges(realtime, "posts").subscribe((changes) => (svelte = changes));
await realtime.subscribe("posts").ready;
tell({ open: true, renewed: session.token !== undefined && session.token !== first });

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "unmount") {
    await act(async () => tree.unmount());
    scope.stop();
    leave();
    queries.clear();
    tell({ unmounted: true });
    continue;
  }
  if (line.startsWith("serve ")) rows = JSON.parse(line.slice(6));
  if (line === "hold") {
    gate = new Promise((done) => (release = done));
    queries.invalidateQueries();
  }
  if (line === "release") release();
  await act(async () => new Promise((done) => setTimeout(done, 100)));
  tell({
    hook,
    query: (shown.query ?? []).map(({ id, title }) => `${id} ${title}`),
    vue: [...vue.value.values()].map(({ id, title }) => `${id} ${title}`),
    svelte: svelte.map(({ action, record }) => `${action} ${record.id}`),
  });
}
process.exit(0);
