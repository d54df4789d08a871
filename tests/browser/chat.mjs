// The chat in a real browser, against the real server.
//
//     node tests/browser/chat.mjs CHROMIUM PYTHON PORT SCREENSHOTS
//
// Starts the server with PYTHON on PORT, plays through what people do, leaves PNG files in the
// folder SCREENSHOTS, and ends with status 0. `tests/browser/test_chat_browser.py` calls it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";

import { PATIENCE_MS, launch, until } from "./chromium.mjs";

const [executablePath, python, port, screenshots] = process.argv.slice(2);
const PHONE = { width: 390, height: 780 };
const DESKTOP = { width: 1100, height: 760 };

// ------------------------------------------------------------------ the server

let server = null;

/** Starts the chat, with two workers or more, in a process group of its own. */
async function startServer() {
  const mine = (server = spawn(python, ["examples/chat/app.py"], {
    env: { ...process.env, PORT: port },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  }));
  mine.output = "";
  for (const stream of [mine.stdout, mine.stderr]) stream.on("data", (data) => (mine.output += data));
  mine.ended = new Promise((resolve) => mine.on("exit", resolve));
  await until("the server listens", async () => {
    assert.equal(mine.exitCode, null, `The server ended:\n${mine.output}`);
    return fetch(`http://127.0.0.1:${port}/`).then((answer) => answer.ok, () => false);
  });
}

/** Ends the server: SIGKILL to every one of its processes, anything else to the supervisor. */
async function stopServer(signal) {
  process.kill(signal === "SIGKILL" ? -server.pid : server.pid, signal);
  await server.ended;
}

/** Ends a worker with kill -9. The page stays away until `comeBack`, so that something can be said meanwhile. */
async function loseWorker(page, worker) {
  await page.evaluate(() => { globalThis.reallyConnect = connect; connect = () => {}; });
  process.kill(Number(worker), "SIGKILL");
  await page.waitForSelector("[data-testid=connection].away");
}

async function comeBack(page) {
  const before = await notice(page, "You are back").count();
  await page.evaluate(() => { connect = globalThis.reallyConnect; tryNow(); });
  await notice(page, "You are back").nth(before).waitFor();
}

// ------------------------------------------------------------------ what a person does and sees

const part = (page, testid) => page.getByTestId(testid);
const message = (page, text) => part(page, "message").filter({ hasText: text });
const notice = (page, text) => part(page, "notice").filter({ hasText: text });

const texts = (page, list = "scroll") => part(page, list).locator("[data-testid=message] p").allInnerTexts();

/** Publishes to a room from outside of the server, each of them as it stands. */
function publish(room, ...messages) {
  execFileSync(python, ["-c", `import json, sys
from fanbus import Bus
with Bus.open(sys.argv[1]) as bus:
    for message in json.load(sys.stdin):
        bus.publish(sys.argv[2], message)`, `chat-${port}`, `room:${room}`], { input: JSON.stringify(messages) });
}

/** What the bus keeps of a room, as text. */
function kept(room) {
  const lines = execFileSync(python, ["-c", `import json, sys
from fanbus import Bus
with Bus.open(sys.argv[1]) as bus:
    print(json.dumps([str(record.message) for record in bus.history(sys.argv[2], last=100)]))`, `chat-${port}`, `room:${room}`]);
  return JSON.parse(lines);
}

async function open(context, { name, room, via, viewport = DESKTOP, scheme = "light" }) {
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(error.message));
  page.on("console", (said) => {
    if (said.type() === "error" && !/WebSocket connection .* failed/.test(said.text())) page.errors.push(said.text());
  });
  await page.setViewportSize(viewport);
  await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
  const query = new URLSearchParams({ ...(name && { name }), ...(via === "relay" && { via }) });
  await page.goto(`http://127.0.0.1:${port}/?${query}#${room}`);
  return page;
}

async function isOnline(page) {
  await page.waitForSelector("[data-testid=connection][data-state=online]");
  await page.waitForSelector("[data-testid=worker]:not([data-worker=''])");
  return part(page, "worker").getAttribute("data-worker");
}

/** Waits until the page is in the room that its address names by now. */
async function isIn(page, room) {
  await until(`the page is in ${room}`, async () => (await part(page, "room").innerText()) === room);
  return isOnline(page);
}

