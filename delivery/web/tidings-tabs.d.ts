import { Tidings as Plain, Options as PlainOptions } from "./tidings.js";

export * from "./tidings.js";

/**
 * A client that shares one connection with those of the same url, user and device in other tabs of the browser. Each has every
 * message once and in order, and all events. A message is acknowledged, and the position of new pages moves, once the tab that
 * has the connection has handled it. If that tab closes, crashes or freezes, another takes over.
 *
 * Without a user, or where the browser lacks Web Locks (they want https, or localhost) or BroadcastChannel, it is as that of
 * tidings.js, with a connection of its own.
 */
export class Tidings extends Plain {
  constructor(options: Options);
}

export interface Options extends PlainOptions {
  /** Whose connection is shared, as the server knows the user. If a tab's token is somebody else's, its connection is its own. */
  user?: string;
  /** Default true; false: a connection of its own. */
  tabs?: boolean;
}
