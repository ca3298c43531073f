import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { Tidings } from "./tidings-tabs.js";

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

async function until(what, condition) {
  for (const end = Date.now() + 10000; !condition();) {
    if (Date.now() > end) assert.fail(`timeout waiting for: ${what}`);
    await sleep(1);
  }
}

// Locks are the Web Locks of one browser. A request that steals gets the lock at once, as in a browser.
class Locks {
  names = new Map();
  request(name, { steal, signal }, callback) {
    if (!this.names.has(name)) this.names.set(name, { held: null, waiting: [] });
    const lock = this.names.get(name), stolen = new DOMException("", "AbortError");
    return new Promise((resolve, reject) => {
      const ask = { callback, resolve, reject };
      signal?.addEventListener("abort", () => {
        if (!lock.waiting.includes(ask)) return;
        lock.waiting.splice(lock.waiting.indexOf(ask), 1);
        reject(stolen);
      });
      if (!steal) lock.waiting.push(ask);
      else {
        const from = lock.held;
        setTimeout(() => from?.reject(stolen));
        lock.held = null;
        lock.waiting.unshift(ask);
      }
      this.grant(lock);
    });
  }
  grant(lock) {
    if (lock.held || !lock.waiting.length) return;
    const ask = lock.held = lock.waiting.shift();
    queueMicrotask(async () => { // earlier than messages posted on a channel before
      ask.resolve(await ask.callback({ name: "" }));
      if (lock.held !== ask) return;
      lock.held = null;
      this.grant(lock);
    });
  }
}

// Channel is a BroadcastChannel of a tab that can be frozen.
const Real = globalThis.BroadcastChannel;
class Channel extends Real {
  static all = [];
  constructor(name) {
    super(name);
    Channel.all.push(this);
  }
  freeze() { super.onmessage = null; }
}

// Gateway has a stream of alice. A client starts after `after`, or after what was acknowledged.
let gateway;
class Gateway {
  stream = [];
  acked = 0;
  open = [];
  all = [];
  auths = [];
  ping = 25000;
  epoch = "e";
  publish(...data) {
    for (const d of data) {
      this.stream.push(d);
      for (const s of this.open) if (s.live) s.msg(this.stream.length);
    }
  }
  get WebSocket() { return Socket; }
}

class Socket {
  readyState = 0;
  constructor() {
    this.gateway = gateway;
    gateway.open.push(this);
    gateway.all.push(this);
    setTimeout(() => {
      if (this.readyState) return;
      this.readyState = 1;
      this.onopen?.({});
    });
  }
  say(frame) { if (!this.mute) this.onmessage?.({ data: JSON.stringify(frame) }); }
  msg(seq) { this.say({ type: "msg", seq, time: "2026-11-22T17:55:19.123Z", data: this.gateway.stream[seq - 1] }); }
  send(text) {
    const { type, token, after, seq, user, epoch } = JSON.parse(text), g = this.gateway;
    if (type === "ack") g.acked = Math.max(g.acked, seq);
    if (type !== "auth") return;
    g.auths.push({ token, after });
    if (token === "refused") return this.end(4401, "no such token");
    const last = g.stream.length, start = user === token && epoch === g.epoch && after <= last ? after : g.acked;
    this.say({ type: "hello", protocol: "tidings.v1" });
    this.say({ type: "ready", user: token, conn: "", epoch: this.gateway.epoch, after: start, unread: last - g.acked, ping: g.ping });
    if (epoch && (epoch !== g.epoch || after > last)) this.say({ type: "gap", after: start, reason: "stream_reset" });
    for (let n = start + 1; n <= last; n++) this.msg(n);
    this.live = true;
    this.say({ type: "live", seq: last });
  }
  close() { this.end(); }
  end(code, reason = "") {
    this.readyState = 3;
    this.gateway.open = this.gateway.open.filter(s => s !== this);
    this.onclose?.({ code, reason });
  }
}

const memory = () => {
  const values = new Map();
  return { getItem: key => values.get(key) ?? null, setItem: (key, value) => { values.set(key, String(value)); } };
};

// browser makes the runtime look like a browser with these locks.
const browser = locks => Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true, writable: true });

let tabs, locks;
beforeEach(() => {
  tabs = [];
  locks = new Locks();
  browser(locks);
  gateway = new Gateway();
  Channel.all = [];
  globalThis.BroadcastChannel = Channel;
  globalThis.document = Object.assign(new EventTarget(), { hidden: false });
  Object.defineProperty(globalThis, "localStorage", { value: memory(), configurable: true, writable: true });
});
afterEach(() => {
  for (const t of tabs) t.client.close();
});

