// Numbers as text, and the ticks of an axis.

function format(value, digits = 4) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) {
    return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  return String(Number(value.toPrecision(digits)));
}

// About `count` round numbers from low to high, both inclusive.
function ticks(low, high, count = 5) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)));
}

// Powers of ten from low to high; numbers between them where these are too few.
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const stride = Math.ceil((last - first) / 6);
  const multiples = last - first > 3 ? [1] : [1, 2, 5];
  const all = [];
  for (let power = first; power <= last; power += stride) {
    all.push(...multiples.map((m) => Number((m * 10 ** power).toPrecision(3))));
  }
  return all.filter((tick) => tick >= low && tick <= high);
}

function quantile(sorted, fraction) {
  const place = (sorted.length - 1) * fraction;
  const below = sorted[Math.floor(place)];
  return below + (sorted[Math.ceil(place)] - below) * (place - Math.floor(place));
}

const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

const shorten = (text, length) => (text.length <= length
  ? text
  : `${text.slice(0, Math.ceil((length - 1) / 2))}…${text.slice(-Math.floor((length - 1) / 2))}`);
