/** What is written beside an image, and must be known to read it. */

import type { Image } from '../dicom/image';
import type { KeyImages } from './keys';

/** Lines about an image: side, view, whether it was selected. */
export function captionOf(image: Image | undefined, keys: KeyImages): string[] {
  if (image === undefined) return [];
  const side = { L: 'Gauche', R: 'Droite', B: 'Bilatéral' }[image.laterality];
  // The side of a slice is in its letters.
  const projection = image.orientation === undefined ? [side, image.view].filter(Boolean).join(' · ') : '';
  return [projection, keys.has(image) ? '★ Image clé' : ''].filter(Boolean);
}

/** What to know about the measures on an image; '' when they are millimetres in the patient. */
export function calibrationOf(image: Image | undefined): string {
  if (image === undefined) return '';
  if (image.spacing === undefined) return 'Non étalonné : mesures en pixels';
  if (image.spacing.kind === 'detector') return 'Mesures au détecteur : agrandissement non corrigé';
  return '';
}
