package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/delivery"
)

// keyVariable is the environment variable with the API keys themselves, separated by commas. There is no such flag, since every process
// on the machine can read a command line.
const keyVariable = "TIDINGS_API_KEY"

// apiKeys holds the valid API keys, and the function to call when they change.
type apiKeys struct {
	mu   sync.Mutex
	read delivery.Keys
	use  func(delivery.Keys) // nil until subscribe
}

// set replaces the valid keys.
func (k *apiKeys) set(read delivery.Keys) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read = read
	if k.use != nil {
		k.use(read)
	}
}

// subscribe calls use with the valid keys, now and on each change.
func (k *apiKeys) subscribe(use func(delivery.Keys)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.use = use
	use(k.read)
}

// watchKeys reads the API keys, and adds their file to the reloader. It fails if the keys cannot be read.
func (o *gatewayOptions) watchKeys(r *reloader, log zerolog.Logger) (*apiKeys, error) {
	keys := &apiKeys{}
	load := func() (err error) {
		read, err := o.readKeys(log)
		if err == nil {
			keys.set(read)
		}
		return err
	}
	if o.apiKeys == "" {
		if os.Getenv(keyVariable) != "" {
			r.onHangUp = append(r.onHangUp, func() {
				log.Warn().Msg("keys in " + keyVariable + " change only with a restart; a file named by --api-keys is reloaded")
			})
		}
		return keys, load()
	}
	return keys, r.add(&reloading{what: "API keys", files: []string{o.apiKeys}, load: load, log: log})
}

// readKeys returns the keys in the file of --api-keys and in the environment.
func (o *gatewayOptions) readKeys(log zerolog.Logger) (keys delivery.Keys, err error) {
	if o.apiKeys != "" {
		if err := o.readKeyFile(&keys, log); err != nil {
			return delivery.Keys{}, fmt.Errorf("--api-keys: %w", err)
		}
	}
	for key := range strings.SplitSeq(os.Getenv(keyVariable), ",") {
		if key = strings.TrimSpace(key); key == "" {
			continue
		}
		if looksLikePath(key) {
			return delivery.Keys{}, fmt.Errorf("%s: a key in it is a path or the name of a file (to read keys from a file, use TIDINGS_API_KEYS or --api-keys)", keyVariable)
		}
		if err := keys.Add(key); err != nil {
			return delivery.Keys{}, fmt.Errorf("%s: %w", keyVariable, err)
		}
	}
	if n := keys.Plain(); n > 0 {
		log.Warn().Int("keys", n).Msgf("API keys without the prefix %s: a mistyped or revoked one cannot be told from a user's token and is "+
			"sent to the backend: create new keys, with echo %[1]s$(openssl rand -hex 32)", delivery.KeyPrefix)
	}
	return keys, nil
}

// looksLikePath reports whether a key is a path or the name of a file, because TIDINGS_API_KEY was set in place of TIDINGS_API_KEYS. A path
// would be a key that is easy to guess.
func looksLikePath(key string) bool {
	if strings.HasPrefix(key, "/") || strings.HasPrefix(key, "./") {
		return true
	}
	_, err := os.Stat(key)
	return err == nil
}

func (o *gatewayOptions) readKeyFile(keys *delivery.Keys, log zerolog.Logger) error {
	file, err := os.Open(o.apiKeys)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w (it must name a file; set keys themselves in %s)", withoutPath(err), keyVariable)
	}
	if err != nil {
		return withoutPath(err)
	}
	defer file.Close()
	warnIfWorldReadable(log, "API keys", o.apiKeys)
	if err := keys.Read(file); err != nil {
		return fmt.Errorf("%s: %w", o.apiKeys, err)
	}
	return nil
}

// withoutPath returns the error without the file's name, since that is a key if a key was given in place of a file.
func withoutPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
