import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";

import { Tidings, Unauthorized } from "./tidings.js";

const frames = new URL("../../testdata/frames/", import.meta.url);
const golden = name => readFileSync(new URL(`${name}.json`, frames), "utf8").trimEnd();
const hello = JSON.parse(golden("hello"));
const ready = JSON.parse(golden("ready")); // user 42, epoch k3f9, after 41
const msg = (seq, more) => ({ type: "msg", seq, time: "2026-11-22T17:55:19.123Z", data: seq, ...more });

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

async function until(what, condition) {
  for (const end = Date.now() + 5000; !condition();) {
    if (Date.now() > end) assert.fail(`timeout waiting for: ${what}`);
    await sleep(1);
  }
}

// Socket is a WebSocket whose server is the test. Its close never completes, as on a dead network.
class Socket {
  static all = [];
  readyState = 0;
  texts = [];
  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    Socket.all.push(this);
  }
  get sent() { return this.texts.map(text => JSON.parse(text)); }
  get acks() { return this.sent.filter(f => f.type === "ack").map(f => f.seq); }
  send(text) {
    assert.equal(this.readyState, 1);
    this.texts.push(text);
  }
  close() { this.readyState = 2; }
  open(...said) {
    this.readyState = 1;
    this.onopen?.({});
    this.say(...said);
  }
  say(...said) {
    for (const f of said) this.onmessage?.({ data: typeof f === "string" ? f : JSON.stringify(f) });
  }
  end(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

// Stands in for the page, which Node does not have.
const page = new EventTarget();
const memory = () => {
  const values = new Map();
  return { values, getItem: key => values.get(key) ?? null, setItem: (key, value) => { values.set(key, String(value)); } };
};

let clients;
beforeEach(() => {
  clients = [];
  Socket.all = [];
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.document = Object.assign(new EventTarget(), { hidden: false });
  Object.defineProperty(globalThis, "localStorage", { value: memory(), configurable: true, writable: true });
});
afterEach(() => {
  for (const c of clients) c.close();
});

// make starts a client and records its events.
function make(options = {}) {
  const log = [], handled = [];
  const client = new Tidings({
    url: "http://push.example", token: () => "token-1", WebSocket: Socket, minBackoff: 1, maxBackoff: 2, ackEvery: 1,
    onMessage: m => { handled.push(m.seq); }, ...options,
  });
  for (const type of ["state", "ready", "gap", "msg", "live", "acked", "error"]) {
    client.on(type, value => log.push({ type, ...value }));
  }
  clients.push(client);
  client.start();
  const of = type => log.filter(e => e.type === type);
  return { client, log, handled, of, states: () => of("state").map(e => e.state) };
}

// socket returns the nth socket that was created.
async function socket(n = 1) {
  await until(`connection ${n}`, () => Socket.all.length >= n);
  return Socket.all[n - 1];
}

async function admitted(n = 1, ...said) {
  const s = await socket(n);
  s.open(hello, ready, ...said);
  return s;
}

const live = seq => ({ type: "live", seq });

test("golden frames of the client", async () => {
  localStorage.setItem("tidings ws://push.example/v1/ws web", "42");
  localStorage.setItem("tidings ws://push.example/v1/ws web 42", '{"user":"42","epoch":"k3f9","seq":41}');
  localStorage.setItem("tidings ws://push.example/v1/ws ", "42");
  localStorage.setItem("tidings ws://push.example/v1/ws  42", '{"user":"42","epoch":"k3f9","seq":0}');
  const tokens = ["token-1", "token-2"];
  make({ device: "web", token: () => tokens.shift() });
  make({ storage: null });
  make();
  const [resumed, plain, start] = [await socket(1), await socket(2), await socket(3)];
  for (const s of Socket.all) {
    assert.equal(s.url, "ws://push.example/v1/ws");
    assert.equal(s.protocol, "tidings.v1");
    s.open(hello);
  }
  assert.deepEqual(resumed.texts, [golden("auth-resume")]);
  assert.deepEqual(plain.texts, [golden("auth")]);
  assert.deepEqual(start.texts, [golden("auth-start")]);
  make({ device: "web", storage: null });
  const device = await socket(4);
  device.open(hello);
  assert.deepEqual(device.texts, [golden("auth-device")]);

  plain.say(ready, golden("ping"), msg(105));
  await until("an ack", () => plain.texts.includes(golden("ack")));
  assert.ok(plain.texts.includes(golden("pong")));
  resumed.say(ready, golden("expiring"));
  await until("a renewal", () => resumed.texts.includes(golden("renew")));
});

test("golden frames of the server", async () => {
  const theirs = new Set(["ack", "auth", "pong", "renew"]);
  for (const name of readdirSync(frames).map(file => file.replace(".json", ""))) {
    const { type, ...f } = JSON.parse(golden(name));
    if (theirs.has(type)) continue;
    Socket.all = [];
    const { client, log, of } = make({ storage: null, onMessage: () => {} });
    const s = await socket();
    s.open();
    if (type !== "ready" && type !== "hello") s.say(ready);
    s.say(golden(name));
    if (type === "msg") s.say(msg(1e6));
    if (type === "hello") s.say(ready);
    const sent = JSON.stringify(s.sent);
    await until(`${name} is handled`, () => of("ready").length === 1 && (type !== "msg" || of("msg").length === 2));
    switch (type) {
    case "ready": case "gap": case "live": case "acked":
      await until(name, () => log.some(e => e.type === type));
      assert.deepEqual(of(type)[0], { type, ...f }, name);
      if (type === "gap") await until("the answer to the gap", () => s.sent.some(f => f.type === "pong"));
      break;
    case "msg": assert.deepEqual(of("msg")[0], { type, ...f, epoch: "k3f9", replayed: true }, name); break;
    case "error": assert.equal(of("error")[0].error.message, `the server reports ${f.code}: ${f.message}`); break;
    case "ping": assert.ok(sent.endsWith('{"type":"pong"}]'), name); break;
    case "expiring": await until("a renewal", () => s.sent.some(f => f.type === "renew")); break;
    case "goaway":
      s.end(1006);
      await until("its end", () => ["waiting", "closed"].includes(client.state));
      assert.equal(client.state, f.code === 4410 ? "closed" : "waiting");
      assert.equal(of("state").at(-1).error.message, `closed with ${f.code}: ${f.reason}`);
      assert.equal(of("state").at(-1).wait, f.retry_after);
      break;
    case "hello": case "renewed": break;
    default: assert.fail(`untested type ${type}`);
    }
    if (type === "ping" && f.seq) await until("the position moves", () => client.position.seq === f.seq);
    if (type !== "goaway") assert.notEqual(client.state, "waiting", name);
    client.close();
  }
});

test("states, and messages one at a time in order", async () => {
  let busy = 0;
  const { client, log, handled, states } = make({
    onMessage: async m => {
      assert.equal(++busy, 1);
      await sleep(m.seq % 3);
      busy--;
      handled.push(m.seq);
    },
  });
  assert.equal(client.state, "closed");
  const s = await admitted(1, msg(42), msg(43), msg(42), live(44), msg(45), { type: "novelty" }, msg(46, { new: 1 }));
  await until("all", () => handled.length === 4);
  assert.deepEqual(handled, [42, 43, 45, 46]);
  assert.deepEqual(states(), ["connecting", "replaying", "live"]);
  const told = log.filter(e => e.type === "msg" || e.type === "live");
  assert.deepEqual(told.map(e => [e.type, e.seq, e.replayed]),
    [["msg", 42, true], ["msg", 43, true], ["live", 44, undefined], ["msg", 45, false], ["msg", 46, false]]);
  assert.deepEqual(client.position, { user: "42", epoch: "k3f9", seq: 46 });
  await until("acks", () => s.acks.at(-1) === 46);
  s.say({ type: "ping", seq: 50 });
  await until("the position", () => client.position.seq === 50);
  assert.deepEqual(s.acks.filter(seq => seq > 46), [], "only messages are acknowledged");
});

test("resumes, drops repeats, and repeats the last acknowledgement", async () => {
  const { handled } = make();
  const first = await admitted(1, msg(42), live(50));
  await until("an ack", () => first.acks.length === 1);
  first.end(1006);
  const second = await socket(2);
  second.open();
  assert.deepEqual(second.sent[0], { type: "auth", token: "token-1", after: 50, epoch: "k3f9", user: "42" });
  second.say(hello, { ...ready, after: 50 }, msg(50), msg(51), live(51));
  await until("51", () => handled.length === 2);
  assert.deepEqual(handled, [42, 51]);
  await until("acks", () => second.acks.at(-1) === 51);
});

test("acknowledgements are combined", async () => {
  const { handled } = make({ ackEvery: 60 });
  const s = await admitted();
  for (let seq = 42; seq < 52; seq++) s.say(msg(seq));
  await until("all", () => handled.length === 10);
  assert.deepEqual(s.acks, []);
  await until("an ack", () => s.acks.length > 0);
  assert.deepEqual(s.acks, [51]);
  for (let seq = 52; seq < 68; seq++) s.say(msg(seq));
  await until("16 at once", () => s.acks.at(-1) === 67);
});

test("another epoch, another user, a restored stream", async () => {
  const { client, handled, of } = make();
  const first = await admitted(1, msg(90), live(90));
  await until("an ack", () => first.acks.length === 1);
  first.end(4510);
  const second = await socket(2);
  second.open(hello, { ...ready, epoch: "new", after: 0 }, { type: "gap", after: 0, reason: "stream_reset" }, msg(5), live(5));
  await until("5", () => handled.length === 2);
  await until("an ack of the new epoch", () => second.acks.length > 0);
  assert.deepEqual(second.acks, [5]);
  assert.equal(of("gap")[0].reason, "stream_reset");

  second.end(4501);
  const third = await socket(3);
  third.open(hello, { ...ready, user: "7", epoch: "new", after: 2 }, msg(3), live(3));
  await until("3", () => handled.length === 3);
  assert.deepEqual(client.position, { user: "7", epoch: "new", seq: 3 });

  third.end(1006);
  const fourth = await socket(4);
  fourth.open(hello, { ...ready, user: "7", epoch: "new", after: 1 }, { type: "gap", after: 1, reason: "stream_reset" }, msg(2), live(2));
  await until("2", () => handled.length === 4);
  assert.deepEqual(handled, [90, 5, 3, 2]);
  assert.equal(client.position.seq, 2);
  await until("an ack", () => fourth.acks.at(-1) === 2);
});

test("positions are saved for each user, URL and device", async () => {
  const a = make();
  await admitted(1, msg(42));
  await until("42", () => a.handled.length === 1);
  a.client.close();

  const after = async options => {
    const n = Socket.all.length + 1;
    const { client } = make(options);
    const s = await socket(n);
    s.open();
    client.close();
    return [s.sent[0].user, s.sent[0].after];
  };
  assert.deepEqual(await after(), ["42", 42]);
  assert.deepEqual(await after({ user: "42" }), ["42", 42]);
  assert.deepEqual(await after({ user: "7" }), [undefined, undefined]);
  assert.deepEqual(await after({ device: "phone" }), [undefined, undefined]);
  assert.deepEqual(await after({ url: "wss://other.example" }), [undefined, undefined]);

  const n = Socket.all.length + 1;
  const b = make();
  const s = await socket(n);
  s.open(hello, { ...ready, user: "7", after: 3 }, msg(4));
  await until("4", () => b.handled.length === 1);
  b.client.close();
  assert.deepEqual(await after(), ["7", 4]);
  assert.deepEqual(await after({ user: "42" }), ["42", 42]);

  for (const broken of ["rubbish", "null", '{"user":"7","epoch":"k3f9"}', '{"user":"7","epoch":5,"seq":5}', '{"user":7,"epoch":"k3f9","seq":5}',
    ...['"5"', "1.5", "1e30", "-1", "null", "[5]"].map(seq => `{"user":"7","epoch":"k3f9","seq":${seq}}`)]) {
    localStorage.setItem("tidings ws://push.example/v1/ws  7", broken);
    assert.deepEqual(await after(), [undefined, undefined], broken);
  }
  localStorage.setItem("tidings ws://push.example/v1/ws  7", '{"user":"7","epoch":"k3f9","seq":5,"failed":{"of":6,"tries":"many"}}');
  assert.deepEqual(await after(), ["7", 5]);
});

test("storage that throws or is missing", async () => {
  const refuse = () => { throw new Error("SecurityError"); };
  const storages = [{ getItem: refuse, setItem: refuse }, null, undefined];
  Object.defineProperty(globalThis, "localStorage", { get: refuse, configurable: true });
  for (const storage of storages) {
    Socket.all = [];
    const { client, handled } = make({ storage });
    const s = await admitted(1, msg(42));
    await until("42", () => handled.length === 1);
    s.end(1006);
    const again = await socket(2);
    again.open();
    assert.equal(again.sent[0].after, 42);
    client.close();
  }
});

test("close codes", async () => {
  const stop = code => code >= 4400 && code < 4500 || [1002, 1003, 1007, 1008, 1009].includes(code);
  for (const code of [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 4401, 4403, 4410, 4499, 4500, 4501, 4512, 4999, 3000]) {
    Socket.all = [];
    const { client, of } = make();
    const s = await admitted();
    s.end(code, "because");
    await until("its end", () => ["waiting", "closed"].includes(of("state").at(-1).state) || Socket.all.length > 1);
    assert.equal(client.state === "closed", stop(code), `${code}: ${client.state}`);
    const end = of("state").find(e => e.error);
    assert.equal(end.error.code, code);
    assert.equal(end.error.message, `closed with ${code}: because`);
    client.close();
  }
});

test("backoff doubles, has jitter, and is reset only by live", async () => {
  const { of } = make({ minBackoff: 4, maxBackoff: 20, random: () => 0.5 });
  const waits = () => of("state").filter(e => e.state === "waiting").map(e => e.wait);
  for (let n = 1; n <= 5; n++) (await admitted(n, msg(41 + n))).end(1006);
  await until("five waits", () => waits().length === 5);
  assert.deepEqual(waits(), [2, 4, 8, 10, 10]);
  (await admitted(6, live(50))).end(1006);
  await until("a wait", () => waits().length === 6);
  assert.equal(waits()[5], 2);
  (await admitted(7, { type: "goaway", code: 4512, reason: "draining", retry_after: 7 })).end(4512);
  await until("a wait", () => waits().length === 7);
  assert.equal(waits()[6], 7);
  await socket(8);
});

test("an expired lease resets the backoff once", async () => {
  const { of } = make({ minBackoff: 4, maxBackoff: 64, random: () => 0.5 });
  for (let n = 1; n <= 4; n++) (await socket(n)).end(n === 1 ? 1006 : 4501);
  await until("waits", () => of("state").filter(e => e.wait !== undefined).length === 4);
  assert.deepEqual(of("state").filter(e => e.wait !== undefined).map(e => e.wait), [2, 2, 8, 16]);
});

test("tokens: async, requested again, refused, unavailable", async () => {
  let n = 0;
  const a = make({
    token: async ({ signal }) => {
      assert.equal(signal.aborted, false);
      if (++n === 1) throw new Error("the network");
      return `token-${n}`;
    },
  });
  const s = await socket();
  assert.deepEqual(a.states(), ["connecting", "waiting", "connecting"]);
  s.open(hello, ready, { type: "expiring", in: 60000 }, { type: "expiring", in: 60000 });
  assert.equal(s.sent[0].token, "token-2");
  await until("a renewal", () => s.sent.length === 2);
  assert.equal(s.sent[1].token, "token-3");
  s.say({ type: "renewed", expires_in: 1000 }, { type: "error", code: "renew_unavailable", message: "later" });
  await until("another", () => s.sent.length === 3);
  assert.equal(s.sent[2].token, "token-4");
  a.client.close();

  const b = make({ token: () => { throw new Unauthorized("logged out"); } });
  await until("closed", () => b.states().at(-1) === "closed");
  assert.deepEqual(b.states(), ["connecting", "closed"]);
  assert.equal(b.of("state").at(-1).error.message, "logged out");

  let asked = 0;
  const c = make({ token: () => { if (++asked > 2) throw new Unauthorized("logged out"); if (asked > 1) throw new Error("busy"); return "t"; } });
  const last = await admitted(2, { type: "expiring", in: 60000 });
  await until("an error", () => c.of("error").length === 1);
  assert.equal(c.client.state, "replaying");
  last.say({ type: "expiring", in: 30000 });
  await until("closed", () => c.client.state === "closed");
  assert.equal(c.of("state").at(-1).error.name, "Unauthorized");
});

test("errors do not contain the token", async () => {
  const { of } = make({ token: () => "secret-token" });
  (await admitted()).end(4401, "no such token: secret-token");
  await until("closed", () => of("state").at(-1).state === "closed");
  assert.equal(of("state").at(-1).error.message, "closed with 4401: no such token: [token]");
});

test("a handler that fails is called again, and later messages wait", async () => {
  let failures = 3;
  const { client, handled, of } = make({
    onMessage: async m => {
      if (m.seq === 43 && failures-- > 0) throw new Error("not now");
      handled.push(m.seq);
    },
  });
  const s = await admitted(1, msg(42), msg(43), msg(44), live(50), { type: "ping", seq: 60 });
  await until("the first failure", () => of("error").length > 0);
  assert.equal(client.position.seq, 42);
  assert.equal(client.state, "retrying");
  await until("all", () => handled.length === 3);
  assert.deepEqual(handled, [42, 43, 44]);
  await until("live", () => client.position.seq === 60);
  await until("an ack", () => s.acks.at(-1) === 44);
  assert.ok(of("error").every(e => e.message.seq === 43 && !e.skipped));
});

test("a message whose handler fails when the connection ends is delivered again", async () => {
  let fail = true;
  const { client, handled, of } = make({
    minBackoff: 1000, maxBackoff: 100000, random: () => 0.01,
    onMessage: m => {
      if (fail) throw new Error("not now");
      handled.push(m.seq);
    },
  });
  const s = await admitted(1, msg(42), msg(43), live(43));
  await until("a failure", () => of("error").length > 2);
  s.end(1006);
  await until("waiting", () => client.state === "waiting");
  assert.equal(client.position.seq, 41);
  const again = await socket(2);
  fail = false;
  again.open(hello, ready, msg(42), msg(43), live(43));
  assert.equal(again.sent[0].after, 41);
  await until("all", () => handled.length === 2);
  assert.deepEqual(handled, [42, 43]);
});

const never = m => { if (m.seq === 43) throw new Error("never"); };

test("a message is skipped after at least five failures over five minutes", async () => {
  let waited = 0;
  const { client, of, states } = make({ onMessage: never, minBackoff: 1, maxBackoff: 20, random: () => 0.5, patience: 50 });
  client.on("state", e => { if (e.state === "retrying") waited += e.wait; });
  const s = await admitted(1, msg(42), msg(43), msg(44), live(44));
  await until("live", () => client.state === "live");
  const errors = of("error");
  assert.ok(errors.length > 5 && waited >= 50, `${errors.length} attempts, ${waited} ms`);
  assert.deepEqual(errors.map(e => e.skipped), errors.map((_, i) => i === errors.length - 1));
  assert.ok(errors.every(e => e.message.seq === 43 && e.error.message === "never"));
  assert.equal(of("state").find(e => e.state === "retrying").message.seq, 43);
  assert.deepEqual(states().filter((s, i, all) => s !== all[i - 1]), ["connecting", "replaying", "retrying", "replaying", "live"]);
  await until("an ack", () => s.acks.at(-1) === 44);

  const defaults = make({ onMessage: never, minBackoff: 1e5, maxBackoff: 1e5, random: () => 1e-8, storage: null });
  await admitted(2, msg(43));
  await until("attempts", () => defaults.of("error").length > 20); // but less than five minutes
  assert.ok(defaults.of("error").every(e => !e.skipped));
});

test("attempts and time survive a reload of the page", async () => {
  for (let page = 1; page <= 5; page++) {
    const { client, of } = make({ onMessage: never, patience: 30, minBackoff: 10, maxBackoff: 10, random: () => 1 });
    await admitted(page, msg(43));
    await until("two failures", () => of("error").length === 2 || of("msg").length);
    client.close();
    assert.deepEqual(Object.keys(client.position), ["user", "epoch", "seq"]);
    if (page < 3) assert.equal(client.position.seq, 41);
    if (client.position.seq === 43) return;
  }
  assert.fail("the message is not skipped");
});

test("failures do not count while the browser is offline or the connection is lost", async () => {
  const navigator = { onLine: false };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true, writable: true });
  const fails = { onMessage: never, attempts: 3, patience: 0 };
  const a = make(fails);
  await admitted(1, msg(43));
  await until("failures", () => a.of("error").length > 6);
  assert.ok(a.of("error").every(e => !e.skipped), "skipped while the browser is offline");
  navigator.onLine = true;
  await until("skipped", () => a.of("error").at(-1).skipped);

  let s;
  const b = make({ ...fails, storage: null, onMessage: m => { s.end(1006); never(m); } });
  for (let n = 2; n < 8; n++) {
    s = await socket(n);
    s.open(hello, ready, msg(43));
  }
  await until("failures", () => b.of("error").length > 5);
  assert.ok(b.of("error").every(e => !e.skipped), "skipped while the connection is down");
});

