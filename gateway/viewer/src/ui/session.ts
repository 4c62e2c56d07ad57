/** The end of the session: by the reader, by idleness, by its absolute limit. */

import { type Exam, fetchExam, logout } from '../exam';
import { h } from './dom';

const WARNING_SECONDS = 60;
const SHARED_IDLE_SECONDS = 120;

/** Watches the session. `ended` is called once, after the server was told. */
export class Session {
  readonly #started = Date.now();
  #active = Date.now();
  #told = Date.now();
  #shared = false;
  #over = false;
  #dialog: HTMLDialogElement | undefined;
  readonly #timer: number;

  constructor(
    private readonly exam: Exam,
    private readonly ended: (why: 'asked' | 'idle' | 'limit') => void,
  ) {
    for (const type of ['pointerdown', 'keydown', 'wheel', 'touchmove']) {
      addEventListener(type, () => this.#touch(), { passive: true });
    }
    addEventListener('pagehide', () => {
      if (this.#shared && !this.#over) void logout(this.exam);
    });
    this.#timer = window.setInterval(() => this.#check(), 1000);
  }

  /** A computer that others use: shorter idleness, and leaving the page ends the session. */
  set shared(shared: boolean) {
    this.#shared = shared;
  }

  /** Ends the session. */
  async end(why: 'asked' | 'idle' | 'limit' = 'asked'): Promise<void> {
    if (this.#over) return;
    this.stop();
    await logout(this.exam);
    this.ended(why);
  }

  /** No more watching: the session is over in some other way. */
  stop(): void {
    this.#over = true;
    clearInterval(this.#timer);
    this.#dialog?.remove();
  }

  #touch(): void {
    // While the warning is on, only its button counts.
    if (this.#dialog !== undefined) return;
    this.#active = Date.now();
    const idle = this.exam.idleSeconds ?? 0;
    // Reading without asking for images keeps the server's session alive too.
    if (idle > 0 && this.#active - this.#told > (idle * 1000) / 3) this.#tell();
  }

  #tell(): void {
    this.#told = Date.now();
    fetchExam().catch(() => undefined);
  }

  #check(): void {
    const now = Date.now();
    const idle = Math.min(this.exam.idleSeconds ?? Infinity, this.#shared ? SHARED_IDLE_SECONDS : Infinity);
    const idleLeft = idle - (now - this.#active) / 1000;
    const absoluteLeft = (this.exam.absoluteSeconds ?? Infinity) - (now - this.#started) / 1000;
    if (idleLeft <= 0) void this.end('idle');
    else if (absoluteLeft <= 0) void this.end('limit');
    else if (idleLeft <= Math.min(WARNING_SECONDS, idle / 2)) this.#warn(Math.ceil(idleLeft));
  }

  #warn(seconds: number): void {
    if (this.#dialog === undefined) {
      const dialog = h(
        'dialog',
        { class: 'dialog', 'aria-labelledby': 'idle-title' },
        h('h2', { id: 'idle-title' }, 'Êtes-vous toujours là ?'),
        h('p', {}, 'Sans action de votre part, la session se ferme dans ', h('strong', { class: 'left' }), '.'),
        h(
          'div',
          { class: 'actions' },
          h('button', { type: 'button', class: 'primary', onclick: () => this.#stay() }, 'Rester'),
          h('button', { type: 'button', onclick: () => void this.end() }, 'Se déconnecter'),
        ),
      );
      dialog.addEventListener('cancel', () => this.#stay());
      document.body.append(dialog);
      dialog.showModal();
      this.#dialog = dialog;
    }
    const left = this.#dialog.querySelector('.left');
    if (left) left.textContent = `${seconds} seconde${seconds > 1 ? 's' : ''}`;
  }

  #stay(): void {
    this.#dialog?.close();
    this.#dialog?.remove();
    this.#dialog = undefined;
    this.#active = Date.now();
    this.#tell();
  }
}
