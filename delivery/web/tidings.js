// How to use it: tidings.d.ts. The protocol: delivery/wire.

const protocol = "tidings.v1";

// 44xx stop, and those of RFC 6455 that blame our own frames.
const stops = code => code >= 4400 && code < 4500 || [1002, 1003, 1007, 1008, 1009].includes(code);

export class Unauthorized extends Error {
  name = "Unauthorized";
}

export class CloseError extends Error {
  name = "CloseError";
  constructor(code, reason) {
    super(`closed with ${code}${reason && `: ${reason}`}`);
    Object.assign(this, { code, reason });
  }
}

// From the question for a token to the end, with the frames that wait for the handler.
class Connection {
  queue = [];
  life = new AbortController();
  over = new Promise(resolve => this.life.signal.addEventListener("abort", resolve));
  silence = Infinity; // how long nothing may arrive
  tokens = [];
  news = () => {};

  open(ws, grace) {
    this.ws = ws;
    this.heard = Date.now();
    this.silence = 1.5 * grace; // until ready tells the ping interval
    ws.onclose = e => this.lost(e.code, e.reason);
    ws.onerror = () => ws.readyState || this.lost(1006); // Node below 24 says no more of one that cannot connect
    // Twice: after a long task the timer may run before what has arrived meanwhile is seen.
    this.watch = setInterval(() => {
      if (this.silent && this.suspect) this.lost(1006, "nothing was heard of the server");
      this.suspect = this.silent;
    }, grace / 4);
  }

  // By the clock, which goes on while the machine sleeps, and may be set back.
  get silent() { return Math.abs(Date.now() - this.heard) > this.silence; }

  send(frame) {
    const open = this.ws?.readyState === 1;
    if (open) this.ws.send(JSON.stringify(frame));
    return open;
  }

  // A WebSocket cannot be told to wait.
  push(frame) {
    if (this.queue.push(frame) > 1000) this.finish({ error: new Error("handler too slow"), now: true });
    this.news();
  }

  // Undefined at the end, after what was queued when the connection was lost.
  async next() {
    while (!this.queue.length && !this.end) await new Promise(resolve => { this.news = resolve; });
    return this.queue.shift();
  }

  // The end of the connection cuts it short.
  async pause(ms) {
    let timer;
    await Promise.race([this.over, new Promise(resolve => { timer = setTimeout(resolve, ms); })]);
    clearTimeout(timer);
  }

  // An authenticator may quote our tokens.
  clean(text = "") {
    return this.tokens.reduce((text, token) => token?.length >= 8 ? text.replaceAll(token, "[token]") : text, text);
  }

  // A goaway says more than a connection that just broke.
  lost(code, reason) {
    const goaway = this.goaway;
    if (goaway && (code === 1005 || code === 1006)) code = goaway.code;
    this.finish({ error: new CloseError(code, this.clean(reason || goaway?.reason)), stop: stops(code) });
  }

  // At once: the goodbye of a dead socket may take minutes. The first end counts.
  finish(end) {
    if (this.end) return;
    this.end = end;
    clearInterval(this.watch);
    if (this.ws) {
      this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
      this.ws.close();
    }
    this.life.abort();
    this.news();
  }
}

export class Tidings {
  #o;
  #key;
  #listeners = {};
  #state = "closed";
  #run = null; // an AbortController from start to close
  #running = Promise.resolve(); // until the handler is done with the last run
  #conn = null;
  #wake = null; // ends the wait before the next attempt
  #away = false; // the page was left
  #tries = 0;
  #hurried = false; // after an expired lease, and not live since
  #failures = 0; // of the handler, with the next message

  #position; // {user, epoch, seq}: up to there everything is handled; undefined: never admitted
  #ack = 0; // to be acknowledged
  #waiting = 0; // acknowledgements since the last one sent
  #ackTimer = null;
  #received = 0; // on this connection: an acknowledgement beyond it would be an error
  #acked = 0; // on this connection

