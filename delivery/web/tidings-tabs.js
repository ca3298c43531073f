// The client of tidings.js where all tabs of a browser share one connection; tidings-tabs.d.ts says how to use it.
//
// Every tab has a whole client, whose WebSocket is one of these. The one that holds a Web Lock leads: it has the real connection,
// and passes on over a BroadcastChannel what comes. The others follow. Whatever ends a connection, here or in another tab, ends
// it for all, as a WebSocket does, and their clients come again behind what they have handled: the first of them leads.

import { Tidings as Plain } from "./tidings.js";

export * from "./tidings.js";

export class Tidings extends Plain {
  constructor(options = {}) {
    try {
      super(share(options));
    } catch (error) {
      if (/^no option/.test(error.message)) error.message += ", tabs";
      throw error;
    }
  }
}

function share(given) {
  const { tabs = true, ...options } = given, { user, device = "", grace = 10e3, WebSocket = globalThis.WebSocket } = options;
  if (!tabs || !user || !WebSocket || !globalThis.navigator?.locks || !globalThis.BroadcastChannel) return options;
  const o = { user, device, grace, WebSocket, leads: false };
  // The position that a new page begins with is the leader's; those of the others wait until they lead.
  const written = new Map();
  const stored = () => options.storage ?? (globalThis.document && localStorage);
  o.save = () => {
    try {
      for (const [key, value] of written) stored().setItem(key, value);
    } catch { /* it is in memory */ }
    written.clear();
  };
  const storage = options.storage === null ? null : {
    getItem: key => stored().getItem(key),
    setItem: (key, value) => {
      written.set(key, value);
      if (o.leads) o.save();
    },
  };
  return { ...options, storage, WebSocket: function (url, protocol) { return new Shared(o, url, protocol); } };
}

const gone = "the connection was another tab's, and is gone";

class Shared {
  readyState = 0;
  id = Math.random().toString(36).slice(2);
  joins = []; // those who wait until the leader is admitted
  kept = []; // frames of the connection for those who come later: {at, text, gap, own}
  size = 0; // of their text

  constructor(o, url, protocol) {
    Object.assign(this, { o, url, protocol });
    this.name = `tidings ${url} ${o.device} ${o.user}`;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = e => this.hear(e.data);
    // A frozen tab is neither heard nor hears, and may hold the lock.
    this.frozen = () => this.end(1001, "the page was frozen");
    globalThis.document?.addEventListener("freeze", this.frozen);
    Promise.resolve().then(() => { // the client has its callbacks in place
      if (this.readyState) return;
      this.readyState = 1;
      this.onopen?.({});
      this.request({});
      this.join();
    });
  }

  request(how) {
    this.asked = new AbortController();
    const options = how.steal ? how : { signal: this.asked.signal };
    navigator.locks.request(this.name, options, () => this.granted()).catch(error => {
      if (this.leading) this.end(1001, "another tab has taken the connection over");
      else if (error?.name !== "AbortError") this.lead(); // no locks here: nothing is shared
    });
  }

  // The lock is held until close.
  granted() {
    if (this.readyState > 1) return;
    if (this.admitted) return this.end(1001, gone); // the leader closed, or crashed
    return new Promise(resolve => {
      this.release = resolve;
      this.lead();
    });
  }

  lead() {
    clearTimeout(this.patience);
    this.leading = true;
    this.post({ here: true });
    const ws = this.ws = new this.o.WebSocket(this.url, this.protocol);
    ws.onopen = () => ws.send(this.auth);
    ws.onmessage = e => {
      this.pass(e.data);
      this.onmessage?.(e);
    };
    ws.onclose = e => this.end(e.code, e.reason);
    ws.onerror = () => {};
  }

  // From a leader that does not answer, or cannot give what is missing here, the connection is taken.
  take() {
    clearTimeout(this.patience);
    this.taking = true;
    this.asked.abort();
    this.request({ steal: true });
  }

  join() {
    const { after, epoch } = JSON.parse(this.auth);
    this.post({ join: { after, epoch } });
    this.patience ??= setTimeout(() => this.take(), this.o.grace / 2);
  }

  post(m) { this.channel.postMessage({ from: this.id, ...m }); }

