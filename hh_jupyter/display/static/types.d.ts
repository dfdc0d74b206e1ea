/** Types of the front end and of its messages to and from the kernel (display/hub.py). */

/** What a mark says of a cell, a run, a span or a row; the `Mark` of display/format.py. */
export type Mark = "ok" | "error" | "caught" | "wrong" | "unclear" | "running" | "stopped" | "cancelled";
export type ErrorRole = "" | "uncaught" | "caught" | "propagated" | "cancelled";
export type Interval = [number, number];

/** Times in milliseconds after the trace's start. */
export interface Span {
  /** Index among all spans, depth first. */
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
  /** Number of descendants. */
  below: number;
  /** Of the span and its descendants. */
  tokens: number | null;
  /** Time to the first token. */
  first: number | null;
  error: ErrorRole;
  /** The parent failed with this span's error, or with one that was raised from it. */
  passed: boolean;
  /** It describes the same model call as a span above. */
  repeats: boolean;
  /** Uncaught errors of the span and its descendants. */
  errors: number;
  /** Caught errors of the span and its descendants. */
  caught: number;
  /** Cancelled spans among the span and its descendants. */
  cancelled: number;
  /** How the row is marked if the span failed or was cancelled. */
  mark: Mark | null;
  /** The error in a word or two. */
  tag: string;
  /** Whether there is feedback on it. */
  rated: "" | "up" | "down" | "note";
  /** That a recording answered the call, and how long the recorded one took; else empty. */
  replayed: string;
  own: Interval[];
  critical: Interval[];
}

export interface Trace {
  /** Depth first. */
  spans: Span[];
  roots: Span[];
  byId: Map<string, Span>;
  end: number;
  /** Lanes of the leaf spans, computed on demand. */
  lanes?: LanedSpan[];
}

export interface LanedSpan {
  span: Span;
  lane: number;
}

/** What a list needs of a row. */
export interface ListRow {
  key: string;
  depth: number;
  /** From 1 on, among the rows of its parent. */
  position: number;
  /** Number of rows of its parent. */
  size: number;
  /** null: it has no rows below it. */
  expanded: boolean | null;
}

export interface ListState {
  /** Key of the selected row. */
  selected: string | null;
  /** Rows that were folded or unfolded by hand. */
  toggled: Map<string, boolean>;
}

/** A span, or a fold of repeated spans. */
export interface Row extends ListRow {
  span: Span;
  /** The spans of a fold. */
  items: Span[] | null;
}

/** The row that the detail pane shows. */
export type Shown = Pick<Row, "span" | "items"> & Partial<Row>;

export interface Filter extends Pick<ListState, "toggled"> {
  query: string;
  /** null: as the header says. */
  onlyErrors: boolean | null;
  /** Number of hits by span id, as the kernel counted them, 0 while it is still to read the span; null: it has not answered yet. */
  hits?: Map<string, number> | null;
  /** Rows without a hit are shown, too. */
  all?: boolean;
}

/** State that survives redraws and new outputs of the same view. */
export interface State extends Filter, ListState {
  /** The user's choice; null: as the header says. */
  open: boolean | null;
  /** The user selected it. */
  chosen: boolean;
  /** Id of the first span: another one means that the cell ran again. */
  first: string | null;
  tab: string | null;
  /** The details take the width, the tree is a rail. */
  wide: boolean;
  /** The critical path is underlined. */
  critical: boolean;
  /** The list of keys is shown. */
  keys: boolean;
  diff: DiffState;
  /** The model call that is edited. */
  again: { span: string; open: boolean; draft: Draft | null; folded: boolean; words: boolean } | null;
  /** How the rows of a report are sorted; none: as the kernel does. */
  sort?: Sort | null;
  /** Columns of a report that the user showed or hid; the others are shown as far as they fit. */
  columns?: Map<string, boolean>;
  /** The dataset to which the last row was added. */
  dataset?: string;
}

export interface Sort {
  key: string;
  down: boolean;
}

/** A text with its tone, a class of the style sheet. */
export type Toned = [string, string];

/** How the values of a metric are distributed; positions are shares of the axis. */
export interface Distribution {
  kind: "numbers" | "yes_no" | "labels";
  shares: number[];
  labels: string[];
  ends: [string, string];
  /** Of the rows behind each bar. */
  queries: string[];
  mean: number | null;
  error: number | null;
}

/** A difference with the ends of its interval. */
export interface Difference {
  low: number;
  value: number;
  high: number;
}

export type Cell = string | Toned[] | Distribution | Difference;

export interface Column {
  key: string;
  title: string;
  right: boolean;
  priority: number;
  /** Larger than 0 for long texts. Without a title, they stand in a second line. */
  line: number;
  /** 0: shown only if it is chosen. */
  weight: number;
}

export interface Section {
  lines: Toned[][];
  look: "table" | "boxes";
  columns?: Column[];
  rows?: Cell[][];
  more?: Toned[];
}

