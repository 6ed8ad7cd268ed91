// Uses the snippets of docs/clients.md in their frameworks, against a real gateway. Reads commands from
// standard input; prints lines of JSON.
import "./client_docs_window.mjs";
import { createInterface } from "node:readline";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import React from "react";
import { act, create } from "react-test-renderer";
import { SWRConfig } from "swr";
import { effectScope } from "vue";
import { provide } from "./api.js";
import { latestChanges } from "./rows-store.js";
import Page from "./page.js";
import { openRealtime } from "./realtime.js";
import { accessToken } from "./session.js";
import { useChanges } from "./use-changes.js";
import { useLiveRows } from "./use-live-query.js";
import { useLiveRows as useLiveRowsOfSWR } from "./use-live-swr.js";
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
let gate = Promise.resolve();
let release;
/** What a server answers: as the rows are when it is asked, after the gate has opened. */
function server() {
  let fetches = 0;
  return async () => {
    fetches += 1;
    if (fetches === 1) {
      await new Promise((done) => setTimeout(done, 1000));
      return [{ id: 1, title: "from before the subscription was ready" }];
    }
    const found = [...rows];
    await gate;
    return found;
  };
}
const hook = [];
function Changes() {
  useChanges(realtime, ["posts"], ({ action, record }) => hook.push(`${action} ${record.id}`));
  return null;
}
const shown = {};
const fetchRows = server();
function Rows() {
  shown.query = useLiveRows(realtime, "posts", fetchRows).data;
  return null;
}
const fetchForSWR = server();
const cache = new Map();
let refetchSWR;
function RowsOfSWR() {
  const { data, mutate } = useLiveRowsOfSWR(realtime, "posts", fetchForSWR);
  refetchSWR = mutate;
  shown.swr = data;
  return null;
}
const e = React.createElement;
const queries = new QueryClient();
let tree;
await act(async () => {
  tree = create(
    e(
      QueryClientProvider,
      { client: queries },
      e(Changes),
      e(Rows),
      e(SWRConfig, { value: { provider: () => cache } }, e(RowsOfSWR)),
    ),
  );
});
provide(realtime, async () => rows);
let page;
await act(async () => {
  page = create(e(SWRConfig, { value: { provider: () => new Map() } }, await Page()));
});
const renderedFirst = titles();
function titles() {
  return page === undefined ? [] : page.root.findAllByType("li").map((item) => item.children.join(""));
}
const scope = effectScope();
const vue = scope.run(() => useRows(realtime, "posts", async () => rows));
let svelte = [];
const leave = latestChanges(realtime, "posts").subscribe((changes) => (svelte = changes));
await realtime.subscribe("posts").ready;
tell({
  open: true,
  renewed: session.token !== undefined && session.token !== first,
  rendered: renderedFirst,
});

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "unmount") {
    await act(async () => tree.unmount());
    await act(async () => page.unmount());
    page = undefined;
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
    refetchSWR();
  }
  if (line === "release") release();
  await act(async () => new Promise((done) => setTimeout(done, 100)));
  tell({
    hook,
    query: (shown.query ?? []).map(({ id, title }) => `${id} ${title}`),
    swr: (shown.swr ?? []).map(({ id, title }) => `${id} ${title}`),
    next: titles(),
    vue: [...vue.value.values()].map(({ id, title }) => `${id} ${title}`),
    svelte: svelte.map(({ action, record }) => `${action} ${record.id}`),
  });
}
process.exit(0);
