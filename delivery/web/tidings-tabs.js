// The client of tidings.js with one connection for all tabs of a browser. API: tidings-tabs.d.ts.
//
// Every tab has a complete client, with a Shared as its WebSocket. The Shared that holds a Web Lock is the leader: it has the real
// connection, and forwards the frames over a BroadcastChannel. The others are followers. When the connection ends, in any tab, it
// ends for all, like a WebSocket. Their clients reconnect after what they have handled, and the first of them becomes the leader.

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
  // New pages start at the leader's position. A follower saves its own when it becomes the leader.
  const written = new Map();
  const stored = () => options.storage ?? (globalThis.document && localStorage);
  o.save = () => {
    try {
      for (const [key, value] of written) stored().setItem(key, value);
    } catch { /* kept in memory */ }
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

const gone = "the connection belonged to another tab, and has ended";

class Shared {
  readyState = 0;
  id = Math.random().toString(36).slice(2);
  waiting = []; // followers that wait until the leader is admitted
  history = []; // frames for followers that join later: {at, text, gap, own}
  size = 0; // total length of their texts

  constructor(o, url, protocol) {
    Object.assign(this, { o, url, protocol });
    this.name = `tidings ${url} ${o.device} ${o.user}`;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = e => this.receive(e.data);
    // A frozen tab neither sends nor receives, and may hold the lock.
    this.frozen = () => this.end(1001, "the page was frozen");
    globalThis.document?.addEventListener("freeze", this.frozen);
    Promise.resolve().then(() => { // after the client has set its callbacks
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
      else if (error?.name !== "AbortError") this.lead(); // locks do not work here, so nothing is shared
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
    clearTimeout(this.timer);
    this.leading = true;
    this.post({ here: true });
    const ws = this.ws = new this.o.WebSocket(this.url, this.protocol);
    ws.onopen = () => ws.send(this.auth);
    ws.onmessage = e => {
      this.forward(e.data);
      this.onmessage?.(e);
    };
    ws.onclose = e => this.end(e.code, e.reason);
    ws.onerror = () => {};
  }

  // Takes the connection from a leader that does not answer, or does not have the messages that this tab lacks.
  steal() {
    clearTimeout(this.timer);
    this.stealing = true;
    this.asked.abort();
    this.request({ steal: true });
  }

  join() {
    const { after, epoch } = JSON.parse(this.auth);
    this.post({ join: { after, epoch } });
    this.timer ??= setTimeout(() => this.steal(), this.o.grace / 2);
  }

  post(m) { this.channel.postMessage({ from: this.id, ...m }); }

  receive({ from, to, join, here, frames, frame, behind, end }) {
    if (this.readyState > 1 || to && to !== this.id) return;
    if (this.leading) return join && this.sendHistory(from, join);
    if (this.stealing) return; // the end sent by the old leader
    if (here) {
      if (this.admitted) return from !== this.leader && this.end(1001, gone);
      clearTimeout(this.timer);
      this.leader = from;
      if (!to) this.join(); // it does not know this tab yet
    }
    if (this.leader !== from) return;
    if (behind) this.steal();
    if (frames && !this.admitted) {
      this.admitted = true;
      this.o.leads = false;
      for (const text of frames) this.onmessage?.({ data: text });
    }
    if (frame && this.admitted) this.onmessage?.({ data: frame });
    if (end) this.end(end.code, end.reason);
  }

  // Sends a follower what comes after its position, as the gateway would.
  sendHistory(to, join) {
    const { ready, acked, floor, last, history, live } = this;
    if (this.detached) return;
    this.post({ to, here: true });
    if (!ready) return this.waiting.push([to, join]);
    const { after: asked, epoch = ready.epoch } = JSON.parse(this.auth);
    const back = epoch === ready.epoch && asked > ready.after; // an older copy of the stream was restored, and reuses numbers
    const reset = join.epoch && (join.epoch !== ready.epoch || back && join.after > ready.after);
    const after = reset ? ready.after : join.after ?? acked;
    if (after < floor) return this.post({ to, behind: true });
    const unread = live ? history.filter(f => f.own && f.at > acked).length : ready.unread;
    const missed = history.filter(f => f.at > after || f.gap && after > last).map(f => f.text);
    const frames = [JSON.stringify({ ...ready, after, unread }), ...missed];
    // The gateway sends this gap itself for the leader's position.
    if (reset && !back && epoch === ready.epoch) frames.splice(1, 0, JSON.stringify({ type: "gap", after, reason: "stream_reset" }));
    if (live) frames.push(JSON.stringify({ type: "live", seq: last }));
    this.post({ to, frames });
  }

  // Called before this tab's client gets the frame, so that no frame reaches only a tab that then closes.
  forward(text) {
    let f;
    try {
      f = JSON.parse(text);
    } catch { /* the client ends the connection */ }
    const type = f?.type;
    if (type === "ready") {
      this.o.leads = true; // until another tab leads: frames still queued at the end are handled, and count
      this.o.save();
    }
    if (type === "ready" && f.user !== this.o.user) { // other tabs belong to that user
      this.post({ end: { code: 1001, reason: "the token belongs to another user" } });
      this.detached = true;
      this.release?.();
    }
    if (this.detached || !type) return;
    if (type === "ready") {
      this.ready = f;
      this.floor = this.last = this.acked = f.after;
      for (const [to, join] of this.waiting) this.sendHistory(to, join);
      return;
    }
    if (!this.ready || type === "hello" || type === "expiring" || type === "renewed") return;
    if (type === "live") this.live = true;
    if (type === "msg" || type === "gap") {
      const gap = type === "gap";
      this.history.push({ at: gap ? f.after + 1 : f.seq, text, gap, own: !gap && !f.topic });
      this.size += text.length;
      while (this.size > 1 << 20) {
        const { at, text } = this.history.shift();
        this.floor = at;
        this.size -= text.length;
      }
    }
    if (type !== "acked") this.last = Math.max(this.last, f.seq ?? 0);
    this.post({ frame: text });
  }

  // A follower sends nothing to the gateway: the leader acknowledges, renews, and answers pings.
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
    clearTimeout(this.timer);
    this.asked?.abort();
    if (this.ws) {
      this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
      this.ws.close();
      // Of the codes that stop a client, only a disconnect by the backend applies to all tabs. The others are about this tab's token or frames.
      const shared = code === 4410 || code >= 4500 || code === 1006;
      if (!this.detached) this.post({ end: { code: shared ? code : 1001, reason } });
    }
    this.channel.close();
    // The next tab may get the lock before this message. Wait, so that all tabs see the gateway's code first.
    if (code >= 4410) setTimeout(() => this.release?.(), 500);
    else this.release?.();
  }
}
