/** Moments that are measured from outside, by their names. */
const marked = new Set<string>();

/** Sets a mark at its first time. */
export function markOnce(name: string): void {
  if (marked.has(name)) return;
  marked.add(name);
  performance.mark(name);
}
