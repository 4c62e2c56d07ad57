/** The page of an exam: what the reader does, and what it does to the images. */

import type { AdvancedViewer } from './advanced/viewer';
import type { Image, Window } from './dicom/image';
import { fetchSeries, type Series, toldSeries } from './dicom/web';
import { asViewerError } from './errors';
import { type Exam, type Prior, weasisAddress } from './exam';
import { Frames } from './frames';
import { actionOfKey, type Desk, type Layout, type Tool } from './ui/actions';
import { banner } from './ui/banner';
import { download } from './ui/download';
import { h } from './ui/dom';
import { Panel } from './ui/panel';
import { endPage } from './ui/page';
import { printViews } from './ui/print';
import { documentOf, referencesOf } from './ui/report';
import { SeriesList } from './ui/serieslist';
import { Session } from './ui/session';
import { Stage } from './ui/stage';
import { help, Toolbar } from './ui/toolbar';
import { CanvasViewer } from './view/canvas';
import { type Hung, mammography } from './view/hanging';
import { KeyImages, names, type Reference } from './view/keys';
import { isDocument, Stack, Stacks } from './view/stack';
import type { Mode, Shown } from './view/viewer';

const PAGE_STEP = 10;
/** Series of a mammography that are looked through for its views. */
const MAX_HUNG_SERIES = 16;
/** A screen where two images stand side by side. */
const WIDE = '(min-width: 801px) and (min-aspect-ratio: 1/1)';

/** The page of an exam. */
export class App implements Desk {
  mode: Mode | Tool = 'scroll';
  layout: Layout = '1x1';
  linked = true;
  referenceLines = true;
  thick = false;
  overlays = false;

  readonly #frames: Frames;
  readonly #stacks: Stacks;
  readonly #keys = new KeyImages();
  readonly #stage = new Stage(this.#keys);
  readonly #toolbar: Toolbar;
  readonly #panel = new Panel(() => this.#arrange());
  readonly #list = new SeriesList((series) => void this.#choose(series));
  readonly #session: Session;
  #advanced: AdvancedViewer | undefined;
  #loading: Promise<AdvancedViewer | undefined> | undefined;
  #chosen: Series | undefined;
  #hanging: Hung[] | undefined;
  /** Plays videos while the tools are loaded, which show pictures only. */
  #player: CanvasViewer | undefined;

