/** Everything that the reader can do with an image: one list for the bar, the keys and the help. */

import type { Window } from '../dicom/image';
import { hasOverlays } from '../view/overlay';
import type { Mode, Shown } from '../view/viewer';

/** Windows that radiologists use for CT, in Hounsfield units. */
export const CT_WINDOWS: (Window & { name: string })[] = [
  { name: 'Abdomen', center: 40, width: 400 },
  { name: 'Poumon', center: -600, width: 1500 },
  { name: 'Os', center: 500, width: 2000 },
  { name: 'Cerveau', center: 40, width: 80 },
  { name: 'Médiastin', center: 50, width: 350 },
];

/** A tool that leaves a mark on the image. */
export type Tool = 'Length' | 'Angle' | 'EllipticalROI' | 'RectangleROI' | 'Probe';
/** Arrangement of the images. */
export type Layout = '1x1' | '1x2' | '2x2' | 'mpr';

/** What the actions act on. */
export interface Desk {
  mode: Mode | Tool;
  layout: Layout;
  linked: boolean;
  referenceLines: boolean;
  thick: boolean;
  overlays: boolean;
  /** The exam has images that are hung in a known way. */
  hangable: boolean;
  shown: Shown;
  setMode(mode: Mode): void;
  setTool(tool: Tool): void;
  setLayout(layout: Layout): void;
  setWindow(window: Window | 'default' | 'full'): void;
  command(
    name:
      | 'invert' | 'rotate' | 'flip' | 'reset' | 'actual' | 'cine' | 'fullscreen' | 'print' | 'help' | 'clear'
      | 'link' | 'lines' | 'thick' | 'overlays' | 'hang' | 'next' | 'previous' | 'first' | 'last' | 'page-next' | 'page-previous'
      | 'series-next' | 'series-previous' | 'in' | 'out',
  ): void;
  playing: boolean;
}

/** One thing that the reader can do. */
export interface Action {
  label: string;
  /** `KeyboardEvent.key`, in lower case. */
  key?: string;
  /** How the key is named to the reader. */
  keyName?: string;
  group: 'pointeur' | 'image' | 'mesure' | 'disposition' | 'autres' | 'clavier';
  run(desk: Desk): void;
  /** For what is on or off. */
  pressed?(desk: Desk): boolean;
  /** Shown in the bar when true; the key works whenever it is. */
  when?(desk: Desk): boolean;
}

const mode = (label: string, key: string, value: Mode): Action => ({
  label,
  key,
  group: 'pointeur',
  run: (desk) => desk.setMode(value),
  pressed: (desk) => desk.mode === value,
});
const tool = (label: string, key: string, value: Tool): Action => ({
  label,
  key,
  group: 'mesure',
  run: (desk) => desk.setTool(value),
  pressed: (desk) => desk.mode === value,
});
const layout = (label: string, key: string, value: Layout): Action => ({
  label,
  key,
  group: 'disposition',
  run: (desk) => desk.setLayout(value),
  pressed: (desk) => desk.layout === value,
});
const command = (
  label: string,
  key: string,
  group: Action['group'],
  name: Parameters<Desk['command']>[0],
  more: Partial<Action> = {},
): Action => ({ label, key, group, run: (desk) => desk.command(name), ...more });

/** All actions, in the order of the bar. */
export const ACTIONS: Action[] = [
  mode('Défiler', 'd', 'scroll'),
  mode('Contraste', 'c', 'window'),
  mode('Zoom', 'z', 'zoom'),
  mode('Déplacer', 'p', 'pan'),
  command('Inverser', 'i', 'image', 'invert'),
  command('Pivoter', 'o', 'image', 'rotate'),
  command('Miroir', 'm', 'image', 'flip'),
  command('100 %', 't', 'image', 'actual'),
  command('Réinitialiser', 'r', 'image', 'reset'),
  command('Annotations', 'g', 'image', 'overlays', { pressed: (desk) => desk.overlays, when: (desk) => desk.shown.image !== undefined && hasOverlays(desk.shown.image) }),
  command('Animation', ' ', 'image', 'cine', { keyName: 'Espace', pressed: (desk) => desk.playing }),
  tool('Longueur', 'l', 'Length'),
  tool('Angle', 'a', 'Angle'),
  tool('Ellipse', 'e', 'EllipticalROI'),
  tool('Rectangle', 'k', 'RectangleROI'),
  tool('Valeur', 'v', 'Probe'),
  command('Effacer les mesures', 'Delete', 'mesure', 'clear', { keyName: 'Suppr' }),
  layout('1 image', '1', '1x1'),
  layout('1 × 2', '2', '1x2'),
  layout('2 × 2', '4', '2x2'),
  layout('Coupes 3 plans', '3', 'mpr'),
  command('Mammographie', 'j', 'disposition', 'hang', { when: (desk) => desk.hangable }),
  command('Coupe épaisse', 'b', 'disposition', 'thick', { pressed: (desk) => desk.thick, when: (desk) => desk.layout === 'mpr' }),
  command('Lier le défilement', 'y', 'disposition', 'link', { pressed: (desk) => desk.linked, when: several }),
  command('Lignes de repère', 'x', 'disposition', 'lines', { pressed: (desk) => desk.referenceLines, when: several }),
  command('Plein écran', 'f', 'autres', 'fullscreen'),
  command('Imprimer', 'u', 'autres', 'print'),
  command('Aide', 'h', 'autres', 'help'),
  command('Image suivante', 'ArrowDown', 'clavier', 'next', { keyName: '↓' }),
  command('Image précédente', 'ArrowUp', 'clavier', 'previous', { keyName: '↑' }),
  command('Dix images plus loin', 'PageDown', 'clavier', 'page-next', { keyName: 'Page suiv.' }),
  command('Dix images plus tôt', 'PageUp', 'clavier', 'page-previous', { keyName: 'Page préc.' }),
  command('Première image', 'Home', 'clavier', 'first', { keyName: 'Début' }),
  command('Dernière image', 'End', 'clavier', 'last', { keyName: 'Fin' }),
  command('Série suivante', 'ArrowRight', 'clavier', 'series-next', { keyName: '→' }),
  command('Série précédente', 'ArrowLeft', 'clavier', 'series-previous', { keyName: '←' }),
  command('Agrandir', '+', 'clavier', 'in'),
  command('Réduire', '-', 'clavier', 'out'),
];

/** The action of a key that was pressed, if any. */
export function actionOfKey(event: KeyboardEvent): Action | undefined {
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return ACTIONS.find((action) => action.key === key) ?? (key === '=' ? ACTIONS.find((action) => action.key === '+') : undefined);
}

/** How a key is named to the reader. */
export function keyName(action: Action): string {
  return action.keyName ?? (action.key ?? '').toUpperCase();
}

function several(desk: Desk): boolean {
  return desk.layout === '1x2' || desk.layout === '2x2' || desk.layout === 'mpr';
}
