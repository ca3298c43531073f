import { Tidings as Plain, Options as PlainOptions } from "./tidings.js";

export * from "./tidings.js";

/**
 * A client that shares one connection with the clients of the same url, user and device in other tabs of the browser. Each tab
 * gets every message once and in order, and all events. A message is acknowledged, and the start position of new pages moves,
 * once the tab that holds the connection has handled it. If that tab closes, crashes or freezes, another takes over.
 *
 * Without a user, or if the browser lacks BroadcastChannel or Web Locks (which need https or localhost), the client behaves like
 * that of tidings.js and has a connection of its own.
 */
export class Tidings extends Plain {
  constructor(options: Options);
}

export interface Options extends PlainOptions {
  /** The user whose connection is shared, as the server names the user. A tab with another user's token gets its own connection. */
  user?: string;
  /** Default true; false: a connection of its own. */
  tabs?: boolean;
}
