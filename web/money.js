// Money: typed in major units, sent in minor ones, and never through a float.

export function digitsOf(currency) {
  return new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits;
}

export function minorUnits(text, currency) {
  const digits = digitsOf(currency);
  const match = /^(\d{1,12})(?:[.,](\d+))?$/.exec(text.trim());
  if (!match || (match[2] || '').length > digits) return null;
  return Number(match[1] + (match[2] || '').padEnd(digits, '0'));
}

export function shown({ amount, currency }) {
  try {
    const digits = digitsOf(currency);
    const text = String(amount).padStart(digits + 1, '0');
    const whole = text.slice(0, text.length - digits);
    return `${digits ? `${whole}.${text.slice(-digits)}` : whole} ${currency}`;
  } catch {
    return `${amount} ${currency}`; // a currency that this browser does not know
  }
}