// tab opens a tab.
function tab(options = {}) {
  const got = [], log = [];
  const client = new Tidings({
    url: "http://push.example", user: "alice", token: () => "alice", WebSocket: gateway.WebSocket, minBackoff: 2, maxBackoff: 4,
    ackEvery: 1, onMessage: m => { got.push(m.data); }, ...options,
  });
  for (const type of ["state", "ready", "gap", "msg", "live", "acked", "error"]) client.on(type, e => log.push({ type, ...e }));
  client.start();
  const t = { client, got, log, of: type => log.filter(e => e.type === type), states: () => log.filter(e => e.type === "state").map(e => e.state) };
  tabs.push(t);
  return t;
}

const live = (...some) => until("all live", () => some.every(t => t.client.state === "live"));
const have = async (want, ...some) => {
  for (const end = Date.now() + 10000; some.some(t => t.got.length < want.length) && Date.now() < end;) await sleep(1);
  for (const t of some) assert.deepEqual(t.got, want);
};

test("tabs share one connection, and each has everything once and in order", async () => {
  gateway.publish("missed");
  const a = tab();
  await live(a);
  const b = tab(), c = tab();
  await live(b, c);
  gateway.publish("one", "two");
  await have(["missed", "one", "two"], a);
  await have(["one", "two"], b, c); // the first tab has handled the missed message
  assert.equal(gateway.all.length, 1);
  await until("acknowledged", () => gateway.acked === 3);
  for (const frame of [{ type: "gap", after: 3, reason: "purged" }, { type: "acked", seq: 3, unread: 0 },
    { type: "error", code: "novelty", message: "hm" }, { type: "ping", seq: 9 }]) gateway.open[0].say(frame);
  for (const t of [a, b, c]) {
    await until("the position", () => t.client.position.seq === 9);
    assert.deepEqual(t.states(), ["connecting", "replaying", "live"]);
    for (const type of ["ready", "gap", "live", "acked", "error"]) assert.equal(t.of(type).length, 1, type);
    assert.deepEqual(t.of("msg").at(-1).replayed, false);
  }
  assert.equal(JSON.parse(localStorage.getItem("tidings ws://push.example/v1/ws  alice")).seq, 9);
});

test("the leader closes, and another takes over", async () => {
  const a = tab();
  await live(a);
  const b = tab(), c = tab();
  await live(b, c);
  gateway.publish("one");
  await have(["one"], a, b, c);
  a.client.close();
  gateway.publish("two");
  await have(["one", "two"], b, c);
  await live(b, c);
  gateway.publish("three");
  await have(["one", "two", "three"], b, c);
  assert.deepEqual(a.got, ["one"]);
  assert.equal(gateway.open.length, 1);
  assert.equal(gateway.all.length, 2);
  await until("acknowledged", () => gateway.acked === 3);
});

test("a network that keeps failing", async () => {
  const some = [tab(), tab(), tab()];
  await live(...some);
  const want = [];
  for (let i = 0; i < 30; i++) {
    want.push(`a${i}`, `b${i}`);
    gateway.publish(`a${i}`);
    await until("a connection", () => gateway.open.length);
    gateway.open[0].end(1006);
    gateway.publish(`b${i}`);
    if (i % 3) await have(want, ...some);
  }
  await have(want, ...some);
  await live(...some);
  assert.equal(gateway.open.length, 1);
  await until("acknowledged", () => gateway.acked === 60);
});

test("messages that the leader has not handled are neither acknowledged nor lost", async () => {
  let stuck = true;
  const a = tab({ onMessage: () => new Promise(() => {}) });
  await live(a);
  const b = tab();
  await live(b);
  gateway.publish("one", "two");
  await have(["one", "two"], b);
  const late = tab({ onMessage: async m => {
    while (stuck) await sleep(1);
    late.got.push(m.data);
  } }); // starts at the leader's position
  await until("the late tab has them", () => late.client.state === "replaying");
  assert.equal(gateway.acked, 0);
  assert.equal(gateway.all.length, 1);
  a.client.close();
  await until("another", () => gateway.all.length === 2);
  stuck = false;
  await have(["one", "two"], b, late);
  await until("acknowledged", () => gateway.acked === 2);
});

test("a tab takes the connection if the leader does not have the messages that it lacks", async () => {
  gateway.publish("one", "two", "three");
  gateway.acked = 2;
  const a = tab();
  await live(a);
  await have(["three"], a);
  const storage = memory();
  storage.setItem("tidings ws://push.example/v1/ws  alice", '{"user":"alice","epoch":"e","seq":1}');
  const b = tab({ storage });
  await have(["two", "three"], b);
  await live(a, b);
  gateway.publish("four");
  await have(["three", "four"], a);
  await have(["two", "three", "four"], b);
  assert.equal(gateway.open.length, 1);
  assert.deepEqual(gateway.auths.map(f => f.after), [undefined, 1]);
});