/** A report: in the header in place of the columns of spans. */
export interface Report {
  /** The first facts while it is folded. */
  headline: string[];
  sections: Section[];
  foot: Toned[][];
  columns: Column[];
  /** Names of filters with the numbers of their rows. */
  filters: [string, number][];
}

/** A row of a report. */
export interface TableRow extends ListRow {
  number: number;
  /** Of text, from 1 to 3. */
  lines: number;
  /** It failed or is wrong. */
  bad: boolean;
}

/** Everything about a row of a report. */
export interface RowDetails {
  texts: [string, Toned[]][];
  /** Texts to compare. */
  beside: [string, Toned[]][];
  values: [string, Toned[], Toned[]][];
  spans: RowSpans[];
}

/** The spans of a row in one run. */
export interface RowSpans {
  label: string;
  view: string;
  command: string;
  /** Id of the span that holds the feedback on the row; empty if it is no longer in memory. */
  span: string;
  feedback: Feedback;
}

/** State of the diff of a view. */
export interface DiffState extends Filter, ListState {
  /** The user's choice; null: as the header says. */
  open: boolean | null;
  /** Keys of the runs; null: the run before, and the one of the view. */
  old: string | null;
  new: string | null;
  unified: boolean;
}

/** Words that are the same; or the old and the new ones, with true if they differ in white space only. */
export type Piece = string | [string, string, true?];

/** The difference of two runs: totals, and columns of the rows. Only the id and the runs if the spans are no longer kept. */
export interface Diff {
  id: string;
  /** The oldest first. */
  runs: { key: string; name: string }[];
  /** Indexes of the runs that are compared. */
  old: number;
  new: number;
  facts: string[];
  counts: string;
  notes: string[];
  /** One character for each row: " ", "≠", "+", "−" or "↕". */
  marks: string;
  depth: number[];
  name: number[];
  kind: number[];
  model: number[];
  /** Milliseconds; null in the run that does not have the span. */
  old_ms: (number | null)[];
  new_ms: (number | null)[];
  /** Change of the tokens; null if it is unknown. */
  tokens: (number | null)[];
  /** What changed, in words, by row. */
  what: Record<string, string>;
  /** Rows whose time counts as changed. */
  slower: number[];
  names: string[];
  kinds: string[];
  models: string[];
}

/** A row of a diff. */
export interface DiffRow extends Span {
  /** Empty if it is the same in both runs. */
  sign: string;
  what: string;
  old: number | null;
  now: number | null;
}

/** A text of a span: the same in both runs, or in pieces. */
export interface DiffText {
  name: string;
  text?: string;
  pieces?: Piece[];
  lengths?: string;
}

export interface SpanDiff {
  /** Time, tokens and cost of both runs, and their change. */
  facts: [string, string][];
  /** The content of both spans is known. */
  compared: boolean;
  sections: { title: string; texts: DiffText[] }[];
}

/** A message of a draft. */
export interface DraftMessage {
  /** The argument that holds it, if it is not one of the messages: the system prompt. */
  role: string;
  value: any;
  /** The recorded one; undefined if it was added. */
  was: any;
  /** What was typed, if it is edited as JSON. */
  json?: string;
}

/** A request while it is edited. */
export interface Draft {
  messages: DraftMessage[];
  parameters: { name: string; value: string; was: any }[];
  /** null: they are edited as JSON, or there are none. */
  tools: { value: any; offered: boolean }[] | null;
  json: string | null;
}

/** A model call for editing, from the kernel (notebook/again.py). */
export interface Request {
  name: string;
  /** Of the client's method; empty if they are too long. */
  arguments: Record<string, any>;
  messages_in: string;
  system_in: string | null;
  /** Names of all parameters. */
  parameters: string[];
  models: string[];
  remarks: string[];
  problem: { title: string; text: string; command: string } | null;
  /** By what it is sent, and where to. */
  client: string;
  estimate: { cost: string | null; text: string; spent: string; raise: string };
  original: Answered;
  variants: Variant[];
}

/** What a call answered. */
export interface Answered {
  /** Each with its difference to the original. */
  facts: [string, string][];
  answer: Message[];
  /** The answer beside the original one; empty if they are not comparable texts. */
  pieces?: Piece[];
  problem?: string;
  running?: boolean;
}

export interface Variant extends Answered {
  number: number;
  arguments: Record<string, any>;
  pieces: Piece[];
  problem: string;
  running: boolean;
  /** The span that takes feedback; empty if there is none. */
  span: string;
  feedback: Record<string, any>;
}

/** Asks the kernel about a model call that is made again. */
export type Again = (span: string, action: "open" | "estimate" | "code" | "run" | "stop", values?: Record<string, any>) => Promise<any>;

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
  marks: Record<string, Mark>;
  tags: Record<string, string>;
  rated?: Record<string, "up" | "down" | "note">;
  replays: Record<string, string>;
}

/** Data of the summary bar, the notice and the first selection; with rows also the description of their columns. */
export interface Delta {
  failed: string;
  time: string;
  tokens: string;
  cost: string;
  calls: string;
  title: string;
}

