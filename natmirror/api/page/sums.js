// What the status has by reason or row, in short.

// The reasons for which a mirror lacks bytes though nothing has gone wrong (natmirror/reasons.py:NOT_LOST).
export const NOT_LOST = ["not-selected", "not-sampled", "mirror-is-backend", "closed", "client-reset", "released", "natmirror-stopped", "mirror-paused"];

// States of backends and mirrors, the worst first; the others are well.
const WORST = ["down", "panic", "behind", "draining", "paused", "sorry", "removed"];

export function rank({ state }) {
  return WORST.includes(state) ? WORST.indexOf(state) : WORST.length;
}

export function isWell(one) {
  return rank(one) === WORST.length;
}

export function worstFirst(rows) {
  return [...rows].sort((one, other) => rank(one) - rank(other));
}

// Return how many rows are in which state, as text.
export function counts(rows) {
  const found = {};
  for (const { state } of worstFirst(rows)) found[state] = (found[state] ?? 0) + 1;
  return Object.entries(found).map(([state, count]) => `${count} ${state}`).join(", ") || "none";
}

export function lost(counters) {
  return Object.fromEntries(Object.entries(counters).filter(([reason]) => !NOT_LOST.includes(reason)));
}
