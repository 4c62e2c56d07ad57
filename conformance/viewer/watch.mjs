// Runs inside a page that is measured, before its own scripts: when do its canvases show images?

/**
 * An image is on screen when a canvas that can be seen has at least LIT of its area brighter than DARK, in at least
 * SHADES shades: so no frame, text or spinner counts. Canvases are looked at in every frame, as small copies.
 *
 * `planes`: canvases that have to show an image; `end` is when they do, `last` their last change after that, for which
 * one goes on looking when there are several. `press`: buttons that are clicked one after the other, each when it is
 * there and the page says `after`.
 */
export function watch({ planes, press }) {
  const SIZE = 48;
  const LIT = 0.08;
  const DARK = 40;
  const SHADES = 16;
  const bench = { end: undefined, last: undefined };
  globalThis.drimboxBench = bench;
  const small = new OffscreenCanvas(SIZE, SIZE).getContext('2d', { willReadFrequently: true });
  const waiting = [...press];
  let before = '';

  /** What a canvas shows, in short; '' when that is no image. */
  function shown(canvas) {
    small.fillStyle = '#000';
    small.fillRect(0, 0, SIZE, SIZE);
    small.drawImage(canvas, 0, 0, SIZE, SIZE);
    const { data } = small.getImageData(0, 0, SIZE, SIZE);
    const shades = new Set();
    let lit = 0;
    let digest = 0;
    for (let at = 0; at < data.length; at += 4) {
      const level = data[at + 1];
      if (level > DARK) lit += 1;
      shades.add(level);
      digest = (Math.imul(digest, 31) + level) | 0;
    }
    return lit > LIT * SIZE * SIZE && shades.size >= SHADES ? String(digest) : '';
  }

  function look() {
    if (bench.end !== undefined && planes === 1) return;
    requestAnimationFrame(look);
    const now = performance.now();
    const [wanted] = waiting;
    if (wanted !== undefined) {
      const button = [...document.querySelectorAll('button')].find((one) => one.textContent.trim() === wanted.text);
      if (button === undefined || !document.body.textContent.includes(wanted.after)) return;
      waiting.shift();
      button.click();
      return;
    }
    const canvases = [...document.querySelectorAll('canvas')].filter((one) => one.clientWidth >= 32 && one.clientHeight >= 32 && one.width > 0);
    const all = canvases.map(shown).filter((digest) => digest !== '');
    const digest = all.join();
    if (all.length < planes || digest === before) return;
    before = digest;
    bench.last = { seconds: now / 1000, at: performance.timeOrigin + now };
    bench.end ??= bench.last;
  }
  requestAnimationFrame(look);
}
