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

// Config sets where the server stores its data and how clients reach it. Only Dir is required.
type Config struct {
	Dir  string // store directory, locked while in use; created with mode 0700 if missing
	Host string // address to listen on; default 127.0.0.1
	Port int    // default 4222; -1: any free port
	Name string // server name shown by the NATS tools; default DefaultName

	// InProcess runs the server without a listener, so that only this process can connect. Host and Port are ignored.
	InProcess bool
	// Credentials that clients must present: either a user with a password, or a token. Empty: none. Connect uses them.
	User, Password, Token string

	// SyncInterval is the longest time for which acknowledged publishes can be lost in a power failure. 0: fsync before
	// every acknowledgement. Otherwise it must be at least 1 ms, and the store is synced to disk at that interval. In
	// both cases, a crash or a SIGKILL of this process loses no acknowledged message.
	SyncInterval time.Duration

	MaxStore   int64 // bytes of messages in all streams; default: current store size plus free space, less a reserve
	MaxMemory  int64 // bytes for memory streams; default 64 MiB
	MaxPayload int32 // bytes per message, including headers; default 1 MiB

	// StartTimeout limits the duration of Start. The default is 2 min, plus 10 s per 1,000 durable consumers, plus 5 s
	// per 100 MiB of messages found in Dir, but at most 30 min.
	StartTimeout time.Duration
	StopTimeout  time.Duration // limits the duration of one call of Stop; default 10 s

	Logger zerolog.Logger // the zero value is silent; the server's notices are logged at debug level
}

// DefaultName is the server name by which clients recognize an embedded server.
const DefaultName = "tidings"

// storeReserve is the number of bytes that the default MaxStore leaves free; it is 5% of the disk if that is more, and
// an eighth of a disk under 8 GiB, which is twice refuseBelow on a disk under 1 GiB. A full disk breaks a stream until
// the server restarts, while a store that reaches its limit only refuses publishes.
const storeReserve = 1 << 30

func reserve(total uint64) uint64 { return min(max(storeReserve, total/20), total/8) }

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("no data directory given (use --data)")
	}
	dir, err := filepath.Abs(c.Dir) // the process may change its working directory later
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
		return c, errors.New("credentials of the embedded server: set both a user and a password, or only a token")
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

// address returns the address to listen on. Port 0 means any free port.
func (c Config) address() string {
	return net.JoinHostPort(c.Host, strconv.Itoa(max(c.Port, 0)))
}

// startTimeout returns how long Start may take for the given store. As a measure: 100,000 durables took 33 to 39 s to
// recover on two cores. After a crash, the server also reads the newest messages again to rebuild their index.
func (c Config) startTimeout(held holding) time.Duration {
	if c.StartTimeout > 0 {
		return c.StartTimeout
	}
	seconds := 120 + int64(held.durables)/100 + held.bytes/(20<<20) // several times the measured duration
	return min(time.Duration(seconds)*time.Second, 30*time.Minute)
}

// noLimit is the server-wide limit of bytes on disk. It cannot be lowered while the server runs, and it must exceed the
// sum of the account limits and of all stream reservations (max_bytes). The account limit is the effective one.
const noLimit int64 = 1 << 62

// maxStore returns the limit of bytes on disk for all streams. By default it is the size of the store plus the free
// space, less the reserve (at most half of the free space), so that the limit stays the same as the store grows. 0
// leaves the choice to the server.
func (c Config) maxStore(held holding, free, total uint64) int64 {
	if c.MaxStore > 0 || total == 0 {
		return c.MaxStore
	}
	return max(held.bytes+int64(free-min(reserve(total), free/2)), 1<<20)
}

// options returns the server's options. maxStore is the server-wide limit of bytes on disk; with 0 the server chooses.
// Everything else has the server's default: no monitoring port, no TLS, no cluster, one account, no files outside
// StoreDir.
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
		NoSigs:                 true, // otherwise the server handles SIGINT and SIGTERM itself and calls os.Exit
		JetStream:              true,
		StoreDir:               c.Dir,
		JetStreamMaxMemory:     c.MaxMemory,
		JetStreamMaxStore:      maxStore,
		SyncAlways:             c.SyncInterval == 0,
		SyncInterval:           c.SyncInterval,
		DisableJetStreamBanner: true,
	}
	o.JetStreamLimits.DefaultMaxConsumers = -1 // one durable per user; the server's default is 1,000 per stream
	return o
}
