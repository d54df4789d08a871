// EventSource in a real browser against event streams of the real server.
//
//     node tests/browser/events.mjs CHROMIUM PORT
//
// The server of tests/apps/events.py listens on PORT, and this ends one of its workers. Prints what
// went well, and ends with status 0. `tests/browser/test_events_browser.py` calls it.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";

import { PATIENCE_MS, launch } from "./chromium.mjs";

const [executablePath, port] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Publishes as any client of the application may. */
async function publish(topic, body, type = "text/plain") {
  const answer = await fetch(`http://127.0.0.1:${port}/publish/${topic}`, {
    method: "POST", body, headers: { "content-type": type },
  });
  return (await answer.json()).offset;
}

/** In the page: opens a stream and notes what comes. */
function open(url) {
  window.heard = [];
  window.opened = 0;
  window.source = new EventSource(url);
  source.onopen = () => (opened += 1);
  for (const kind of ["message", "binary", "gap"])
    source.addEventListener(kind, ({ data, lastEventId }) => heard.push({ kind, data, lastEventId }));
}

const browser = await launch(executablePath);
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.evaluate(open, "/events/kept:page");
  await page.waitForFunction(() => opened === 1);

  const texts = ["hello", "", "two\nlines", "grüß dich", "x".repeat(500_000)];
  const offsets = [];
  for (const text of texts) offsets.push(await publish("kept:page", text));
  await publish("kept:page", new Uint8Array([0, 255, 10]), "application/octet-stream");
  await page.waitForFunction(() => heard.length === 6);
  const heard = await page.evaluate(() => heard);
  assert.deepEqual(heard.slice(0, 5).map(({ data }) => data), texts);
  assert.deepEqual(heard.slice(0, 5).map(({ lastEventId }) => Number(lastEventId.split("-")[1])), offsets);
  assert.deepEqual([heard[5].kind, heard[5].data], ["binary", "AP8K"]);
  console.log("ok   messages of every kind");

  console.log("end the worker");
  await lines.next();
  // Nobody listens now, or somebody does already: either way these come once.
  const numbers = Array.from({ length: 50 }, (_, number) => `after ${number}`);
  for (const text of numbers) await publish("kept:page", text);
  await page.waitForFunction(() => opened >= 2);
  await page.waitForFunction(() => heard.length >= 56);
  const after = (await page.evaluate(() => heard)).slice(6);
  assert.deepEqual(after.map(({ kind, data }) => `${kind} ${data}`), numbers.map((text) => `message ${text}`));
  console.log("ok   it comes back by itself, and has missed nothing");

  await page.evaluate(() => source.close());
  await page.evaluate(open, "/events/kept:page?id=1-1");
  await page.waitForFunction(() => heard.some(({ data }) => data === "after 49"));
  const first = (await page.evaluate(() => heard))[0];
  assert.equal(first.kind, "gap");
  console.log("ok   it is told of a gap");

  await page.evaluate(() => source.close());
  await page.evaluate(() => {
    window.heard = [];
    window.source = new EventSource("/tokens");
    source.onmessage = ({ data }) => heard.push(data);
    source.addEventListener("list", ({ data, lastEventId }) => heard.push(`${lastEventId} ${data}`));
    // Without this it would be opened again.
    source.addEventListener("done", () => { source.close(); heard.push("done"); });
  });
  await page.waitForFunction(() => heard.at(-1) === "done");
  assert.deepEqual(await page.evaluate(() => heard), ["two\nlines", '{"number":0}', "7 [1]", "done"]);
  console.log("ok   it hears the events of a generator to their end");
} finally {
  await browser.close();
  process.stdin.destroy(); // or it would be waited for
}
