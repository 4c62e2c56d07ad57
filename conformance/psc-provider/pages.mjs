// The page of the wallet, where a person would take the e-CPS or the card.

import { all } from './users.mjs';

const page = (body) => `<!doctype html>
<html lang="fr"><head><meta charset="utf-8"><title>Portefeuille d'essai</title></head>
<body>${body}</body></html>`;

const escaped = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** One button for each professional, and one to refuse. */
export const choice = (action) => page(`<h1>Qui êtes-vous&nbsp;?</h1>
<form method="post" action="${escaped(action)}">
${all().map(({ id, given_name, family_name }) => `<p><button name="user" value="${escaped(id)}">${escaped(`${given_name} ${family_name}`)}</button></p>`).join('\n')}
<p><button name="user" value="refuse">Refuser</button></p>
</form>`);

export const goodbye = () => page('<h1>Vous êtes déconnecté</h1>');