export interface Header extends Columns {
  version: string;
  label: string;
  /** File from which the spans were read. */
  file?: string | null;
  open: boolean;
  errors_only: boolean;
  mark: Exclude<Mark, "caught">;
  title: string;
  duration: string;
  /** What the session has spent of its limit; empty without one. */
  limit: string;
  /** The part of the limit that is used, from 0 to 1; null without one. */
  share: number | null;
  facts: string[];
  /** That calls were not sent because of the limit. */
  stopped: string;
  /** How many calls a recording answered and what they would have cost, how many it had no answer for. */
  replayed: string;
  unrecorded: string;
  errors: string;
  caught: string;
  cancelled: string;
  /** The error that left the cell, if it began outside of spans; else empty. */
  raised: string;
  notes: string[];
  delivery: string;
  delivery_state: string;
  session: Session | null;
  /** What changed since the run before, in words; empty ones did not. */
  delta?: Delta | null;
  /** What changed is shown first. */
  diff?: boolean;
  notice: Notice | null;
  can_send: boolean;
  /** The span to show first: the deepest error, else the last model call; null if the page decides. */
  selected: string | null;
  /** Milliseconds, of a running cell. */
  elapsed_ms?: number;
  /** Only of a report; see there. */
  sections?: Section[];
}

/** The last rows of a view. */
export interface Rows {
  header: Header;
  buffers: DataView[];
}

/** What the page knows of a view of the kernel, by its id. */
export interface Known {
  state: State;
  /** null: none yet. */
  rows: Rows | null;
  /** This kernel does not know it; another may. */
  foreign: boolean;
}

export interface Call {
  name: string;
  id: string | null;
  arguments: unknown;
}

export interface Attachment {
  /** Type, size and pixels. */
  label: string;
  /** Why it is not drawn or missing. */
  note?: string;
  /** URI of the original: shown as text, never fetched. */
  uri?: string;
  /** Index among the images of the reply, if it is drawn. */
  image?: number;
  mime?: string;
}

export interface Message {
  role: string;
  text?: string;
  data?: unknown;
  calls?: Call[];
  attachments?: Attachment[];
  /** Parts that are neither text nor known attachments. */
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

/** What the user gives to a span; null takes it back. */
export interface Feedback {
  ok?: boolean | null;
  note?: string | null;
}

/** Hits by span id, and the number of spans that are still to be read, which have 0 hits. */
export interface SearchReply {
  hits: Record<string, number>;
  left: number;
}

/** A retrieved document. */
export interface Document {
  id?: unknown;
  text?: string;
  score?: number;
  metadata?: Record<string, any>;
}

/** A tool that the model could call; `parameters` is a JSON schema. */
export interface Tool {
  name?: string;
  description?: string;
  parameters?: any;
}

export interface Usage {
  prompt: number | null;
  completion: number | null;
  cached: number | null;
  reasoning: number | null;
}

/** The content of one span; missing parts are left out. */
export interface Details {
  error?: Failure;
  messages?: Message[];
  input?: unknown;
  output?: unknown;
  input_attachments?: Attachment[];
  output_attachments?: Attachment[];
  /** Bytes of the drawn images. */
  images?: DataView[];
  documents?: Document[];
  /** Parameters of the model request. */
  params?: Record<string, unknown>;
  tools?: Tool[];
  metrics?: Record<string, any>;
  feedback?: Record<string, any>;
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

/** A message in either direction; `type` determines the other fields. */
export type ToKernel = { type: string; view?: string; span?: string; spans?: string[]; text?: string; given?: Feedback; old?: string | null; new?: string | null; diff?: string; row?: number; rows?: number[]; query?: string; key?: string; down?: boolean; have?: string | null; file?: string; visible?: boolean; number?: number; action?: string; arguments?: unknown };
export type FromKernel = { type: string; view: string; header: Header | null; source: string; number: number; value: any; span: string; variant: Variant; spent: string; raise: string };

/** The page's widget manager, as far as it is used. */
export interface WidgetManager {
  has_model(id: string): boolean;
  get_model(id: string): Promise<any>;
  create_view(model: any): Promise<WidgetView>;
  /** The notebook, in JupyterLab and Notebook 7. */
  context?: any;
}

export interface WidgetView {
  model: { comm_live: boolean };
  luminoWidget: any;
  remove(): void;
}

/** A widget in a file. */
export interface SavedWidget {
  state: { _anywidget_id?: string };
}

/** The model as provided by anywidget. */
export interface Model {
  widget_manager?: WidgetManager;
  /** There is no kernel: the data is in the page. */
  offline?: boolean;
  get(name: string): any;
  send(message: ToKernel): void;
  on(name: string, listener: (...args: any[]) => void): void;
  off(name: string, listener: (...args: any[]) => void): void;
}

/** Content of an element; nested lists are flattened. */
export type Child = Node | string | number | null | undefined | false | Child[];
