// The demo page of `tidings gateway --dev`. It uses the public JavaScript client. Data from the network or from the form is set with
// textContent only.

import { Tidings } from "/tidings.js";

const $ = (root, selector) => root.querySelector(selector);
const element = (tag, text, className = "") => Object.assign(document.createElement(tag), { textContent: text, className });
const fill = id => $(document, id).content.firstElementChild.cloneNode(true);
const maxItems = 200; // notifications in a panel
const unread = {};

function say(words) {
  const log = $(document, "#spoken");
  log.append(element("span", `${words}. `));
  while (log.children.length > 5) log.firstChild.remove();
}

// The indentation of ten thousand levels of [ would be a hundred megabytes.
function deep(text) {
  let depth = 0;
  for (const c of text) {
    if ((c === "[" || c === "{") && ++depth > 50) return true;
    if (c === "]" || c === "}") depth--;
  }
  return false;
}

function pretty({ data, data_b64 }) {
  if (data_b64 !== undefined) return `binary, in base64: ${data_b64}`;
  if (typeof data === "string") return data || "(empty)";
  const text = JSON.stringify(data);
  return text.length < 50 || deep(text) ? text : JSON.stringify(data, null, 2);
}

function gapInWords({ after, next, reason }) {
  if (reason === "stream_reset") return "The stream was replaced: notifications of the old one may be missing.";
  const why = { expired: "they were stored too long ago", limit: "the stream keeps only so many for each user",
    purged: "they were purged" }[reason] ?? reason;
  return `Notifications after #${after}${next ? ` and before #${next}` : ""} may be missing: ${why}.`;
}

// network returns a WebSocket constructor with a network that can be unplugged.
function network() {
  const open = new Set();
  let away = false;
  const broken = ws => ws.onclose?.({ code: 1006, reason: "offline" });
  return {
    get away() { return away; },
    set away(now) {
      away = now;
      if (!away) return document.dispatchEvent(new Event("visibilitychange")); // makes a waiting client retry at once
      for (const ws of open) {
        broken(ws);
        ws.close();
      }
      open.clear();
    },
    WebSocket: function (url, protocol) {
      if (!away) {
        const ws = new WebSocket(url, protocol);
        ws.addEventListener("close", () => open.delete(ws));
        open.add(ws);
        return ws;
      }
      const ws = { readyState: 0, close() { ws.readyState = 3; } };
      setTimeout(broken, 200, ws);
      return ws;
    },
  };
}

function inWords({ state, error, wait, message }, away) {
  const seconds = (wait / 1e3).toFixed(1);
  switch (state) {
  case "connecting": return "Connecting …";
  case "replaying": return "Connected. Missed notifications are being replayed …";
  case "live": return "Live: notifications arrive as they are stored.";
  case "retrying": return `#${message.seq} could not be handled (${error.message}), and later ones wait. Next attempt in ${seconds} s.`;
  case "waiting": return away ? `Offline. Notifications published meanwhile are kept. Next attempt in ${seconds} s.`
    : `Waiting: ${error.code === 1006 ? error.reason || "the connection was lost" : error.message}. Next attempt in ${seconds} s.`;
  default: return error ? `Stopped: ${error.message}.` : "Not connected. Notifications published meanwhile are kept.";
  }
}

