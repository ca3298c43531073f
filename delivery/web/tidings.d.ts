/** A client for a Tidings gateway. It connects, resumes after the last message it handled, acknowledges, and reconnects. */
export class Tidings {
  /** Validates the options, and does not connect yet. Throws a TypeError if an option is invalid or unknown. */
  constructor(options: Options);
  /** Connects, and reconnects whenever the connection is lost, until close, or a state event with state "closed". */
  start(): void;
  /** Acknowledges what was handled and closes the connection. It does not wait for a handler that is running. */
  close(): void;
  /** Calls the listener for each event of the type. Returns a function that removes it. Throws a TypeError for an unknown type. */
  on<T extends keyof Events>(type: T, listener: (event: Events[T]) => void): () => void;
  readonly state: State;
  /** Everything up to seq is handled. Undefined before the first admission. */
  readonly position: Position | undefined;
}

export interface Options {
  /** URL of the gateway: ws(s):// or http(s)://. Without a path, /v1/ws is added. Default: the host that this module came from. */
  url?: string;
  /**
   * Called before each connection attempt, and when the lease is about to end. If it throws Unauthorized, the client stops; after
   * any other error it waits and tries again. Pass the signal to fetch: it aborts when the token is no longer needed.
   */
  token: (about: { signal: AbortSignal }) => string | Promise<string>;
  /**
   * Handles one message; the next waits until it is done. The message is then acknowledged. If it fails, it is called again with
   * the same message after a pause, until attempts and patience are used up. Later messages wait meanwhile.
   */
  onMessage: (message: Message) => unknown;
  /** Names a device with a position of its own on the server. Default: the position that the user's other connections share. */
  device?: string;
  /** The user whose saved position the client starts with, as the server names the user. Default: the last user. It does not authenticate. */
  user?: string;
  /**
   * The client gives up on a message once onMessage has failed on it this many times and for as long as patience says. Failures
   * while the browser is offline or the connection is lost do not count. The count is saved with the position, so it survives a
   * reload of the page. Default 5; Infinity: never give up, so that the message blocks all later ones.
   */
  attempts?: number;
  /** Total of the pauses between those attempts, in milliseconds. Default 300,000. */
  patience?: number;
  /** What happens then: "skip" (default) acknowledges the message and emits an error event; "stop" closes the client. */
  poison?: "skip" | "stop";
  /** How long acknowledgements are collected before one is sent, in milliseconds; 16 are sent at once. Default 50. */
  ackEvery?: number;
  /** Bounds of the wait before a retry, in milliseconds: a random time up to minBackoff·2ⁿ and maxBackoff. Defaults 500 and 30,000. */
  minBackoff?: number;
  maxBackoff?: number;
  /** How long the server may be silent beyond its ping interval, in milliseconds. Default 10,000. */
  grace?: number;
  /** Where positions are saved. Default: localStorage in a page. Elsewhere, or with null, they are kept in memory only. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Default: the WebSocket of the runtime. Node has one since version 22; for older versions pass the one of the package ws. */
  WebSocket?: new (url: string, protocol: string) => unknown;
  /** Returns a number in [0, 1). Default Math.random. */
  random?: () => number;
}

/**
 * connecting: gets a token, connects, authenticates · replaying: admitted, receives the messages that it missed ·
 * live: caught up · retrying: onMessage failed on a message, and later ones wait; then replaying or live again ·
 * waiting: before the next attempt · closed: not started, or ended
 */
export type State = "connecting" | "replaying" | "live" | "retrying" | "waiting" | "closed";

export interface Events {
  /** error: the reason to wait, retry or close. wait: milliseconds until the next attempt. message: the one that onMessage failed on. */
  state: { state: State; error?: unknown; wait?: number; message?: Message };
  /** The client is admitted. If epoch or user changed, or after is below the position, seq starts over: numbers after it are reused. */
  ready: Ready;
  /** Messages may be missing. Reload whatever you derived from them. */
  gap: Gap;
  /** A message was handled or skipped. */
  msg: Message;
  /** Everything that was stored when the client authenticated has been handled, up to seq. */
  live: { seq: number };
  /** Another connection with the same position acknowledged. */
  acked: { seq: number; unread: number };
  /**
   * An error that does not end the connection. With message: onMessage failed on it; skipped: for the last time. Without a
   * listener, the first error and each skipped message are written to the console.
   */
  error: { error: unknown; message?: Message; skipped?: boolean };
}

export interface Message {
  seq: number;
  /** The epoch that seq belongs to. */
  epoch: string;
  id?: string;
  kind?: string;
  /** When the stream stored the message, in RFC 3339. */
  time: string;
  topic?: string;
  /** JSON, or a string. Undefined if data_b64 is present. */
  data?: any;
  /** Base64 of data that is neither JSON nor text, of JSON with more than 60 levels, or of text with many control characters. */
  data_b64?: string;
  /** The message arrived before the connection was live. */
  replayed: boolean;
}

export interface Ready {
  user: string;
  conn: string;
  epoch: string;
  /** The connection starts after this seq. */
  after: number;
  /** Messages on the user's own subject after the stored position. */
  unread: number;
  /** The interval of the server's pings, in milliseconds. */
  ping: number;
  /** Milliseconds until the lease ends. Absent: it does not end. */
  expires_in?: number;
}

export interface Gap {
  after: number;
  /** The first message that follows, or the end of the range that may be missing. Absent: nothing follows yet. */
  next?: number;
  reason: "expired" | "limit" | "stream_reset" | "purged" | (string & {});
}

export interface Position {
  user: string;
  epoch: string;
  seq: number;
}

/** Throw it in the token callback if no token is available. */
export class Unauthorized extends Error {}

/** The server closed the connection, or the connection was lost (1006). */
export class CloseError extends Error {
  constructor(code: number, reason: string);
  readonly code: number;
  readonly reason: string;
}
