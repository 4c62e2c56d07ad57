// The professionals of the tests: invented, with numbers that look like numbers.

const activity = (name, finess, mode = 'S') => ({
  codeModeExercice: mode,
  codeSecteurDactivite: mode === 'L' ? 'SA07' : 'SA01',
  codeSectionPharmacien: '',
  codeRole: '',
  codeGenreActivite: 'GENR01',
  numeroSiretSite: '',
  numeroSirenSite: '',
  numeroFinessSite: finess,
  numeroFinessetablissementJuridique: '',
  identifiantTechniqueDeLaStructure: `F${finess}`,
  raisonSocialeSite: name,
  enseigneCommercialeSite: '',
  codePostal: '75009',
  bureauCedex: '75009 PARIS',
  telephone: '',
  adresseEMail: '',
  ancienIdentifiantDeLaStructure: `1${finess}`,
  autoriteDenregistrement: 'CNOM/CNOM/CNOM',
});

const person = (family_name, given_name, ...exercices) => ({ family_name, given_name, exercices });

const exercice = (profession, skill, activities, category = 'C') => ({
  codeProfession: profession,
  codeCategorieProfessionnelle: category,
  codeCiviliteDexercice: profession === '10' ? 'DR' : '',
  codeTypeSavoirFaire: skill ? 'S' : '',
  codeSavoirFaire: skill,
  activities,
});

const hospital = activity('HOPITAL DES ESSAIS', '750000018');
const practice = activity('CABINET DES ESSAIS', '750000026', 'L');

/** By national id. */
const people = new Map([
  // A radiologist in two places: the situation has to be chosen.
  ['899700218896', person('ESSAI-DEUX', 'CAMILLE', exercice('10', 'SM44', [hospital, practice]))],
  // A physician in one place.
  ['899700366240', person('ESSAI-UN', 'DOMINIQUE', exercice('10', 'SM26', [practice]))],
  ['899700100401', person('ESSAI-DENTISTE', 'CLAUDE', exercice('40', '', [practice]))],
  ['899700100501', person('ESSAI-SAGE-FEMME', 'MAEL', exercice('50', '', [practice]))],
  ['899700100981', person('ESSAI-MANIPULATEUR', 'SACHA', exercice('98', '', [hospital]))],
  ['899700100601', person('ESSAI-INFIRMIER', 'ALIX', exercice('60', '', [hospital]))],
  ['899700100105', person('ESSAI-ETUDIANT', 'LOU', exercice('10', '', [hospital], 'E'))],
  ['899700100113', person('ESSAI-SANS-ACTIVITE', 'MAXENCE', exercice('10', 'SM44', []))],
  // A secretary: no RPPS number, no exercise.
  ['500000001815646/CPAT00045', person('ESSAI-SECRETAIRE', 'NOA')],
]);

export const isKnown = (id) => people.has(id);
export const all = () => [...people].map(([id, { family_name, given_name }]) => ({ id, family_name, given_name }));
export const subject = (id) => `f:550dc1c8-d97b-4b1e-ac8c-8eb4471cf9dd:${id}`;
export const idOf = (sub) => sub?.split(':').pop();

/** The members that PSC puts into an id_token. */
export function identity(id) {
  const { family_name, given_name } = people.get(id);
  return { sub: subject(id), email_verified: false, preferred_username: id, given_name, family_name, SubjectNameID: id };
}

export function userInfo(id) {
  const { family_name, given_name, exercices } = people.get(id);
  const [first] = exercices.flatMap((one) => one.activities);
  return {
    ...identity(id),
    UITVersion: '1.0',
    PSI_Locale: '1.2.250.1.213.1.3.1.1',
    Mode_Acces_Raison: '',
    Acces_Regulation_Medicale: 'FAUX',
    Palier_Authentification: 'APPPRIP3^1.2.250.1.213.1.5.1.1.1',
    Secteur_Activite: first ? `${first.codeSecteurDactivite}^1.2.250.1.71.4.2.4` : '',
    SubjectOrganization: first?.raisonSocialeSite ?? '',
    ...(first ? { SubjectOrganizationID: first.identifiantTechniqueDeLaStructure } : {}),
    SubjectRole: exercices.map((one) => `${one.codeProfession}^1.2.250.1.213.1.1.5.5`),
    ...(id.startsWith('8') ? { otherIds: [{ identifiant: id, origine: 'RPPS', qualite: 1 }] } : {}),
    SubjectRefPro: {
      codeCivilite: 'M',
      exercices: exercices.map((one) => ({ ...one, nomDexercice: family_name, prenomDexercice: given_name })),
    },
  };
}
