// The pure parts of the browser client: positions, JSON, server-sent events. Run by `node --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

const { FrameReader, comparePositions, parseJSON } = await import(process.env.CLIENT_MODULE);

test("positions are ordered by epoch, batch and index", () => {
  const inOrder = ["7-0", "7-2", "7-10", "7", "8-0", "59921585000", "12.3-1", "12.3", "13.1-0"];
  for (const [i, a] of inOrder.entries())
    for (const [j, b] of inOrder.entries())
      assert.equal(Math.sign(comparePositions(a, b)), Math.sign(i - j), `${a} ${b}`);
});

test("integers beyond 2^53 are exact where that is asked for", () => {
  const text =
    '{"a":9007199254740993,"b":[-9223372036854775808,12],"c":"9007199254740993 \\" 1",' +
    '"d":1.0000000000000000001,"e":9007199254740992e0,"9007199254740995":1,"f":-0}';
  const exact = parseJSON(text, "bigint");
  assert.equal(exact.a, 9007199254740993n);
  assert.deepEqual(exact.b, [-9223372036854775808n, 12]);
  assert.equal(exact.c, '9007199254740993 " 1');
  assert.equal(exact.d, 1);
  assert.equal(exact["9007199254740995"], 1);
  assert.equal(parseJSON(text, "string").a, "9007199254740993");
  assert.deepEqual(parseJSON(text), JSON.parse(text));
  assert.throws(() => parseJSON('{"a":90071992547409931', "bigint"), SyntaxError);
});

const STREAM =
  "\uFEFFretry: 4711\r\nevent: busy\r\ndata: {}\r\n\r\n" +
  ": a comment\n\n" +
  "id: 7-1\ndata: one\ndata:two\ndata\n\n" +
  "event: lost\nid: 8\n\n" + // no data: no frame, and the name does not stay
  "id: a\0b\rdata:  x\rother: y\r\r" +
  "data: the end never comes";
const FRAMES = [
  { name: "busy", data: "{}", id: undefined, retry: 4711 },
  { name: "message", data: "one\ntwo\n", id: "7-1", retry: undefined },
  { name: "message", data: " x", id: undefined, retry: undefined },
];

test("frames are the same however the text is cut", () => {
  for (let size = 1; size <= STREAM.length; size++) {
    const reader = new FrameReader();
    const frames = [];
    for (let at = 0; at < STREAM.length; at += size)
      frames.push(...reader.push(STREAM.slice(at, at + size)));
    assert.deepEqual(frames, FRAMES, `pieces of ${size}`);
  }
});

test("a long line in many pieces takes linear time", () => {
  const reader = new FrameReader();
  reader.push("data: ");
  for (let i = 0; i < 20_000; i++) reader.push("x".repeat(1_000));
  const [frame] = reader.push("\n\n");
  assert.equal(frame.data.length, 20_000_000);
});