test("a backlog after a message whose handler fails", async () => {
  const { client, of } = make({ onMessage: never, patience: 0 });
  const s = await admitted(1, ...Array.from({ length: 3000 }, (_, i) => msg(43 + i)));
  await until("skipped", () => of("error").at(-1)?.skipped);
  assert.equal(of("error").length, 5);
  assert.equal(Socket.all.length, 1, "it reconnects for each attempt");
  const again = await socket(2);
  again.open();
  assert.equal(again.sent[0].after, client.position.seq);
  assert.equal(s.readyState, 2);
});

test("poison: stop", async () => {
  const { client, of, states } = make({ onMessage: never, attempts: 2, patience: 0, poison: "stop", storage: null, ackEvery: 1000 });
  const s = await admitted(1, msg(42), msg(43), msg(44));
  await until("closed", () => client.state === "closed" && states().length > 2);
  assert.equal(client.position.seq, 42);
  assert.deepEqual(s.acks, [42]);
  assert.equal(of("state").at(-1).error.message, "never");
  client.start();
  await admitted(2, msg(43));
  await until("closed again", () => of("error").length === 4);
});

// consoleErrors returns what clients write to the console during the test.
function consoleErrors(t) {
  const said = [];
  t.mock.method(console, "error", (...words) => { said.push(words.map(w => w.error?.message ?? w).join(" ")); });
  return said;
}

