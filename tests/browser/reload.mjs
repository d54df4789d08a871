// The chat in a real browser while its code is being written: the server reloads, and the page goes on.
//
//     node tests/browser/reload.mjs CHROMIUM PYTHON PORT APP
//
// Starts APP, a copy of the chat's app.py, with PYTHON on PORT; the environment says whether by `reload` or by
// `debug`. Rewrites APP, and ends with status 0. Prints how long it took until the new code answered.
// `tests/browser/test_reload_browser.py` calls it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, renameSync, writeFileSync } from "node:fs";

import { PATIENCE_MS, launch, until } from "./chromium.mjs";

const [executablePath, python, port, app] = process.argv.slice(2);
const source = readFileSync(app, "utf8");

/** The file is whole at each moment, as editors write it. */
function write(text) {
  writeFileSync(`${app}.new`, text);
  renameSync(`${app}.new`, app);
}

/** The chat with a route more, which says what version of the file answers. */
function version(number) {
  return source.replace('@app.get("/")', `@app.get("/version")\ndef version() -> str:\n    return "${number}"\n\n\n@app.get("/")`);
}

const ask = () => fetch(`http://127.0.0.1:${port}/version`).then((answer) => answer.text(), () => "");

/** Writes that version, and waits until it answers. */
async function change(number) {
  const begin = performance.now();
  write(version(number));
  await until(`version ${number} answers`, async () => (await ask()) === String(number), 2);
  return Math.round(performance.now() - begin);
}

function publish(text) {
  execFileSync(python, ["-m", "fanbus", "publish", "--bus", `chat-${port}`, "room:desk", text]);
}

const server = spawn(python, [app], { env: { ...process.env, PORT: port }, stdio: ["ignore", "pipe", "pipe"], detached: true });
let output = "";
for (const stream of [server.stdout, server.stderr]) stream.on("data", (data) => (output += data));
const ended = new Promise((resolve) => server.on("exit", resolve));
const browser = await launch(executablePath);
try {
  await until("the server listens", async () => {
    assert.equal(server.exitCode, null, output);
    return fetch(`http://127.0.0.1:${port}/`).then((answer) => answer.ok, () => false);
  });
  const context = await browser.newContext({ locale: "en-GB" });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(`http://127.0.0.1:${port}/?name=Ana#desk`);
  const part = (testid) => page.getByTestId(testid);
  const back = part("notice").filter({ hasText: "You are back" });
  const isOnline = async () => {
    await page.waitForSelector("[data-testid=connection][data-state=online]");
    await page.waitForSelector("[data-testid=worker]:not([data-worker=''])");
    return part("worker").getAttribute("data-worker");
  };
  const texts = () => part("scroll").locator("[data-testid=message] p").allInnerTexts();
  const say = async (text) => {
    await part("text").fill(text);
    await part("text").press("Enter");
    // On its way it is on the page too, and another client's message may come before it.
    await page.locator("[data-testid=message]:not([data-status])").filter({ hasText: text }).waitFor();
  };

  const workers = [await isOnline()];
  const said = ["before"];
  await say("before");
  const took = [];
  for (const number of [1, 2, 3]) {
    // While the page is away, something is said, and somebody is just writing.
    await part("text").fill(`a draft of ${number}`);
    await page.evaluate(() => { globalThis.reallyConnect = connect; connect = () => {}; });
    took.push(await change(number));
    await page.waitForSelector("[data-testid=connection].away");
    publish(`said meanwhile ${number}`);
    await page.evaluate(() => { connect = globalThis.reallyConnect; tryNow(); });
    await back.nth(number - 1).waitFor();
    workers.push(await isOnline());
    assert.equal(await part("text").inputValue(), `a draft of ${number}`, "the draft is still there");
    await say(`after ${number}`);
    said.push(`said meanwhile ${number}`, `after ${number}`);
    assert.deepEqual(await texts(), said, "nothing is missing, and nothing is there twice");
  }
  assert.equal(new Set(workers).size, workers.length, "each time another worker");
  assert.equal(await part("gap").count(), 0);

  // By itself, without anybody who helps it to come back.
  took.push(await change(4));
  await back.nth(3).waitFor();
  await isOnline();

  // Code that does not start: the page stays where it is.
  const worker = await isOnline();
  write("def broken(:\n");
  await until("the log says what is wrong", () => output.includes("SyntaxError"));
  await say("still there");
  assert.equal(await isOnline(), worker);
  took.push(await change(5));
  await back.nth(4).waitFor();
  await say("and again");
  assert.deepEqual(await texts(), [...said, "still there", "and again"]);
  assert.deepEqual(errors, []);
  console.log(`ok: from the file's change to the new code's first answer: ${took.join(", ")} ms`);
} catch (error) {
  console.log(`${error.stack}\n\nThe server said:\n${output}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  if (server.exitCode === null && server.signalCode === null) process.kill(server.pid, "SIGTERM");
  await ended;
  execFileSync(python, ["-m", "fanbus", "bus", "remove", `chat-${port}`]);  // it has kept what was said
}
