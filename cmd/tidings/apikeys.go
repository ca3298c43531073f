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

// keyVariable has API keys themselves, separated by commas. There is no flag for that: what is on a command line, everybody on the
// machine can read.
const keyVariable = "TIDINGS_API_KEY"

// apiKeys are those that are good, and what is told when others are.
type apiKeys struct {
	mu   sync.Mutex
	read delivery.Keys
	use  func(delivery.Keys) // nil: nobody yet
}

// set has others be good from now on.
func (k *apiKeys) set(read delivery.Keys) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read = read
	if k.use != nil {
		k.use(read)
	}
}

// tell has use be told those that are good now, and all that come later.
func (k *apiKeys) tell(use func(delivery.Keys)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.use = use
	use(k.read)
}

// watchKeys reads the keys, and has them read again whenever their file changes.
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
			r.asked = append(r.asked, func() {
				log.Warn().Msg("other keys in " + keyVariable + " need a restart; those in a file, of --api-keys, are read again")
			})
		}
		return keys, load()
	}
	return keys, r.add(&reloading{what: "API keys", files: []string{o.apiKeys}, load: load, log: log})
}

// readKeys returns those of --api-keys and of the environment.
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
		if namesFile(key) {
			return delivery.Keys{}, fmt.Errorf("%s: a key in it is a path, or names a file: keys of a file are for TIDINGS_API_KEYS, or --api-keys", keyVariable)
		}
		if err := keys.Add(key); err != nil {
			return delivery.Keys{}, fmt.Errorf("%s: %w", keyVariable, err)
		}
	}
	if n := keys.Plain(); n > 0 {
		log.Warn().Int("keys", n).Msgf("an API key without the prefix %s is taken for a user's token and sent to the backend, if it is "+
			"mistyped or was revoked: make a new one, with echo %[1]s$(openssl rand -hex 32)", delivery.KeyPrefix)
	}
	return keys, nil
}

// namesFile says whether somebody has taken TIDINGS_API_KEY for TIDINGS_API_KEYS. As a key the path would be easy to guess.
func namesFile(key string) bool {
	if strings.HasPrefix(key, "/") || strings.HasPrefix(key, "./") {
		return true
	}
	_, err := os.Stat(key)
	return err == nil
}

func (o *gatewayOptions) readKeyFile(keys *delivery.Keys, log zerolog.Logger) error {
	file, err := os.Open(o.apiKeys)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w (it names a file; keys themselves go into %s)", pathless(err), keyVariable)
	}
	if err != nil {
		return pathless(err)
	}
	defer file.Close()
	warnOfReaders(log, "API keys", o.apiKeys)
	if err := keys.Read(file); err != nil {
		return fmt.Errorf("%s: %w", o.apiKeys, err)
	}
	return nil
}

// pathless is the error without the file's name, which is a key where somebody has taken one for the other.
func pathless(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
