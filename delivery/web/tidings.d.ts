/** Receives notifications from a Tidings gateway: connects, resumes behind what was handled, acknowledges, and comes again. */
export class Tidings {
  /** Validates the options and connects to nothing yet. Throws a TypeError if one is wrong, or does not exist. */
  constructor(options: Options);
  /** Connects, and again whenever the connection is lost, until close or a state event that says why it closed. */
  start(): void;
  /** Acknowledges what was handled and ends the connection. A handler that is running is not waited for. */
  close(): void;
  /** Calls the listener for each event of the type, and returns a function that ends that. Throws a TypeError for an unknown type. */
  on<T extends keyof Events>(type: T, listener: (event: Events[T]) => void): () => void;
  readonly state: State;
  /** Everything up to seq is handled. Undefined before the first admission. */
  readonly position: Position | undefined;
}

export interface Options {
  /** The gateway's, ws(s):// or http(s)://; without a path it gets /v1/ws. Default: where this module came from. */
  url?: string;
  /**
   * Asked before every connect, and when the lease is about to end. Throwing Unauthorized stops the client; after any other
   * error it waits and asks again. The signal is for fetch: the token is not wanted any more.
   */
  token: (about: { signal: AbortSignal }) => string | Promise<string>;
  /**
   * Handles one message; the next waits until it is done. The message is then acknowledged. If it fails, it is called again with
   * the same message after a pause, until attempts and patience are used up. Later messages wait meanwhile.
   */
  onMessage: (message: Message) => unknown;
  /** Names a position of its own on the server. Default: the one that all of the user's connections share. */
  device?: string;
  /** Whose stored position to begin with, as the server knows the user. Default: who was here last. It admits nobody. */
  user?: string;
  /**
   * The client gives up a message once onMessage has failed on it this often and for as long as patience says. Failures while the
   * browser is offline or the connection is down do not count; the count outlives the page, with the position. Default 5;
   * Infinity: never, so that the message holds up all later ones.
   */
  attempts?: number;
  /** Milliseconds of pauses between those attempts. Default 300,000. */
  patience?: number;
  /** What happens then: "skip", the default, acknowledges the message unhandled, with an error event; "stop" closes the client. */
  poison?: "skip" | "stop";
  /** Milliseconds in which acknowledgements are gathered; 16 of them are sent at once. Default 50. */
  ackEvery?: number;
  /** Milliseconds: the wait before another try is random, up to minBackoff·2ⁿ and maxBackoff. Defaults 500 and 30,000. */
  minBackoff?: number;
  maxBackoff?: number;
  /** Milliseconds that the server may be silent past its ping interval. Default 10,000. */
  grace?: number;
  /** Keeps positions. Default: localStorage where there is a page, else memory, as with null. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Default: the runtime's. Node has one from 22 on; before that the package ws does. */
  WebSocket?: new (url: string, protocol: string) => unknown;
  /** Returns a number in [0, 1). Default Math.random. */
  random?: () => number;
}

/**
 * connecting: asks for a token, connects, authenticates · replaying: admitted, what was missed comes · live: caught up ·
 * retrying: onMessage failed on a message, which holds up the later ones; then replaying or live again ·
 * waiting: before the next try · closed: not started, or at its end
 */
export type State = "connecting" | "replaying" | "live" | "retrying" | "waiting" | "closed";

export interface Events {
  /** error: why it waits, retries or closed. wait: milliseconds to the next try. message: that onMessage failed on. */
  state: { state: State; error?: unknown; wait?: number; message?: Message };
  /** Admitted. With another epoch or user, or an after below the position, seq starts over: from after, numbers are used again. */
  ready: Ready;
  /** Messages may be gone: what was derived from them wants to be loaded anew. */
  gap: Gap;
  /** A message was handled, or skipped. */
  msg: Message;
  /** All that the connection found stored, up to seq, was handled. */
  live: { seq: number };
  /** Another connection with the same position acknowledged. */
  acked: { seq: number; unread: number };
  /**
   * What went wrong without ending the connection. With message: onMessage failed on it; skipped: for the last time. Without a
   * listener the first error, and each message that is skipped, is written to the console.
   */
  error: { error: unknown; message?: Message; skipped?: boolean };
}

export interface Message {
  seq: number;
  /** Of seq. */
  epoch: string;
  id?: string;
  kind?: string;
  /** When the stream stored it, in RFC 3339. */
  time: string;
  topic?: string;
  /** JSON, or a string. Undefined where there is data_b64. */
  data?: any;
  /** In base64: what is neither JSON nor text, JSON nested deeper than 60 levels, text with many control characters. */
  data_b64?: string;
  /** It came before the connection was live. */
  replayed: boolean;
}

export interface Ready {
  user: string;
  conn: string;
  epoch: string;
  /** Where the connection starts. */
  after: number;
  /** Waiting on the user's own subject behind the stored position. */
  unread: number;
  /** Milliseconds. */
  ping: number;
  expires_in?: number;
}

export interface Gap {
  after: number;
  /** The first message that follows, or the end of what may be gone. Absent: nothing follows yet. */
  next?: number;
  reason: "expired" | "limit" | "stream_reset" | "purged" | (string & {});
}

export interface Position {
  user: string;
  epoch: string;
  seq: number;
}

/** For the token callback to throw: there is no token to be had. */
export class Unauthorized extends Error {}

/** The server closed the connection, or it broke (1006). */
export class CloseError extends Error {
  constructor(code: number, reason: string);
  readonly code: number;
  readonly reason: string;
}