/** Waits until the page shows these messages, and no others. */
async function shows(page, expected, list) {
  await until(`"${expected}" on the page`, async () => JSON.stringify(await texts(page, list)) === JSON.stringify(expected));
}

async function say(page, text) {
  await part(page, "text").fill(text);
  await part(page, "text").press("Enter");
}

/** Waits until the message has come from the bus. One that is still on its way is on the page too, but
 * has no place in the order of the room yet. */
async function hears(page, text, worker) {
  const heard = part(page, "scroll").locator("[data-testid=message]:not([data-status])").filter({ hasText: text });
  await heard.waitFor();
  assert.equal(await heard.count(), 1, `"${text}" is shown once`);
  if (worker) assert.equal(await heard.getAttribute("data-worker"), worker, `who published "${text}"`);
}

/** Opens tabs in one room until two of them are served by different workers. */
async function onTwoWorkers(context, room, first, second, more = {}) {
  const ana = await open(context, { name: "Ana", room, via: first, ...more });
  const anaWorker = await isOnline(ana);
  for (let tries = 0; tries < 60; tries++) {
    const ben = await open(context, { name: "Ben", room, via: second, ...more });
    const benWorker = await isOnline(ben);
    if (benWorker !== anaWorker) {
      await ana.bringToFront();
      return { ana, ben, anaWorker, benWorker };
    }
    await ben.close();
  }
  throw new Error("60 tabs were all served by one worker");
}

