// Runs inside a page that is measured, before its own scripts: when do its canvases show images?

/**
 * An image is on screen when a canvas that can be seen has an area brighter than DARK, in at least SHADES shades, that is
 * LIT or more of the largest square in the canvas: so no frame, text or spinner counts, and a narrow canvas, in which an
 * image is small, may show one. Canvases are looked at in every frame, as small copies.
 *
 * `planes` 1: `end` is when a canvas shows an image.
 *
 * More `planes`: `end` is when the volume is whole and so many views have been drawn, one of which shows an image; a
 * plane may lie in the air. That the volume is whole the page says itself, by the mark `ready`, or the library, which
 * OHIF lets others use as `cornerstone`; after the library said so, each view has to be drawn again. `last` is the last
 * change of any canvas after that, for which one goes on looking.
 *
 * `press`: buttons that are clicked one after the other, each when it is there and the page says `after`.
 *
 * `lacks` tells what is still waited for.
 */
export function watch({ planes, press, ready }) {
  const SIZE = planes === 1 ? 48 : 192;
  const LIT = 0.08;
  const DARK = 40;
  const SHADES = 16;
  const bench = { end: undefined, last: undefined, lacks };
  globalThis.drimboxBench = bench;
  const small = new OffscreenCanvas(SIZE, SIZE).getContext('2d', { willReadFrequently: true });
  const waiting = [...press];
  /** Views of the library that were drawn since the volume was whole. */
  const drawn = new Set();
  /** Since when there is what is waited for, in milliseconds. */
  let whole;
  let all;
  let listening = false;
  let seen = { canvases: 0, images: 0 };
  let before = '';

  function lacks() {
    if (waiting.length > 0) return `${waiting[0].text} (after ${waiting[0].after})`;
    if (planes > 1 && whole === undefined) return 'a volume that is whole';
    if (planes > 1 && all === undefined) return `views that are drawn: there are ${drawn.size}`;
    return `images: there are ${seen.images} on ${seen.canvases} canvases`;
  }

  /** What a canvas shows, in short, and whether that is an image. */
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
    const square = (SIZE * SIZE * Math.min(canvas.width, canvas.height)) / Math.max(canvas.width, canvas.height);
    return { digest, image: lit > LIT * square && shades.size >= SHADES };
  }

  /** Listens to the library of the page once it is there. */
  function listen() {
    const library = globalThis.cornerstone?.eventTarget;
    if (listening || library === undefined) return;
    listening = true;
    library.addEventListener('CORNERSTONE_IMAGE_VOLUME_LOADING_COMPLETED', () => {
      // Of several volumes the last one counts.
      whole = performance.now();
      all = undefined;
      drawn.clear();
    });
  }

  /** Whether the volume is whole and its views are drawn. */
  function isReady() {
    const [mark] = performance.getEntriesByName(ready);
    if (mark !== undefined) {
      // Set after each view was drawn.
      whole = mark.startTime;
      all = mark.startTime;
    }
    return all !== undefined;
  }

  // Events of views do not bubble, and are seen on their way down.
  document.addEventListener(
    'CORNERSTONE_IMAGE_RENDERED',
    ({ target }) => {
      if (whole === undefined) return;
      drawn.add(target);
      if (drawn.size >= planes) all ??= performance.now();
    },
    true,
  );

  function look() {
    if (bench.end !== undefined && planes === 1) return;
    requestAnimationFrame(look);
    const now = performance.now();
    listen();
    const [wanted] = waiting;
    if (wanted !== undefined) {
      const button = [...document.querySelectorAll('button')].find((one) => one.textContent.trim() === wanted.text);
      if (button === undefined || !document.body.textContent.includes(wanted.after)) return;
      waiting.shift();
      button.click();
      return;
    }
    if (planes > 1 && !isReady()) return;
    const canvases = [...document.querySelectorAll('canvas')].filter((one) => one.clientWidth >= 32 && one.clientHeight >= 32 && one.width > 0);
    const pictures = canvases.map(shown);
    seen = { canvases: canvases.length, images: pictures.filter(({ image }) => image).length };
    const digest = pictures.map((picture) => picture.digest).join();
    if (seen.canvases < planes || seen.images < 1 || digest === before) return;
    before = digest;
    bench.last = { seconds: now / 1000, at: performance.timeOrigin + now };
    bench.end ??= bench.last;
  }
  requestAnimationFrame(look);
}