test("errors without a listener are written to the console once", async t => {
  const said = consoleErrors(t);
  const client = new Tidings({
    url: "http://push.example", token: () => "token-1", WebSocket: Socket, minBackoff: 1, maxBackoff: 2, patience: 0, onMessage: never,
  });
  clients.push(client);
  client.start();
  await admitted(1, msg(43), msg(44));
  await until("skipped", () => client.position?.seq === 44);
  assert.equal(said.length, 2, "the first failure, and that it was skipped");
  assert.match(said[0], /never/);
  const listened = make({ onMessage: never, patience: 0, storage: null });
  await admitted(2, msg(43), msg(44));
  await until("skipped", () => listened.client.position?.seq === 44);
  assert.equal(said.length, 2);
});

test("possible causes are written to the console once after three refused connections", async t => {
  const said = consoleErrors(t);
  globalThis.location = { origin: "https://app.example" };
  const { client } = make();
  for (let n = 1; n <= 6; n++) {
    const refused = await socket(n);
    assert.equal(said.length, n > 3 ? 1 : 0);
    refused.end(1006);
  }
  assert.match(said[0], /ws:\/\/push\.example\/v1\/ws.*--origin https:\/\/app\.example/);
  (await admitted(7)).end(1006); // this connection is answered
  for (let n = 8; n <= 9; n++) (await socket(n)).end(1006);
  await socket(10);
  assert.equal(said.length, 1);
  client.close();
  delete globalThis.location;
});

