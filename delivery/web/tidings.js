// API: tidings.d.ts. Protocol: delivery/wire.

const protocol = "tidings.v1";

// Do not reconnect after 44xx, nor after the codes of RFC 6455 that blame our own frames.
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

// One attempt, from the token to the end, and the frames that wait for the handler.
class Connection {
  queue = [];
  life = new AbortController();
  over = new Promise(resolve => this.life.signal.addEventListener("abort", resolve));
  silence = Infinity; // longest time without data
  tokens = [];
  wake = () => {};

  open(ws, grace) {
    this.ws = ws;
    this.seen = Date.now();
    this.silence = 1.5 * grace; // until ready sets it
    ws.onclose = e => this.lost(e.code, e.reason);
    ws.onerror = () => ws.readyState || this.lost(1006); // before version 24 Node sends no close event if it cannot connect
    // Check twice: after a long task the timer may run before the frames that have arrived.
    this.watch = setInterval(() => {
      if (this.silent && this.suspect) this.lost(1006, "the server is silent");
      this.suspect = this.silent;
    }, grace / 4);
  }

  // By the clock, which runs while the machine sleeps, and can be set back.
  get silent() { return Math.abs(Date.now() - this.seen) > this.silence; }

  send(frame) {
    const open = this.ws?.readyState === 1;
    if (open) this.ws.send(JSON.stringify(frame));
    return open;
  }

  // A WebSocket cannot pause: frames beyond the queue are dropped, and the next connection brings them again. Gaps are kept,
  // because the server takes any frame of ours as the answer to them.
  push(frame) {
    this.full ||= this.queue.length >= 1000;
    if (!this.full || frame.type === "gap") this.queue.push(frame);
    this.wake();
  }

  // Returns undefined after the last queued frame.
  async next() {
    while (!this.queue.length && !this.end) {
      if (this.full) this.finish({ error: new Error("handler too slow"), now: true });
      else await new Promise(resolve => { this.wake = resolve; });
    }
    return this.queue.shift();
  }

  // Ends early with the connection.
  async pause(ms) {
    let timer;
    await Promise.race([this.over, new Promise(resolve => { timer = setTimeout(resolve, ms); })]);
    clearTimeout(timer);
  }

  // An authenticator may quote tokens.
  redact(text = "") {
    return this.tokens.reduce((text, token) => token?.length >= 8 ? text.replaceAll(token, "[token]") : text, text);
  }

  // A goaway says more than a lost connection.
  lost(code, reason) {
    const goaway = this.goaway;
    if (goaway && (code === 1005 || code === 1006)) code = goaway.code;
    this.finish({ error: new CloseError(code, this.redact(reason || goaway?.reason)), stop: stops(code) });
  }

  // Does not wait: closing a dead socket may take minutes. The first end counts.
  finish(end) {
    if (this.end) return;
    this.end = end;
    clearInterval(this.watch);
    if (this.ws) {
      this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
      this.ws.close();
    }
    this.life.abort();
    this.wake();
  }
}

const online = () => globalThis.navigator?.onLine !== false;

function want(type, values) {
  for (const name in values) if (typeof values[name] !== type) throw new TypeError(`${name}: want a ${type}`);
}

const unknown = (what, name, known) => new TypeError(`no ${what} ${name}, only ${[...known].join(", ")}`);

export class Tidings {
  #o;
  #key;
  #listeners = new Map(["state", "ready", "gap", "msg", "live", "acked", "error"].map(type => [type, new Set()]));
  #state = "closed";
  #run = null; // AbortController, from start to close
  #running = Promise.resolve(); // until the handler of the last run is done
  #conn = null;
  #wake = null; // ends the wait before the next attempt
  #away = false; // the page was left
  #tries = 0;
  #leaseRetried = false; // since an expired lease, until live
  #unanswered = 0; // connections in a row without any data
  #warned = false; // about an error without a listener

  // {user, epoch, seq}: everything up to it is handled; undefined: never admitted. It includes the failures of onMessage on the next
  // message, because few pages stay open for minutes: {of: its seq, tries, ms}.
  #position;
  #ack = 0; // the seq to acknowledge
  #waiting = 0; // acknowledgements since the last one sent
  #ackTimer = null;
  #received = 0; // on this connection: an ack beyond it is an error
  #acked = 0; // on this connection

