// Keeps every conversation as a list in Redis: one reader that misses nothing, does nothing twice, and keeps the order
// of each conversation, while different conversations are handled at the same time.
//
//     npm ci && PARTYLINE_NAMESPACE=prod node consumer.mjs
//
// Its own keys, all with one hash tag so that a transaction may hold several of them:
//
//     inbox:{ns}:position      the last entry of the stream up to which everything is handled
//     inbox:{ns}:seen          ids of events that are handled and stand after that entry
//     inbox:{ns}:survivors     hash: earlier key of a conversation -> the key that it means now
//     inbox:{ns}:thread:<key>  list: the messages of a conversation, as JSON
//
// With a database of your own, keep position and seen there, in the transaction that handles the event.
import Redis from "ioredis";

const namespace = process.env.PARTYLINE_NAMESPACE ?? "default";
const url = process.env.PARTYLINE_REDIS__URL ?? "redis://localhost:6379";
const stream = `partyline:{${namespace}}:events`;
const own = `inbox:{${namespace}}`;
const BLOCK_MS = 5000;

// A command under way when the connection breaks fails at once, and is not sent again by ioredis, which might do it twice.
// Whether it was done, the loop below finds out: it goes on from what Redis has, for however long Redis was away.
const options = { maxRetriesPerRequest: 0, socketTimeout: 3 * BLOCK_MS };
const store = new Redis(url, options);
const reader = new Redis(url, options); // a connection of its own: XREAD blocks it
for (const client of [store, reader]) client.on("error", (error) => console.error("Redis:", error.message));

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    stopping = true;
    reader.disconnect(); // ends the wait for more; what is under way is finished
  });
}

/** Yours: adds what an event changes to a transaction, which is done whole or not at all. */
function handle(event, transaction) {
  // A key that events are published under stands for itself, also if it was merged once (a link was taken back).
  transaction.hdel(`${own}:survivors`, event.subject);
  if (event.type === "conversation.merged") {
    // Every key that now means the subject, earlier ones included: so one step always suffices.
    for (const key of event.data.merged) transaction.hset(`${own}:survivors`, key, event.subject);
  }
  if (event.type === "message.received" || event.type === "message.outbound") {
    const { sender, text } = event.data.message;
    transaction.rpush(`${own}:thread:${event.subject}`, JSON.stringify({ time: event.time, sender, text }));
  }
}

/** Handle an event unless that was done: its effects and the note that it is handled are one transaction. */
async function once(event) {
  if (await store.sismember(`${own}:seen`, event.id)) return;
  const transaction = store.multi();
  await handle(event, transaction);
  transaction.sadd(`${own}:seen`, event.id);
  for (const [error] of await transaction.exec()) if (error) throw error;
  console.log(Number(event.sequence), event.type, event.subject, event.id);
}

/** Handle events: those of one conversation one after the other, those of different conversations side by side. */
async function handleAll(events) {
  let lanes = new Map(); // subject -> the end of what is under way for it
  for (const event of events) {
    if (event.type === "conversation.merged") {
      await finished(lanes); // what was published under the earlier keys comes before it, and what follows after
      lanes = new Map();
    }
    const before = lanes.get(event.subject) ?? Promise.resolve();
    lanes.set(event.subject, before.then(() => once(event)));
    if (event.type === "conversation.merged") await finished(lanes);
  }
  await finished(lanes);
}

/** Wait for all lanes, also when one has failed: nothing may still run when events are read again. */
async function finished(lanes) {
  const failed = (await Promise.allSettled(lanes.values())).find((lane) => lane.status === "rejected");
  if (failed) throw failed.reason;
}

/** Read and handle the next events, then move on; in Redis all of them are handled when the position passes them. */
async function step() {
  const position = (await store.get(`${own}:position`)) ?? "0";
  const found = await reader.xread("COUNT", 100, "BLOCK", BLOCK_MS, "STREAMS", stream, position);
  if (found === null) return;
  const entries = found[0][1];
  await handleAll(entries.map(([, [, envelope]]) => JSON.parse(envelope)));
  const moved = store.multi().set(`${own}:position`, entries.at(-1)[0]).del(`${own}:seen`);
  for (const [error] of await moved.exec()) if (error) throw error;
}

while (!stopping) {
  try {
    await step();
  } catch (error) {
    if (stopping) break;
    // Redis is away, or an event cannot be handled: the same again. Nothing is passed over, and nothing is done twice.
    console.error("waiting, then once more:", error.message);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
store.disconnect();
