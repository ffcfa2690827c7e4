// The tables of backends and mirrors, which become cards on a narrow screen; the ledger; events; and this host.

import { byId, element, glyph, setAttribute, setGlyph, setHidden, setText, showList } from "./dom.js";
import { age, counted, duration, listed, moment, rate, share, size, sizes, sum } from "./format.js";
import { shape, tone } from "./states.js";
import { counts, lost, NOT_LOST, worstFirst } from "./sums.js";

const MOST_ROWS = 16; // of a table, until the reader wants all

const name = (one) => `${one.service}/${one.name}`;
const since = (one) => (one.state_seconds === null ? "" : age(one.state_seconds));
const total = (counters) => sum(Object.values(counters));
const warnIf = (value) => (value ? "warn" : null);

const BACKENDS = [
  { title: "backend", text: name, isName: true },
  { title: "state", isState: true },
  { title: "for", text: since },
  { title: "open", text: (one) => (one.max_connections === null ? `${one.flows}` : `${one.flows}/${one.max_connections}`) },
  { title: "total", text: (one) => `${one.connections}` },
  { title: "new/s", text: (one) => one.connections_per_second.toFixed(1) },
  { title: "share", text: (one) => (one.share === null ? "" : `${(100 * one.share).toFixed(0)} %`) },
  { title: "refused", text: (one) => `${one.refused_syns}`, tone: (one) => warnIf(one.refused_syns) },
  { title: "unanswered", text: (one) => `${one.unanswered_syns}`, tone: (one) => warnIf(one.unanswered_syns) },
  { title: "full", text: (one) => `${one.full_syns || ""}`, mayBeAbsent: true },
  { title: "weight", text: (one) => `${one.weight ?? ""}` },
  { title: "address", text: (one) => one.address, isText: true },
  { title: "reason", text: (one) => one.reason, isText: true, mayBeAbsent: true },
];

const every = (one) => one.legs + total(one.connections_not_copied);
const lacks = (one) => total(one.connections_not_copied) > 0 || one.legs_unanswered > 0;
const lag = (one) => (one.pending_bytes ? `${size(one.pending_bytes)}, ${one.lag_seconds.toFixed(1)} s` : lacks(one) ? "–" : "none");

const MIRRORS = [
  { title: "mirror", text: name, isName: true },
  { title: "state", isState: true },
  { title: "for", text: since },
  { title: "copied", text: (one) => `${one.legs - one.legs_unanswered}/${every(one)}`, tone: (one) => warnIf(lacks(one)) },
  { title: "lag", text: lag, tone: (one) => warnIf(one.state === "behind" || lacks(one)) },
  { title: "rate", text: (one) => `${size(one.acked_bytes_per_second)}/s` },
  { title: "lost 1 h", text: (one) => size(total(lost(one.lost_bytes_last_hour))), tone: (one) => warnIf(total(lost(one.lost_bytes_last_hour))) },
  { title: "lost", text: (one) => size(total(lost(one.lost_bytes))) },
  { title: "resent", text: (one) => `${one.retransmits}` },
  { title: "address", text: (one) => one.address, isText: true },
  { title: "reason", text: (one) => one.reason ?? "", isText: true, mayBeAbsent: true },
];

// Tables

export function showBackends(status) {
  showTable(byId("backends"), BACKENDS, status.backends, "The rules have no pool.");
}

export function showMirrors(status) {
  showTable(byId("mirrors"), MIRRORS, status.mirrors, "The rules have no mirror.");
}

function showTable(place, columns, rows, empty) {
  place.parts ??= makeTable(place, columns, empty);
  const { table, heads, body, none, button } = place.parts;
  setHidden(none, rows.length > 0);
  setHidden(table, rows.length === 0);
  setHidden(button, rows.length <= MOST_ROWS);
  const wantsAll = button.getAttribute("aria-expanded") === "true";
  const sorted = rows.length > MOST_ROWS ? worstFirst(rows) : rows;
  const shown = wantsAll ? sorted : sorted.slice(0, MOST_ROWS);
  setText(button, wantsAll ? "show fewer" : `show all ${rows.length} (not shown: ${counts(sorted.slice(MOST_ROWS))})`);
  const absent = columns.map((one) => Boolean(one.mayBeAbsent) && shown.every((row) => !one.text(row)));
  heads.forEach((head, number) => setHidden(head, absent[number]));
  const items = shown.map((row) => ({ row, absent }));
  showList(body, items, ({ row }) => `${name(row)} ${row.address}`, () => makeRow(columns));
  place.again = () => showTable(place, columns, rows, empty);
}