  hear({ from, to, join, here, frames, frame, behind, end }) {
    if (this.readyState > 1 || to && to !== this.id) return;
    if (this.leading) return join && this.welcome(from, join);
    if (this.taking) return; // the farewell of the one it is taken from
    if (here) {
      if (this.admitted) return from !== this.leader && this.end(1001, gone);
      clearTimeout(this.patience);
      this.leader = from;
      if (!to) this.join(); // it has not heard of us
    }
    if (this.leader !== from) return;
    if (behind) this.take();
    if (frames && !this.admitted) {
      this.admitted = true;
      this.o.leads = false;
      for (const text of frames) this.onmessage?.({ data: text });
    }
    if (frame && this.admitted) this.onmessage?.({ data: frame });
    if (end) this.end(end.code, end.reason);
  }

  // What comes after the position of a tab, as the gateway would have sent it.
  welcome(to, join) {
    const { ready, acked, floor, last, kept, live } = this;
    if (this.alone) return;
    this.post({ to, here: true });
    if (!ready) return this.joins.push([to, join]);
    const { after: asked, epoch = ready.epoch } = JSON.parse(this.auth);
    const back = epoch === ready.epoch && asked > ready.after; // an older copy of the stream: its numbers are used again
    const reset = join.epoch && (join.epoch !== ready.epoch || back && join.after > ready.after);
    const after = reset ? ready.after : join.after ?? acked;
    if (after < floor) return this.post({ to, behind: true });
    const unread = live ? kept.filter(f => f.own && f.at > acked).length : ready.unread;
    const missed = kept.filter(f => f.at > after || f.gap && after > last).map(f => f.text);
    const frames = [JSON.stringify({ ...ready, after, unread }), ...missed];
    // For our own position the gateway sends one.
    if (reset && !back && epoch === ready.epoch) frames.splice(1, 0, JSON.stringify({ type: "gap", after, reason: "stream_reset" }));
    if (live) frames.push(JSON.stringify({ type: "live", seq: last }));
    this.post({ to, frames });
  }

  // Before our own client takes it, so that whoever closes in between has not had it alone.
  pass(text) {
    let f;
    try {
      f = JSON.parse(text);
    } catch { /* our client ends it */ }
    const type = f?.type;
    if (type === "ready") {
      this.o.leads = true; // and until another does: what waits for the handler counts after the end, too
      this.o.save();
    }
    if (type === "ready" && f.user !== this.o.user) { // whose tabs are others
      this.post({ end: { code: 1001, reason: "the token was somebody else's" } });
      this.alone = true;
      this.release?.();
    }
    if (this.alone || !type) return;
    if (type === "ready") {
      this.ready = f;
      this.floor = this.last = this.acked = f.after;
      for (const [to, join] of this.joins) this.welcome(to, join);
      return;
    }
    if (!this.ready || type === "hello" || type === "expiring" || type === "renewed") return;
    if (type === "live") this.live = true;
    if (type === "msg" || type === "gap") {
      const gap = type === "gap";
      this.kept.push({ at: gap ? f.after + 1 : f.seq, text, gap, own: !gap && !f.topic });
      this.size += text.length;
      while (this.size > 1 << 20) {
        const { at, text } = this.kept.shift();
        this.floor = at;
        this.size -= text.length;
      }
    }
    if (type !== "acked") this.last = Math.max(this.last, f.seq ?? 0);
    this.post({ frame: text });
  }

  // Of what a follower says the gateway hears nothing: the leader acknowledges, renews, and is alive.
  send(text) {
    const { type, seq } = JSON.parse(text);
    if (type === "auth") this.auth = text;
    else if (this.leading) {
      if (type === "ack") this.acked = Math.max(this.acked, seq);
      if (this.ws.readyState === 1) this.ws.send(text);
    }
  }

  end(code, reason) {
    if (this.readyState > 1) return;
    this.close(code, reason);
    this.onclose?.({ code, reason });
  }

  close(code = 1001, reason = gone) {
    if (this.readyState > 1) return;
    this.readyState = 3;
    globalThis.document?.removeEventListener("freeze", this.frozen);
    clearTimeout(this.patience);
    this.asked?.abort();
    if (this.ws) {
      this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
      this.ws.close();
      // Only a disconnect by the backend is meant for all. What else stops is about our own token or frames.
      const shared = code === 4410 || code >= 4500 || code === 1006;
      if (!this.alone) this.post({ end: { code: shared ? code : 1001, reason } });
    }
    this.channel.close();
    // The lock may be granted before a message is there: what the gateway says to all they shall hear first.
    if (code >= 4410) setTimeout(() => this.release?.(), 500);
    else this.release?.();
  }
}