test("messages queued when a connection is lost are handled", async () => {
  let go;
  const { handled } = make({
    onMessage: async m => {
      if (m.seq === 42) await new Promise(resolve => { go = resolve; });
      handled.push(m.seq);
    },
  });
  const s = await admitted(1, msg(42), msg(43));
  await until("the handler", () => go);
  s.end(1006);
  go();
  const again = await socket(2);
  again.open();
  assert.equal(again.sent[0].after, 43);
  assert.deepEqual(handled, [42, 43]);
});

test("messages that do not fit into the queue arrive on the next connection", async () => {
  let go;
  const slow = new Promise(resolve => { go = resolve; });
  const { handled, of } = make({
    onMessage: async m => {
      await slow;
      handled.push(m.seq);
    },
  });
  const s = await admitted(1, ...Array.from({ length: 2000 }, (_, i) => msg(42 + i)), { type: "ping", seq: 2100 }, { type: "gap", after: 2100, reason: "purged" });
  await sleep(5);
  assert.equal(s.readyState, 1);
  assert.deepEqual(s.sent.at(-1), { type: "pong" }, "the connection is not kept alive");
  go();
  const again = await socket(2);
  again.open();
  const after = again.sent[0].after;
  assert.ok(after >= 1000 && after < 1100, `${after}`);
  assert.equal(of("gap").length, 1);
  again.say(hello, { ...ready, after }, msg(after + 1));
  await until("the next", () => handled.at(-1) === after + 1);
  assert.deepEqual(handled, Array.from({ length: after - 40 }, (_, i) => 42 + i));
  assert.equal(of("state").find(e => e.state === "waiting").wait, 0);
});

