/**
 * In place of `xmlbuilder2`, which vtk.js imports for its XML writers and which needs Node's
 * EventEmitter when it is loaded. Nothing here writes or reads vtk's XML.
 */
export function create(): never {
  throw new Error('XML of vtk.js is not part of this page');
}

/** As `create`. */
export function convert(): never {
  return create();
}

export default { create, convert };