// The roles say what the elements are, since the layout of cards takes a table's meaning from them.
function makeTable(place, columns, empty) {
  const heads = columns.map((one) => element("th", { role: "columnheader", scope: "col", class: kind(one) }, one.title));
  const body = element("tbody", { role: "rowgroup" });
  const head = element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads));
  const label = place.closest("section").getAttribute("aria-labelledby");
  const table = element("table", { role: "table", "aria-labelledby": label }, head, body);
  const none = element("p", { class: "none" }, empty);
  const button = element("button", { type: "button", class: "quiet every", "aria-expanded": "false" });
  button.addEventListener("click", () => {
    setAttribute(button, "aria-expanded", button.getAttribute("aria-expanded") !== "true");
    place.again();
  });
  place.append(table, none, button);
  return { table, heads, body, none, button };
}

function kind(column) {
  if (column.isName) return "name";
  return column.isState ? "state" : column.isText ? "text" : "number";
}

function makeRow(columns) {
  const cells = columns.map((column) => {
    const tag = column.isName ? "th" : "td";
    const role = column.isName ? { role: "rowheader", scope: "row" } : { role: "cell" };
    return element(tag, { ...role, class: kind(column), "data-label": column.title });
  });
  const sign = glyph("plain");
  const word = element("span");
  cells[columns.findIndex((one) => one.isState)].append(sign, " ", word);
  const node = element("tr", { role: "row" }, ...cells);
  const update = ({ row: one, absent }) => {
    setAttribute(node, "data-tone", tone(one.state));
    setGlyph(sign, shape(one.state));
    setText(word, one.state);
    columns.forEach((column, place) => {
      if (column.isState) return;
      setHidden(cells[place], absent[place]);
      const text = column.text(one);
      setText(cells[place], text);
      setAttribute(cells[place], "data-empty", text ? null : "");
      setAttribute(cells[place], "data-tone", column.tone?.(one) ?? null);
    });
  };
  return { node, update };
}

// The ledger

export function showLedger(status) {
  const place = byId("ledger");
  showList(place, status.mirrors.length ? status.mirrors : [null], (one) => (one === null ? "" : name(one)), makeAccount);
}

function makeAccount(first) {
  if (first === null) return { node: element("p", { class: "none" }, "Without a mirror, nothing is copied.") };
  const title = element("h3", { class: "mono" }, name(first));
  const parts = ["acked", "pending", "lost"].map((part) => element("span", { class: part }));
  const bar = element("div", { class: "stack", "aria-hidden": "true" }, ...parts);
  const text = element("p");
  const reasons = element("ul", { class: "reasons" });
  const node = element("article", {}, title, bar, text, reasons);
  const update = (one) => {
    const missed = total(one.lost_bytes);
    const counts = [one.acked_bytes, one.pending_bytes, missed];
    counts.forEach((count, place) => (parts[place].style.flexGrow = count));
    const copied = `${size(one.acked_bytes)} of ${size(one.client_bytes)} mirrored`;
    const of = one.client_bytes ? ` (${share(one.acked_bytes, one.client_bytes)})` : "";
    setText(text, `${copied}${of}, ${size(one.pending_bytes)} pending, ${missed ? size(missed) : "nothing"} lost`);
    showList(reasons, notes(one), ([key]) => key, () => makeNote());
  };
  return { node, update };
}

function* notes(one) {
  for (const [reason, count] of Object.entries(one.lost_bytes)) {
    if (count) yield [`lost ${reason}`, `lost: ${reason} ${size(count)}`, NOT_LOST.includes(reason) ? "plain" : "warn"];
  }
  if (total(one.connections_not_copied)) yield ["not", `connections not copied now: ${listed(one.connections_not_copied)}`, "warn"];
  if (total(one.connections_excluded)) yield ["out", `connections that the rules leave out: ${listed(one.connections_excluded)}`, "plain"];
  if (one.held_bytes) yield ["held", `held until a backend acknowledges them: ${size(one.held_bytes)}`, "plain"];
  if (total(one.legs_ended)) yield ["ended", `ended legs: ${listed(one.legs_ended)}`, "plain"];
}

function makeNote() {
  const node = element("li");
  return {
    node,
    update: ([, text, noteTone]) => {
      setText(node, text);
      setAttribute(node, "data-tone", noteTone);
    },
  };
}

// Events

