// Small line charts of the last minutes, which only this browser keeps.

import { byId, drawn, element, setAttribute, setText } from "./dom.js";
import { rate, seconds, size, sum, thousands } from "./format.js";

const [SHORTEST, LONGEST] = [60, 300]; // seconds that a chart spans: as long as this page has been open, within these
const [WIDTH, HEIGHT] = [300, 44];
const PACKET_THREAD = /^packets-\d+$/;

const perSecond = (of) => (now, before, passed) => Math.max(0, of(now) - of(before)) / passed;
const received = (status) => sum(Object.values(status.machine.queues).map((one) => one.packets_received));
const acked = (status) => sum(status.mirrors.map((one) => one.acked_bytes));
const accepted = (status) => sum(status.backends.map((one) => one.connections));

// `state` returns a number from the latest status; `change` from that, the one before, and the seconds between. null:
// unknown.
const CHARTS = [
  { title: "connections", unit: thousands, state: (now) => now.flows },
  { title: "new connections", unit: (one) => `${rate(one)}/s`, change: perSecond(accepted) },
  { title: "packets", unit: (one) => `${thousands(one)}/s`, change: perSecond(received) },
  { title: "copied to mirrors", unit: (one) => `${size(one)}/s`, change: perSecond(acked), kind: "copies" },
  { title: "lag of mirrors", unit: seconds, state: (now) => Math.max(0, ...now.mirrors.map((one) => one.lag_seconds)), kind: "copies" },
  { title: "pending bytes", unit: size, state: (now) => sum(now.mirrors.map((one) => one.pending_bytes)), kind: "copies" },
  { title: "a packet's wait, mean", unit: seconds, change: wait },
  { title: "busiest packet thread", unit: (one) => `${one.toFixed(0)} %`, change: busiest },
];

function wait(now, before) {
  const [after, earlier] = [now.machine.added_latency, before.machine.added_latency];
  const count = after.at_most["+Inf"] - earlier.at_most["+Inf"];
  return count > 0 ? (after.sum_seconds - earlier.sum_seconds) / count : null;
}

function busiest(now, before, passed) {
  const used = Object.entries(now.machine.thread_cpu_seconds).filter(([name]) => PACKET_THREAD.test(name));
  const shares = used.map(([name, total]) => total - (before.machine.thread_cpu_seconds[name] ?? total));
  return (100 * Math.max(0, ...shares)) / passed;
}

const shown = CHARTS.map((chart) => ({ ...chart, points: [] }));
let before = null;
let firstAt = null;

export function showCharts(status) {
  const at = Date.parse(status.at) / 1000;
  const isSameRun = before !== null && before.status.pid === status.pid && at > before.at;
  firstAt ??= at;
  const span = Math.min(LONGEST, Math.max(SHORTEST, Math.ceil((at - firstAt) / 60) * 60));
  setText(byId("h-rates"), span === 60 ? "The last minute" : `The last ${span / 60} minutes`);
  for (const chart of shown) {
    chart.parts ??= make(chart);
    const value = chart.state?.(status) ?? (isSameRun ? chart.change?.(status, before.status, at - before.at) : null) ?? null;
    chart.points.push({ at, value });
    while (chart.points[0].at < at - LONGEST) chart.points.shift();
    draw(chart, at, span);
  }
  before = { status, at };
}

function make(chart) {
  const now = element("span", { class: "now" });
  const most = element("span", { class: "most" });
  const area = drawn("path", { class: "area" });
  const line = drawn("path", { class: "stroke" });
  const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, area, line);
  const head = element("figcaption", {}, element("span", { class: "title" }, chart.title), now, most);
  byId("charts").append(element("figure", { class: `chart ${chart.kind ?? ""}` }, head, picture));
  return { now, most, area, line, picture };
}

function draw({ title, unit, points, parts }, at, span) {
  const known = points.filter((one) => one.value !== null);
  const most = Math.max(0, ...known.map((one) => one.value));
  const latest = points.at(-1).value;
  const text = latest === null ? "–" : unit(latest);
  setText(parts.now, text);
  setText(parts.most, known.length ? `most ${unit(most)}` : "");
  setAttribute(parts.picture, "aria-label", `${title}: now ${text}, at most ${unit(most)} lately`);
  const x = (one) => (WIDTH * (1 - (at - one.at) / span)).toFixed(1);
  const y = (one) => (HEIGHT - 2 - (most ? one.value / most : 0) * (HEIGHT - 5)).toFixed(1);
  const stroke = known.map((one, place) => `${place ? "L" : "M"}${x(one)} ${y(one)}`).join("");
  setAttribute(parts.line, "d", stroke);
  setAttribute(parts.area, "d", known.length ? `${stroke}L${x(known.at(-1))} ${HEIGHT}L${x(known[0])} ${HEIGHT}Z` : "");
}
