/** Requests to the own origin. Nothing here takes an address from a message or from the page's URL. */

import { fromStatus, ViewerError } from './errors';

const ATTEMPTS = 3;
const listeners = new Set<(error: ViewerError) => void>();

/** Tells when the session is over: the page then closes itself. */
export function onEnded(listener: (error: ViewerError) => void): void {
  listeners.add(listener);
}

/**
 * GET of a path of the own origin; a busy server is asked again.
 *
 * Throws a `ViewerError` for every status that is not a success, `AbortError` when `signal` fires.
 */
export async function get(path: string, accept: string, signal?: AbortSignal): Promise<Response> {
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(path, {
      headers: { Accept: accept },
      credentials: 'same-origin',
      redirect: 'error',
      ...(signal ? { signal } : {}),
    });
    if (response.ok) return response;
    const error = fromStatus(response.status);
    if (error.kind === 'ended') listeners.forEach((listener) => listener(error));
    if (error.kind !== 'busy' || attempt === ATTEMPTS) throw error;
    await pause(retryAfter(response, attempt), signal);
  }
}

/** POST of a form to a path of the own origin. Throws as `get`. */
export async function post(path: string, form: URLSearchParams): Promise<Response> {
  const response = await fetch(path, { method: 'POST', body: form, credentials: 'same-origin', redirect: 'error' });
  if (response.ok) return response;
  const error = fromStatus(response.status);
  if (error.kind === 'ended' && response.status === 401) listeners.forEach((listener) => listener(error));
  throw error;
}

/** Milliseconds to wait: what the server says, within bounds. */
function retryAfter(response: Response, attempt: number): number {
  const seconds = Number(response.headers.get('Retry-After') ?? attempt);
  return 1000 * Math.min(Math.max(Number.isFinite(seconds) ? seconds : attempt, 0.5), 10);
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new DOMException('aborted', 'AbortError'));
    });
  });
}