test("a silent leader loses the connection", async () => {
  gateway.ping = 50;
  const pings = setInterval(() => gateway.open.forEach(s => s.live && s.say({ type: "ping" })), 10);
  const a = tab({ grace: 100 });
  await live(a);
  const b = tab({ grace: 100 }), c = tab({ grace: 100 });
  await live(b, c);
  gateway.publish("one");
  await have(["one"], a, b, c);
  const frozen = gateway.open[0];
  frozen.mute = true;
  frozen.close = () => {};
  const wake = Channel.all[0].onmessage;
  Channel.all[0].onmessage = null;
  gateway.publish("two");
  await have(["one", "two"], b, c);
  await live(b, c);
  Channel.all[0].onmessage = wake;
  gateway.publish("three");
  await have(["one", "two", "three"], a, b, c);
  await live(a, b, c);
  assert.equal(gateway.open.filter(s => s !== frozen).length, 1);
  clearInterval(pings);
});

test("another stream", async () => {
  const a = tab(), b = tab(), c = tab();
  await live(a, b, c);
  gateway.publish("one", "two");
  await have(["one", "two"], a, b, c);
  Object.assign(gateway, { epoch: "f", stream: ["new"], acked: 0 });
  gateway.open[0].end(4510);
  await have(["one", "two", "new"], a, b, c);
  for (const t of [a, b, c]) assert.deepEqual(t.of("gap").map(g => g.reason), ["stream_reset"]);

  // A new page becomes the leader before the tabs that know the old epoch reconnect.
  for (const t of [a, b, c]) t.client.close();
  Object.assign(gateway, { epoch: "g", stream: ["newer"], acked: 0 });
  const fresh = tab({ storage: null });
  await live(fresh);
  await until("an acknowledgement", () => gateway.acked === 1);
  for (const t of [a, b, c]) t.client.start();
  await have(["one", "two", "new", "newer"], a, b, c);
  for (const t of [a, b, c]) assert.equal(t.of("gap").length, 2);
  assert.equal(gateway.open.length, 1);
});

test("a restored older copy of the stream, which reuses numbers", async () => {
  const a = tab();
  await live(a);
  const b = tab({ minBackoff: 1e5, maxBackoff: 1e5, random: () => 1 });
  await live(b);
  gateway.publish("one", "two", "three");
  await have(["one", "two", "three"], a, b);
  await until("acknowledged", () => gateway.acked === 3);
  Object.assign(gateway, { stream: ["one"], acked: 1 });
  gateway.open[0].end(1006);
  await until("a gets the gap", () => a.of("gap").length === 1);
  gateway.publish("new two", "new three", "new four");
  await have(["one", "two", "three", "new two", "new three", "new four"], a);
  document.dispatchEvent(new Event("visibilitychange")); // b reconnects late, with a position that belongs to another message now
  await have(["one", "two", "three", "new two", "new three", "new four"], b);
  assert.deepEqual(b.of("gap").map(g => g.reason), ["stream_reset"]);
  assert.equal(gateway.open.length, 1);
});

test("a frozen page releases the connection at once", async () => {
  const a = tab({ minBackoff: 5e4, maxBackoff: 5e4, random: () => 1 }); // it reconnects late
  await live(a);
  document.dispatchEvent(new Event("freeze"));
  assert.equal(gateway.open.length, 0);
  assert.equal(a.client.state, "live"); // its client gets the event later
  const b = tab();
  await live(b);
  assert.equal(a.client.state, "waiting");
});

test("a disconnect closes all tabs, a refused token only its own tab", async () => {
  const tokens = ["refused", "refused", "alice"];
  const a = tab({ token: () => tokens.shift() });
  await until("closed", () => a.states().at(-1) === "closed");
  const b = tab({ token: () => "refused" });
  const c = tab();
  await until("closed", () => b.states().at(-1) === "closed");
  await live(c);
  assert.equal(gateway.auths.filter(f => f.token === "alice").length, 1);
  const d = tab();
  await live(d);
  gateway.open[0].end(4410, "logout");
  await until("closed", () => [c, d].every(t => t.client.state === "closed"));
  for (const t of [c, d]) assert.equal(t.of("state").at(-1).error.message, "closed with 4410: logout");
});