  constructor(
    private readonly exam: Exam,
    frames: Frames,
  ) {
    this.#frames = frames;
    this.#stacks = new Stacks(frames);
    // On its way while the page is built; `start` takes it, and tells what goes wrong.
    const first = toldSeries(exam)?.find((series) => !isDocument(series));
    if (first !== undefined) this.#stacks.first(first).catch(() => undefined);
    this.#toolbar = new Toolbar(this);
    this.#session = new Session(exam, (why) => this.#end(why));
    this.#stage.onchange = () => this.#toolbar.refresh();
    this.#stage.viewer = new CanvasViewer(this.#frames, () => this.#stage.refresh());
    if (!matchMedia('(pointer: coarse)').matches) this.mode = 'window';
    this.#stage.viewer.setMode(this.mode as Mode);
    this.#build();
    addEventListener('keydown', (event) => this.#key(event));
  }

  /** Shows what the exam holds, the first image first. */
  async start(): Promise<void> {
    this.#stage.say("Recherche des images de l'examen…");
    try {
      const series = toldSeries(this.exam) ?? (await fetchSeries(this.exam.study));
      this.#list.add(series, 'Séries');
      const first = this.#list.imaging[0];
      if (first !== undefined) {
        await this.#choose(first);
      } else {
        this.#stage.say(series.length > 0 ? 'Cet examen ne contient que des documents.' : "Aucune image n'est disponible pour cet examen.");
        if (series[0]) await this.#choose(series[0]);
      }
    } catch (thrown) {
      this.#stage.say(asViewerError(thrown).message, () => void this.start());
    }
    this.#list.loadPictures();
    void this.#findKeys();
    void this.#findHanging();
  }

  get hangable(): boolean {
    return this.#hanging !== undefined;
  }

  get shown(): Shown {
    return this.#stage.viewer.shown;
  }

  get playing(): boolean {
    return this.#stage.playing;
  }

  setMode(mode: Mode): void {
    this.mode = mode;
    this.#stage.viewer.setMode(mode);
    this.#toolbar.refresh();
  }

  setTool(tool: Tool): void {
    void this.#withTools((viewer) => {
      this.mode = tool;
      viewer.setTool(tool);
    });
  }

  setLayout(layout: Layout): void {
    if (layout === '1x1' && this.#advanced === undefined) return;
    this.#stage.stopCine();
    const { stack } = this.shown;
    void this.#withTools(async (viewer) => {
      // Who asks early for planes is not told that there are none. What does not come is told where it was asked for.
      if (layout === 'mpr' && stack?.complete === false) await this.#stacks.whole(stack.series).catch(() => undefined);
      const refusal = await viewer.setLayout(layout);
      this.layout = viewer.layout;
      // Stays until it was read: the view that was just made is drawn again meanwhile.
      if (refusal !== undefined) this.#stage.tell(refusal);
    });
  }

  setWindow(window: Window | 'default' | 'full'): void {
    this.#stage.viewer.setWindow(window);
  }

  command(name: Parameters<Desk['command']>[0]): void {
    const viewer = this.#stage.viewer;
    switch (name) {
      case 'invert':
        return viewer.invert();
      case 'rotate':
        return viewer.rotate();
      case 'flip':
        return viewer.flip();
      case 'reset':
        return viewer.reset();
      case 'actual':
        return viewer.actualSize();
      case 'in':
        return viewer.zoomBy(1.25);
      case 'out':
        return viewer.zoomBy(0.8);
      case 'cine':
        return this.#stage.toggleCine();
      case 'next':
        return this.#stage.step(1);
      case 'previous':
        return this.#stage.step(-1);
      case 'page-next':
        return this.#stage.step(PAGE_STEP);
      case 'page-previous':
        return this.#stage.step(-PAGE_STEP);
      case 'first':
        return this.#stage.step(-Infinity);
      case 'last':
        return this.#stage.step(Infinity);
      case 'series-next':
        return this.#neighbour(1);
      case 'series-previous':
        return this.#neighbour(-1);
      case 'fullscreen':
        void (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.());
        return;
      case 'print':
        return printViews(this.exam, viewer.shown, viewer.snapshot());
      case 'help':
        return help();
      case 'clear':
        this.#advanced?.clear();
        return;
      case 'link':
        this.linked = !this.linked;
        this.#advanced?.setLinked(this.linked);
        return this.#toolbar.refresh();
      case 'lines':
        this.referenceLines = !this.referenceLines;
        this.#advanced?.setReferenceLines(this.referenceLines);
        return this.#toolbar.refresh();
      case 'overlays':
        this.overlays = !this.overlays;
        viewer.setOverlays(this.overlays);
        return this.#toolbar.refresh();
      case 'hang':
        return void this.#hang();
      case 'thick':
        this.thick = !this.thick;
        this.#advanced?.setThick(this.thick);
        return this.#toolbar.refresh();
    }
  }

  #build(): void {
    const { report, priors } = this.exam;
    const actions = [
      report ? h('button', { type: 'button', class: 'report', onclick: () => this.#toggleReport() }, 'Compte rendu') : undefined,
      this.exam.download ? h('button', { type: 'button', onclick: () => void download() }, 'Télécharger') : undefined,
      this.exam.weasis ? h('button', { type: 'button', class: 'weasis', onclick: () => void this.#weasis() }, 'Ouvrir dans Weasis') : undefined,
      h('label', { class: 'shared', title: "La session se ferme plus vite, et dès que la page est quittée" },
        h('input', { type: 'checkbox', onchange: (event) => (this.#session.shared = (event.target as HTMLInputElement).checked) }), 'Ordinateur partagé'),
      h('button', { type: 'button', class: 'logout', onclick: () => void this.#session.end() }, 'Se déconnecter'),
    ].filter((element) => element !== undefined);
    for (const prior of priors ?? []) this.#list.offer(this.#priorButton(prior));
    const main = h('main', { class: 'desk' }, this.#toolbar.element, this.#list.element, this.#stage.element, this.#panel.element);
    document.body.replaceChildren(
      banner(this.exam, actions),
      main,
      h('footer', { class: 'notice' }, "Consultation — ne remplace pas une console d'interprétation"),
    );
  }

  #arrange(): void {
    document.querySelector('main')?.classList.toggle('with-panel', this.#panel.isOpen);
  }

  #priorButton(prior: Prior): HTMLElement {
    const button = h('button', { type: 'button', class: 'prior' }, `Examen antérieur ${prior.description ?? ''}`);
    button.addEventListener('click', () => {
      button.disabled = true;
      fetchSeries(prior.study)
        .then((series) => {
          button.remove();
          this.#list.add(series, prior.description ?? 'Examen antérieur', prior.date);
          this.#list.loadPictures();
        })
        .catch((thrown: unknown) => {
          button.disabled = false;
          this.#stage.say(asViewerError(thrown).message, () => button.click());
        });
    });
    return button;
  }

  async #choose(series: Series): Promise<void> {
    if (isDocument(series)) {
      this.#list.mark(series.uid);
      await this.#open(() => documentOf(series, (reference) => void this.#follow(reference)));
      if (series.modality === 'KO') await this.#showKeys(series);
      return;
    }
    this.#chosen = series;
    this.#list.mark(series.uid);
    this.#stage.say('');
    try {
      const first = await this.#stacks.first(series);
      if (this.#chosen !== series) return;
      const shown = first.images[first.images.length >> 1];
      if (!first.complete && shown !== undefined) {
        this.#present(first, first.images.length >> 1);
        // Neither the rest of the series nor the small pictures take the line from its first image.
        await this.#onScreen(shown);
        this.#list.loadPictures();
        if (this.#chosen !== series) return;
      }
      const stack = await this.#stacks.whole(series);
      if (this.#chosen !== series) return;
      const current = this.shown.stack === stack ? (this.shown.image ?? shown) : shown;
      this.#present(stack, stack.indexOf(current));
    } catch (thrown) {
      if (this.#chosen === series) this.#stage.say(asViewerError(thrown).message, () => void this.#choose(series));
    }
  }

  /** Waits until an image that is being shown has been drawn, or will not be. */
  async #onScreen(image: Image): Promise<void> {
    if (image.video === undefined) await this.#frames.get(image).catch(() => undefined);
    // Nothing is drawn while nobody sees the page.
    if (document.hidden) return;
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  }

  async #follow(reference: Reference): Promise<void> {
    const series = this.#list.imaging.find((one) => one.uid === reference.series);
    if (series === undefined) return;
    this.#chosen = series;
    this.#list.mark(series.uid);
    const stack = await this.#stacks.whole(series);
    const at = stack.images.findIndex((image) => names(reference, image));
    this.#present(stack, Math.max(at, 0));
  }

  /** The images of a selection, one after the other. */
  async #showKeys(series: Series): Promise<void> {
    const references = await referencesOf(series);
    const stack = new Stack({ ...series, description: series.description || 'Images clés' });
    for (const reference of references) {
      const of = this.#list.imaging.find((one) => one.uid === reference.series);
      const whole = of && (await this.#stacks.whole(of));
      stack.images.push(...(whole?.images.filter((image) => names(reference, image) && !stack.images.includes(image)) ?? []));
    }
    stack.complete = true;
    if (stack.images.length === 0) return;
    this.#chosen = series;
    this.#present(stack, 0);
  }

  /** Learns which images somebody selected. */
  async #findKeys(): Promise<void> {
    for (const series of this.#list.documents.filter((one) => one.modality === 'KO')) {
      // What cannot be read is not marked; opening it says why.
      this.#keys.add(await referencesOf(series).catch(() => []));
    }
    this.#stage.refresh();
  }

  /** Hangs a mammography as its readers expect it, where the screen has the room. */
  async #findHanging(): Promise<void> {
    const series = this.#list.imaging.filter((one) => one.modality === 'MG').slice(0, MAX_HUNG_SERIES);
    if (series.length === 0) return;
    const chosen = this.#chosen;
    try {
      this.#hanging = mammography(await Promise.all(series.map((one) => this.#stacks.whole(one))));
    } catch {
      return;
    }
    this.#toolbar.refresh();
    if (this.#chosen === chosen && this.#advanced === undefined && matchMedia(WIDE).matches) await this.#hang();
  }

  async #hang(): Promise<void> {
    const hanging = this.#hanging;
    if (hanging === undefined) return;
    await this.#withTools(async (viewer) => {
      await viewer.hang(hanging);
      this.layout = viewer.layout;
    });
  }

  /** Shows a stack with the viewer that can. */
  #present(stack: Stack, index: number): void {
    if (this.#advanced !== undefined) {
      const video = stack.images.some((image) => image.video !== undefined);
      if (video) this.#player ??= new CanvasViewer(this.#frames, () => this.#stage.refresh());
      const viewer = video && this.#player ? this.#player : this.#advanced;
      if (this.#stage.viewer !== viewer) this.#stage.viewer = viewer;
    }
    this.#stage.show(stack, index);
  }

  #neighbour(by: number): void {
    const series = this.#list.imaging;
    const at = series.findIndex((one) => one.uid === this.#chosen?.uid);
    const next = series[at + by];
    if (next !== undefined) void this.#choose(next);
  }

  #toggleReport(): void {
    const { report } = this.exam;
    if (this.#panel.isOpen) this.#panel.close();
    else if (report) void this.#panel.open({ title: 'Compte rendu', content: report });
  }

  async #open(make: () => ReturnType<typeof documentOf>): Promise<void> {
    try {
      await this.#panel.open(await make());
    } catch (thrown) {
      const text = asViewerError(thrown).message;
      await this.#panel.open({ title: 'Document', content: { node: h('p', {}, text) } });
    }
  }

  async #weasis(): Promise<void> {
    try {
      const address = await weasisAddress(this.exam);
      if (address !== undefined) location.assign(address);
    } catch (thrown) {
      this.#stage.say(asViewerError(thrown).message);
    }
  }

  /** Does something with the tools, which are loaded at the first need. */
  async #withTools(run: (viewer: AdvancedViewer) => void | Promise<void>): Promise<void> {
    if (this.#stage.viewer === this.#player || this.shown.image?.video !== undefined) {
      this.#stage.tell("Cet outil ne s'applique pas aux vidéos.");
      return;
    }
    this.#loading ??= this.#loadTools();
    const viewer = await this.#loading;
    if (viewer === undefined) {
      this.#loading = undefined;
      return;
    }
    await run(viewer);
    this.#toolbar.refresh();
  }

  async #loadTools(): Promise<AdvancedViewer | undefined> {
    this.#stage.stopCine();
    this.#stage.say('Chargement des outils…');
    try {
      const { createAdvanced } = await import('./advanced/viewer');
      const before = this.#stage.viewer;
      const { stack, index } = before.shown;
      const viewer = await createAdvanced(this.#frames, this.#keys, () => this.#stage.refresh());
      this.#stage.viewer = viewer;
      if (stack !== undefined) viewer.show(stack, index);
      before.dispose();
      this.#advanced = viewer;
      viewer.setLinked(this.linked);
      viewer.setReferenceLines(this.referenceLines);
      viewer.setOverlays(this.overlays);
      viewer.setThick(this.thick);
      this.#stage.say('');
      return viewer;
    } catch (thrown) {
      console.error(thrown);
      this.#stage.say("Les outils n'ont pas pu être chargés. Les images restent consultables.", () => this.#stage.say(''));
      return undefined;
    }
  }

  #key(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    const typing = target.matches('input:not([type=range]):not([type=checkbox]), select, textarea, iframe');
    if (typing || document.querySelector('dialog[open]') !== null) return;
    // Space and Enter belong to the button that has the focus; arrows to the slider.
    if (target.matches('button, summary, a, input') && (event.key === ' ' || event.key === 'Enter')) return;
    if (target.matches('input[type=range]') && event.key.startsWith('Arrow')) return;
    const action = actionOfKey(event);
    if (action === undefined || (action.when !== undefined && !action.when(this))) return;
    event.preventDefault();
    action.run(this);
  }

  /** Leaves nothing of the exam behind. */
  close(): void {
    this.#session.stop();
    this.#stage.stopCine();
    this.#advanced?.dispose();
    this.#frames.dispose();
  }

  #end(why: 'asked' | 'idle' | 'limit'): void {
    this.close();
    const text = {
      asked: 'Vous êtes déconnecté.',
      idle: "La session s'est fermée faute d'activité.",
      limit: 'La session a atteint sa durée maximale.',
    }[why];
    endPage('Consultation terminée', text);
  }
}
