// The shape and the kind of colour of each state: a state is never told by colour alone.

const GOOD = ["good", "good"];
const PLAIN = ["plain", "plain"];
const WARN = ["warn", "warn"];
const BAD = ["bad", "bad"];

const SHAPES = {
  // Backends and mirrors
  up: GOOD,
  unchecked: PLAIN,
  down: BAD,
  panic: BAD,
  draining: ["half", "warn"],
  removed: ["diamond", "plain"],
  sorry: ["diamond", "plain"],
  untried: PLAIN,
  behind: WARN,
  paused: ["bars", "warn"],
  // Conditions
  ok: GOOD,
  degraded: WARN,
  "not-fit": BAD,
  silent: ["silent", "bad"],
  // Severities of problems and of events
  failure: BAD,
  warning: WARN,
  mended: GOOD,
  info: PLAIN,
  error: BAD,
  // Verdicts
  agrees: GOOD,
  differs: BAD,
  "too-little": ["half", "plain"],
};

export function shape(state) {
  return (SHAPES[state] ?? PLAIN)[0];
}

export function tone(state) {
  return (SHAPES[state] ?? PLAIN)[1];
}
