// The picture: clients, the service on this host, its backends, and its mirrors beside them.

import { byId, drawn, setAttribute, setText, showList } from "./dom.js";
import { counted, rate, size, sum } from "./format.js";
import { shape, tone } from "./states.js";
import { counts, isWell, worstFirst } from "./sums.js";

const NARROW = 620; // pixels; below, the picture is one column
const ROW = 44;
const LOW_ROW = 26;
const GAP = 6;
const GROUP_GAP = 20;
const MOST_ROWS = 40; // in the whole picture; the tables have all
const LETTER = 7.1; // the width of a letter of names, in pixels

let latest = null;
let width = 0;

export function watchWidth() {
  new ResizeObserver(([entry]) => {
    width = Math.floor(entry.contentRect.width);
    if (latest !== null) showTopology(latest);
  }).observe(byId("map"));
}

export function showTopology(status) {
  latest = status;
  if (!width) return;
  const names = [...new Set([...status.backends, ...status.mirrors].map((one) => one.service))];
  const services = shortened(names.map((name) => group(name, status)));
  const picture = width < NARROW ? narrow(services, status) : wide(services, status);
  const map = byId("map");
  map.svg ??= make(map);
  setAttribute(map.svg, "viewBox", `0 0 ${width} ${picture.height}`);
  setAttribute(map.svg, "width", width);
  setAttribute(map.svg, "height", picture.height);
  setAttribute(map.svg, "aria-label", inWords(names, status));
  showList(map.lines, picture.lines, (one) => one.key, makeLine);
  showList(map.boxes, picture.boxes, (one) => one.key, makeBox);
}

function make(map) {
  map.lines = drawn("g");
  map.boxes = drawn("g");
  const svg = drawn("svg", { role: "img" }, map.lines, map.boxes);
  map.append(svg);
  return svg;
}

function inWords(names, status) {
  const services = names.length === 1 ? `the service ${names[0]}` : counted(names.length, "service");
  return `Clients with ${counted(status.flows, "connection")} to ${services}. Backends: ${counts(status.backends)}. Mirrors: ${counts(status.mirrors)}.`;
}

// What is shown

function group(name, status) {
  const backends = status.backends.filter((one) => one.service === name);
  const mirrors = status.mirrors.filter((one) => one.service === name);
  const flows = sum(backends.map((one) => one.flows));
  const fresh = sum(backends.map((one) => one.connections_per_second));
  const second = backends.length ? `${flows} open, ${rate(fresh)}/s new` : "without a pool";
  return { name, second, isBusy: flows > 0, rows: [...backends.map(backendRow), ...mirrors.map(mirrorRow)] };
}

function backendRow(one) {
  return {
    ...row("backend", one),
    right: `${one.flows} open`,
    below: one.state === "down" ? one.reason || one.address : one.address,
    isBusy: one.flows > 0,
  };
}

function mirrorRow(one) {
  const lag = one.lag_seconds >= 1 ? `lag ${one.lag_seconds.toFixed(1)} s` : `${size(one.acked_bytes_per_second)}/s`;
  return { ...row("mirror", one), right: lag, below: `mirror, ${one.address}`, isBusy: one.acked_bytes_per_second > 0 };
}

function row(kind, one) {
  return { key: `${kind} ${one.service}/${one.name} ${one.address}`, kind, name: one.name, state: one.state };
}

// Where there are too many rows, the worst ones are shown, and how many others there are in which state.
function shortened(services) {
  const count = sum(services.map((one) => one.rows.length));
  if (count <= MOST_ROWS) return services;
  const most = Math.max(2, Math.floor(MOST_ROWS / services.length / 2));
  return services.map((one) => ({
    ...one,
    rows: ["backend", "mirror"].flatMap((kind) => worst(one.rows.filter((row) => row.kind === kind), most, `${kind} ${one.name}`)),
  }));
}

function worst(rows, most, key) {
  if (rows.length <= most) return rows;
  const sorted = worstFirst(rows);
  const left = sorted.slice(most);
  const text = `${left.length} more: ${counts(left)}`;
  const more = { key: `more ${key}`, kind: rows[0].kind, name: text, isMore: true, isBusy: false };
  return [...sorted.slice(0, most), { ...more, state: left.every(isWell) ? "unchecked" : "behind" }];
}

// Where it stands

function wide(services, status) {
  const side = Math.min(300, Math.max(210, width * 0.33));
  const host = Math.min(230, Math.max(170, width * 0.25));
  const left = 128;
  const [hostX, sideX] = [left + (width - left - host - side) / 2, width - side - 1];
  const boxes = [];
  const lines = [];
  const middles = [];
  let y = 0;
  const low = sum(services.map((one) => one.rows.length)) > 10;
  for (const service of services) {
    const top = y;
    for (const row of service.rows) {
      const height = low || row.isMore ? LOW_ROW : ROW;
      boxes.push({ ...row, x: sideX, y, width: side, height });
      y += height + GAP;
    }
    y = Math.max(y, top + 56);
    const middle = (top + y - GAP) / 2;
    middles.push(middle);
    boxes.push({ key: `service ${service.name}`, kind: "service", name: service.name, below: service.second, x: hostX + 8, y: middle - 23, width: host - 16, height: 46 });
    for (const box of boxes.filter((one) => service.rows.some((row) => row.key === one.key))) {
      const there = box.y + box.height / 2;
      lines.push({ ...box, key: `to ${box.key}`, d: curve(hostX + host - 8, middle, sideX, there) });
    }
    lines.push({ key: `from ${service.name}`, kind: "client", state: "up", isBusy: service.isBusy, d: "", service: middle });
    y += GROUP_GAP - GAP;
  }
  const height = Math.max(y - GROUP_GAP, 110);
  const centre = height / 2;
  for (const one of lines) if (one.kind === "client") one.d = curve(left, centre, hostX + 8, one.service);
  const hostTop = Math.max(0, (middles[0] ?? centre) - 62);
  const hostEnd = Math.min(height, (middles.at(-1) ?? centre) + 34);
  boxes.unshift({ key: "host", kind: "host", name: hostName(status), x: hostX, y: hostTop, width: host, height: hostEnd - hostTop });
  boxes.push(clients(status, 1, centre - 26, left - 1, 52));
  return { height: Math.ceil(height) + 1, boxes, lines };
}

