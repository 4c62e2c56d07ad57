/** Mouse, pen and fingers on an image → scroll, window, zoom, pan. */

import type { Mode } from './viewer';

/** What gestures do. Distances in CSS pixels. */
export interface GestureTarget {
  readonly mode: Mode;
  scroll(steps: number): void;
  window(x: number, y: number): void;
  zoom(factor: number, x: number, y: number): void;
  pan(x: number, y: number): void;
  reset(): void;
}

/** Pixels of a drag for one image. */
const PIXELS_PER_IMAGE = 12;
const DOUBLE_TAP_MS = 300;

/** Binds the gestures of `element`; `signal` unbinds them. */
export function bindGestures(element: HTMLElement, target: GestureTarget, signal: AbortSignal): void {
  const pointers = new Map<number, { x: number; y: number }>();
  let button = 0;
  let rest = 0;
  let lastTap = 0;
  let moved = false;
  const options = { signal };

  element.addEventListener(
    'pointerdown',
    (event) => {
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      element.setPointerCapture(event.pointerId);
      if (pointers.size === 1) {
        button = event.button;
        rest = 0;
        moved = false;
      }
    },
    options,
  );

  element.addEventListener(
    'pointermove',
    (event) => {
      const before = pointers.get(event.pointerId);
      if (before === undefined) return;
      const x = event.clientX - before.x;
      const y = event.clientY - before.y;
      if (Math.abs(x) + Math.abs(y) > 2) moved = true;
      if (pointers.size === 2) pinch(event, before);
      else if (pointers.size === 1) drag(x, y);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    },
    options,
  );

  const release = (event: PointerEvent): void => {
    pointers.delete(event.pointerId);
    if (event.type !== 'pointerup' || moved || pointers.size > 0 || button !== 0) return;
    if (event.timeStamp - lastTap < DOUBLE_TAP_MS) target.reset();
    lastTap = event.timeStamp;
  };
  element.addEventListener('pointerup', release, options);
  element.addEventListener('pointercancel', release, options);
  element.addEventListener('contextmenu', (event) => event.preventDefault(), options);

  element.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      if (event.ctrlKey || event.metaKey) {
        target.zoom(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
        return;
      }
      // Lines and pages of a wheel are steps; pixels of a touch pad add up to one.
      rest += event.deltaMode === 0 ? event.deltaY / 60 : event.deltaY;
      const steps = Math.abs(event.deltaY) >= 100 ? Math.sign(event.deltaY) : Math.trunc(rest);
      if (steps !== 0) {
        rest = 0;
        target.scroll(steps);
      }
    },
    { passive: false, signal },
  );

  function drag(x: number, y: number): void {
    const mode = button === 1 ? 'pan' : button === 2 ? 'zoom' : target.mode;
    const box = element.getBoundingClientRect();
    switch (mode) {
      case 'scroll': {
        rest += y / PIXELS_PER_IMAGE;
        const steps = Math.trunc(rest);
        rest -= steps;
        if (steps !== 0) target.scroll(steps);
        break;
      }
      case 'window':
        target.window(x, y);
        break;
      case 'zoom':
        target.zoom(Math.exp(-y / 150), box.width / 2, box.height / 2);
        break;
      case 'pan':
        target.pan(x, y);
        break;
    }
  }

  function pinch(event: PointerEvent, before: { x: number; y: number }): void {
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other === undefined) return;
    const box = element.getBoundingClientRect();
    const was = Math.hypot(before.x - other.x, before.y - other.y);
    const is = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    if (was > 10 && is > 10) {
      target.zoom(is / was, (event.clientX + other.x) / 2 - box.left, (event.clientY + other.y) / 2 - box.top);
    }
    target.pan((event.clientX - before.x) / 2, (event.clientY - before.y) / 2);
  }
}