  constructor({
    url = "/v1/ws", token, onMessage, device, user, attempts = 5, patience = 300e3, poison = "skip", ackEvery = 50, minBackoff = 500,
    maxBackoff = 30e3, grace = 10e3, storage, WebSocket = globalThis.WebSocket, random = Math.random, ...rest
  } = {}) {
    const at = new URL(url, import.meta.url);
    at.protocol = at.protocol.replace("http", "ws");
    if (!/^wss?:$/.test(at.protocol) || at.username) throw new TypeError("url: want one like wss://push.example");
    if (at.pathname === "/") at.pathname = "/v1/ws";
    at.hash = "";
    want("function", { token, onMessage, random });
    want("string", { device: device ?? "", user: user ?? "" });
    want("number", { attempts, patience, ackEvery, minBackoff, maxBackoff, grace });
    if (!["skip", "stop"].includes(poison)) throw new TypeError("poison: want skip or stop");
    if (!WebSocket) throw new TypeError("WebSocket: pass one in (Node has its own from 22 on)");
    if (storage === undefined) {
      try {
        storage = globalThis.document && localStorage;
      } catch { /* forbidden */ }
    }
    this.#o = {
      url: at.href, token, onMessage, device, user, attempts, patience, poison, ackEvery, minBackoff, maxBackoff, grace, storage,
      WebSocket, random,
    };
    for (const name in rest) throw unknown("option", name, Object.keys(this.#o));
    this.#key = `tidings ${at.href} ${device ?? ""}`;
    this.#position = this.#load();
    this.#ack = this.#position?.seq ?? 0; // sent again: the last one may not have arrived
  }

  get state() { return this.#state; }
  get position() {
    const { failed, ...at } = this.#position ?? {};
    return at.user && at;
  }

  on(type, listener) {
    const all = this.#listeners.get(type);
    if (!all) throw unknown("event", type, this.#listeners.keys());
    want("function", { listener });
    all.add(listener);
    return () => { all.delete(listener); };
  }

  start() {
    if (this.#run) return;
    const run = this.#run = new AbortController();
    this.#tries = 0;
    this.#away = false;
    const listen = (to, type, listener) => to?.addEventListener?.(type, listener, { signal: run.signal });
    listen(globalThis, "online", () => this.#reconnect("the network is back"));
    // After a user leaves a page it runs for a moment, and nobody sees what it handles.
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
      else if (this.#wake || this.#conn?.silent) this.#reconnect("the page is back");
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
      this.#hint(conn.answered, end.error);
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

  // A browser does not tell the page why a connection is refused.
  #hint(answered, error) {
    if (answered) this.#unanswered = 0;
    else if (error?.code === 1006 && online() && ++this.#unanswered === 3) {
      const page = globalThis.location?.origin;
      console.error(`Tidings: no answer from ${this.#o.url}. Check that the gateway runs and the url is right`
        + (page ? `, and that the gateway allows this page (--origin ${page})` : ""));
    }
  }

  #pause(end, asked) {
    const wait = this.#jitter(this.#tries++);
    if (asked > 0) return Math.min(asked, 3600e3);
    if (end.now) return 0;
    if (end.error?.code !== 4501 || this.#leaseRetried) return wait;
    this.#leaseRetried = true;
    return this.#jitter(0);
  }

  // Full jitter, so that the clients of a gateway that died do not reconnect together.
  #jitter(tries) { return this.#o.random() * Math.min(this.#o.maxBackoff, this.#o.minBackoff * 2 ** tries); }

  // Not before the time that the server requested.
  #reconnect(why) {
    if (!(this.#conn?.goaway?.retry_after > 0)) this.#wake?.();
    this.#conn?.finish({ error: new Error(why), now: true });
  }

  // Makes one connection and handles its frames in order.
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
    conn.tokens = [...conn.tokens.slice(-1), token]; // the server may still answer the previous token
    return token;
  }

  // Does what must not wait for a busy handler, and queues the rest.
  #receive(conn, text) {
    conn.seen = Date.now();
    conn.answered = true;
    let f;
    try {
      f = JSON.parse(text);
    } catch { /* has no type */ }
    const type = f?.type;
    const queued = ["gap", "msg", "live", "acked"].includes(type);
    if (!type || (conn.ready ? type === "ready" : queued)) return conn.finish({ error: new Error(`protocol error: ${type}`) });
    if (queued) conn.push(f);
    switch (type) {
    case "hello":
      if (f.protocol !== protocol) conn.lost(4406, "the server uses another protocol");
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
      this.#emit("error", { error: new Error(conn.redact(`the server reports ${f.code}: ${f.message}`)) });
      break;
    case "goaway":
      conn.goaway = f;
    }
  }

  // If it fails, the lease ends with 4501, and the next connection gets a token.
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
      // Lower in the same epoch: an older copy of the stream was restored, and reuses numbers.
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
      // Not before live: a server may fail on a message.
      this.#tries = 0;
      this.#leaseRetried = false;
      conn.live = true;
      this.#advance(f.seq);
      this.#set("live");
      this.#emit("live", f);
      break;
    case "ping":
      this.#advance(f.seq);
      break;
    case "acked":
      this.#emit("acked", f);
    }
  }

  // Returns when the message is handled, or the connection ends; the next one brings it again.
  async #deliver(conn, message) {
    const { onMessage, attempts, patience, poison } = this.#o, at = this.#position;
    for (let n = 0, skipped = false; !skipped; n++) {
      try {
        await onMessage(message);
        break;
      } catch (error) {
        if (at.failed?.of !== message.seq) at.failed = { of: message.seq, tries: 0, ms: 0 };
        const failed = at.failed, counts = online() && !conn.end; // without a network handlers fail on every message
        if (counts) failed.tries++;
        const last = counts && failed.tries >= attempts && failed.ms >= patience;
        skipped = last && poison === "skip";
        this.#emit("error", { error, message, skipped });
        if (skipped) continue;
        if (last) at.failed = undefined;
        this.#save();
        if (last) return { error, stop: true };
        const wait = this.#jitter(n);
        if (!conn.end) this.#set("retrying", { error, wait, message });
        await conn.pause(wait);
        if (conn.end) return conn.end;
        if (counts) failed.ms += wait;
      }
    }
    at.failed = undefined;
    if (this.#state === "retrying") this.#set(conn.live ? "live" : "replaying");
    this.#ack = message.seq;
    this.#waiting++;
    this.#advance(message.seq);
    this.#emit("msg", message);
  }

  #restart({ user, epoch }, seq) {
    this.#position = { user, epoch, seq };
    this.#ack = this.#waiting = this.#received = this.#acked = 0;
    this.#save();
  }

  // Everything up to seq is handled, or for others.
  #advance(seq) {
    this.#reach(seq);
    if (seq <= this.#position.seq) return;
    this.#position.seq = seq;
    this.#save();
  }

  // Acknowledges only what the server has sent on this connection.
  #reach(seq) {
    this.#received = Math.max(this.#received, seq);
    if (this.#conn.end || Math.min(this.#ack, this.#received) <= this.#acked) return;
    // Timers of a hidden page may take a minute.
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

  // Only ready says which user the token belongs to. Until then assume the last one; the server ignores another user's position.
  #load() {
    const { storage, user } = this.#o;
    try {
      const of = user ?? storage.getItem(this.#key);
      const { user: whose, epoch, seq, failed } = JSON.parse(storage.getItem(`${this.#key} ${of}`));
      want("string", { whose, epoch });
      if (whose !== of || !epoch || !(Number.isSafeInteger(seq) && seq >= 0)) return;
      return { user: whose, epoch, seq, failed: Number.isFinite(failed?.tries + failed?.ms) ? failed : undefined };
    } catch { /* nothing or invalid */ }
  }

  #save() {
    const { storage } = this.#o;
    try {
      storage.setItem(`${this.#key} ${this.#position.user}`, JSON.stringify(this.#position));
      storage.setItem(this.#key, this.#position.user);
    } catch { /* kept in memory */ }
  }

  #set(state, more) {
    this.#state = state;
    this.#emit("state", { state, ...more });
  }

  #emit(type, value) {
    const all = this.#listeners.get(type);
    if (type === "error" && !all.size && (value.skipped || !this.#warned)) {
      this.#warned = true;
      console.error("Tidings, without a listener for error:", value);
    }
    for (const listener of all) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // reported, without affecting other listeners
      }
    }
  }
}