test("silence ends a connection without waiting for its close", async () => {
  const { of } = make({ grace: 40 });
  const s = await socket(1);
  s.open(hello, { ...ready, ping: 60 });
  for (let i = 0; i < 10; i++) {
    await sleep(20);
    s.say({ type: "ping" });
  }
  assert.equal(Socket.all.length, 1, "a connection that pings was closed");
  await socket(2);
  assert.equal(s.readyState, 2);
  assert.match(of("state").find(e => e.error).error.message, /the server is silent/);
  s.say(msg(42));
  s.end(4401);
  assert.notEqual(of("state").at(-1).state, "closed", "an event of the old connection was handled");
  await socket(3); // the second never gets an answer
});

test("the network comes back", async () => {
  const { client, states } = make({ minBackoff: 1e6, maxBackoff: 1e6, random: () => 1 });
  (await admitted(1, live(41))).end(1006);
  await until("waiting", () => client.state === "waiting");
  page.dispatchEvent(new Event("online"));
  const second = await admitted(2, live(41));
  await until("live", () => client.state === "live");
  page.dispatchEvent(new Event("online")); // on another network the old connection is dead
  const third = await admitted(3, { type: "goaway", code: 4512, reason: "draining", retry_after: 1e6 });
  assert.equal(second.readyState, 2);
  third.end(4512);
  await until("waiting", () => client.state === "waiting");
  page.dispatchEvent(new Event("online"));
  await sleep(20);
  assert.equal(client.state, "waiting", "it reconnected before the time that the server requested");
  assert.deepEqual(states().filter(s => s === "waiting").length, 3);
});

