/** Elements without markup: text from DICOM or the network is only ever text. */

type Child = Node | string | undefined | false;

/** Makes an element. Properties that start with `on` are listeners; the others are attributes. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Record<string, string | number | boolean | undefined | ((event: Event) => void)> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children) if (child !== undefined && child !== false) element.append(child);
  return element;
}

/** A button with a text that says what it does, and the key that does the same. */
export function button(
  label: string,
  action: () => void,
  options: { key?: string; title?: string; class?: string; pressed?: boolean } = {},
): HTMLButtonElement {
  const title = options.key === undefined ? options.title : `${options.title ?? label} (touche ${options.key})`;
  return h(
    'button',
    {
      type: 'button',
      class: options.class,
      title,
      'aria-pressed': options.pressed === undefined ? undefined : String(options.pressed),
      'aria-keyshortcuts': options.key?.length === 1 ? options.key : undefined,
      onclick: action,
    },
    label,
  );
}
