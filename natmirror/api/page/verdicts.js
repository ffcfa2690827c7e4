// Verdicts on masters: the word, why, what it rests on, and the differences in words with an example.

import { byId, element, glyph, setAttribute, setGlyph, setHidden, setText, showList } from "./dom.js";
import { counted, moment, share } from "./format.js";
import { shape, tone } from "./states.js";

const WORDS = { agrees: "AGREES", differs: "DIFFERS", "too-little": "TOO LITTLE" };
const MOST_DIFFERENCES = 8;

export function showVerdicts(verdicts) {
  setHidden(byId("verdict-panel"), verdicts.length === 0);
  showList(byId("verdicts"), verdicts, (one) => `${one.service}/${one.mirror}`, makeVerdict);
}

function makeVerdict(first) {
  const sign = glyph("plain");
  const word = element("strong");
  const title = element("h3", {}, sign, " ", word, " ", element("span", { class: "mono" }, `${first.service}/${first.mirror}`));
  const why = element("ul", { class: "why" });
  const basis = element("p", { class: "basis" });
  const differences = element("ul", { class: "differences", "aria-label": "Differences" });
  const node = element("article", { class: "verdict" }, title, why, basis, differences);
  const update = (one) => {
    setAttribute(node, "data-tone", tone(one.verdict));
    setGlyph(sign, shape(one.verdict));
    setText(word, WORDS[one.verdict] ?? one.verdict);
    showList(why, [...one.reasons, ...one.notes.map((note) => `note: ${note}`)], (text) => text, (text) => ({ node: element("li", {}, text) }));
    setText(basis, restsOn(one));
    const shown = one.differences.slice(0, MOST_DIFFERENCES);
    showList(differences, shown, (each) => `${each.kind} ${each.text} ${each.where} ${each.answers_packet_in}`, makeDifference);
  };
  return { node, update };
}

function restsOn({ answers, tables, sessions, since, is_twin: isTwin }) {
  const equal = answers.results.equal ?? 0;
  const parts = [
    `${equal} of ${answers.comparable} comparable answers equal${answers.comparable ? ` (${share(equal, answers.comparable)})` : ""}`,
    tables.seconds ? `tables equal ${share(tables.seconds - tables.differing_seconds, tables.seconds)} of the time` : "tables not compared",
    `${counted(sessions.open, "session")} open`,
    since === null ? "nothing compared yet" : `since ${moment(since)}`,
  ];
  return `${isTwin ? "A twin: what differs here is chance. " : ""}${parts.join("; ")}`;
}

function makeDifference() {
  const text = element("p");
  const example = element("dl", { class: "example" });
  const node = element("li", {}, text, example);
  const update = (one) => {
    const where = one.where ? `, where ${one.where}` : "";
    const resolved = one.resolved_at === null ? "" : `; equal again since ${moment(one.resolved_at)}`;
    const chance = one.counts ? "" : " (may be chance)";
    setText(text, `${one.count} × ${one.text}${where}${chance}${resolved}`);
    showList(example, one.example === null ? [] : [...lines(one.example)], ([title]) => title, makeSide);
  };
  return { node, update };
}

function* lines({ switch: client, packet_in: cause, production, mirror }) {
  yield ["switch", cause ? `${client}: ${cause}` : client];
  yield ["production", production.join("; ") || "nothing"];
  yield ["master", mirror.join("; ") || "nothing"];
}

function makeSide([title]) {
  const value = element("dd", { class: "mono" });
  return { node: element("div", {}, element("dt", {}, title), value), update: ([, text]) => setText(value, text) };
}