test("a page becomes visible again", async () => {
  const { client } = make({ minBackoff: 1e6, maxBackoff: 1e6, random: () => 1, ackEvery: 1e5 });
  const s = await admitted(1, live(41));
  await until("live", () => client.state === "live");
  document.dispatchEvent(new Event("visibilitychange"));
  await sleep(5);
  assert.equal(Socket.all.length, 1);
  const real = Date.now;
  Date.now = () => real() + 36000; // more than 25 s and 10 s
  document.dispatchEvent(new Event("visibilitychange"));
  Date.now = real;
  await admitted(2, live(41));
  assert.equal(s.readyState, 2);
});

test("acknowledgements are flushed when the page is hidden, and on close", async () => {
  const { client, handled } = make({ ackEvery: 1e5 });
  const s = await admitted(1, msg(42));
  await until("42", () => handled.length === 1);
  assert.deepEqual(s.acks, []);
  s.say(msg(43));
  await until("43", () => handled.length === 2);
  document.hidden = true;
  document.dispatchEvent(new Event("visibilitychange"));
  assert.deepEqual(s.acks, [43]);
  s.say(msg(44)); // a timer of a hidden page could take a minute
  await until("an ack", () => s.acks.at(-1) === 44);
  document.hidden = false;
  s.say(msg(45));
  await until("45", () => handled.length === 4);
  client.close();
  assert.deepEqual(s.acks, [43, 44, 45]);
});

