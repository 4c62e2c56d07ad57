/** The exam that the session may see, as `GET /viewer/api/exam` tells it. */

import { get, post } from './http';

/** Identity traits (INS). All may be absent. */
export interface Patient {
  name?: {
    /** Nom de naissance. */
    birth?: string;
    /** Premier prénom de naissance. */
    firstGiven?: string;
    /** Liste des prénoms de naissance. */
    givens?: string;
    /** Nom utilisé. */
    used?: string;
    /** Prénom utilisé. */
    usedGiven?: string;
  };
  /** YYYY-MM-DD or YYYYMMDD. */
  birthDate?: string;
  /** M, F, O or U. */
  sex?: string;
  /** Code of the place of birth (COG), or its name. */
  birthPlace?: string;
  ins?: { value: string; oid: string; qualified: boolean };
}

/** An exam that the session may compare with. A session of today has one exam, and is told of none. */
export interface Prior {
  study: string;
  description?: string;
  date?: string;
}

/** A series, as the exam tells it. Everything but its UID may be absent. */
export interface ToldSeries {
  uid: string;
  modality?: string | null;
  description?: string | null;
  number?: number | null;
  /** Instances that were published. */
  count?: number | null;
  /** An instance in its middle. */
  middle?: string | null;
}

/** Answer of `GET /viewer/api/exam`. */
export interface Exam extends Prior {
  patient?: Patient;
  /** The report: a path of the own origin, and its media type. */
  report?: { href: string; type: string } | null;
  /** The exam may be downloaded, from `/viewer/api/archive`. */
  download?: boolean;
  /** Weasis may be launched, from `/viewer/api/weasis`. */
  weasis?: boolean;
  /** Instances that the archive will hold. */
  instances?: number;
  /** Its series; they are searched for when it tells none. */
  series?: ToldSeries[] | null;
  priors?: Prior[];
  /** Path that ends the session: professionals and patients have their own. */
  logout?: string;
  idleSeconds?: number;
  absoluteSeconds?: number;
  csrf?: string;
}

/** Path of the exam's ZIP archive with DICOMDIR. */
export const ARCHIVE = '/viewer/api/archive';
/** Path that tells how far the archive is. */
const PROGRESS = '/viewer/api/archive/progress';
const WEASIS = '/viewer/api/weasis';
const LOGOUT = '/auth/logout';

/** How far the archive of this session is, in instances. */
export interface Progress {
  sent: number;
  total: number;
  state: 'none' | 'running' | 'done' | 'failed';
}

/** Asks for the exam; also tells the server that somebody is there. */
export async function fetchExam(): Promise<Exam> {
  const response = await get('/viewer/api/exam', 'application/json');
  return (await response.json()) as Exam;
}

/** Ends the session on the server. A failure is no reason to keep the page. */
export async function logout(exam: Exam): Promise<void> {
  try {
    await fetch((exam.logout && ownPath(exam.logout)) || LOGOUT, {
      method: 'POST',
      body: form(exam),
      credentials: 'same-origin',
      redirect: 'manual',
      keepalive: true,
    });
  } catch {
    // The session ends by itself at its idle limit.
  }
}

/** How far the archive is. */
export async function fetchProgress(): Promise<Progress> {
  return (await (await get(PROGRESS, 'application/json')).json()) as Progress;
}

/** A one-time address that opens the exam in Weasis; none when the answer is no such address. */
export async function weasisAddress(exam: Exam): Promise<string | undefined> {
  const address = (await (await post(WEASIS, form(exam))).text()).trim();
  // The one scheme that may leave the page; the server makes the address for this session.
  return address.startsWith('weasis://') ? address : undefined;
}

function form(exam: Exam): URLSearchParams {
  return new URLSearchParams({ csrf: exam.csrf ?? '' });
}

/** A path of the own origin, or nothing: an address of somewhere else is never followed. */
export function ownPath(href: string): string | undefined {
  try {
    const url = new URL(href, location.origin);
    return url.origin === location.origin ? url.pathname + url.search : undefined;
  } catch {
    return undefined;
  }
}