export function showEvents(events) {
  const rows = events.length ? events : [null];
  showList(byId("events"), rows, (one) => one?.number ?? "", makeEvent);
}

function makeEvent(one) {
  if (one === null) return { node: element("li", { class: "none" }, "Nothing has happened.") };
  const head = element("span", { class: "event-head" }, glyph(shape(one.severity)), " ", element("span", { class: "severity" }, one.severity));
  const time = element("time", { datetime: one.time }, moment(one.time));
  const times = one.count > 1 ? ` (${counted(one.count, "time")})` : "";
  const text = element("span", { class: "event-text" }, element("span", { class: "mono code" }, one.kind), ` ${one.text}${times}`);
  return { node: element("li", { "data-tone": tone(one.severity) }, time, head, text) };
}

// This host

export function showHost(status) {
  const chips = [
    ["version", `natmirror ${status.version}`],
    ["up", `up ${duration(status.uptime_seconds)}`],
    ["rules", `rules ${status.loaded_rules.version}`],
    ...(status.pair === null ? [] : [["pair", `pair: ${status.pair.role}`]]),
  ];
  showList(byId("facts"), chips, ([key]) => key, () => makeText("li"));
  showList(byId("more"), [...facts(status)], ([key]) => key, makeFact);
}

function makeText(tag) {
  const node = element(tag);
  return { node, update: ([, text]) => setText(node, text) };
}

function makeFact([title]) {
  const value = element("dd");
  return { node: element("div", {}, element("dt", {}, title), value), update: ([, text]) => setText(value, text) };
}

function* facts(status) {
  const { loaded_rules: loaded, machine, mirror_memory: memory, pair, shared_state: shared } = status;
  const file = !loaded.file_differs ? "as in the file" : loaded.file_error === null ? "the file differs: natmirror reload" : "the file cannot be used";
  yield ["rules", `${status.rules} ${loaded.version}, since ${moment(loaded.loaded_at)}, ${file}`];
  const missing = machine.kept.filter((one) => !one.in_place).map((one) => one.name);
  const repairs = sum(machine.kept.map((one) => one.repairs));
  const repaired = repairs ? `, repaired ${counted(repairs, "time")}` : "";
  yield ["kernel rules", `${missing.length ? `NOT in place: ${missing.join(", ")}` : "in place"}${repaired}`];
  yield ["mirror-memory", `${size(memory.used_bytes)} of ${size(memory.limit_bytes)}`];
  if (pair !== null) {
    yield ["pair", `${pair.hosts.join(" and ")}: this host is ${pair.role} since ${moment(pair.since)}`];
    yield ["shared state", shared.store === null ? "none: a takeover ends all legs" : `${shared.store} ${shared.state}, ${shared.records} records of the other host${shared.error ? `, ${shared.error}` : ""}`];
  }
  for (const [what, cost] of Object.entries(status.costs)) if (cost !== null) yield [`a ${what} now`, costInWords(cost)];
  const threads = Object.entries(machine.thread_cpu_seconds).filter(([thread]) => thread.startsWith("packets-"));
  yield ["packet threads", threads.map(([thread, used]) => `${thread.slice("packets-".length)}: ${used.toFixed(1)} s`).join(", ") + " of processor time"];
  for (const one of status.overrides) {
    const weight = one.weight === null ? "" : ` ${one.weight}`;
    yield [`${one.kind}${weight}: ${one.service}/${one.backend ?? one.mirror}`, `by a command, since ${moment(one.since)}`];
  }
  for (const one of status.client_limits) {
    if (one.refused_syns) yield [`${one.service} per client ${one.limit} ${one.value}`, `${one.refused_syns} SYNs refused, the last of ${one.last_client}`];
  }
  if (Object.keys(status.drops).length) yield ["packets dropped", listed(status.drops)];
  if (machine.kernel_translation_off_because) yield ["the kernel does not translate", machine.kernel_translation_off_because];
  yield ["process", `pid ${status.pid}, since ${moment(status.started_at)}`];
}

function costInWords({ connections, copies_ended: ended, copies_begun_again: again }) {
  const copies = (count, verb) => `${count} ${count === 1 ? `copy ${verb}s` : `copies ${verb}`}`;
  const parts = [
    ...(connections ? [`${counted(connections, "connection")} may be reset`] : []),
    ...(ended ? [copies(ended, "end")] : []),
    ...(again ? [`${copies(again, "begin")} again in the middle`] : []),
  ];
  return parts.join(", ") || "costs no connection and no copy";
}