test("after a user leaves a page it handles nothing until the user returns", async () => {
  const { client, handled } = make({ ackEvery: 1e5 });
  const s = await admitted(1, msg(42));
  await until("42", () => handled.length === 1);
  s.say(msg(43));
  page.dispatchEvent(new Event("pagehide"));
  assert.deepEqual(s.acks, [42]);
  s.say(msg(44));
  await sleep(20);
  assert.equal(Socket.all.length, 1, "it reconnected");
  page.dispatchEvent(new Event("pageshow"));
  const again = await socket(2);
  again.open();
  assert.equal(again.sent[0].after, handled.at(-1));
  assert.ok(handled.length < 3);

  again.end(1006); // and while it waits
  await until("waiting", () => client.state === "waiting");
  page.dispatchEvent(new Event("pagehide"));
  await sleep(20);
  assert.equal(Socket.all.length, 2);
  page.dispatchEvent(new Event("pageshow"));
  await socket(3);
  page.dispatchEvent(new Event("pageshow")); // browsers send it after a page load too
  await sleep(20);
  assert.equal(Socket.all.length, 3);
  page.dispatchEvent(new Event("pagehide"));
  client.close();
});

test("invalid or early frames end the connection", async () => {
  const bad = ["{", "[]", "null", '"text"', "{}", msg(1), live(1)];
  const { of } = make();
  for (const [i, frame] of bad.entries()) (await socket(i + 1)).open(hello, frame);
  (await socket(bad.length + 1)).open(hello, ready, ready);
  (await socket(bad.length + 2)).open({ type: "hello", protocol: "tidings.v2" });
  await until("closed", () => of("state").at(-1).state === "closed");
  assert.equal(of("state").at(-1).error.code, 4406);
  assert.equal(of("msg").length, 0);
});