function panel(user) {
  const name = user[0].toUpperCase() + user.slice(1);
  const root = fill("#user"), list = $(root, "ol"), empty = $(root, ".list p");
  const toggle = $(root, ".toggle"), offline = $(root, ".offline"), bell = $(root, ".bell"), state = $(root, ".state");
  root.dataset.user = user;
  $(root, "h2").id = `user-${user}`;
  root.setAttribute("aria-labelledby", `user-${user}`);
  $(root, "h2").textContent = name;
  $(root, ".avatar").textContent = name[0];
  $(root, ".list").setAttribute("aria-label", `Notifications of ${name}, newest first`);
  offline.setAttribute("aria-label", `Take ${name} offline`);
  empty.textContent = `No notifications for ${name} yet. Publish one below.`;

  function add(item) {
    empty.hidden = true;
    list.prepend(item);
    list.querySelectorAll("[data-seq]")[maxItems]?.remove(); // notices stay
  }

  function ring(count) {
    unread[user] = count;
    $(bell, "b").hidden = !count;
    $(bell, "b").textContent = count;
    bell.classList.toggle("some", count > 0);
    bell.setAttribute("aria-label", `${name}: ${count} unread${count ? ". Mark as read" : ""}`);
    bell.title = `${count} unread${count ? ": mark as read" : ""}`;
    const all = Object.values(unread).reduce((sum, n) => sum + n, 0);
    document.title = `${all ? `(${all}) ` : ""}Tidings demo`;
  }

  function row(message) {
    const item = element("li"), meta = element("div", "", "meta");
    item.dataset.seq = message.seq;
    meta.append(element("span", `#${message.seq}`));
    if (message.kind) meta.append(element("strong", message.kind));
    if (message.topic) meta.append(element("span", `topic ${message.topic}`, "tag"));
    if (message.replayed) meta.append(element("span", "replayed", "tag replayed"));
    const at = new Date(message.time), today = at.toDateString() === new Date().toDateString();
    const time = element("time", today ? at.toLocaleTimeString() : at.toLocaleString());
    time.dateTime = time.title = message.time;
    meta.append(time);
    item.append(meta, element("pre", pretty(message)));
    return item;
  }

  function show(message) {
    const item = row(message);
    item.classList.add("unread");
    add(item);
    ring(unread[user] + 1);
    if (message.replayed) missed++;
    else say(`${name}: ${message.kind ?? "notification"}, ${pretty(message).slice(0, 120)}`);
  }

  // Lists notifications that are acknowledged already, and so are not delivered to this page.
  async function fillIn({ epoch, after }) {
    try {
      const answer = await fetch(`/v1/users/${user}/notifications?limit=50`, { headers: { Authorization: `Bearer ${user}` } });
      const page = await answer.json();
      if (!answer.ok) throw new Error(page.detail);
      if (page.epoch !== epoch) return;
      list.append(...page.notifications.filter(message => message.seq <= after).map(row));
      empty.hidden = list.children.length > 0;
    } catch (error) {
      notice(`Earlier notifications cannot be shown: ${error.message}`);
    }
  }

  function notice(words) {
    add(element("li", words, "notice"));
    say(`${name}: ${words}`);
  }

  // The position is in memory only: after a reload the gateway's stored position counts.
  const net = network();
  let missed = 0, filled = false;
  const gone = element("li", "The gateway does not answer. Stored notifications are kept, and are delivered when it is back.", "notice");
  const client = new Tidings({ token: () => user, user, storage: null, maxBackoff: 8000, WebSocket: net.WebSocket, onMessage: show });
  function showState(e) {
    root.dataset.state = e.state;
    state.textContent = inWords(e, net.away);
    state.classList.toggle("bad", Boolean(e.error));
    if (e.state === "waiting" && e.error.code === 1006 && !net.away) add(gone);
    else if (e.state !== "connecting") gone.remove();
    empty.hidden = list.children.length > 0;
    const act = e.state === "closed" ? "Connect" : "Disconnect";
    if (toggle.textContent !== act) toggle.textContent = act;
    toggle.setAttribute("aria-label", `${act} ${name}`);
    $(root, ".where").textContent = client.position ? `position ${client.position.seq}` : "";
    if (e.state === "live" && missed) {
      state.textContent = `Live. ${missed} missed ${missed === 1 ? "notification was" : "notifications were"} replayed.`;
    }
    if (e.state !== "replaying") missed = 0;
  }
  client.on("state", showState);
  client.on("ready", ready => {
    if (!filled) fillIn(ready);
    filled = true;
  });
  client.on("msg", ({ seq }) => { $(root, ".where").textContent = `position ${seq}`; });
  client.on("gap", gap => notice(gapInWords(gap)));
  client.on("error", ({ error, message, skipped }) => {
    if (skipped) notice(`#${message.seq} was skipped because it cannot be handled: ${error.message}.`);
    else if (!message) notice(error.message);
  });
  toggle.onclick = () => client.state === "closed" ? client.start() : client.close();
  offline.onclick = () => {
    offline.setAttribute("aria-checked", !net.away);
    net.away = !net.away;
  };
  bell.onclick = () => {
    for (const item of list.querySelectorAll(".unread")) item.classList.remove("unread");
    ring(0);
  };
  ring(0);
  showState({ state: "closed" });
  $(document, "#users").append(root);
  client.start();
}

