/** What went wrong, in the words of the person who reads the page. */

/** A failure with a text for the reader. */
export class ViewerError extends Error {
  constructor(
    readonly kind: 'ended' | 'network' | 'busy' | 'missing' | 'unreadable',
    message: string,
    /** HTTP status, when there was one. */
    readonly status = 0,
  ) {
    super(message);
  }
}

/** The error that an HTTP status stands for. */
export function fromStatus(status: number): ViewerError {
  switch (status) {
    case 401:
      return new ViewerError('ended', 'Votre session est terminée.', status);
    case 403:
      return new ViewerError('ended', "L'accès à cet examen n'est pas autorisé.", status);
    case 410:
      return new ViewerError('ended', "Cet examen n'est plus proposé à la consultation.", status);
    case 404:
      return new ViewerError('missing', "Cette image n'est pas disponible.", status);
    case 429:
    case 503:
    case 504:
      return new ViewerError('busy', 'Le centre est momentanément trop sollicité.', status);
    default:
      return new ViewerError('network', "Le centre n'a pas pu fournir cette image.", status);
  }
}

/** Any thrown value as an error with a text for the reader. */
export function asViewerError(thrown: unknown): ViewerError {
  if (thrown instanceof ViewerError) return thrown;
  if (thrown instanceof TypeError) return new ViewerError('network', 'La connexion au centre est interrompue.');
  return new ViewerError('unreadable', "Cette image n'a pas pu être lue.");
}

/** True for a request given up on purpose. */
export function isAbort(thrown: unknown): boolean {
  return thrown instanceof DOMException && thrown.name === 'AbortError';
}
