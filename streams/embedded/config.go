package embedded

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// Config says where the server keeps its data and how it is reached. Of the fields only Dir is required.
type Config struct {
	Dir  string // store directory, locked while in use; created with mode 0700 if missing
	Host string // address to listen on; default 127.0.0.1
	Port int    // default 4222; -1: any free port
	Name string // server name, as the NATS tools show it; default DefaultName

	// InProcess is without a listener: nobody but this process can connect. Host and Port say nothing then.
	InProcess bool
	// What clients must say, if anything: a user with a password, or a token. Connect says it.
	User, Password, Token string

	// SyncInterval is how long an acknowledged publish may be lost to a power failure. 0: fsync before every
	// acknowledgement; otherwise at least 1 ms, and the store is flushed to disk that often. A crash or a SIGKILL of
	// this process loses nothing acknowledged either way.
	SyncInterval time.Duration

	MaxStore   int64 // bytes on disk for all streams; default: what they hold now and what is free, less a reserve
	MaxMemory  int64 // bytes for memory streams; default 64 MiB
	MaxPayload int32 // bytes of a message, headers included; default 1 MiB

	// StartTimeout bounds Start; default: 2 min and 10 s per 1,000 durable consumers and 5 s per 100 MiB of messages found
	// in Dir, at most 30 min.
	StartTimeout time.Duration
	StopTimeout  time.Duration // bounds Stop; default 10 s

	Logger zerolog.Logger // the zero value is silent; the server's notices are at debug level
}

// DefaultName is the server name by which clients recognise an embedded server.
const DefaultName = "tidings"

// storeReserve is what MaxStore leaves free by default, or 5% of the disk if that is more: a full disk breaks a stream
// until the next start, while a reached limit only refuses publishes. On a small disk it takes at most half of what is free.
const storeReserve = 1 << 30

func reserve(total uint64) uint64 { return max(storeReserve, total/20) }

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("no data directory given (use --data)")
	}
	dir, err := filepath.Abs(c.Dir) // the process may change its directory later
	if err != nil {
		return c, fmt.Errorf("data directory %s: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.Host == "" {
		c.Host = "127.0.0.1"
	}
	if c.Port == 0 {
		c.Port = 4222
	}
	if c.Port < -1 || c.Port > 65535 {
		return c, fmt.Errorf("port %d: must be 1 to 65535, or -1 for any free port", c.Port)
	}
	if c.Name == "" {
		c.Name = DefaultName
	}
	if (c.User == "") != (c.Password == "") || c.User != "" && c.Token != "" {
		return c, errors.New("clients of the embedded server say a user and a password, or a token")
	}
	if c.SyncInterval < 0 || (c.SyncInterval > 0 && c.SyncInterval < time.Millisecond) {
		return c, fmt.Errorf("sync interval %s: must be 0 (before every acknowledgement) or at least 1ms", c.SyncInterval)
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = 64 << 20
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 1 << 20
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 10 * time.Second
	}
	if c.MaxStore < 0 || c.MaxMemory < 0 || c.MaxPayload < 0 || c.StartTimeout < 0 || c.StopTimeout < 0 {
		return c, errors.New("limits and timeouts of the embedded server must not be negative")
	}
	return c, nil
}

// address to listen on, with port 0 for "any".
func (c Config) address() string {
	return net.JoinHostPort(c.Host, strconv.Itoa(max(c.Port, 0)))
}

// startTimeout: 100,000 durables were ready after 33 to 39 s on two cores, and after a crash the newest messages are
// read again to rebuild their index.
func (c Config) startTimeout(held holding) time.Duration {
	if c.StartTimeout > 0 {
		return c.StartTimeout
	}
	seconds := 120 + int64(held.durables)/100 + held.bytes/(20<<20) // several times that: a slow start is better than none
	return min(time.Duration(seconds)*time.Second, 30*time.Minute)
}

// noLimit is the server's own limit of bytes on disk, which cannot be lowered while it runs and must be more than all limits of the account,
// and all that streams reserve by max_bytes, together. That of the account counts.
const noLimit int64 = 1 << 62

// maxStore counts what the store already holds as available: it is free space only that shrinks as the store grows.
// 0 leaves the choice to the server.
func (c Config) maxStore(held holding, free, total uint64) int64 {
	if c.MaxStore > 0 || total == 0 {
		return c.MaxStore
	}
	return max(held.bytes+int64(free-min(reserve(total), free/2)), 1<<20)
}

// options of the server, whose own limit of bytes on disk is maxStore; 0: it chooses. Whatever is not named here has the server's default: no monitoring port, no TLS, no cluster,
// one account, no files outside StoreDir.
func (c Config) options(maxStore int64) *server.Options {
	o := &server.Options{
		ServerName:             c.Name,
		Host:                   c.Host,
		Port:                   c.Port,
		DontListen:             c.InProcess,
		Username:               c.User,
		Password:               c.Password,
		Authorization:          c.Token,
		MaxPayload:             c.MaxPayload,
		NoSigs:                 true, // else the server calls os.Exit on SIGINT and SIGTERM, under our feet
		JetStream:              true,
		StoreDir:               c.Dir,
		JetStreamMaxMemory:     c.MaxMemory,
		JetStreamMaxStore:      maxStore,
		SyncAlways:             c.SyncInterval == 0,
		SyncInterval:           c.SyncInterval,
		DisableJetStreamBanner: true,
	}
	o.JetStreamLimits.DefaultMaxConsumers = -1 // one durable per user; the server would stop at 1,000 per stream
	return o
}