test("other users, devices and gateways do not share the connection", async () => {
  const some = [tab(), tab({ user: "bob", token: () => "bob" }), tab({ device: "web" }), tab({ url: "http://other.example" })];
  await live(...some);
  assert.equal(gateway.open.length, 4);
  const wrong = tab({ token: () => "mallory", user: "carol" }); // a token that is not carol's
  await live(wrong);
  const carol = tab({ token: () => "carol", user: "carol" });
  await live(carol);
  assert.equal(gateway.open.length, 6);
  assert.equal(carol.client.position.user, "carol");
  assert.equal(wrong.client.position.user, "mallory");
});

test("tabs that open and close at random on a bad network", async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1e6);
  let state = seed, n = 0;
  const random = below => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor(state / 65536) % below;
  };
  const open = [tab()];
  const handler = t => async m => {
    await sleep(random(3));
    t.got.push(m.data);
  };
  for (let step = 0; step < 300; step++) {
    switch (random(8)) {
    case 0: gateway.open[0]?.end(random(2) ? 1006 : 4512); break;
    case 1: if (open.length > 1) open.splice(random(open.length), 1)[0].client.close(); break;
    case 2:
      if (open.length < 6) {
        const t = tab({ onMessage: m => handler(t)(m) });
        open.push(t);
      }
      break;
    case 3: await sleep(random(10)); break;
    default: gateway.publish(++n);
    }
    if (random(4) === 0) await sleep(1);
  }
  gateway.publish(++n);
  await until(`all have ${n}, with SEED=${seed}: ${open.map(t => t.got.at(-1))}`, () => open.every(t => t.got.at(-1) === n));
  for (const { got } of tabs) assert.deepEqual(got, got.map((_, i) => got[0] + i), `SEED=${seed}`);
  await live(...open);
  assert.equal(gateway.open.length, 1);
});

test("no sharing without locks, a channel or a user, or if switched off", async () => {
  const refused = { request: () => Promise.reject(new DOMException("", "SecurityError")) };
  for (const { locks: these = locks, ...options } of [{ locks: null }, { user: undefined }, { tabs: false }, { locks: refused }]) {
    browser(these);
    gateway = new Gateway();
    globalThis.localStorage = memory();
    const a = tab(options), b = tab(options);
    await live(a, b);
    gateway.publish("one");
    await have(["one"], a, b);
    assert.equal(gateway.open.length, 2);
  }
  browser(locks);
  globalThis.BroadcastChannel = undefined;
  gateway = new Gateway();
  await live(tab(), tab());
  assert.equal(gateway.open.length, 2);
});

test("unknown options and events", () => {
  assert.throws(() => new Tidings({ url: "ws://push.example", devise: "phone", user: "alice", token: () => "", onMessage: () => {}, WebSocket: Socket }),
    { name: "TypeError", message: /no option devise, only url, .*, tabs$/ });
  assert.throws(() => tab().client.on("mesage", () => {}), TypeError);
});

test("a message that fails in one tab is skipped only there", async () => {
  const fails = { patience: 0, onMessage: m => { if (m.data === "poison") throw new Error("never"); } };
  const a = tab(fails);
  await live(a);
  const b = tab();
  await live(b);
  gateway.publish("poison", "after");
  await have(["poison", "after"], b);
  await until("skipped", () => a.client.position.seq === 2);
  assert.deepEqual(a.of("error").map(e => [e.message.data, e.skipped]), [1, 2, 3, 4, 5].map(n => ["poison", n === 5]));
  await until("acknowledged", () => gateway.acked === 2);
  const c = tab(fails); // also if the failing tab is a follower
  await live(c);
  gateway.publish("poison", "more");
  await until("skipped", () => c.client.position.seq === 4 && a.client.position.seq === 4);
  assert.equal(c.of("error").length, 5);
  assert.equal(b.of("error").length, 0);
});

test("missing storage", async () => {
  Object.defineProperty(globalThis, "localStorage", { get: () => { throw new Error("SecurityError"); }, configurable: true });
  for (const options of [{}, { storage: null }]) {
    gateway = new Gateway();
    const a = tab(options), b = tab(options);
    await live(a, b);
    gateway.publish("one");
    await have(["one"], a, b);
    a.client.close();
    await live(b);
    gateway.publish("two");
    await have(["one", "two"], b);
    b.client.close();
  }
});

test("close releases everything, in any state", async () => {
  const timers = () => process.getActiveResourcesInfo().filter(r => r === "Timeout").length;
  const before = timers();
  const a = tab(), b = tab(), hasty = tab();
  hasty.client.close();
  await live(a, b);
  for (const t of [b, a]) t.client.close();
  await sleep(10);
  assert.ok(timers() <= before, `${timers()} timers, ${before} before`);
  assert.equal(gateway.open.length, 0);
  for (const { held, waiting } of locks.names.values()) assert.deepEqual([held, waiting], [null, []]);
  a.client.start();
  await live(a);
});
