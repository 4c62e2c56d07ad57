/** The tools of Cornerstone3D: which one the pointer drives, and those that are always on. */

import {
  addTool,
  AngleTool,
  EllipticalROITool,
  Enums,
  LengthTool,
  PanTool,
  ProbeTool,
  RectangleROITool,
  ReferenceLinesTool,
  StackScrollTool,
  ToolGroupManager,
  WindowLevelTool,
  ZoomTool,
} from '@cornerstonejs/tools';

import type { Tool } from '../ui/actions';
import { decimal } from '../ui/text';
import type { Mode } from '../view/viewer';

const GROUP = 'exam';
const { MouseBindings } = Enums;

const POINTER: Record<Mode | Tool, string> = {
  scroll: StackScrollTool.toolName,
  window: WindowLevelTool.toolName,
  zoom: ZoomTool.toolName,
  pan: PanTool.toolName,
  Length: LengthTool.toolName,
  Angle: AngleTool.toolName,
  EllipticalROI: EllipticalROITool.toolName,
  RectangleROI: RectangleROITool.toolName,
  Probe: ProbeTool.toolName,
};
const ALL = [
  StackScrollTool, WindowLevelTool, ZoomTool, PanTool, LengthTool, AngleTool, EllipticalROITool, RectangleROITool, ProbeTool, ReferenceLinesTool,
];

/** What the tools found, by the image that it was measured on. */
interface Measured {
  cachedStats?: Record<string, Record<string, unknown> | undefined>;
}

/** The words beside each mark, in French. */
const TEXTS: Record<string, (found: Record<string, unknown>) => string[]> = {
  [LengthTool.toolName]: (found) => lines([quantity('', found['length'], found['unit'])]),
  [AngleTool.toolName]: (found) => lines([quantity('', found['angle'], '°')]),
  [EllipticalROITool.toolName]: region,
  [RectangleROITool.toolName]: region,
  [ProbeTool.toolName]: (found) => {
    const value = found['value'];
    const values = Array.isArray(value) ? value : [value];
    return lines([values.map((one) => quantity('', one, found['modalityUnit'])).filter(Boolean).join(' / ')]);
  },
};

function region(found: Record<string, unknown>): string[] {
  const unit = found['modalityUnit'];
  return lines([
    quantity('Surface', found['area'], found['areaUnit']),
    quantity('Moyenne', found['mean'], unit),
    quantity('Écart type', found['stdDev'], unit),
    quantity('Minimum', found['min'], unit),
    quantity('Maximum', found['max'], unit),
  ]);
}

function quantity(name: string, value: unknown, unit: unknown): string | undefined {
  if (typeof value !== 'number' || !Number.isFinite(value)) return undefined;
  const text = `${decimal(value)} ${typeof unit === 'string' ? unit : ''}`.trim();
  return name === '' ? text : `${name} : ${text}`;
}

function lines(all: (string | undefined)[]): string[] {
  return all.filter((line): line is string => Boolean(line));
}

let registered = false;

/** The group of tools of all views. */
export class Tools {
  readonly #group: NonNullable<ReturnType<typeof ToolGroupManager.createToolGroup>>;
  #viewports: string[] = [];
  #lines = true;
  #source = '';

  constructor(private readonly engine: string) {
    if (!registered) ALL.forEach((tool) => addTool(tool));
    registered = true;
    const group = ToolGroupManager.createToolGroup(GROUP);
    if (group === undefined) throw new Error('tools are in use');
    this.#group = group;
    for (const { toolName } of ALL) {
      const words = TEXTS[toolName];
      const getTextLines = (data: Measured, target: string): string[] | undefined => {
        const found = data.cachedStats?.[target];
        return found && words?.(found);
      };
      group.addTool(toolName, words ? { getTextLines } : {});
    }
  }

  /** Gives a view the tools. */
  add(viewport: string): void {
    this.#group.addViewport(viewport, this.engine);
    this.#viewports.push(viewport);
  }

  /** Forgets every view. */
  forget(): void {
    for (const viewport of this.#viewports) this.#group.removeViewports(this.engine, viewport);
    this.#viewports = [];
  }

  /** What the left button and one finger do. */
  activate(tool: Mode | Tool): void {
    const chosen = POINTER[tool];
    for (const one of ALL) {
      const name = one.toolName;
      if (name === ReferenceLinesTool.toolName) continue;
      const bindings: { mouseButton?: number; numTouchPoints?: number }[] = [];
      if (name === chosen) bindings.push({ mouseButton: MouseBindings.Primary });
      if (name === PanTool.toolName) bindings.push({ mouseButton: MouseBindings.Auxiliary });
      if (name === ZoomTool.toolName) bindings.push({ mouseButton: MouseBindings.Secondary }, { numTouchPoints: 2 });
      if (name === StackScrollTool.toolName) bindings.push({ mouseButton: MouseBindings.Wheel });
      // Bindings add up; the ones before have to go first.
      this.#group.setToolPassive(name, { removeAllBindings: true });
      if (bindings.length > 0) this.#group.setToolActive(name, { bindings });
    }
  }

  /** The view whose plane is drawn in the others. */
  source(viewport: string): void {
    this.#source = viewport;
    this.setReferenceLines(this.#lines);
  }

  /** Turns the lines on or off. */
  setReferenceLines(on: boolean): void {
    this.#lines = on;
    const name = ReferenceLinesTool.toolName;
    if (on && this.#viewports.length > 1) {
      this.#group.setToolConfiguration(name, { sourceViewportId: this.#source });
      this.#group.setToolEnabled(name);
    } else {
      this.#group.setToolDisabled(name);
    }
  }

  /** Ends the group. */
  dispose(): void {
    ToolGroupManager.destroyToolGroup(GROUP);
  }
}
