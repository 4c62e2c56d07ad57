/** Names, dates and numbers as French readers write them. */

import type { Patient } from '../exam';

/** DICOM (YYYYMMDD) or ISO date → 12/03/2026; anything else as it is. */
export function frenchDate(date: string | undefined): string {
  const parts = /^(\d{4})-?(\d{2})-?(\d{2})/.exec(date ?? '');
  return parts === null ? (date ?? '') : `${parts[3]}/${parts[2]}/${parts[1]}`;
}

/** Sex as the identity traits name it. */
export function frenchSex(sex: string | undefined): string {
  switch (sex) {
    case 'M':
      return 'Masculin';
    case 'F':
      return 'Féminin';
    default:
      return sex ? 'Indéterminé' : '';
  }
}

/** A number with the decimals that mean something. */
export function decimal(value: number, digits = 1): string {
  return value.toLocaleString('fr-FR', { maximumFractionDigits: digits });
}

/** Bytes in the unit that fits. */
export function size(bytes: number): string {
  return bytes < 1e6 ? `${decimal(bytes / 1e3, 0)} ko` : bytes < 1e9 ? `${decimal(bytes / 1e6)} Mo` : `${decimal(bytes / 1e9)} Go`;
}

/** Traits shown at the start (INS/va1.36): birth name, first given name, birth date, sex, place of birth. */
export function mainTraits(patient: Patient): [string, string][] {
  return present([
    ['Nom de naissance', patient.name?.birth],
    ['Premier prénom', patient.name?.firstGiven],
    ['Né(e) le', frenchDate(patient.birthDate)],
    ['Sexe', frenchSex(patient.sex)],
    ['Lieu de naissance', patient.birthPlace],
  ]);
}

/** Traits shown on the reader's wish (INS/va1.36). */
export function otherTraits(patient: Patient): [string, string][] {
  return present([
    ['Nom utilisé', patient.name?.used],
    ['Prénom utilisé', patient.name?.usedGiven],
    ['Prénoms de naissance', patient.name?.givens],
    ['Matricule INS', patient.ins?.value],
    ['Nature (OID)', patient.ins?.oid],
    ['Identité', patient.ins && (patient.ins.qualified ? 'qualifiée' : 'non qualifiée')],
  ]);
}

/** A modality in words. */
export function modalityName(modality: string): string {
  return (
    {
      CT: 'Scanner',
      MR: 'IRM',
      US: 'Échographie',
      DX: 'Radiographie',
      CR: 'Radiographie',
      MG: 'Mammographie',
      XA: 'Angiographie',
      RF: 'Radioscopie',
      NM: 'Scintigraphie',
      PT: 'TEP',
      SR: 'Mesures',
      DOC: 'Document',
      KO: 'Images clés',
      PR: 'Présentation',
      ES: 'Endoscopie',
      SC: 'Capture',
      OT: 'Image',
    }[modality] ?? modality
  );
}

function present(traits: [string, string | undefined][]): [string, string][] {
  return traits.filter((trait): trait is [string, string] => Boolean(trait[1]));
}