  constructor({
    url = "/v1/ws", token, onMessage, device, user, attempts = Infinity, poison = "skip", ackEvery = 50, minBackoff = 500,
    maxBackoff = 30e3, grace = 10e3, storage, WebSocket = globalThis.WebSocket, random = Math.random,
  } = {}) {
    const at = new URL(url, import.meta.url);
    at.protocol = at.protocol.replace("http", "ws");
    if (!/^wss?:$/.test(at.protocol) || at.username) throw new TypeError("url: want one like wss://push.example");
    if (at.pathname === "/") at.pathname = "/v1/ws";
    at.hash = "";
    if (typeof token !== "function") throw new TypeError("token: want a function");
    if (typeof onMessage !== "function") throw new TypeError("onMessage: want a function");
    if (!WebSocket) throw new TypeError("WebSocket: pass one in (Node has its own from 22 on)");
    if (storage === undefined) {
      try {
        storage = globalThis.document && localStorage;
      } catch { /* forbidden */ }
    }
    this.#o = {
      url: at.href, token, onMessage, device, user, attempts, poison, ackEvery, minBackoff, maxBackoff, grace, storage, WebSocket, random,
    };
    this.#key = `tidings ${at.href} ${device ?? ""}`;
    this.#position = this.#load();
    this.#ack = this.#position?.seq ?? 0; // said again: the last time may not have arrived
  }

  get state() { return this.#state; }
  get position() { return this.#position && { ...this.#position }; }

  on(type, listener) {
    const all = this.#listeners[type] ??= new Set();
    all.add(listener);
    return () => { all.delete(listener); };
  }

  start() {
    if (this.#run) return;
    const run = this.#run = new AbortController();
    this.#tries = this.#failures = 0;
    this.#away = false;
    const listen = (to, type, listener) => to?.addEventListener?.(type, listener, { signal: run.signal });
    listen(globalThis, "online", () => this.#hurry("the network is back"));
    // A page that was left runs on for a moment, and nobody would see what it handles.
    listen(globalThis, "pagehide", () => {
      this.#sendAck();
      this.#away = true;
      this.#drop({ error: new Error("the page was left") });
    });
    listen(globalThis, "pageshow", () => {
      if (this.#away) this.#wake?.();
      this.#away = false;
    });
    listen(globalThis.document, "visibilitychange", () => {
      if (document.hidden) this.#sendAck();
      else if (this.#wake || this.#conn?.silent) this.#hurry("the page is back");
    });
    this.#running = this.#running.then(() => this.#loop(run));
  }

  close() { this.#stop(); }

  #stop(error) {
    if (!this.#run) return;
    this.#sendAck();
    this.#run.abort();
    this.#run = null;
    this.#drop({});
    this.#wake?.();
    this.#set("closed", { error });
  }

  #drop(end) {
    if (!this.#conn) return;
    this.#conn.queue = [];
    this.#conn.finish(end);
  }

  // Every callback may call close: the run is then not the client's any more.
  async #loop(run) {
    while (this.#run === run) {
      const conn = this.#conn = new Connection();
      this.#set("connecting");
      const end = conn.end ?? await this.#attempt(conn);
      this.#sendAck();
      conn.finish(end);
      if (this.#run !== run) return;
      if (end.stop) return this.#stop(end.error);
      const wait = this.#pause(end, conn.goaway?.retry_after);
      this.#set("waiting", { error: end.error, wait });
      for (let due = false; this.#run === run && (this.#away || !due); due = true) {
        let timer;
        await new Promise(resolve => {
          this.#wake = resolve;
          if (!this.#away) timer = setTimeout(resolve, wait);
        });
        clearTimeout(timer);
        this.#wake = null;
      }
    }
  }

  #pause(end, asked) {
    const wait = this.#jitter(this.#tries++);
    if (asked > 0) return Math.min(asked, 3600e3);
    if (end.now) return 0;
    if (end.error?.code !== 4501 || this.#hurried) return wait;
    this.#hurried = true;
    return this.#jitter(0);
  }

  // Full jitter, so that the clients of a gateway that died do not come back together.
  #jitter(tries) { return this.#o.random() * Math.min(this.#o.maxBackoff, this.#o.minBackoff * 2 ** tries); }

  // Not before the time that the server asked for.
  #hurry(why) {
    if (!(this.#conn?.goaway?.retry_after > 0)) this.#wake?.();
    this.#conn?.finish({ error: new Error(why), now: true });
  }

  // One connection, and what it brings, in order, to its end.
  async #attempt(conn) {
    const { url, WebSocket, device, grace } = this.#o;
    let token;
    try {
      token = await this.#token(conn);
      if (conn.end) return conn.end;
      conn.open(new WebSocket(url, protocol), grace);
    } catch (error) {
      return conn.end ?? { error, stop: token !== undefined || error?.name === "Unauthorized" };
    }
    this.#received = this.#acked = 0;
    conn.ws.onopen = () => {
      const { seq: after, epoch, user } = this.#position ?? {};
      conn.send({ type: "auth", token, device: device || undefined, after, epoch, user });
    };
    conn.ws.onmessage = e => this.#receive(conn, e.data);
    for (let frame; (frame = await conn.next());) {
      const end = await this.#handle(conn, frame);
      if (end) return end;
    }
    return conn.end;
  }

  async #token(conn) {
    const token = await Promise.race([this.#o.token({ signal: conn.life.signal }), conn.over]);
    conn.tokens = [...conn.tokens.slice(-1), token]; // an answer may still be to the one before
    return token;
  }

  // Does what must not wait for a busy handler, and queues the rest.
  #receive(conn, text) {
    conn.heard = Date.now();
    let f;
    try {
      f = JSON.parse(text);
    } catch { /* no type */ }
    const type = f?.type;
    const queued = ["gap", "msg", "live", "acked"].includes(type);
    if (!type || (conn.ready ? type === "ready" : queued)) return conn.finish({ error: new Error(`protocol error: ${type}`) });
    if (queued) conn.push(f);
    switch (type) {
    case "hello":
      if (f.protocol !== protocol) conn.lost(4406, "the server speaks another protocol");
      break;
    case "ready":
      conn.ready = true;
      if (f.ping > 0) conn.silence = f.ping + this.#o.grace;
      conn.push(f);
      break;
    case "ping":
      conn.send({ type: "pong" });
      if (conn.ready && f.seq) conn.push(f);
      break;
    case "expiring":
      this.#renew(conn, 0);
      break;
    case "error":
      if (f.code === "renew_unavailable") this.#renew(conn, 10 * this.#o.minBackoff);
      this.#emit("error", { error: new Error(conn.clean(`the server reports ${f.code}: ${f.message}`)) });
      break;
    case "goaway":
      conn.goaway = f;
    }
  }

  // Without a fresh token the lease may end, with 4501, and the next connect asks again.
  async #renew(conn, delay) {
    if (conn.renewing) return;
    conn.renewing = true;
    if (delay) await conn.pause(delay); // a timer of 0 may take a minute in a hidden page
    try {
      if (!conn.end) conn.send({ type: "renew", token: await this.#token(conn) });
    } catch (error) {
      if (conn.end) return;
      if (error?.name === "Unauthorized") conn.finish({ error, stop: true });
      else this.#emit("error", { error });
    }
    conn.renewing = false;
  }

  async #handle(conn, { type, ...f }) {
    switch (type) {
    case "ready":
      // Further back in the same epoch: an older copy of the stream was put back, and reuses numbers.
      if (!(this.#position?.user === f.user && this.#position.epoch === f.epoch && this.#position.seq <= f.after)) this.#restart(f, f.after);
      this.#reach(f.after);
      this.#set("replaying");
      this.#emit("ready", f);
      break;
    case "gap":
      this.#emit("gap", f);
      conn.send({ type: "pong" });
      break;
    case "msg":
      this.#reach(f.seq);
      if (f.seq > this.#position.seq) return this.#deliver(conn, { ...f, epoch: this.#position.epoch, replayed: !conn.live });
      break;
    case "live":
      // Only here, with all that was missed handled: a server may fail on a message.
      this.#tries = 0;
      this.#hurried = false;
      conn.live = true;
      this.#pass(f.seq);
      this.#set("live");
      this.#emit("live", f);
      break;
    case "ping":
      this.#pass(f.seq);
      break;
    case "acked":
      this.#emit("acked", f);
    }
  }

  // Until the handler is done with the message, or the connection ends: the next one brings it again.
  async #deliver(conn, message) {
    for (let skipped = false; !skipped;) {
      try {
        await this.#o.onMessage(message);
        break;
      } catch (error) {
        const last = ++this.#failures >= this.#o.attempts;
        skipped = last && this.#o.poison === "skip";
        this.#emit("error", { error, message, skipped });
        if (last && !skipped) return { error, stop: true };
        if (!last) await conn.pause(this.#jitter(this.#failures - 1));
        if (!last && conn.end) return conn.end;
      }
    }
    this.#failures = 0;
    this.#ack = message.seq;
    this.#waiting++;
    this.#pass(message.seq);
    this.#emit("msg", message);
  }

  #restart({ user, epoch }, seq) {
    this.#position = { user, epoch, seq };
    this.#ack = this.#waiting = this.#received = this.#acked = this.#failures = 0;
    this.#save();
  }

  // All up to seq is handled, or not ours.
  #pass(seq) {
    this.#reach(seq);
    if (seq <= this.#position.seq) return;
    this.#position.seq = seq;
    this.#save();
  }

  // What the server has sent may be acknowledged.
  #reach(seq) {
    this.#received = Math.max(this.#received, seq);
    if (this.#conn.end || Math.min(this.#ack, this.#received) <= this.#acked) return;
    // The timers of a hidden page may take a minute.
    if (this.#waiting >= 16 || globalThis.document?.hidden && !this.#conn.queue.length) this.#sendAck();
    else this.#ackTimer ??= setTimeout(() => this.#sendAck(), this.#o.ackEvery);
  }

  #sendAck() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    const seq = Math.min(this.#ack, this.#received);
    if (seq <= this.#acked || !this.#conn?.send({ type: "ack", seq })) return;
    this.#acked = seq;
    this.#waiting = 0;
  }

  // Whose token it is only ready tells. Until then we are who was here last, and if we are not the server ignores it.
  #load() {
    const { storage, user } = this.#o;
    try {
      const of = user ?? storage.getItem(this.#key);
      const at = JSON.parse(storage.getItem(`${this.#key} ${of}`));
      if (at.user === of && at.epoch && at.seq >= 0) return at;
    } catch { /* nothing there */ }
  }

  #save() {
    const { storage } = this.#o;
    try {
      storage.setItem(`${this.#key} ${this.#position.user}`, JSON.stringify(this.#position));
      storage.setItem(this.#key, this.#position.user);
    } catch { /* it is in memory */ }
  }

  #set(state, more) {
    this.#state = state;
    this.#emit("state", { state, ...more });
  }

  #emit(type, value) {
    for (const listener of this.#listeners[type] ?? []) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // reported, and nobody else's failure
      }
    }
  }
}
