// The health line, with each problem and what mends it; and how old it is.

import { byId, element, glyph, setAttribute, setGlyph, setHidden, setText, showList } from "./dom.js";
import { age, clock, counted, sizes } from "./format.js";
import { counts, lost } from "./sums.js";
import { shape, tone } from "./states.js";

const WORDS = { ok: "OK", degraded: "DEGRADED", "not-fit": "NOT FIT" };
const COMMAND = /^(.*?(?:^|\s)(?:run|with): )(.+)$/; // a command ends its line

let condition = null;

export function showHealth(status) {
  condition = status.condition;
  setText(byId("summary"), inShort(status));
  const told = condition.problems.map((one) => ({ ...one, seconds: secondsSince(one.since, status.at) }));
  showList(byId("problems"), told, (one) => `${one.code} ${one.subject}`, makeProblem);
}

export function showAge({ at, age: seconds, error, isOld, isAsking }) {
  const state = isOld ? "silent" : (condition?.state ?? "silent");
  setAttribute(byId("health"), "data-state", condition === null && !isOld ? "asking" : state);
  setAttribute(byId("health-glyph"), "href", `#g-${shape(state)}`);
  setText(byId("condition"), isOld ? "NO ANSWER" : line());
  setAttribute(document.body, "data-old", isOld ? "yes" : isAsking ? "asking" : "no");
  const silence = byId("silence");
  if (isOld) setText(silence, old(at, error));
  setHidden(silence, !isOld);
  setText(byId("age"), told(at, seconds, isOld, isAsking));
  const word = isOld ? "NO ANSWER" : (WORDS[condition?.state] ?? "…");
  document.title = `${word} · natmirror ${location.hostname}`;
}

function inShort(status) {
  const missed = status.mirrors.map((one) => lost(one.lost_bytes_last_hour));
  const hour = missed.flatMap((one) => Object.entries(one));
  const all = {};
  for (const [reason, count] of hour) all[reason] = (all[reason] ?? 0) + count;
  return [
    counted(status.flows, "connection"),
    ...(status.backends.length ? [`backends: ${counts(status.backends)}`] : []),
    ...(status.mirrors.length ? [`mirrors: ${counts(status.mirrors)}`, `lost in the last hour: ${sizes(all) || "nothing"}`] : []),
  ].join("; ");
}

function line() {
  if (condition === null) return "asking natmirror";
  const mended = condition.problems.filter((one) => one.mended).length;
  const count = condition.problems.length - mended;
  const parts = [...(count ? [counted(count, "problem")] : []), ...(mended ? [`${mended} mended`] : [])];
  return [WORDS[condition.state] ?? condition.state, ...(parts.length ? [parts.join(", ")] : [])].join(": ");
}

function old(at, error) {
  const cause = error ? `natmirror does not answer: ${error}.` : "natmirror does not answer.";
  return at === null ? cause : `${cause} What you see below was true at ${clock(at)}, and may not be now.`;
}

function told(at, seconds, isOld, isAsking) {
  if (at === null) return "";
  if (isOld) return `the last answer is ${age(seconds)} old`;
  return isAsking ? `asking again: this was true at ${clock(at)}` : `as of ${clock(at)}`;
}

function secondsSince(since, at) {
  return since === null ? null : Math.max(0, (Date.parse(at) - Date.parse(since)) / 1000);
}

function makeProblem() {
  const sign = glyph("warn");
  const word = element("strong");
  const code = element("span", { class: "mono code" });
  const since = element("span", { class: "since" });
  const text = element("p", { class: "what" });
  const mends = element("ul", { class: "mends", "aria-label": "What mends it" });
  const node = element("li", { class: "problem" }, element("p", { class: "head" }, sign, " ", word, " ", code, " ", since), text, mends);
  const update = (one) => {
    const severity = one.mended ? "mended" : one.severity;
    setAttribute(node, "data-tone", tone(severity));
    setGlyph(sign, shape(severity));
    setText(word, severity.toUpperCase());
    setText(code, one.code);
    setText(since, one.seconds === null ? "" : `for ${age(one.seconds)}`);
    setText(text, one.problem);
    const lines = one.mend.split("\n").filter((each) => each);
    showList(mends, lines, (each) => each, makeMend);
  };
  return { node, update };
}

function makeMend(text) {
  const found = COMMAND.exec(text);
  const node = element("li");
  if (found === null) {
    node.append(element("span", { class: "mend" }, text));
    return { node };
  }
  const command = element("code", { class: "command" }, found[2]);
  const button = element("button", { type: "button", class: "copy", "aria-label": `Copy the command ${found[2]}` }, "copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(command)) ? "copied" : "select it";
    setTimeout(() => (button.textContent = "copy"), 2000);
  });
  node.append(element("span", { class: "mend" }, found[1]), command, " ", button);
  return { node };
}

// A page without TLS, and not on localhost, has no clipboard but the older one of selections.
async function copied(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    return document.execCommand("copy");
  }
}
