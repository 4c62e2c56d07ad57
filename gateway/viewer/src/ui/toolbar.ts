/** The bar of tools, and the help that lists the keys. */

import { ACTIONS, type Action, CT_WINDOWS, type Desk, keyName } from './actions';
import { h } from './dom';

const GROUPS: [Action['group'], string][] = [
  ['pointeur', 'Souris ou doigt'],
  ['image', 'Image'],
  ['mesure', 'Mesures'],
  ['disposition', 'Disposition'],
  ['autres', 'Autres'],
];

/** The bar. `refresh` brings it up to date with the desk. */
export class Toolbar {
  readonly element: HTMLElement;
  readonly #buttons = new Map<Action, HTMLButtonElement>();
  readonly #windows = h('select', { class: 'windows', 'aria-label': 'Contraste prédéfini' });
  #offered = '';

  constructor(private readonly desk: Desk) {
    this.#windows.addEventListener('change', () => this.#choose());
    this.element = h('div', { class: 'toolbar', role: 'toolbar', 'aria-label': 'Outils' }, ...GROUPS.map(([group, title]) => this.#group(group, title)));
  }

  /** Brings the bar up to date. */
  refresh(): void {
    for (const [action, button] of this.#buttons) {
      button.hidden = action.when !== undefined && !action.when(this.desk);
      if (action.pressed) button.setAttribute('aria-pressed', String(action.pressed(this.desk)));
    }
    this.#offer();
  }

  #group(group: Action['group'], title: string): HTMLElement {
    const buttons = ACTIONS.filter((action) => action.group === group).map((action) => {
      const button = h(
        'button',
        { type: 'button', title: `${action.label} (touche ${keyName(action)})`, onclick: () => action.run(this.desk) },
        action.label,
      );
      this.#buttons.set(action, button);
      return button;
    });
    return h('div', { class: 'group', role: 'group', 'aria-label': title }, ...buttons, group === 'image' && this.#windows);
  }

  #offer(): void {
    const image = this.desk.shown.image;
    const own = image?.windows ?? [];
    const signature = `${image?.series ?? ''}/${own.length}`;
    if (signature === this.#offered) return;
    this.#offered = signature;
    const options = [h('option', { value: 'default' }, "Contraste de l'image"), h('option', { value: 'full' }, 'Toutes les valeurs')];
    own.slice(1).forEach((window, at) => options.push(h('option', { value: `own/${at + 1}` }, window.name ?? `Contraste ${at + 2}`)));
    if (image?.modality === 'CT') CT_WINDOWS.forEach((window, at) => options.push(h('option', { value: `ct/${at}` }, window.name)));
    this.#windows.replaceChildren(...options);
  }

  #choose(): void {
    const [kind, at] = this.#windows.value.split('/');
    const window = kind === 'ct' ? CT_WINDOWS[Number(at)] : kind === 'own' ? this.desk.shown.image?.windows[Number(at)] : undefined;
    this.desk.setWindow(window ?? (kind === 'full' ? 'full' : 'default'));
  }
}

/** The help: what fingers, mouse and keys do. */
export function help(): void {
  const dialog = h('dialog', { class: 'dialog help', 'aria-labelledby': 'help-title' });
  const close = (): void => {
    dialog.close();
    dialog.remove();
  };
  dialog.addEventListener('cancel', close);
  dialog.append(
    h('h2', { id: 'help-title' }, 'Aide'),
    h('h3', {}, 'Au doigt'),
    h('p', {}, 'Glissez vers le haut ou le bas pour passer d\'une image à l\'autre. Écartez deux doigts pour agrandir, glissez à deux doigts pour déplacer. Touchez deux fois pour revenir à la vue de départ.'),
    h('h3', {}, 'À la souris'),
    h('p', {}, 'Molette : défiler. Bouton gauche : l\'outil choisi. Bouton droit : zoom. Bouton du milieu : déplacer.'),
    h('h3', {}, 'Lettres au bord des images'),
    h('p', {}, 'R : droite du patient, L : gauche, A : avant, P : arrière, H : tête, F : pieds.'),
    h('h3', {}, 'Au clavier'),
    h('table', {}, h('tbody', {}, ...ACTIONS.map((action) => h('tr', {}, h('th', { scope: 'row' }, h('kbd', {}, keyName(action))), h('td', {}, action.label))))),
    h('p', {}, h('a', { href: '/viewer/licences.txt', target: '_blank', rel: 'noopener' }, 'Logiciels libres utilisés par cette page')),
    h('div', { class: 'actions' }, h('button', { type: 'button', class: 'primary', onclick: close }, 'Fermer')),
  );
  document.body.append(dialog);
  dialog.showModal();
}
