// Numbers as an operator reads them, as in natmirror status (natmirror/api/text.py).

const SIZES = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
const LONG = [[86400, "d"], [3600, "h"], [60, "min"]];

export function size(count) {
  for (const [unit, name] of SIZES) if (count >= 10 * unit) return `${(count / unit).toFixed(1)} ${name}`;
  return `${Math.round(count)} B`;
}

export function age(seconds) {
  for (const [unit, name] of LONG) if (seconds >= unit) return `${(seconds / unit).toFixed(0)} ${name}`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

export function duration(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  return `${days ? `${days} d ` : ""}${hours}:${two(minutes)}:${two(whole % 60)}`;
}

export function moment(text) {
  return `${text.split(".")[0].replace("T", " ")}Z`;
}

export function clock(text) {
  return `${text.slice(11, 19)}Z`;
}

export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export function listed(counters) {
  return Object.entries(counters).filter(([, count]) => count).map(([name, count]) => `${name} ${count}`).join(", ");
}

export function sizes(counters) {
  return Object.entries(counters).filter(([, count]) => count).map(([name, count]) => `${name} ${size(count)}`).join(", ");
}

export function sum(numbers) {
  return numbers.reduce((one, other) => one + other, 0);
}

export function rate(number) {
  return number >= 100 ? number.toFixed(0) : number.toFixed(1);
}

export function thousands(number) {
  return Math.round(number).toLocaleString("en").replaceAll(",", "\u202f");
}

export function share(part, of) {
  if (part === 0 || part === of) return part ? "100 %" : "0 %";
  for (const digits of [1, 2, 3]) {
    const text = ((100 * part) / of).toFixed(digits);
    if (Number(text) > 0 && Number(text) < 100) return `${text} %`;
  }
  return `${((100 * part) / of).toFixed(4)} %`;
}

export function seconds(number) {
  if (number === 0) return "0 s";
  if (number < 0.001) return `${(1e6 * number).toFixed(0)} µs`;
  if (number < 1) return `${(1000 * number).toFixed(number < 0.01 ? 1 : 0)} ms`;
  return `${number.toFixed(1)} s`;
}
