// Numbers as people read them.

export function count(value) {
  return Number(value).toLocaleString('en-US');
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function bytes(value) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let scaled = value;
  while (scaled >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    ++unit;
  }
  return `${unit === 0 ? scaled : digits(scaled)} ${units[unit]}`;
}

// Three significant digits, no exponent.
export function digits(value) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  return value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

export function seconds(value) {
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  if (value < 99.95) return `${digits(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

export function percent(share) {
  if (share === null || share === undefined) return '–';
  const value = share * 100;
  return `${value >= 99.95 || value === 0 ? Math.round(value) : digits(value)} %`;
}