test("close releases everything, in any state", async () => {
  const timers = () => process.getActiveResourcesInfo().filter(r => r === "Timeout").length;
  const before = timers();
  let release;
  const far = { minBackoff: 1e6, maxBackoff: 1e6, random: () => 1, ackEvery: 1e5 };
  const hangs = make({ ...far, token: () => new Promise(() => {}) });
  const connects = make(far), lives = make(far), waits = make(far);
  const [, second, third] = [await socket(1), await socket(2), await socket(3)];
  second.open(hello, ready, msg(42), live(42));
  third.end(1006);
  const fails = make({ ...far, onMessage: () => { throw new Error("never"); } });
  (await socket(4)).open(hello, ready, msg(42));
  const handles = make({ ...far, onMessage: () => new Promise(resolve => { release = resolve; }) });
  (await socket(5)).open(hello, ready, msg(42), msg(43));
  await until("all states", () => lives.client.state === "live" && waits.client.state === "waiting" && fails.of("error").length && release);
  assert.deepEqual([hangs, connects].map(c => c.client.state), ["connecting", "connecting"]);
  for (const c of [hangs, connects, lives, waits, fails, handles]) {
    c.client.close();
    c.client.close();
    assert.equal(c.states().filter(s => s === "closed").length, 1);
    assert.equal(c.client.state, "closed");
  }
  release();
  await until("43 is not handled, 42 is", () => handles.client.position.seq === 42);
  await sleep(5);
  assert.ok(timers() <= before, `${timers()} timers, ${before} before`);
  for (const type of ["online", "pagehide", "pageshow"]) assert.equal(getEventListeners(page, type).length, 0);
  assert.equal(getEventListeners(document, "visibilitychange").length, 0);
  assert.equal(Socket.all.length, 5);
});

test("close in a callback, and start again", async () => {
  for (const state of ["connecting", "replaying", "live", "waiting"]) {
    Socket.all = [];
    const { client, states } = make();
    client.on("state", e => { if (e.state === state) client.close(); });
    if (state !== "connecting") (await admitted(1, live(41), msg(42))).end(1006);
    await until("closed", () => states().at(-1) === "closed");
    await sleep(5);
    assert.equal(states().at(-1), "closed", state);
    assert.ok(Socket.all.length < 2);
  }
  Socket.all = [];
  const { client, handled } = make({ storage: null });
  client.close();
  client.start();
  client.start();
  await admitted(1, msg(42));
  await until("42", () => handled.length === 1);
  await sleep(5);
  assert.equal(Socket.all.length, 1);
});

test("a listener that throws does not affect others, and can be removed", async () => {
  const { client, of } = make();
  const thrown = [];
  const real = globalThis.queueMicrotask; // errors in microtasks are reported to the page; the test runner would fail the test
  globalThis.queueMicrotask = report => { try { report(); } catch (error) { thrown.push(error.message); } };
  const off = client.on("live", () => { throw new Error("a listener"); });
  const s = await admitted(1, live(41));
  await until("reported", () => thrown.length === 1);
  globalThis.queueMicrotask = real;
  assert.equal(of("live").length, 1);
  off();
  s.say(msg(42));
  await until("42", () => client.position.seq === 42);
});

test("invalid options", () => {
  const good = { url: "ws://push.example", token: () => "", onMessage: () => {}, WebSocket: Socket };
  for (const [name, bad] of Object.entries({ url: [undefined, "ftp://a", "ws://user@a", "http://"], token: ["t"], onMessage: [null] })) {
    for (const value of bad) assert.throws(() => new Tidings({ ...good, [name]: value }), TypeError, `${name}: ${value}`);
  }
  assert.throws(() => new Tidings(), TypeError);
  const wrong = { onMessage: "f", random: 1, device: 5, user: 42, attempts: "5", patience: null, poison: "skipp" };
  for (const name in wrong) assert.throws(() => new Tidings({ ...good, [name]: wrong[name] }), { name: "TypeError", message: new RegExp(`^${name}: want`) });
  for (const name of ["devise", "tabs", "toString"]) {
    assert.throws(() => new Tidings({ ...good, [name]: 1 }), { name: "TypeError", message: new RegExp(`no option ${name}, only .*device`) });
  }
  const client = new Tidings(good);
  for (const type of ["mesage", "message", "toString", undefined]) {
    assert.throws(() => client.on(type, () => {}), { name: "TypeError", message: /no event .*, only state, ready, gap, msg/ });
  }
  assert.throws(() => client.on("msg"), TypeError);
  if (!globalThis.WebSocket) assert.throws(() => new Tidings({ ...good, WebSocket: undefined }), /Node has its own from 22/);
});
