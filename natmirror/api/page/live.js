// Asks natmirror each second, and knows how old its last answer is.

const INTERVAL = 1000; // milliseconds between an answer and the next question
const TIMEOUT = 5000;
const LOOK_INTERVAL = 250;
const SHARED = 500; // milliseconds for which natmirror gives one answer to all who ask: runtime/engine_sums.py
export const OLD = 3000; // milliseconds after which an answer says nothing about now
const EVENTS_EACH = 2; // questions about the status for one about events
const VERDICTS_EACH = 10;
const MOST_EVENTS = 60;

class Refusal extends Error {}

async function ask(path) {
  const [answer, text] = await got(path);
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal(`status ${answer.status} without JSON`);
  }
  if (!answer.ok) throw new Refusal(value.error ?? `status ${answer.status}`);
  return value;
}

async function got(path) {
  try {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    return [answer, await answer.text()];
  } catch (error) {
    throw new Refusal(error.name === "TimeoutError" ? `no answer within ${TIMEOUT / 1000} s` : "its address cannot be reached");
  }
}

function why(error) {
  if (error instanceof Refusal) return error.message;
  console.error(error);
  return `this page cannot show its answer (${error.message}); load it again`;
}

// `show.status(status)`, `show.events(events)` and `show.verdicts(verdicts)` show an answer. `show.age({at, age, error,
// isOld, isAsking})` is called four times a second.
export class Live {
  constructor(show) {
    this.show = show;
    this.at = null; // the time of the last answer, by natmirror's clock
    this.answeredAt = null; // the same, by this browser's
    this.waitsSince = Date.now();
    this.error = null;
    this.count = 0;
    this.events = [];
    this.timer = null;
    this.isAsking = false;
    document.addEventListener("visibilitychange", () => this.turn());
    setInterval(() => this.look(), LOOK_INTERVAL);
    this.turn();
  }

  // A tab that nobody looks at asks nothing.
  turn() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    this.waitsSince = Date.now();
    this.look();
    if (!this.isAsking) this.askOnce();
  }

  look() {
    if (document.hidden) return;
    const now = Date.now();
    const from = this.answeredAt ?? this.waitsSince;
    const waits = now - Math.max(from, this.waitsSince);
    const isOld = waits > OLD || (this.answeredAt === null && this.error !== null);
    this.show.age({
      at: this.at,
      age: Math.max(0, (now - from) / 1000),
      error: this.error,
      isOld,
      isAsking: !isOld && from < this.waitsSince,
    });
  }

  async askOnce() {
    this.isAsking = true;
    try {
      await this.askStatus();
      this.error = null;
      await this.askMore();
    } catch (error) {
      this.error = why(error);
    }
    this.isAsking = false;
    this.look();
    clearTimeout(this.timer);
    if (!document.hidden) this.timer = setTimeout(() => this.askOnce(), INTERVAL);
  }

  async askStatus() {
    const askedAt = Date.now();
    const status = await ask("v1/status");
    if (status.at === this.at) {
      if (askedAt - this.answeredAt >= SHARED) throw new Refusal("a cache on the way answers in its place");
      return;
    }
    this.show.status(status);
    this.at = status.at;
    this.answeredAt = Date.now();
    this.hasVerdicts = status.mirrors.some((one) => one.verdict !== null || one.comparison !== null);
    this.look();
  }

  async askMore() {
    const count = this.count++;
    if (count % EVENTS_EACH === 0) await this.askEvents();
    if (count % VERDICTS_EACH === 0) this.show.verdicts(this.hasVerdicts ? (await ask("v1/verdict")).items : []);
  }

  async askEvents() {
    const last = this.events[0]?.number;
    const query = last === undefined ? "" : `&since=${last}`;
    const { items } = await ask(`v1/events?sort=-number&limit=${MOST_EVENTS}${query}`);
    this.events = [...items, ...this.events].slice(0, MOST_EVENTS);
    this.show.events(this.events);
  }
}