// quote quotes text for a POSIX shell.
const quote = text => /^[\w.:/=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

function publishing() {
  const key = $(document, "meta[name=tidings-key]").content;
  const form = $(document, "form"), result = $(document, "#result"), button = $(form, "button"), hint = $(form, "#not-json");
  const [to, kind, data] = ["#to", "#kind", "#data"].map(id => $(form, id));
  const rows = {};
  for (const name of ["curl", "nats pub", "tidings publish"]) {
    if (name === "curl" && !key) continue;
    const row = rows[name] = fill("#command"), code = $(row, "code"), copy = $(row, "button");
    $(row, "h3").textContent = name;
    code.setAttribute("aria-label", `Command with ${name}`);
    copy.setAttribute("aria-label", `Copy the command with ${name}`);
    copy.onclick = async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        copy.textContent = "Copied";
      } catch { // not allowed: select it, for Ctrl-C
        getSelection().selectAllChildren(code);
        copy.textContent = "Selected";
      }
      say(copy.textContent);
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    };
    $(document, "#commands").append(row);
  }

  // Numbers stay as typed: a double cannot represent 12345678901234567890.
  function body() {
    const head = JSON.stringify({ ...(to.value ? { to: to.value } : { topic: "all" }), kind: kind.value || undefined });
    let value = data.value.trim();
    try {
      JSON.parse(value);
    } catch {
      value = JSON.stringify(data.value);
    }
    return `${head.slice(0, -1)},"data":${value}}`;
  }

  function write() {
    const text = quote(data.value), of = kind.value && quote(kind.value);
    const set = (name, ...words) => { if (rows[name]) $(rows[name], "code").textContent = words.filter(Boolean).join(" "); };
    const end = data.value.startsWith("-") && "--"; // what follows is not a flag
    set("curl", `curl ${location.origin}/v1/notifications -H 'Authorization: Bearer ${key}' --json`, quote(body()));
    set("nats pub", "nats pub", of && `-H ${quote(`Tidings-Kind:${kind.value}`)}`, end, `notify.${to.value ? `user.${to.value}` : "topic.all"}`, text);
    set("tidings publish", "go run ./cmd/tidings publish", of && `--kind ${of}`, !to.value && "--topic all", end, to.value, text);
  }

  function showResult(words, bad = false) {
    result.textContent = words;
    result.classList.toggle("bad", bad);
  }

  // Text that starts like JSON is probably meant to be JSON.
  function check() {
    let wrong = "";
    try {
      if (/^\s*["[{]/.test(data.value)) JSON.parse(data.value);
    } catch (error) {
      wrong = `This is not valid JSON, so it is published as text. ${error.message}`;
    }
    if (hint.textContent !== wrong) hint.textContent = wrong;
  }

  form.oninput = () => {
    write();
    check();
  };
  form.onsubmit = async e => {
    e.preventDefault();
    button.disabled = true;
    showResult("…");
    try {
      const answer = await fetch("/v1/notifications", {
        method: "POST", headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" }, body: body(),
      });
      if (answer.status === 401) throw new Error("the gateway has restarted and has a new key: reload this page");
      const said = await answer.json();
      if (answer.status !== 202) throw new Error(said.detail ?? said.title ?? said.results?.[0]?.error ?? `HTTP status ${answer.status}`);
      showResult(`Stored as #${said.results[0].seq}.`);
    } catch (error) {
      showResult(`Not published: ${error instanceof TypeError ? "the gateway does not answer" : error.message}`, true);
    }
    button.disabled = false;
    button.focus();
  };
  if (!key) {
    button.hidden = true;
    showResult("This page has no key for the gateway's HTTP API. Use one of the commands.");
  }
  write();
}

panel("alice");
panel("bob");
publishing();