function narrow(services, status) {
  const boxes = [clients(status, 1, 1, width - 2, 45)];
  const lines = [];
  let y = 64;
  const hostTop = y;
  const inner = width - 17;
  let above = 46;
  y += 30;
  for (const service of services) {
    boxes.push({ key: `service ${service.name}`, kind: "service", name: service.name, below: service.second, x: 8, y, width: inner, height: 44 });
    lines.push({ key: `from ${service.name}`, kind: "client", state: "up", isBusy: service.isBusy, d: `M${width / 2} ${above}V${y}` });
    y += 44;
    let from = y;
    y += GAP + 2;
    for (const row of service.rows) {
      const height = row.isMore ? LOW_ROW : ROW;
      boxes.push({ ...row, x: 34, y, width: inner - 26, height });
      lines.push({ ...row, key: `to ${row.key}`, d: `M20 ${from}V${y + height / 2}H34` });
      from = y + height / 2;
      y += height + GAP;
    }
    y += GAP;
    above = y - GAP;
  }
  boxes.unshift({ key: "host", kind: "host", name: hostName(status), x: 1, y: hostTop, width: width - 2, height: y - hostTop });
  return { height: Math.ceil(y) + 2, boxes, lines };
}

function clients(status, x, y, boxWidth, height) {
  return { key: "clients", kind: "clients", name: "clients", below: counted(status.flows, "connection"), x, y, width: boxWidth, height };
}

function hostName(status) {
  return status.pair === null ? "natmirror" : `natmirror, ${status.pair.role} of a pair`;
}

function curve(fromX, fromY, toX, toY) {
  const middle = (fromX + toX) / 2;
  return `M${fromX} ${fromY}C${middle} ${fromY} ${middle} ${toY} ${toX} ${toY}`;
}

// How it is drawn

function makeLine() {
  const under = drawn("path", { class: "under" });
  const over = drawn("path", { class: "over" });
  const node = drawn("g", {}, under, over);
  const update = (one) => {
    setAttribute(node, "class", `line ${one.kind} ${one.isBusy ? "busy" : "still"}`);
    setAttribute(node, "data-tone", tone(one.state));
    setAttribute(under, "d", one.d);
    setAttribute(over, "d", one.d);
  };
  return { node, update };
}

function makeBox(first) {
  const hasState = "state" in first;
  const hint = drawn("title");
  const frame = drawn("rect", { rx: first.kind === "host" ? 10 : 7 });
  const sign = drawn("use", { width: 14, height: 14 });
  const name = drawn("text", { class: "name" });
  const word = drawn("tspan", { class: "word" });
  const label = drawn("tspan");
  const below = drawn("text", { class: "below" });
  const right = drawn("text", { class: "right", "text-anchor": "end" });
  name.append(label, word);
  const node = drawn("g", {}, hint, frame, ...(hasState ? [sign] : []), name, below, right);
  const update = (one) => {
    const isLow = one.height < ROW;
    setAttribute(node, "class", `box ${one.kind}${one.isMore ? " more" : ""}`);
    setAttribute(node, "data-tone", hasState ? tone(one.state) : null);
    for (const key of ["x", "y", "width", "height"]) setAttribute(frame, key, one[key]);
    const textX = one.x + (hasState ? 32 : 12);
    const nameY = one.y + (one.kind === "host" ? 20 : isLow ? one.height / 2 + 4.5 : 18.5);
    if (hasState) {
      setAttribute(sign, "href", `#g-${shape(one.state)}`);
      setAttribute(sign, "x", one.x + 10);
      setAttribute(sign, "y", nameY - 12);
    }
    const shownWord = hasState && !one.isMore ? one.state : "";
    const rightRoom = one.right ? one.right.length * LETTER : 0;
    const room = one.width - (textX - one.x) - 12;
    setText(label, cut(one.name, (room - rightRoom - (shownWord.length + 2) * LETTER) / LETTER));
    setText(word, shownWord ? `\u2002${shownWord}` : "");
    setAttribute(name, "x", textX);
    setAttribute(name, "y", nameY);
    setText(below, isLow || !one.below ? "" : cut(one.below, room / 6.3));
    setAttribute(below, "x", textX);
    setAttribute(below, "y", one.y + one.height - 9.5);
    setText(right, one.right ?? "");
    setAttribute(right, "x", one.x + one.width - 10);
    setAttribute(right, "y", nameY);
    setText(hint, [one.name, shownWord, one.below ?? ""].filter((text) => text).join(", "));
  };
  return { node, update };
}

function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, Math.max(3, Math.floor(most) - 1))}…`;
}