/** Text whose contrast with what is behind it is below WCAG's AA, in the page as it stands. */
function lowContrast(page) {
  return page.evaluate(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const luminance = (color) => {
      const [r, g, b] = color.slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const bad = [];
    const look = (element, color, text) => {
      const layers = [];
      let opacity = 1;
      for (let up = element; up; up = up.parentElement) {
        const style = getComputedStyle(up);
        layers.push(rgba(style.backgroundColor));
        opacity *= Number(style.opacity);
      }
      const back = layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
      const ink = rgba(color);
      ink[3] *= opacity;
      const [light, dark] = [luminance(over(ink, back)), luminance(back)].sort((a, b) => b - a);
      const ratio = (light + 0.05) / (dark + 0.05);
      if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${text.trim().slice(0, 30)}`);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, noscript, .hidden, button:disabled")) continue;
      look(element, getComputedStyle(element).color, walker.currentNode.data);
    }
    const field = document.querySelector("textarea");
    look(field, getComputedStyle(field, "::placeholder").color, field.placeholder);
    return bad;
  });
}

async function photograph(page, name) {
  await page.screenshot({ path: `${screenshots}/${name}.png` });
}

// ------------------------------------------------------------------ the story

const story = {
  async "a first visitor chooses a name, and the page remembers it"(context) {
    const page = await open(context, { room: "door" });
    await part(page, "name-dialog").waitFor();
    assert.match(await part(page, "name").inputValue(), /^\w+ \w+$/, "a friendly suggestion");
    await photograph(page, "first-visit");
    await part(page, "name").fill("  Zoë   Okafor ");
    await part(page, "name").press("Enter");
    await isOnline(page);
    await notice(page, "You joined").waitFor();
    assert.equal((await part(page, "me").innerText()).includes("Zoë Okafor"), true);
    await page.reload();
    await isOnline(page);
    assert.equal((await part(page, "me").innerText()).includes("Zoë Okafor"), true);
    return [page];
  },

  ...Object.fromEntries(
    [["rooms", "rooms"], ["relay", "relay"], ["rooms", "relay"]].map(([first, second]) => [
      `two tabs on two workers talk, ${first} to ${second}`,
      async (context) => {
        const { ana, ben, anaWorker, benWorker } = await onTwoWorkers(context, `${first}-${second}`, first, second);
        await notice(ana, "Ben joined").last().waitFor();
        await say(ana, "Hello from the first worker");
        await hears(ben, "Hello from the first worker", anaWorker);
        await hears(ana, "Hello from the first worker", anaWorker);
        await say(ben, "And back from the second");
        await hears(ana, "And back from the second", benWorker);
        assert.equal(await ana.locator(".own [data-testid=message]").count(), 1, "own messages are on the right");
        await ben.close();
        await notice(ana, "Ben left").last().waitFor();
        return [ana];
      },
    ]),
  ),

  async "a tab changes between the Python room and the Rust relay"(context) {
    const { ana, ben } = await onTwoWorkers(context, "switch", "rooms", "rooms");
    await part(ben, "kind-relay").check();
    await notice(ben, "You now talk through the Rust relay").waitFor();
    const worker = await isOnline(ben);
    await say(ben, "All in Rust now");
    await hears(ana, "All in Rust now", worker);
    assert.match(ben.url(), /via=relay/);
    return [ana, ben];
  },

  async "what people write is shown as they wrote it, and never runs"(context) {
    const ana = await open(context, { name: "Ana", room: "texts", viewport: PHONE });
    await isOnline(ana);
    const texts = ["<img src=x onerror=\"document.title='hacked'\"><script>alert(1)</scr" + "ipt>", "x".repeat(600), "مرحبا! كيف الحال؟", "👩‍👩‍👧‍👦🎉"];
    for (const text of texts) {
      await say(ana, text);
      await hears(ana, text);
    }
    await part(ana, "text").fill("one");
    await part(ana, "text").press("Shift+Enter");
    await part(ana, "text").pressSequentially("two");
    await part(ana, "text").press("Enter");
    await hears(ana, "one\ntwo");
    assert.equal(await ana.locator("ol img, ol script").count(), 0);
    assert.doesNotMatch(await ana.title(), /hacked/);
    const rtl = message(ana, texts[2]).locator("p");
    assert.equal(await rtl.evaluate((p) => getComputedStyle(p).direction), "rtl");
    const [width, view] = await ana.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(width <= view, `nothing is wider than the phone: ${width} > ${view}`);
    await photograph(ana, "texts-phone");
    return [ana];
  },

  async "what is not shaped like a message is not shown"(context) {
    const ana = await open(context, { name: "Ana", room: "garbage", via: "relay" });
    await isOnline(ana);
    await ana.evaluate(async () => {
      const rude = new WebSocket(`ws://${location.host}/relay/garbage`);
      await new Promise((resolve) => (rude.onopen = resolve));
      for (const garbage of ["", "{", "null", "7", '"x"', "[]", '{"type":"message"}', '{"type":"message","id":{},"text":"no"}',
        '{"type":"message","id":"1","text":{"toString":1}}', '{"type":"__proto__"}', new Uint8Array([1, 2, 3])]) rude.send(garbage);
      rude.send(JSON.stringify({ type: "message", id: "9", text: "and now a good one", name: { a: 1 }, worker: "x" }));
    });
    await hears(ana, "and now a good one");
    assert.equal(await part(ana, "message").count(), 1);
    assert.equal(await message(ana, "and now").getAttribute("data-worker"), "");
    return [ana];
  },

  async "what the command line publishes appears in every browser, on both workers"(context) {
    const { ana, ben } = await onTwoWorkers(context, "outside", "rooms", "relay");
    const type = (text) => execFileSync(python, ["-m", "fanbus", "publish", "--bus", `chat-${port}`, "room:outside", text]);
    type("hello");
    type("hello once more");
    for (const page of [ana, ben]) {
      await hears(page, "hello once more");
      assert.equal(await part(page, "message").count(), 2);
    }
    return [ana, ben];
  },

  async "a reader who scrolled up is not moved, and is told of new messages"(context) {
    const { ana, ben } = await onTwoWorkers(context, "scroll", "rooms", "rooms", { viewport: PHONE });
    for (let line = 0; line < 14; line++) await say(ana, `line ${line} of a long conversation that fills the phone`);
    await hears(ben, "line 13");
    const atEnd = () => part(ben, "scroll").evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 60);
    assert.ok(await atEnd(), "it follows the conversation");
    await ben.bringToFront();
    await part(ben, "scroll").evaluate((box) => (box.scrollTop = 0));
    await until("the page knows", () => ben.evaluate(() => !stuck));
    await say(ana, "you did not see this");
    await part(ben, "newer").waitFor();
    assert.match(await part(ben, "newer").innerText(), /1 new message/);
    assert.equal(await part(ben, "scroll").evaluate((box) => box.scrollTop), 0);
    await photograph(ben, "newer-phone");
    await part(ben, "newer").click();
    assert.ok(await atEnd());
    await part(ben, "newer").waitFor({ state: "hidden" });
    return [ana, ben];
  },

  async "a message of more than 16 KiB is stopped before it is sent"(context) {
    const ana = await open(context, { name: "Ana", room: "long" });
    await isOnline(ana);
    await part(ana, "text").fill("ö".repeat(9000));
    assert.match(await part(ana, "over").innerText(), /Too long by [\d,.\s]+ bytes/);
    assert.ok(await part(ana, "send").isDisabled());
    await part(ana, "text").fill("short");
    assert.ok(await part(ana, "send").isEnabled());
    return [ana];
  },

  async "thirty quick messages all arrive, in order, though the limit is twenty a second"(context) {
    const { ana, ben } = await onTwoWorkers(context, "quick", "rooms", "rooms");
    for (let number = 0; number < 30; number++) await ana.evaluate((text) => globalThis.say(text), `quick ${number}.`);
    await hears(ben, "quick 29.");
    assert.deepEqual(await message(ben, "quick").locator("p").allInnerTexts(), Array.from({ length: 30 }, (_, n) => `quick ${n}.`));
    assert.equal(await notice(ana, "You are back").count(), 0, "it was never closed for being too fast");
    return [ana, ben];
  },

  async "who comes late sees what was said, in order and once, with the time it was said"(context) {
    const { ana, ben } = await onTwoWorkers(context, "late", "rooms", "relay");
    assert.ok(await part(ana, "past").isHidden(), "nobody has said anything yet");
    const said = ["one", "two", "three", "four"];
    for (const [number, text] of said.entries()) {
      await say(number % 2 ? ben : ana, text);
      await hears(ana, text);
    }
    publish("late", "as plain text", "as plain text");
    await until("they are there", async () => (await part(ana, "message").count()) === 6);
    const before = Date.now();
    const late = await open(context, { name: "Late", room: "late", viewport: PHONE });
    const worker = await isOnline(late);
    await notice(late, "You joined").waitFor();
    assert.deepEqual(await texts(late, "earlier"), [...said, "as plain text", "as plain text"]);
    assert.ok(await part(late, "divider").isVisible());
    assert.deepEqual(await part(late, "notice").allInnerTexts(), [`You joined${worker}`], "nobody joins or leaves a second time");
    assert.equal(await late.title(), "#late · Fanbus chat", "nothing is unread");
    for (const [number, text] of said.entries()) {
      const time = message(late, text).locator("time");
      if (number % 2) assert.equal(await time.count(), 0, "of the relay's messages nobody knows");
      else assert.ok(Date.parse(await time.getAttribute("datetime")) <= before, "not the time it is shown");
    }
    await say(ana, "now you are here");
    await hears(late, "now you are here");
    assert.deepEqual(await texts(late, "log"), ["now you are here"], "below the line");
    for (const [device, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP }))
      for (const colorScheme of ["light", "dark"]) {
        await late.setViewportSize(viewport);
        await late.emulateMedia({ colorScheme });
        await photograph(late, `late-${device}-${colorScheme}`);
        assert.deepEqual(await lowContrast(late), [], `${device} ${colorScheme}`);
      }
    await late.close();
    return [ana, ben];
  },

  async "of much that was said, the newest fifty are shown, with their day"(context) {
    const yesterday = Date.now() - 86_400_000;
    const ana = await open(context, { name: "Ana", room: "much" });
    await isOnline(ana);
    await ana.close();
    const note = (number, at_ms) => JSON.stringify({ type: "message", id: `x${number}`, name: "Eve", text: `line ${number}.`, worker: 7, at_ms });
    const forged = [note(70, 9e15), note(71, -5), note(72, "soon")];
    publish("much", ...Array.from({ length: 70 }, (_, number) => note(number, yesterday)), ...forged);
    const late = await open(context, { name: "Late", room: "much" });
    await isOnline(late);
    assert.deepEqual(await texts(late, "earlier"), Array.from({ length: 50 }, (_, number) => `line ${number + 23}.`));
    const day = new Date(yesterday).toLocaleString("en-GB", { day: "numeric", month: "short" });
    assert.ok((await message(late, "line 69.").locator("time").innerText()).startsWith(day));
    for (const number of [70, 71, 72]) assert.equal(await message(late, `line ${number}.`).locator("time").count(), 0);
    return [late];
  },

  async "who comes back sees what was said meanwhile, and nothing twice"(context) {
    const { ana, ben, anaWorker } = await onTwoWorkers(context, "back", "rooms", "rooms");
    await say(ana, "first");
    await hears(ben, "first");
    publish("back", "tick", "tick");
    await until("both ticks", async () => (await message(ana, "tick").count()) === 2);
    // This one arrives, but the tab does not learn that it did.
    await ana.evaluate(() => { globalThis.reallyReceive = receive; receive = () => {}; });
    await say(ana, "did it arrive?");
    await hears(ben, "did it arrive?");
    await loseWorker(ana, anaWorker);
    await ana.evaluate(() => { receive = globalThis.reallyReceive; });
    publish("back", "tick");
    await say(ben, "while you were away");
    await hears(ben, "while you were away");
    await say(ana, "written while offline");
    await comeBack(ana);
    await hears(ben, "written while offline");
    await until("it is sent", async () => (await part(ana, "pending").locator("[data-testid=message]").count()) === 0);
    const all = ["first", "tick", "tick", "did it arrive?", "tick", "while you were away", "written while offline"];
    for (const page of [ana, ben]) assert.deepEqual(await texts(page), all);
    assert.equal(kept("back").filter((text) => text.includes("did it arrive?")).length, 1, "it is not sent again");
    assert.equal(await part(ana, "gap").count(), 0);
    assert.ok(await part(ana, "past").isHidden(), "nothing was said before it came");
    assert.equal(await notice(ana, "You joined").count(), 1);
    return [ana, ben];
  },

  async "who was away for too much is told that something may be missing"(context) {
    const { ana, ben, anaWorker } = await onTwoWorkers(context, "gap", "rooms", "rooms");
    await say(ana, "before");
    await hears(ben, "before");
    await loseWorker(ana, anaWorker);
    publish("gap", ...Array.from({ length: 120 }, (_, number) => `line ${number}.`));
    await hears(ben, "line 119.");
    await comeBack(ana);
    assert.equal(await part(ana, "gap").innerText(), "Something may be missing here");
    const shown = await texts(ana);
    assert.deepEqual(shown.slice(0, 2), ["before", `line ${121 - shown.length}.`]);
    assert.equal(shown.at(-1), "line 119.");
    assert.deepEqual(await lowContrast(ana), []);
    await part(ana, "gap").scrollIntoViewIfNeeded();
    await photograph(ana, "gap-desktop");
    return [ana, ben];
  },

  async "a tab goes to the relay and back, and finds what was said before and meanwhile"(context) {
    const ben = await open(context, { name: "Ben", room: "there-and-back" });
    await isOnline(ben);
    for (const text of ["one", "two"]) { await say(ben, text); await hears(ben, text); }
    const ana = await open(context, { name: "Ana", room: "there-and-back", via: "relay" });
    await isOnline(ana);
    await say(ana, "from Rust");
    await hears(ana, "from Rust");
    assert.deepEqual(await texts(ana), ["from Rust"], "the relay replays nothing");
    await part(ana, "kind-rooms").check();
    await notice(ana, "You now talk through the Python room").waitFor();
    assert.deepEqual(await texts(ana, "earlier"), ["one", "two"]);
    assert.deepEqual(await texts(ana, "log"), ["from Rust"]);
    await part(ana, "kind-relay").check();
    await notice(ana, "You now talk through the Rust relay").waitFor();
    await say(ben, "three");
    await hears(ana, "three");
    await part(ana, "kind-rooms").check();
    await notice(ana, "You now talk through the Python room").nth(1).waitFor();
    await say(ana, "four");
    await hears(ana, "four");
    assert.deepEqual(await texts(ana), ["one", "two", "from Rust", "three", "four"]);
    assert.equal(await part(ana, "gap").count(), 0);
    return [ana, ben];
  },

  async "the server stops or dies and starts again: what was said is still there"(context) {
    const ana = await open(context, { name: "Ana", room: "restart" });
    await isOnline(ana);
    const said = [];
    for (const signal of ["SIGTERM", "SIGKILL"]) {
      said.push(`before ${signal}`, `before ${signal}`);
      publish("restart", `before ${signal}`);
      await message(ana, `before ${signal}`).waitFor();
      await say(ana, `before ${signal}`);
      // Both are confirmed: one that was still on its way would come behind what is said later.
      await until("it is confirmed", async () => (await texts(ana, "pending")).length === 0 && (await message(ana, `before ${signal}`).count()) === 2);
      const before = await notice(ana, "You are back").count();
      await stopServer(signal);
      await ana.waitForSelector("[data-testid=connection].away");
      await startServer();
      await notice(ana, "You are back").nth(before).waitFor();
      assert.deepEqual(await texts(ana), said);
      const late = await open(context, { name: "Late", room: "restart" });
      await isOnline(late);
      assert.deepEqual(await texts(late, "earlier"), said);
      await late.close();
    }
    return [ana];
  },

  async "the server dies, the page says so, and goes on when it is back"(context) {
    const { ana, ben } = await onTwoWorkers(context, "phoenix", "rooms", "relay");
    await say(ana, "before");
    await hears(ben, "before");
    await part(ben, "text").fill("half a thou");
    await stopServer("SIGKILL");
    for (const page of [ana, ben]) {
      await page.waitForSelector("[data-testid=connection].away");
      assert.match(await part(page, "connection-words").innerText(), /^Offline\. /);
    }
    await say(ana, "written while offline");
    assert.equal(await message(ana, "written while offline").getAttribute("data-status"), "waiting");
    assert.match(await message(ana, "written while offline").innerText(), /not sent yet/);
    await until("it counts down", async () => /Next try in \d+ s/.test(await part(ana, "countdown").innerText()));
    await ana.waitForSelector("[data-testid=connection][data-state=offline]");
    await photograph(ana, "offline-desktop-light");
    assert.deepEqual(await lowContrast(ana), []);
    await ben.setViewportSize(PHONE);
    await ben.emulateMedia({ colorScheme: "dark" });
    await ben.waitForSelector("[data-testid=connection][data-state=offline]");
    await photograph(ben, "offline-phone-dark");
    assert.deepEqual(await lowContrast(ben), []);

    await startServer();
    await Promise.all([isOnline(ana), isOnline(ben)]);
    await notice(ana, "You are back").waitFor();
    await until("it is sent", async () => (await message(ana, "written while offline").getAttribute("data-status")) === null);
    assert.equal(await message(ana, "written while offline").count(), 1);
    assert.equal(await part(ben, "text").inputValue(), "half a thou", "the draft is still there");
    await part(ben, "text").press("End");
    await part(ben, "text").pressSequentially("ght");
    await part(ben, "text").press("Enter");
    await hears(ana, "half a thought");
    return [ana, ben];
  },

  async "the button tries at once"(context) {
    const ana = await open(context, { name: "Ana", room: "button" });
    await isOnline(ana);
    await stopServer("SIGKILL");
    await until("the wait is long", async () => Number(/\d+/.exec(await part(ana, "countdown").innerText())) >= 4);
    await startServer();
    await part(ana, "try-now").click();
    await isOnline(ana);
    return [ana];
  },

  async "a server that is stopped says so in words"(context) {
    const ana = await open(context, { name: "Ana", room: "bye" });
    const rust = await open(context, { name: "Rust", room: "bye", via: "relay" });
    await Promise.all([isOnline(ana), isOnline(rust)]);
    for (const page of [ana, rust])
      await page.evaluate(() => {
        const words = document.querySelector("[data-testid=connection-words]");
        new MutationObserver((_, observer) => { globalThis.firstSaid = words.textContent; observer.disconnect(); }).observe(words, { childList: true });
      });
    await stopServer("SIGTERM");
    for (const page of [ana, rust]) {
      await page.waitForFunction(() => globalThis.firstSaid);
      assert.equal(await page.evaluate(() => globalThis.firstSaid), "Offline. The server is restarting.");
    }
    await startServer();
    await Promise.all([isOnline(ana), isOnline(rust)]);
    return [ana, rust];
  },

  async "a tab that hears nothing for too long comes back by itself"(context) {
    const ana = await open(context, { name: "Ana", room: "quiet" });
    await isOnline(ana);
    await ana.evaluate(() => {
      const words = document.querySelector("[data-testid=connection-words]");
      new MutationObserver((_, observer) => { globalThis.firstSaid = words.textContent; observer.disconnect(); }).observe(words, { childList: true });
      heardAt -= 60_000;  // as if it had slept
    });
    await notice(ana, "You are back").waitFor();
    assert.equal(await ana.evaluate(() => globalThis.firstSaid), "Offline. Nothing has come from the server for a while.");
    await isOnline(ana);
    return [ana];
  },

  async "a worker is killed: its tab comes back, the other notices nothing"(context) {
    const { ana, ben, anaWorker, benWorker } = await onTwoWorkers(context, "survivor", "rooms", "rooms");
    process.kill(Number(anaWorker), "SIGKILL");
    await notice(ana, "You are back").waitFor();
    assert.notEqual(await isOnline(ana), anaWorker);
    await say(ana, "I am somewhere else now");
    await hears(ben, "I am somewhere else now");
    assert.equal(await isOnline(ben), benWorker);
    assert.equal(await notice(ben, "You are back").count(), 0);
    return [ana, ben];
  },

  async "every close code is told in words, and a refused message can be sent again"(context) {
    const page = await context.newPage();
    page.errors = [];
    let code = null;
    await page.routeWebSocket(/\/rooms\/codes/, (socket) => {
      const tab = new URL(socket.url()).searchParams.get("tab");
      socket.send(JSON.stringify({ type: "joined", name: "Ana", tab, worker: 7 }));
      socket.onMessage((data) => {
        if (code) { const now = code; code = null; socket.close({ code: now }); return; }
        socket.send(JSON.stringify({ ...JSON.parse(data), name: "Ana", worker: 7 }));
      });
    });
    await page.goto(`http://127.0.0.1:${port}/?name=Ana#codes`);
    await isOnline(page);
    for (const [next, words] of [
      [1001, /not heard from this tab/], [1007, /could not read/], [1008, /too quickly/], [1011, /wrong in the server/],
      [1012, /restarting/], [1013, /too slow/], [4321, /code 4321/],
    ]) {
      code = next;
      await say(page, `this meets ${next}`);
      await until(`words for ${next}`, async () => words.test(await part(page, "connection-words").innerText()));
      if (await part(page, "try-now").isVisible()) await part(page, "try-now").click();
      await isOnline(page);
      await until("it is sent again", async () => (await message(page, `meets ${next}`).getAttribute("data-status")) === null);
    }
    code = 1009;
    await say(page, "far too large");
    await page.waitForSelector("[data-status=failed]");
    assert.match(await part(page, "connection-words").innerText(), /too large/);
    assert.match(await message(page, "far too large").innerText(), /not sent: too large/);
    await isOnline(page);
    await photograph(page, "refused-desktop");
    assert.deepEqual(await lowContrast(page), []);
    await part(page, "retry-message").click();
    await until("it is sent", async () => (await message(page, "far too large").getAttribute("data-status")) === null);
    code = 1009;
    await say(page, "never mind");
    await part(page, "discard-message").click();
    await message(page, "never mind").waitFor({ state: "detached" });
    return [page];
  },

  async "rooms are in the address"(context) {
    const ana = await open(context, { name: "Ana", room: "here" });
    const ben = await open(context, { name: "Ben", room: "there" });
    await Promise.all([isOnline(ana), isOnline(ben)]);
    await say(ana, "only here");
    await hears(ana, "only here");
    await say(ben, "was there first");
    await hears(ben, "was there first");
    await ana.bringToFront();
    await part(ana, "room").click();
    await part(ana, "room-name").fill("There!");
    await part(ana, "room-name").press("Enter");
    await notice(ben, "Ana joined").waitFor();
    await isIn(ana, "there");
    assert.match(ana.url(), /#there$/);
    await shows(ana, ["was there first"]);
    await say(ana, "now there");
    await hears(ben, "now there");
    await ana.goBack();
    await isIn(ana, "here");
    await shows(ana, ["only here"], "earlier");
    await shows(ana, ["only here"]);
    assert.equal(await ana.locator(".who").innerText(), "Ana (you)");
    await ana.goto(`http://127.0.0.1:${port}/?name=Ana&room=Side+Room#`);
    await isIn(ana, "side-room");
    for (const room of ["scroll", "text", "log"]) {
      await ana.evaluate((hash) => (location.hash = hash), room);
      await isIn(ana, room);
      assert.notEqual(await ana.evaluate(() => document.activeElement.dataset.testid), "scroll", "no element has a room's name");
    }
    return [ana, ben];
  },

  async "phone and desktop, light and dark: readable, and with room for everything"(context) {
    const { ana, ben } = await onTwoWorkers(context, "devices", "rooms", "rooms");
    await say(ana, "Good morning! Which worker are you on?");
    await hears(ben, "Good morning");
    await say(ben, "The other one. See the number on my message?");
    await hears(ana, "The other one");
    await say(ben, "It came to you through shared memory 🚌");
    await hears(ana, "shared memory");
    await say(ana, "So nobody had to run Redis.");
    await hears(ben, "Redis");
    for (const page of [ana, ben])
      for (const [device, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP, tiny: { width: 320, height: 480 } }))
        for (const colorScheme of ["light", "dark"]) {
          await page.bringToFront();
          await page.setViewportSize(viewport);
          await page.emulateMedia({ colorScheme });
          if (page === ana) await photograph(page, `chat-${device}-${colorScheme}`);
          assert.deepEqual(await lowContrast(page), [], `${device} ${colorScheme}`);
          const [width, view] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          assert.ok(width <= view, `${device}: ${width} > ${view}`);
        }
    return [ana, ben];
  },

  async "the picture for the README: a desktop and a phone, on two workers"() {
    const context = await browser.newContext({ locale: "en-GB", deviceScaleFactor: 2 });
    const room = "lobby";
    const ana = await open(context, { name: "Ana", room, viewport: { width: 832, height: 610 } });
    const anaWorker = await isOnline(ana);
    const ben = await until("another worker", async () => {
      const page = await open(context, { name: "Ben", room, via: "relay", viewport: { width: 375, height: 610 }, scheme: "dark" });
      if ((await isOnline(page)) !== anaWorker) return page;
      await page.close();
    });
    await ana.reload();  // without the notices of the tabs that were tried
    await until("the same worker again", async () => (await isOnline(ana)) === anaWorker || (await ana.reload(), false));
    await ben.evaluate(() => document.querySelector("[data-testid=log]").replaceChildren());
    const benWorker = await isOnline(ben);
    for (const [page, other, text] of [
      [ana, ben, "Good morning! Which worker are you on?"],
      [ben, ana, `${benWorker}, it says up there. And you are on ${anaWorker}.`],
      [ana, ben, "So this went from one process to another, through shared memory."],
      [ben, ana, "And I am on the Rust relay: no Python on my side at all 🚌"],
      [ana, ben, "You could not tell."],
    ]) {
      await say(page, text);
      await hears(other, text);
      await hears(page, text);
    }
    await ben.evaluate(() => document.activeElement.blur());
    const pictures = await Promise.all([ana, ben].map(async (page) => (await page.screenshot()).toString("base64")));
    const frame = await context.newPage();
    await frame.setViewportSize({ width: 1295, height: 690 });
    await frame.setContent(`<style>body { margin: 0; height: 690px; display: flex; gap: 24px; align-items: center; justify-content: center; background: #dfe5e0 }
      img { border-radius: 14px; box-shadow: 0 10px 34px rgb(18 40 32 / .22); height: 610px }</style>
      ${pictures.map((picture) => `<img src="data:image/png;base64,${picture}">`).join("")}`);
    await frame.waitForFunction(() => [...document.images].every((image) => image.complete));
    await photograph(frame, "readme");
    await context.close();
    return [ana, ben];
  },
};

// ------------------------------------------------------------------ play it

const browser = await launch(executablePath);
let failed = 0;
try {
  await startServer();
  const only = process.env.FANBUS_STORY;
  for (const [title, act] of Object.entries(story)) {
    if (only && !title.includes(only)) continue;
    const context = await browser.newContext({ locale: "en-GB" });
    context.setDefaultTimeout(PATIENCE_MS);
    try {
      const pages = await act(context);
      for (const page of pages) assert.deepEqual(page.errors, [], "nothing on the console");
      console.log(`ok   ${title}`);
    } catch (error) {
      failed++;
      console.log(`FAIL ${title}\n${error.stack}`);
      for (const [number, page] of context.pages().entries())
        await page.screenshot({ path: `${screenshots}/failed-${failed}-${number}.png` }).catch(() => {});
      if (server.exitCode !== null || server.signalCode !== null) await startServer();
    }
    await context.close();
  }
} finally {
  await browser.close();
  if (server?.exitCode === null && server.signalCode === null) await stopServer("SIGINT");
  execFileSync(python, ["-m", "fanbus", "bus", "remove", `chat-${port}`]);  // it has kept what was said
  if (failed) console.log(`\nThe server said:\n${server?.output}`);
}
process.exitCode = failed ? 1 : 0;
