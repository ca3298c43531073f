// A backend in Node, with the libraries of NATS.
//
//   node backend.js answer SUBJECT…             answer authentication requests of gateways
//   node backend.js publish USER DATA           publish a notification without waiting for an acknowledgement
//   node backend.js jetstream USER DATA [ID]    publish it and wait for the acknowledgement
//
// NATS_URL is the address of NATS; default 127.0.0.1:4222.
import { jetstream } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

const users = { // replace this with a lookup of the session
  "token-1": { user_id: 1 },
  "token-anna": { user_id: "anna@example.com", topics: ["releases"], expires_in: 3600 },
};

async function answer(subject) {
  const questions = nc.subscribe(subject, { queue: "backend" });
  await nc.flush();
  console.log(`answering on ${subject}`);
  for await (const question of questions) {
    const user = users[question.string()];
    question.respond(JSON.stringify(user ? { success: true, ...user } : { success: false, error: "token_unknown" }));
  }
}

// These characters are not encoded by encodeURIComponent, but must be.
const name = user => encodeURIComponent(user).replace(/[.!~*'()]/g, c => "%" + c.charCodeAt(0).toString(16).toUpperCase());

const nc = await connect({ servers: process.env.NATS_URL ?? "127.0.0.1:4222", maxReconnectAttempts: -1 });
const [command, ...args] = process.argv.slice(2);
const [user, data, id] = args;
switch (command) {
  case "answer":
    await Promise.all(args.map(answer));
    break;
  case "publish":
    nc.publish(`notify.user.${name(user)}`, data);
    break;
  case "jetstream": {
    const h = headers();
    if (id) {
      h.set("Tidings-Id", id);
      h.set("Nats-Msg-Id", `user.${name(user)}.${id}`); // NATS detects duplicates by this id within the whole stream
    }
    const stored = await jetstream(nc).publish(`notify.user.${name(user)}`, data, { headers: h });
    console.log(`stored, seq ${stored.seq}${stored.duplicate ? ", once more" : ""}`);
    break;
  }
  default:
    console.error("usage: node backend.js answer SUBJECT… | publish USER DATA | jetstream USER DATA [ID]");
    process.exitCode = 2;
}
await nc.drain(); // also sends what is still buffered
