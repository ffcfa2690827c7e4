// Elements whose content is text alone: no name from rules or host is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children);
  return node;
}

// What has not changed stays untouched, so that a selection survives and a screen reader is not disturbed.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function setHidden(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden;
}

export function glyph(name) {
  const use = drawn("use", { href: `#g-${name}` });
  return drawn("svg", { class: "glyph", "aria-hidden": "true" }, use);
}

export function setGlyph(svg, name) {
  setAttribute(svg.firstElementChild, "href", `#g-${name}`);
}

const lists = new WeakMap();

// Show one child for each item, in order. `keyOf` tells items apart; `make(item)` returns {node, update}.
export function showList(parent, items, keyOf, make) {
  const before = lists.get(parent) ?? new Map();
  const after = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    let key = keyOf(item);
    while (after.has(key)) key += " ";
    const one = before.get(key) ?? make(item);
    before.delete(key);
    after.set(key, one);
    one.update?.(item);
    if (one.node === place) place = place.nextSibling;
    else parent.insertBefore(one.node, place);
  }
  for (const { node } of before.values()) node.remove();
  lists.set(parent, after);
}
