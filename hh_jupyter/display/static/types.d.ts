/** What goes between the parts of the front end, and between it and the kernel (display/hub.py). Types only. */

export type ErrorRole = "" | "uncaught" | "caught" | "propagated";
export type Interval = [number, number];

/** Times in milliseconds after the trace's start. */
export interface Span {
  /** Its place among all, depth first. */
  order: number;
  id: string;
  name: string;
  kind: string;
  model: string;
  start: number;
  end: number;
  depth: number;
  running: boolean;
  parent: Span | null;
  children: Span[];
  /** Spans below it. */
  below: number;
  /** Of it and all below. */
  tokens: number | null;
  /** To the first token. */
  first: number | null;
  error: ErrorRole;
  /** Uncaught, it and below. */
  errors: number;
  /** Caught, it and below. */
  caught: number;
  /** The error in a word or two. */
  tag: string;
  own: Interval[];
  critical: Interval[];
}

export interface Trace {
  /** Depth first. */
  spans: Span[];
  roots: Span[];
  byId: Map<string, Span>;
  end: number;
  /** Of the leaves, once they were needed. */
  lanes?: Laned[];
}

export interface Laned {
  span: Span;
  lane: number;
}

export interface Row {
  key: string;
  span: Span;
  /** Of a fold. */
  items: Span[] | null;
  depth: number;
  position: number;
  size: number;
  expanded: boolean | null;
}

/** What a detail pane is shown for. */
export type Shown = Pick<Row, "span" | "items"> & Partial<Row>;

export interface Filter {
  toggled: Map<string, boolean>;
  query: string;
  onlyErrors: boolean;
}

/** What survives a redraw, and the next output of the same view. */
export interface State extends Filter {
  open: boolean | null;
  byHand: boolean;
  selected: string | null;
  tab: string | null;
  critical: boolean;
  keys: boolean;
}

export interface Notice {
  kind: "error" | "info";
  title: string;
  text: string;
  command: string | null;
}

export interface Session {
  id: string;
  name: string | null;
  url: string | null;
}

export interface Columns {
  /** Name and type, as in ARRAYS. */
  columns: [string, string][];
  names: string[];
  kinds: string[];
  models: string[];
  tags: Record<string, string>;
}

/** What the summary bar, the notice and the first look need; with rows, what describes their columns. */
export interface Header extends Columns {
  version: string;
  label: string;
  /** That the spans were read from. */
  file?: string | null;
  open: boolean;
  errors_only: boolean;
  mark: "ok" | "error" | "running" | "stopped";
  title: string;
  duration: string;
  facts: string[];
  errors: string;
  caught: string;
  notes: string[];
  delivery: string;
  delivery_state: string;
  session: Session | null;
  notice: Notice | null;
  can_send: boolean;
  /** The span of the error to tell first. */
  selected: string | null;
  /** Of a running cell. */
  elapsed_ms?: number;
}

/** The last rows of a view. */
export interface Rows {
  header: Header;
  buffers: DataView[];
}

export interface Call {
  name: string;
  id: string | null;
  arguments: unknown;
}

export interface Attachment {
  /** Type, size and pixels. */
  label: string;
  /** Why it is not drawn, or not there. */
  note?: string;
  /** Where the original is: shown as text, never fetched. */
  uri?: string;
  /** Its place among the images of the answer, if it is drawn. */
  image?: number;
  mime?: string;
}

export interface Message {
  role: string;
  text?: string;
  data?: unknown;
  calls?: Call[];
  attachments?: Attachment[];
  /** What is neither text nor known to be an attachment. */
  parts?: unknown[];
  tool?: string | null;
}

export interface Failure {
  type: string;
  message: string;
  stack: string;
  library_frames: number;
  full_stack: string;
}

export interface Usage {
  prompt: number | null;
  completion: number | null;
  cached: number | null;
  reasoning: number | null;
}

/** Everything about one span; parts that a span does not have are left out. */
export interface Details {
  error?: Failure;
  messages?: Message[];
  input?: unknown;
  output?: unknown;
  input_attachments?: Attachment[];
  output_attachments?: Attachment[];
  /** Bytes of the images that are drawn. */
  images?: DataView[];
  documents?: unknown[];
  attributes?: [string, unknown][];
  usage?: Usage;
  cost?: string;
  prices?: string;
  finish_reason?: string;
  /** Why there are no messages. */
  hint?: string;
  redacted?: number;
  dropped?: number;
}

/** A message in either direction: `type` says which other fields there are. */
export type ToKernel = { type: string; view?: string; span?: string; have?: string | null; visible?: boolean; number?: number };
export type FromKernel = { type: string; view: string; header: Header | null; source: string; number: number; value: any };

/** What anywidget gives of a model. */
export interface Model {
  get(name: string): any;
  send(message: ToKernel): void;
  on(name: string, listener: (...args: any[]) => void): void;
  off(name: string, listener: (...args: any[]) => void): void;
}

/** What may be put into an element; nested lists are joined. */
export type Child = Node | string | number | null | undefined | false | Child[];
