/** Plain pages that replace everything: the end of a session, a failure that nothing can mend. */

import { h } from './dom';

/** Shows a last page. Nothing of the exam stays in it. */
export function endPage(title: string, text: string, again?: () => void): void {
  const heading = h('h1', { tabindex: -1 }, title);
  const page = h(
    'main',
    { class: 'end' },
    heading,
    h('p', {}, text),
    again === undefined
      ? h('p', {}, "Pour revoir l'examen, ouvrez de nouveau le lien imprimé sur votre compte rendu. Vous pouvez fermer cet onglet.")
      : h('button', { type: 'button', class: 'primary', onclick: again }, 'Réessayer'),
    h('p', { class: 'muted' }, "En cas de difficulté, adressez-vous au centre d'imagerie qui a réalisé l'examen."),
  );
  document.title = title;
  document.body.replaceChildren(page);
  heading.focus();
}
